#!/bin/bash
# How many instructions the framing takes for a megabyte: both roles, both
# directions, in frames that fill a TLS record and in small ones.  callgrind
# counts them, so they are the same each time and on each machine; the bounds
# are what they were, and a tenth.  Another compiler may take half as many more.
#
# To set the bounds anew, with cause: this prints what it has counted.
set -eu
export LC_ALL=C
program=${DSTREAM_BINARY_DIR:?}/bin/dstream_cost_framing

# measure_NAME  thousands of instructions, by gcc 12 for x86-64
bounds='
mask                 361
client_send_large    518
server_receive_large 419
server_send_large    802
client_receive_large 37
client_send_small    5814
server_receive_small 9194
server_send_small    3965
client_receive_small 5203
'

skip() {
  echo "skipped: $*"
  exit 77
}
[ -x "$program" ] || skip "no $program: it is built where there is no sanitizer"
command -v valgrind >/dev/null || skip "valgrind is not installed"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
valgrind -q --tool=callgrind --callgrind-out-file="$work/counted" \
  --dump-after='measure_*' "$program" >"$work/compiler"

percent=110
if [ "$(cat "$work/compiler") $(uname -m)" != "gcc 12 x86_64" ]; then
  percent=150
  echo "not the compiler that the bounds are of: half as many more are let pass"
fi

# NAME COUNT, of each dump
sed -nE -e 's/^desc: Trigger: --dump-after=measure_(.*)/\1/p' \
  -e 's/^summary: ([0-9]+)/\1/p' "$work"/counted.* |
  grep -A1 '^[a-z]' | grep -v -e -- | paste -d' ' - - >"$work/counts"

status=0
while read -r name thousands; do
  [ -n "$name" ] || continue
  counted=$(awk -v name="$name" '$1 == name { print $2 }' "$work/counts")
  if [ -z "$counted" ]; then
    echo "FAILED: measure_$name was not counted"
    status=1
    continue
  fi
  most=$((thousands * 10 * percent))
  printf 'cost: framing %s instructions_per_mb=%d most=%d\n' "$name" \
    "$counted" "$most"
  if [ "$counted" -gt "$most" ]; then
    echo "FAILED: $name takes more than that"
    status=1
  fi
done <<<"$bounds"
exit $status
