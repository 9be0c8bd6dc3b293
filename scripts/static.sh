#!/bin/bash
# scripts/static.sh [FOLDER] - builds dstream-agent as one file that needs no
# shared library: FOLDER/bin/dstream-agent (FOLDER: build-static).
#
# cJSON is no archive in Debian: where there is no libcjson.a, the source of
# Debian's package is fetched into FOLDER/cjson.  docs/building.md says what to
# know about a static program.  Exit status 77: cJSON could not be fetched.
set -eu
here=$PWD
cd "$(dirname "$0")/.."
. scripts/debian.sh

case ${1:-} in
-*)
  echo "usage: scripts/static.sh [FOLDER]" >&2
  exit 2
  ;;
'') folder=$PWD/build-static ;;
/*) folder=$1 ;;
*) folder=$here/$1 ;;
esac

have_archive() {
  local path
  path=$(gcc -print-file-name=libcjson.a)
  [ -e "$path" ] # gcc repeats a name that it does not find
}

mkdir -p "$folder"
source=()
if ! have_archive; then
  if [ ! -f "$folder/cjson/cJSON.c" ]; then
    echo "static: fetching the source of cJSON" >&2
    if ! fetch_source "$folder/cjson" cjson 2>"$folder/apt.log"; then
      tail -5 "$folder/apt.log" >&2
      echo "static: there is no libcjson.a, and apt has no source of cJSON;" \
        "see docs/building.md" >&2
      exit 77
    fi
  fi
  source=("-DDSTREAM_CJSON_SOURCE=$folder/cjson")
fi

generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
launcher=()
! command -v ccache >/dev/null ||
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
if ! {
  cmake -S . -B "$folder" "${generator[@]}" "${launcher[@]}" "${source[@]}" \
    -DDSTREAM_STATIC_AGENT=ON -DDSTREAM_BUILD_HUB=OFF &&
    cmake --build "$folder" --parallel "$(nproc)" \
      --target dstream-agent-program
} >"$folder/static.log" 2>&1; then
  tail -40 "$folder/static.log" >&2
  echo "static: the build failed; all it said is in $folder/static.log" >&2
  exit 1
fi
echo "$folder/bin/dstream-agent: $(stat -c %s "$folder/bin/dstream-agent") bytes"
