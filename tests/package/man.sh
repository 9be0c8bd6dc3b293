#!/bin/bash
# man.sh SOURCE_DIR BINARY_DIR - the manual pages say what the programs say: the
# options of hub.json and agent.json word for word, every command, every option;
# and they are well formed.
set -eu
source=$1
bin=$2/bin
hub=$bin/dstream-hub
agent=$bin/dstream-agent
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

complain() {
  echo "man: $*" >&2
  status=1
}

# What a program says about its configuration, in lines for each option:
# "name  bounds, default", "    meaning" and perhaps "    VARIABLE".
check_config() { # PAGE, reads them
  local name=${1##*/}
  awk '
    /^[^ ]/ { name = $1; $1 = ""; sub(/^ */, ""); bounds = $0; next }
    !/^ +DSTREAM_[A-Z_]+$/ {
      sub(/^ */, "")
      printf ".TP\n.B %s\n%s\n(%s)\n", name, $0, bounds
    }' >"$work/wanted"
  [ -s "$work/wanted" ] || complain "$name: no option is listed"
  sed -n '/^\.\\" begin options/,/^\.\\" end options/p' "$1" |
    sed '1d;$d' >"$work/have"
  diff -u --label "$name" "$work/have" --label listing "$work/wanted" ||
    complain "the options in $name differ, see above"
}

# A table in a page, which is a program's listing.
check_table() { # PAGE, reads it
  cat >"$work/wanted"
  sed -n '/^<!-- options -->$/,/^<!-- end -->$/p' "$1" | sed '1d;$d' \
    >"$work/have"
  diff -u --label "${1##*/}" "$work/have" --label listing "$work/wanted" ||
    complain "the options in ${1##*/} differ, see above"
}

# The page as it is read, on one line, neither hyphenated nor adorned.
read_page() { # PAGE
  page=${1##*/}
  LC_ALL=C groff -man -ww -Tascii -P-cbou -rHY=0 -rLL=200n "$1" \
    2>"$work/warnings" | tr -s '[:space:]' ' ' >"$work/text"
  if [ -s "$work/warnings" ]; then
    complain "$page: groff warns: $(cat "$work/warnings")"
  fi
}
said() { # TEXT
  grep -qF -e "$1" "$work/text" || complain "$page does not say \"$1\""
}
# Every option, environment variable and the version of what is in help.
check_help() { # PROGRAM
  local option name version
  for option in $(grep -oE -e '--[a-z][a-z0-9-]*' "$work/help" | sort -u); do
    said "$option"
  done
  for name in $(grep -oE 'DSTREAM_[A-Z_]+' "$work/help" | sort -u); do
    said "$name"
  done
  version=$("$1" --version)
  said "dstream ${version##* }"
}

# ---- dstream-hub ----
check_config "$source/docs/man/dstream-hub.1" < <("$hub" options)
check_table "$source/docs/hub-options.md" < <("$hub" options --markdown)
read_page "$source/docs/man/dstream-hub.1"
"$hub" --help >"$work/help"
sed -nE 's/^  ([a-z][a-z -]*[a-z]) ?(DIR|  ).*/\1/p' "$work/help" >"$work/names"
[ "$(wc -l <"$work/names")" -ge 7 ] || complain "--help names too few commands"
while read -r name; do
  said "dstream-hub $name"
  "$hub" ${name%% *} --help >>"$work/help"
done <"$work/names"
check_help "$hub"
"$hub" init "$work/hub" --host localhost >/dev/null
for file in "$work"/hub/*; do
  said "DIR/${file##*/}"
done

# The examples of hub.json in the pages are taken, and so is that of variables.
check_examples() { # PAGE, a hub's folder
  local example
  awk -v work="$work" '
    /^```/ { inside = /^```json/; count += inside; next }
    inside { print > (work "/example-" count ".json") }' "$1"
  for example in "$work"/example-*.json; do
    cp "$example" "$2/hub.json"
    "$hub" check "$2" >"$work/said" || :
    grep -q '^ok  *configuration' "$work/said" ||
      complain "${1##*/}: $(head -1 "$work/said")"
    rm "$example"
  done
}
check_examples "$source/docs/hub-options.md" "$work/hub"
check_examples "$source/docs/hub.md" "$work/hub"
sed -n '/^DSTREAM_HUB_.* run DIR$/p' "$source/docs/hub-options.md" |
  sed "s|dstream-hub run DIR|\"$hub\" check \"$work/hub\"|" >"$work/example.sh"
sh "$work/example.sh" >"$work/said" || :
grep -q '^ok .* and so are 2 in the environment$' "$work/said" ||
  complain "hub-options.md: $(head -1 "$work/said")"

# ---- dstream-agent ----
if [ -x "$agent" ]; then
  check_config "$source/docs/man/dstream-agent.1" < <("$agent" --config-help)
  read_page "$source/docs/man/dstream-agent.1"
  "$agent" --help >"$work/help"
  check_help "$agent"
fi

# ---- dstream ----
if [ -x "$bin/dstream" ]; then
  read_page "$source/docs/man/dstream.1"
  for name in "" connect forward device show devices streams log; do
    "$bin/dstream" $name --help
  done >"$work/help"
  check_help "$bin/dstream"
fi

exit $status
