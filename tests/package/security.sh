#!/bin/bash
# security.sh SOURCE_DIR BINARY_DIR - SECURITY.md says what is so: every claim
# names its tests and they exist, every limit in the table has that default,
# and what it says of the sources as a whole (no option without verification,
# secrets compared in constant time) holds.  Begins by seeing that pages that
# are wrong are found out.
set -eu
export LC_ALL=C
source=$1
build=$2
bin=$build/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if ! [ -x "$bin/dstream-agent" ]; then
  echo "security: $build has no tools"
  exit 77
fi

status=0
complain() {
  echo "security: $*" >&2
  status=1
}

# ---- claims ----

# One line for each list item between "<!-- claims -->" and "<!-- end -->".
claims() { # PAGE
  awk '
    function tell() { if (item != "") print item; item = "" }
    /^<!-- claims -->$/ { inside = 1; next }
    /^<!-- end -->$/ { tell(); inside = 0; next }
    !inside { next }
    /^- / { tell() }
    /[^ ]/ { sub(/^ +/, ""); item = item (item == "" ? "" : " ") $0 }
    END { tell(); if (inside) print "no end of the claims" }' "$1"
}

# Tests of CMocka programs, "test_noun: name", and ctest's own names.
list_tests() {
  local file
  for file in "$source"/tests/*/test_*.c; do
    grep -oE '(cmocka_unit_test[a-z_]*|TEST[A-Z_]*)\([a-z_0-9]+[,)]' "$file" |
      sed -E "s/.*\(([a-z_0-9]+)[,)]/$(basename "$file" .c): \1/"
  done
  ctest --test-dir "$build" -N | sed -nE 's/^ *Test +#[0-9]+: ([^ ]+)$/\1/p'
}

check_claims() { # PAGE
  local claim name count=0
  claims "$1" >"$work/claims"
  while read -r claim; do
    count=$((count + 1))
    case $claim in '- '*) ;; *) complain "no list item: ${claim:0:70}" ;; esac
    grep -oE '`\[[^]`]+\]`' <<<"$claim" | tr -d '[]`' >"$work/named" || :
    [ -s "$work/named" ] || complain "a claim without a test: ${claim:0:70}"
    while read -r name; do
      grep -qxF -e "$name" "$work/tests" ||
        complain "there is no test \"$name\": ${claim:0:50}"
    done <"$work/named"
  done <"$work/claims"
  [ $count -ge 50 ] || complain "only $count claims in $1"
}

# ---- limits ----

# Where a default of the library's is in the code, besides its header.
place_of() { # STRUCT.MEMBER VALUE : FILE PATTERN
  local member=${1#*.}
  case $1 in
  dstream_device_options.*)
    echo "src/device/options.c from->$member, $2,"
    ;;
  dstream_service_options.max_streams)
    echo "src/service/service.c DEFAULT_MAX_STREAMS +$2$"
    ;;
  dstream_service_options.sas_lifetime_s)
    echo "src/service/service.c DEFAULT_SAS_LIFETIME +$2$"
    ;;
  dstream_stream_options.window)
    echo "src/net/stream.c DEFAULT_WINDOW +$2$"
    ;;
  dstream_stream_options.send_buffer)
    echo "src/net/link_connect.c ."
    ;;
  *) return 1 ;;
  esac
}

# The member's declaration up to the next one, with its comments.
header_says() { # STRUCT.MEMBER
  awk -v begin="struct ${1%.*} {" -v member="${1#*.}" '
    index($0, begin) == 1 { inside = 1; next }
    /^};/ { inside = 0 }
    inside && /^  [a-z].*;/ { telling = $0 ~ "[ *]" member ";" }
    inside && telling { sub(/^ +/, ""); printf "%s ", $0 }' \
    "$source"/include/dstream/*.h
}

check_member() { # STRUCT.MEMBER VALUE
  local place
  header_says "$1" | grep -qiE "default $2[^0-9]" ||
    complain "$1: its header does not say that the default is $2"
  if ! place=$(place_of "$1" "$2"); then
    complain "$1: it is not known where its default is; see place_of"
    return
  fi
  grep -qE -e "${place#* }" "$source/${place%% *}" ||
    complain "$1: ${place%% *} has another default than $2"
}

check_limit() { # OPTION VALUE
  local told
  case $1 in
  dstream_*.*) check_member "$1" "$2" ;;
  --*)
    "$bin/dstream" forward --help | tr -s ' \n' ' ' |
      grep -qE -e "$1 [^-]*\(default $2[^0-9]" ||
      complain "$1: \"dstream forward --help\" has another default than $2"
    ;;
  [A-Z]*)
    grep -rqE "^#define $1 +$2( |$)" "$source/src" ||
      complain "$1 is not $2 in src"
    ;;
  *)
    told=$(awk -v name="$1" '$1 == name { print $NF }' "$work/options")
    [ "$told" = "$2" ] ||
      complain "$1: the default is \"$told\", not $2"
    ;;
  esac
}

check_limits() { # PAGE
  local option value rows=0
  sed -nE 's/^\| [^|]+ \| ([^|]+) \| `([^`|]+)` \| [^|]+ \|$/\2 \1/p' "$1" \
    >"$work/limits"
  while read -r option value; do
    rows=$((rows + 1))
    check_limit "$option" "$value"
  done <"$work/limits"
  [ $rows -ge 30 ] || complain "only $rows limits in $1"
  # no limit of the hub's is left out
  grep -oE '^limits\.[a-z_]+' "$work/options" | while read -r option; do
    cut -d' ' -f1 "$work/limits" | grep -qxF "$option" || echo "$option"
  done >"$work/missing"
  while read -r option; do
    complain "$option is not in the table"
  done <"$work/missing"
}

# ---- the sources as a whole ----

# Verification can be switched off by nothing that a caller or a user gives.
check_no_way_round() {
  {
    cat "$source"/include/dstream/*.h
    "$bin/dstream-hub" config-help
    "$bin/dstream-hub" --help
    "$bin/dstream-agent" --config-help
    "$bin/dstream-agent" --help
    for command in "" connect forward; do "$bin/dstream" $command --help; done
  } >"$work/offers"
  ! grep -iE 'insecure|no.?verify|skip.?verif|trust.?all|allow.?self' \
    "$work/offers" || complain "an option leaves verification out?"
  ! grep -rnE 'SSL_VERIFY_NONE|verify *= *0|enableServerCertAuth *= *0' \
    "$source/src" || complain "verification is left out"
}

# Each comparison of bytes that names a secret.  What is compared over a
# constant's length is a prefix that everybody knows.
secrets='\b(secret|token|sig|signature|digest|hmac|mac|password|jti|voucher)\b'
secrets="$secrets|key_tag|key[a-z_]*(->|\.)bytes|primary|secondary"
variable_time() { # FILE...
  local file
  for file in "$@"; do
    tr '\n' ' ' <"$file" | sed -E 's/"[^"]*"/""/g; s/ +/ /g' |
      grep -oE '\b(memcmp|strn?(case)?cmp|bcmp)\(([^()]|\([^()]*\))*\)' |
      grep -E "$secrets" | grep -vE 'sizeof [a-z_]+ - 1\)' |
      sed "s|^|${file#"$source/"}: |" || :
  done
}

check_comparisons() {
  local findings files
  mapfile -d '' -t files < <(find "$source/src" -name '*.c' -print0)
  findings=$(variable_time "${files[@]}")
  [ -z "$findings" ] ||
    complain "compared in variable time, use crypto_equal: $findings"
}

# ---- the checks find something ----

finds() { # TEXT : in what the checks said
  grep -qF -e "$1" "$work/said" || {
    echo "security: a wrong page is not found out: $1" >&2
    exit 1
  }
}

prove() {
  local page=$work/wrong.md
  {
    echo '<!-- claims -->'
    echo '- nothing can happen.'
    echo '- nothing at all, `[test_token: expires]`'
    echo '  `[test_token: is_not_there]`'
    echo '<!-- end -->'
    echo '| x | 12001 | `limits.max_connections` | hub |'
    echo '| x | 1 | `HTTP_HEAD_MAX` | nobody |'
    echo '| x | 7 | `dstream_device_options.max_streams` | author |'
    echo '| x | 7 | `--max-connections` | operator |'
  } >"$page"
  printf 'int f(void) { return memcmp(other,\n token, g(3)); }\n' \
    >"$work/wrong.c"
  {
    check_claims "$page"
    check_limits "$page"
  } 2>"$work/said"
  finds 'without a test: - nothing can happen'
  finds 'no test "test_token: is_not_there"'
  finds 'limits.max_connections: the default is "12000", not 12001'
  finds 'HTTP_HEAD_MAX is not 1'
  finds 'max_streams: its header'
  finds 'max_streams: src/device/options.c'
  finds '--max-connections: "dstream forward'
  finds 'limits.max_streams is not in the table'
  ! grep -qF '"test_token: expires"' "$work/said" || {
    echo "security: a test that is there is not found" >&2
    exit 1
  }
  [ -n "$(variable_time "$work/wrong.c")" ] || {
    echo "security: memcmp of a token is not found out" >&2
    exit 1
  }
  status=0
}

list_tests | sort -u >"$work/tests"
"$bin/dstream-hub" config-help >"$work/options"
"$bin/dstream-agent" --config-help >>"$work/options"
prove
check_claims "$source/SECURITY.md"
check_limits "$source/SECURITY.md"
check_no_way_round
check_comparisons
echo "security: $(wc -l <"$work/claims") claims," \
  "$(grep -oF '`[' "$work/claims" | wc -l) tests named," \
  "$(wc -l <"$work/limits") limits"
exit $status
