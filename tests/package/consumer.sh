#!/bin/bash
# consumer.sh SOURCE_DIR BINARY_DIR - the installed library as another project
# uses it: find_package(dstream) and pkg-config, from C and C++, shared, static,
# and with no shared library at all; from a prefix that was moved; and the
# version is the same wherever it stands.
set -eu
export LC_ALL=C
source=$1
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

fail() {
  echo "consumer: $*" >&2
  exit 1
}

generator=()
! command -v ninja >/dev/null || generator=(-G Ninja)
launcher=()
! command -v ccache >/dev/null ||
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
files=$source/tests/package/consumer
version=$(sed -nE 's/^project\(dstream VERSION ([0-9.]+).*/\1/p' \
  "$source/CMakeLists.txt")

cmake --install "$build" --prefix "$work/first" >/dev/null
mv "$work/first" "$work/prefix"
prefix=$work/prefix
pc=$(find "$prefix" -name dstream.pc)
libdir=$(dirname "$(dirname "$pc")")

# ---- find_package ----
for side in shared static; do
  cmake -S "$files" -B "$work/$side" "${generator[@]}" \
    -DCMAKE_PREFIX_PATH="$prefix" -DSIDE=$side >"$work/log" 2>&1 &&
    cmake --build "$work/$side" >>"$work/log" 2>&1 ||
    fail "find_package, $side: $(cat "$work/log")"
  for language in c cxx; do
    program=$work/$side/consumer_$language
    "$program" | tee "$work/said"
    grep -q "libdstream $version" "$work/said" || fail "it says another version"
    needs=$(readelf -dW "$program" | grep -c 'NEEDED.*libdstream') || :
    [ "$needs" = "$([ $side = static ] && echo 0 || echo 1)" ] ||
      fail "$side, $language: libdstream.so is named $needs times"
  done
done
mkdir "$work/refused"
cat >"$work/refused/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.18)
project(refused LANGUAGES C)
find_package(dstream ${WANTED} REQUIRED)
END
for wanted in 99.0 "${version%.*}.999"; do
  ! cmake -S "$work/refused" -B "$work/refused/build" "-DWANTED=$wanted" \
    -DCMAKE_PREFIX_PATH="$prefix" >"$work/log" 2>&1 ||
    fail "find_package(dstream $wanted) takes $version"
  grep -q "version: $version" "$work/log" ||
    fail "find_package(dstream $wanted): $(cat "$work/log")"
done

# ---- pkg-config ----
export PKG_CONFIG_PATH=${pc%/*}
link() { # COMPILER SOURCE PROGRAM PKG_CONFIG_OPTIONS... [-- LINKER_OPTIONS...]
  local compiler=$1 file=$2 program=$3 options=() flags
  shift 3
  while [ $# -gt 0 ] && [ "$1" != -- ]; do
    options+=("$1")
    shift
  done
  [ $# = 0 ] || shift
  flags=$(pkg-config "${options[@]}" --cflags --libs dstream)
  # shellcheck disable=SC2086
  $compiler "$file" -o "$program" "$@" $flags 2>"$work/log" ||
    fail "pkg-config ${options[*]}: $flags: $(cat "$work/log")"
}
link 'gcc -std=c11' "$files/consumer.c" "$work/shared_c"
link 'g++ -std=c++17' "$files/consumer.cc" "$work/shared_cxx"
LD_LIBRARY_PATH=$libdir "$work/shared_c"
LD_LIBRARY_PATH=$libdir "$work/shared_cxx"

# Without libdstream.so beside it, -ldstream is the archive.
mkdir "$work/without"
mv "$libdir"/libdstream.so* "$work/without/"
link 'gcc -std=c11' "$files/consumer.c" "$work/static_c" --static
link 'g++ -std=c++17' "$files/consumer.cc" "$work/static_cxx" --static
"$work/static_c"
"$work/static_cxx"

# No shared library at all: the device side, whose libraries are archives too on
# Debian.
archive() { # NAME
  [ -e "$(gcc -print-file-name="lib$1.a")" ]
}
if archive websockets && archive paho-mqtt3as && archive ssl; then
  cmake -S "$source" -B "$build/consumer" "${generator[@]}" "${launcher[@]}" \
    -DDSTREAM_BUILD_HUB=OFF -DDSTREAM_BUILD_TOOLS=OFF \
    -DDSTREAM_BUILD_SAMPLES=OFF >"$work/log" 2>&1 &&
    cmake --build "$build/consumer" >>"$work/log" 2>&1 &&
    cmake --install "$build/consumer" --prefix "$work/device" >>"$work/log" ||
    fail "$(tail -20 "$work/log")"
  pc=$(find "$work/device" -name dstream.pc)
  PKG_CONFIG_PATH=${pc%/*}
  link 'gcc -std=c11 -D_GNU_SOURCE' "$source/samples/echo_device.c" \
    "$work/alone" --static -- -static-pie -fPIE
  ! readelf -dW "$work/alone" | grep NEEDED || fail "it needs shared libraries"
  status=0
  env -i "$work/alone" >"$work/said" 2>&1 || status=$?
  [ $status -lt 126 ] || fail "it does not run: $(cat "$work/said")"
  echo "no shared library: $(stat -c %s "$work/alone") bytes"
else
  echo "no shared library: left out, libraries are no archives here"
fi

# ---- one version ----
mv "$work"/without/* "$libdir/"
agree() { # WHAT VERSION
  [ "$2" = "$version" ] || fail "$1 says \"$2\", the project is $version"
}
PKG_CONFIG_PATH=$libdir/pkgconfig
agree dstream.pc "$(pkg-config --modversion dstream)"
# The file is named after its interface's number and the version.
abi=$(sed -nE 's/^set\(DSTREAM_SOVERSION ([0-9]+)\)/\1/p' "$source/CMakeLists.txt")
agree libdstream.so "$(readlink -f "$libdir/libdstream.so" |
  sed -E "s/.*\.so\.$abi\.//")"
readelf -dW "$libdir/libdstream.so" |
  grep -c "SONAME.*\[libdstream\.so\.$abi\]" >/dev/null ||
  fail "libdstream.so is not number $abi"
for program in "$prefix"/bin/*; do
  agree "$program" "$("$program" --version | awk '{ print $NF; exit }')"
done
pages=0
for page in "$prefix"/share/man/man?/*; do
  ! grep -q '^\.so ' "$page" || continue
  agree "$page" "$(sed -nE 's/^\.TH .*"dstream ([0-9.]+)".*/\1/p' "$page")"
  pages=$((pages + 1))
done
[ $pages -ge 8 ] || fail "only $pages pages of the manual are installed"
echo "consumer: $version everywhere, $pages pages"
