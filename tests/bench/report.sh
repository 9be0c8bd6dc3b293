# tests/bench/report.sh - sourced by scripts/bench.sh: what becomes of
# results.tsv.
# shellcheck shell=bash disable=SC2154

report_part() { # goals|tables|plot
  awk -f "$root/tests/bench/report.awk" -v part="$1" -v names="$out/names.tsv" \
    "$results"
}

write_names() {
  local peer
  for peer in $all_peers; do
    printf '%s\t%s\n' "$peer" "$(peer_name "$peer")"
  done >"$out/names.tsv"
}

version_of() { # PACKAGE
  dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo 'not installed'
}

machine() {
  local model memory system commit control package list=''
  model=$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)
  memory=$(awk '/^MemTotal/ { printf "%.0f GB", $2 / 1e6 }' /proc/meminfo)
  system=$(. /etc/os-release 2>/dev/null && echo "${PRETTY_NAME:-Linux}")
  for package in haproxy nginx stunnel4 openssh-server libssl3 \
    libwebsockets17 mosquitto; do
    list="$list${list:+, }$package $(version_of $package)"
  done
  commit=$(git -C "$root" describe --always --dirty 2>/dev/null || echo '?')
  control=$(cat /proc/sys/net/ipv4/tcp_congestion_control 2>/dev/null ||
    echo '?')
  fold -s -w 140 <<END | sed 's, *$,,'
Measured on $(date -u +%Y-%m-%d), with \`$called\`, at commit $commit. Repetitions: $repeats. $(nproc) processors (${model:-unknown}), \
$memory, $system, Linux $(uname -r), TCP congestion control $control. Load of the machine (1, 5, 15 minutes) when it began: \
$load_before. Other programs: $list.
END
}


# Puts a file between the marks of that name.
fill_in() { # PAGE MARK FILE
  awk -v begin="<!-- $2 -->" -v end="<!-- end of $2 -->" -v file="$3" '
    $0 == end { inside = 0 }
    !inside { print }
    $0 == begin {
      inside = 1
      while ((getline line < file) > 0)
        print line
    }' "$1" >"$1.new"
  mv "$1.new" "$1"
}

write_page() {
  local page_file=$root/docs/performance.md part
  for part in machine goals tables; do
    fill_in "$page_file" $part "$out/$part.md"
  done
  [ ! -s "$out/plot.png" ] || cp "$out/plot.png" "$root/docs/performance.png"
}

write_report() {
  write_names
  machine >"$out/machine.md"
  report_part goals >"$out/goals.md"
  report_part tables >"$out/tables.md"
  report_part plot >"$out/plot.tsv"
  cat "$out/machine.md" - "$out/goals.md" "$out/tables.md" <<<'' \
    >"$out/report.md"
  if [ -s "$out/plot.tsv" ] && command -v gnuplot >/dev/null; then
    gnuplot -e "data='$out/plot.tsv'; image='$out/plot.png'" \
      "$root/tests/bench/plot.gp" 2>"$work/plot.log" ||
      note "no plot: $(head -1 "$work/plot.log")"
  fi
  [ "$page" = no ] || write_page
}
