#!/bin/bash
# toolchain.sh SOURCE_DIR BINARY_DIR - the toolchain files for other
# architectures: CMake takes each with its compiler, looks for libraries and
# packages in the sysroot only, and what core/ needs no library for compiles
# without a warning.  scripts/cross.sh, which takes longer, builds everything and
# runs the unit tests.
set -eu
export LC_ALL=C
source=$1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "toolchain: $*" >&2
  exit 1
}

# A sysroot with one library that no system has, and a project that wants it.
mkdir -p "$work/project"
cat >"$work/project/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.18)
project(probe VERSION 1 LANGUAGES C)
include(${SOURCE}/cmake/flags.cmake)
include(GNUInstallDirs)
find_package(PkgConfig REQUIRED)
pkg_check_modules(PROBE REQUIRED probe)
pkg_check_modules(FOREIGN libwebsockets)
find_library(PROBE_LIBRARY probe)
find_path(PROBE_HEADER probe.h)
find_library(FOREIGN_LIBRARY websockets)
message(STATUS "found: ${PROBE_LIBRARY} ${PROBE_HEADER} ${PROBE_LINK_LIBRARIES}")
message(STATUS "foreign: ${FOREIGN_LIBRARY} ${FOREIGN_LIBRARIES}")
file(GLOB sources ${SOURCE}/src/core/*.c)
list(FILTER sources EXCLUDE REGEX "/(crypto|token)\\.c$")
add_library(core OBJECT ${sources})
target_include_directories(core PRIVATE ${SOURCE}/include ${SOURCE}/src)
target_link_libraries(core PRIVATE dstream_flags)
END

make_sysroot() { # FOLDER TRIPLET
  mkdir -p "$1/usr/lib/$2/pkgconfig" "$1/usr/include"
  : >"$1/usr/include/probe.h"
  : >"$1/usr/lib/$2/libprobe.so"
  cat >"$1/usr/lib/$2/pkgconfig/probe.pc" <<END
Name: probe
Description: probe
Version: 1
Libs: -L/usr/lib/$2 -lprobe
END
}

generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
checked=0
check() { # ARCHITECTURE TRIPLET MACHINE
  local file=$source/cmake/toolchain-$1.cmake sysroot=$work/sysroot-$1 object
  [ -f "$file" ] || fail "there is no $file"
  if ! command -v "$2-gcc" >/dev/null; then
    echo "toolchain: $1 is left out: $2-gcc is not installed"
    return
  fi
  make_sysroot "$sysroot" "$2"
  cmake -S "$work/project" -B "$work/$1" \
    "${generator[@]}" "-DSOURCE=$source" "-DCMAKE_TOOLCHAIN_FILE=$file" \
    "-DCMAKE_SYSROOT=$sysroot" -DDSTREAM_WERROR=ON >"$work/log" 2>&1 ||
    fail "$1: $(tail -20 "$work/log")"
  grep -qE -- "-- found: $sysroot/usr/lib/$2/libprobe.so $sysroot/usr/include $sysroot/usr/lib/$2/libprobe.so" \
    "$work/log" || fail "$1: not found in the sysroot: $(cat "$work/log")"
  grep -qE -- '-- foreign: FOREIGN_LIBRARY-NOTFOUND *$' "$work/log" ||
    fail "$1: libraries of this machine are found: $(grep foreign: "$work/log")"
  cmake --build "$work/$1" >"$work/log" 2>&1 ||
    fail "$1: $(tail -30 "$work/log")"
  while read -r object; do
    readelf -hW "$object" | grep -q "Machine: *$3\$" ||
      fail "$object is not for $3"
  done < <(find "$work/$1" -name '*.c.o')
  checked=$((checked + 1))
}

for name in "$source"/cmake/toolchain-*.cmake; do
  grep -q "CMAKE_TOOLCHAIN_FILE=cmake/${name##*/}" "$name" ||
    [ "${name##*/}" = toolchain-debian.cmake ] ||
    fail "${name##*/} does not say how to use it"
done
check armhf arm-linux-gnueabihf ARM
check arm64 aarch64-linux-gnu AArch64

# What cross.sh and static.sh give to CMake is there.
for option in $(grep -ohE -- '-DDSTREAM_[A-Z_]+' "$source"/scripts/{cross,static}.sh |
  sed 's/^-D//' | sort -u); do
  grep -qE "(option|set)\($option\b" "$source/CMakeLists.txt" \
    "$source"/cmake/*.cmake || fail "a script gives $option, which nothing reads"
done
for arguments in '' 'x86' '--setup'; do
  status=0
  # shellcheck disable=SC2086
  bash "$source/scripts/cross.sh" $arguments >/dev/null 2>&1 || status=$?
  [ $status = 2 ] || fail "cross.sh $arguments: status $status"
done
[ $checked -gt 0 ] || exit 77
echo "toolchain: $checked architectures"
