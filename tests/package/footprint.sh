#!/bin/bash
# footprint.sh SOURCE_DIR BINARY_DIR - the size of the device library is still
# what README.md says; scripts/footprint.sh writes it there.
set -eu
export LC_ALL=C
source=$1
build=$2/footprint
most=3 # percent more or less

fail() {
  echo "footprint: $*" >&2
  exit 1
}

table=$(sed -n '/^<!-- footprint/,/^<!-- \/footprint/p' "$source/README.md")
version=$(sed -nE '1,/gcc/s/^\| bytes, gcc ([0-9]+).*/\1/p' <<<"$table")
told=$(awk -F' *[|] *' '$2 == "x86-64" { gsub(",", "", $3); print $3 }' \
  <<<"$table")
[ -n "$version" ] && [ -n "$told" ] || fail "README.md has no such table"
if [ "$(uname -m)" != x86_64 ] || [ "$(gcc -dumpversion)" != "$version" ]; then
  echo "footprint: the table is of gcc $version on x86-64"
  exit 77
fi

generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
launcher=()
! command -v ccache >/dev/null ||
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
cmake -S "$source" -B "$build" "${generator[@]}" "${launcher[@]}" \
  -DCMAKE_C_COMPILER=gcc -DCMAKE_BUILD_TYPE=MinSizeRel \
  -DDSTREAM_BUILD_HUB=OFF -DDSTREAM_BUILD_TOOLS=OFF >/dev/null
cmake --build "$build" --target dstream >/dev/null
text=$(size "$build/lib/libdstream.so" | awk 'NR == 2 { print $1 }')
percent=$(((text - told) * 100 / told))
echo "libdstream.so, device only, -Os: text $text; README.md says $told"
[ ${percent#-} -lt $most ] ||
  fail "$percent % apart; run scripts/footprint.sh, and look why it grew"
