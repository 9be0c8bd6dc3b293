#!/bin/bash
# scripts/cross.sh [--setup] armhf|arm64... - builds for another architecture and
# runs the unit tests there, by qemu, and the fuzzers over their corpus.
#
#   a device build  the library and dstream-agent without hub and service, as
#                   firmware gets them; the agent also without shared libraries
#   a full build    everything, for the unit tests: those of the hub as well
#
# On Debian 12 and its relatives on x86-64.  Builds are kept in build-cross/,
# with the libraries of the other architecture, which apt-get fetches there;
# nothing of them is installed.  The first run takes some minutes for each
# architecture, so scripts/test.sh does not have it: there
# tests/package/toolchain.sh only sees that the toolchain files work.
#
#   --setup   installs the cross compilers and whatever else is missing, first
set -eu
cd "$(dirname "$0")/.."
export LC_ALL=C
. scripts/debian.sh
base=${DSTREAM_CROSS_BUILD:-$PWD/build-cross}
libraries='libssl-dev libwebsockets-dev libwebsockets-evlib-uv libuv1-dev
  zlib1g-dev libcap-dev libpaho-mqtt-dev libcjson-dev libsqlite3-dev
  libmosquitto-dev mosquitto-dev libcmocka-dev'

say() {
  echo "cross: $*" >&2
}

fail() {
  say "$*"
  exit 1
}

usage() {
  echo "usage: scripts/cross.sh [--setup] armhf|arm64..." >&2
  exit 2
}

missing() { # ARCHITECTURES...
  local architecture
  command -v cmake >/dev/null || echo cmake
  command -v ninja >/dev/null || echo ninja-build
  command -v pkg-config >/dev/null || echo pkg-config
  command -v dpkg-source >/dev/null || echo dpkg-dev
  for architecture; do
    case $architecture in
    armhf)
      command -v arm-linux-gnueabihf-gcc >/dev/null ||
        echo gcc-arm-linux-gnueabihf
      command -v qemu-arm-static >/dev/null || echo qemu-user-static
      ;;
    arm64)
      command -v aarch64-linux-gnu-gcc >/dev/null ||
        echo gcc-aarch64-linux-gnu
      command -v qemu-aarch64-static >/dev/null || echo qemu-user-static
      ;;
    esac
  done
}

check_machine() { # ARCHITECTURES...
  local list
  [ "$(uname -m)" = x86_64 ] || fail "runs on x86-64 only"
  command -v apt-get >/dev/null || fail "needs Debian 12 or a relative"
  list=$(missing "$@" | sort -u | tr '\n' ' ')
  if [ -n "$list" ] && [ $setup = yes ]; then
    # shellcheck disable=SC2086
    DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends \
      install $list >&2 || fail "run apt-get update, then this again, as root"
    list=$(missing "$@")
  fi
  [ -z "$list" ] || fail "needs these packages: $list" \
    "(scripts/cross.sh --setup installs them, as root)"
}

emulator() { # ARCHITECTURE
  case $1 in
  armhf) echo qemu-arm-static ;;
  arm64) echo qemu-aarch64-static ;;
  esac
}

triplet() { # ARCHITECTURE
  case $1 in
  armhf) echo arm-linux-gnueabihf ;;
  arm64) echo aarch64-linux-gnu ;;
  esac
}

fetch() { # ARCHITECTURE
  local sysroot=$base/sysroot-$1
  if [ ! -d "$sysroot" ]; then
    say "fetching the libraries for $1"
    # shellcheck disable=SC2086
    make_sysroot "$sysroot" "$1" $libraries 2>"$base/apt.log" ||
      fail "could not fetch the libraries for $1: $(tail -3 "$base/apt.log")"
  fi
  if [ ! -d "$base/cjson" ]; then
    fetch_source "$base/cjson" cjson 2>"$base/apt.log" ||
      fail "could not fetch cJSON: $(tail -3 "$base/apt.log")"
  fi
}

build() { # ARCHITECTURE FOLDER CMAKE_OPTIONS...
  local architecture=$1 folder=$base/$2 log=$base/$2.log launcher=()
  shift 2
  say "building ${folder##*/}"
  ! command -v ccache >/dev/null ||
    launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache)
  if ! {
    cmake -S . -B "$folder" -G Ninja "${launcher[@]}" \
      "-DCMAKE_TOOLCHAIN_FILE=$PWD/cmake/toolchain-$architecture.cmake" \
      "-DCMAKE_SYSROOT=$base/sysroot-$architecture" \
      "-DCMAKE_CROSSCOMPILING_EMULATOR=$(emulator "$architecture");-L;$base/sysroot-$architecture" \
      -DDSTREAM_WERROR=ON "$@" && ninja -C "$folder"
  } >"$log" 2>&1; then
    tail -40 "$log" >&2
    fail "could not build $folder; all it said is in $log"
  fi
}

# What is on the file, and that it runs.
show() { # ARCHITECTURE FILE [--static]
  local needed version
  needed=$("$(triplet "$1")-readelf" -dW "$2" |
    sed -nE 's/.*\(NEEDED\).*\[(.*)\]/\1/p' | tr '\n' ' ')
  [ "${3:-}" != --static ] || [ -z "$needed" ] || fail "$2 needs $needed"
  if [ -z "$needed" ]; then
    version=$("$(emulator "$1")" "$2" --version)
  else
    version=$("$(emulator "$1")" -L "$base/sysroot-$1" "$2" --version)
  fi
  echo "$1: $version: $(stat -c %s "$2") bytes; needs: ${needed:-nothing}"
}

cross() { # ARCHITECTURE
  fetch "$1"
  build "$1" "$1-device" -DCMAKE_BUILD_TYPE=MinSizeRel -DDSTREAM_BUILD_HUB=OFF \
    -DDSTREAM_BUILD_TOOLS=OFF -DDSTREAM_BUILD_SERVICE=OFF
  build "$1" "$1-agent" -DDSTREAM_BUILD_HUB=OFF
  build "$1" "$1-static" -DDSTREAM_BUILD_HUB=OFF -DDSTREAM_STATIC_AGENT=ON \
    "-DDSTREAM_CJSON_SOURCE=$base/cjson"
  show "$1" "$base/$1-agent/bin/dstream-agent"
  show "$1" "$base/$1-static/bin/dstream-agent" --static
  build "$1" "$1-tests" -DDSTREAM_BUILD_TESTS=ON
  say "unit tests and the fuzzers' corpus for $1"
  ctest --test-dir "$base/$1-tests" -L 'unit|fuzz' --output-on-failure \
    --no-tests=error -j "$(nproc)"
}

setup=no
architectures=()
for argument; do
  case $argument in
  --setup) setup=yes ;;
  armhf | arm64) architectures+=("$argument") ;;
  *) usage ;;
  esac
done
[ ${#architectures[@]} -gt 0 ] || usage
check_machine "${architectures[@]}"
mkdir -p "$base"
for architecture in "${architectures[@]}"; do
  cross "$architecture"
done
