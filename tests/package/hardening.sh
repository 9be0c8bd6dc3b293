#!/bin/bash
# hardening.sh SOURCE_DIR BINARY_DIR - what cmake/flags.cmake asks for is in the
# built files: programs, library, plugin and samples.  Begins by seeing that a
# program built without any of it fails each check.  What leaves no trace in a
# file (-fstack-clash-protection) is not checked.
set -eu
export LC_ALL=C
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

if grep -qE '^CMAKE_BUILD_TYPE:.*=(Debug|None)' "$build/CMakeCache.txt"; then
  echo "hardening: $build is no release"
  exit 77
fi

status=0
complain() { # FILE WHAT
  echo "hardening: ${1#"$build/"}: $2" >&2
  status=1
}

has() { # PATTERN : in what is read; all of it is read, for readelf's sake
  grep -cE "$1" >/dev/null
}

check_dynamic() { # FILE
  local dynamic
  dynamic=$(readelf -dW "$1")
  has '\(FLAGS(_1)?\).*NOW' <<<"$dynamic" || complain "$1" "binds lazily"
  ! has TEXTREL <<<"$dynamic" || complain "$1" "relocates its code"
}

check_installed() { # FILE
  ! readelf -dW "$1" | has '\((RPATH|RUNPATH)\)' ||
    complain "$1" "searches a path of its own for libraries"
}

check_segments() { # FILE
  local segments
  segments=$(readelf -lW "$1")
  has 'GNU_RELRO' <<<"$segments" || complain "$1" "has no RELRO"
  has 'GNU_STACK .* RW +0x' <<<"$segments" ||
    complain "$1" "has an executable stack"
  ! has 'LOAD .* R?WE +0x' <<<"$segments" ||
    complain "$1" "has a segment to write and execute"
  ! has 'LOAD +0x0+ .* R E +0x' <<<"$segments" ||
    complain "$1" "has its headers among its code"
}

check_symbols() { # FILE
  local symbols
  symbols=$(readelf --dyn-syms -W "$1")
  has '__stack_chk_fail' <<<"$symbols" || complain "$1" "has no stack protector"
  has ' UND __[a-z]+_chk@' <<<"$symbols" || complain "$1" "is not fortified"
}

check_position() { # FILE
  readelf -hW "$1" | has 'Type: +DYN' || complain "$1" "is bound to one address"
}

check_file() { # FILE
  check_position "$1"
  check_dynamic "$1"
  check_segments "$1"
  check_symbols "$1"
}

# The linker drops the marks if one input has none, and the start-up files of
# Debian 12 have none: so each of our own objects is looked at.
check_marks() { # OBJECT
  readelf -nW "$1" 2>/dev/null | has 'IBT, SHSTK' ||
    complain "$1" "does not mark where jumps may land"
}

prove() { # the checks can fail
  local source=$work/weak.c object=$work/weak.o program=$work/weak what
  local wanted=("one address" lazily RELRO "executable stack" "write and"
    headers "stack protector" fortified "path of its own")
  cat >"$source" <<'END'
#include <string.h>
__asm__(".section .both, \"awx\"\n .zero 8\n .text");
int main(int argc, char **argv) {
  char text[64];
  memcpy(text, argv[0], (size_t)argc);
  return text[0];
}
END
  gcc -O2 -fno-pie -fno-stack-protector -fcf-protection=none \
    -U_FORTIFY_SOURCE -c -o "$object" "$source"
  gcc -no-pie -Wl,-z,lazy,-z,norelro,-z,execstack,-z,noseparate-code \
    -Wl,-rpath,/nowhere -o "$program" "$object" 2>"$work/warned" || {
    cat "$work/warned" >&2
    exit 1
  }
  {
    check_file "$program"
    check_installed "$program"
    if [ $x86 = yes ]; then
      check_marks "$object"
      wanted+=(jumps)
    fi
  } 2>"$work/said"
  for what in "${wanted[@]}"; do
    if ! grep -q "$what" "$work/said"; then
      echo "hardening: a weak program is not found out: $what" >&2
      exit 1
    fi
  done
  status=0
}

case $(uname -m) in
x86_64 | i?86) x86=yes ;;
*) x86=no ;;
esac
prove

cmake --install "$build" --prefix "$work/installed" >/dev/null
count=0
while read -r file; do
  check_file "$file"
  check_installed "$file"
  count=$((count + 1))
done < <(find "$work/installed" -type f \( -path '*/bin/*' -o -name '*.so*' \))
echo "installed programs and libraries: $count"
[ $count -ge 5 ] || complain "$work/installed" "fewer than five are installed"
for file in "$build"/samples/echo_*; do
  check_file "$file"
done

objects=0
if [ $x86 = yes ]; then
  while read -r file; do
    check_marks "$file"
    objects=$((objects + 1))
  done < <(find "$build/CMakeFiles" -name '*.c.o' -path '*/s*/*')
  echo "objects: $objects"
  [ $objects -ge 50 ] || complain "$build" "fewer than 50 objects"
fi
exit $status
