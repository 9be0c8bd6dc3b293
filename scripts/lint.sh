#!/bin/bash
# scripts/lint.sh [BUILD_DIR] - the rules of this tree that a machine can check.
#
# Every finding is one line, FILE:LINE: what is wrong, and what to do.
# BUILD_DIR (default: build) is where libdstream.so was built; without one the
# exported symbols are not checked.  Exit status: 0 clean, 1 findings,
# 2 a tool is missing.
set -u
cd "$(dirname "$0")/.." || exit 2
build=${1:-build}
export LC_ALL=C

max_lines=80
max_complexity=15
banned='strcpy strcat sprintf vsprintf strtok atoi atol atoll alloca gets rand'
# Their result is shared by all threads.
banned="$banned asctime ctime gmtime localtime gethostbyname gethostbyaddr"
banned="$banned inet_ntoa getpwnam getpwuid getgrnam getgrgid strsignal tmpnam"
warnings='-Wall -Wextra -Werror -pedantic'

work=$(mktemp -d) || exit 2
trap 'rm -rf "$work"' EXIT
findings=$work/findings
: >"$findings"

for tool in clang-format clang clang++ gcc g++ pmccabe nm; do
  if ! command -v $tool >/dev/null; then
    echo "lint: $tool is missing; scripts/setup.sh --tests installs it" >&2
    exit 2
  fi
done

sources() { # DIR... : the C files in them
  find "$@" -name '*.[ch]' -type f 2>/dev/null | sort
}

found() { # reads FILE:LINE: text
  cat >>"$findings"
}

check_format() {
  sources include src samples tests |
    xargs clang-format --dry-run -Werror 2>&1 |
    sed -nE 's/^([^: ]+:[0-9]+):[0-9]+: error: .*/\1/p' | sort -u -t: -k1,1 |
    sed 's/$/: not formatted; run clang-format -i on the file/' | found
}

check_headers() { # every public header compiles alone
  local header name compiler
  for header in include/dstream/*.h; do
    name=dstream/${header##*/}
    printf '#include <%s>\n' "$name" >"$work/alone.c"
    cp "$work/alone.c" "$work/alone.cc"
    for compiler in "gcc -std=c11" "clang -std=c11" "g++ -std=c++17" \
      "clang++ -std=c++17"; do
      local file=$work/alone.c
      case $compiler in *++*) file=$work/alone.cc ;; esac
      # shellcheck disable=SC2086
      $compiler $warnings -Iinclude -fsyntax-only "$file" 2>"$work/err" ||
        sed -nE "s|^($header:[0-9]+):.*(error: .*)|\1: alone with $compiler: \2|p" \
          "$work/err" | sed "\$!b;s|^\$|$header:1: does not compile|" |
        { grep . || echo "$header:1: does not compile alone with $compiler"; } |
        found
    done
  done
}

check_size() { # pmccabe: complexity, ., ., ., lines of the function, place
  sources src samples tests | xargs pmccabe 2>/dev/null |
    awk -F'\t' -v lines=$max_lines -v complexity=$max_complexity '
      {
        sub(/\(([0-9]+)\): /, " ", $6)
        split($6, place, " ")
        where = place[1] ":" $4 ": " place[2] " "
      }
      $5 > lines { print where "has " $5 " lines, at most " lines \
                   "; split it" }
      $1 > complexity { print where "has complexity " $1 ", at most " \
                        complexity "; split it, or use a table" }' | found
}

check_banned() {
  local names=${banned// /|}
  sources src samples | xargs grep -nE \
    "(^|[^A-Za-z0-9_.>])($names)[[:space:]]*\(" /dev/null |
    sed -E 's/^([^:]+:[0-9]+):.*/\1: banned function; use the bounded one/' |
    found
  sources src samples tests include | xargs grep -nE '	|[[:space:]]+$' |
    sed -E 's/^([^:]+:[0-9]+):.*/\1: tab or trailing white space; remove it/' |
    found
}

# Which folder of src may include which (its own is always allowed).
allowed_folders() {
  case $1 in
  core) ;;
  net) echo core ;;
  device | service) echo core net ;;
  proxy) echo core net device service ;;
  hub) echo core net ;;
  broker-plugin) echo core hub ;;
  tools) echo core net device service proxy hub ;;
  esac
}

# Which file may name which library: an extended regular expression of paths.
# Tests may name any.
allowed_files() {
  case $1 in
  openssl) echo '^src/(core/crypto\.c|net/|hub/)' ;;
  libwebsockets) echo '^src/(net/|hub/rest)' ;;
  paho) echo '^src/net/' ;;
  cjson) echo '^src/(core/token\.c|service/|hub/|tools/)' ;;
  sqlite) echo '^src/hub/(identity|identities)' ;;
  mosquitto) echo '^src/hub/(broker|main_endpoint)' ;;
  uv) echo '^src/(net/loop_uv|hub/)' ;;
  esac
}

library_of() { # the header between <> or ""
  case $1 in
  openssl/*) echo openssl ;;
  libwebsockets.h | libwebsockets/*) echo libwebsockets ;;
  MQTTAsync.h | MQTTClient.h | MQTT*.h) echo paho ;;
  cJSON.h | cjson/*) echo cjson ;;
  sqlite3*.h) echo sqlite ;;
  mosquitto*.h | mqtt_protocol.h) echo mosquitto ;;
  uv.h | uv/*) echo uv ;;
  esac
}

folder_of() { # of a path below src
  case $1 in
  hub/broker-plugin/*) echo broker-plugin ;;
  */*) echo "${1%%/*}" ;;
  esac
}

check_one_include() { # FILE LINE HEADER
  local file=$1 line=$2 header=$3 own their library
  library=$(library_of "$header")
  if [ -n "$library" ]; then
    if ! [[ $file =~ $(allowed_files "$library") ]]; then
      echo "$file:$line: names $library ($header), which belongs in" \
        "$(allowed_files "$library"); put it behind an adapter there"
    fi
    return
  fi
  case $file in
  src/*)
    [ -f "src/$header" ] || return
    own=$(folder_of "${file#src/}")
    their=$(folder_of "$header")
    case " $own $(allowed_folders "$own") " in
    *" $their "*) ;;
    *) echo "$file:$line: $own must not include $header of $their;" \
      "turn the dependency round" ;;
    esac
    ;;
  include/* | samples/*)
    if [ -f "src/$header" ]; then
      echo "$file:$line: includes the private $header; use the public headers"
    fi
    ;;
  esac
}

check_includes() {
  local file line header
  sources include src samples |
    xargs grep -nE '^[[:space:]]*#[[:space:]]*include' /dev/null |
    sed -nE 's/^([^:]+):([0-9]+):[^<"]*[<"]([^>"]+)[>"].*/\1 \2 \3/p' |
    while read -r file line header; do
      check_one_include "$file" "$line" "$header"
    done | found
}

declared() { # names of the DSTREAM_API functions of the public headers
  cat include/dstream/*.h | gcc -fpreprocessed -dD -E -P - 2>/dev/null |
    grep -v '^#' | tr '\n' ' ' | grep -oE 'DSTREAM_API [^;({]*\(' |
    sed -E 's/.*[ *]([a-z_0-9]+) *\($/\1/' | sort -u
}

check_symbols() {
  local library=$build/lib/libdstream.so name
  [ -e "$library" ] || return
  nm -D --defined-only "$library" | awk '{ print $NF }' | sort -u >"$work/have"
  declared >"$work/want"
  grep -v '^dstream_' "$work/have" | while read -r name; do
    echo "$library:0: exports $name, which does not begin with dstream_;" \
      "make it static, or rename it"
  done | found
  comm -23 "$work/want" "$work/have" | while read -r name; do
    echo "$(grep -n "$name(" include/dstream/*.h | head -1 | cut -d: -f1,2):" \
      "$name is declared but not exported by libdstream.so; define it"
  done | found
}

check_scripts() {
  local script
  for script in scripts/*.sh tests/*/*.sh .ci/run; do
    [ -f "$script" ] || continue
    bash -n "$script" 2>&1 | sed -E 's/^([^:]+): line ([0-9]+)/\1:\2/' | found
  done
  if command -v shellcheck >/dev/null; then
    find scripts tests packaging .ci -type f \( -name '*.sh' \
      -o -name '*.bash' -o -name '*.postrm' -o -path '.ci/run' \) |
      sort | xargs shellcheck -x -P SCRIPTDIR -s bash -S warning -f gcc | found
  fi
}

check_format
check_headers
check_size
check_banned
check_includes
check_symbols
check_scripts

if [ -s "$findings" ]; then
  sort -u -t: -k1,1 -k2,2n -k3 "$findings"
  echo "lint: $(sort -u "$findings" | wc -l) findings"
  exit 1
fi
echo "lint: clean"
