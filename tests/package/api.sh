#!/bin/bash
# api.sh SOURCE_DIR BINARY_DIR - the API's manual pages: one for each public
# header, all that a header declares on its page, each function found by its
# name; well formed; and what the maker of pages does not know stops it.
set -eu
export LC_ALL=C
source=$1
build=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

complain() {
  echo "api: $*" >&2
  status=1
}

cmake --install "$build" --prefix "$work/prefix" >/dev/null
man3=$(find "$work/prefix" -type d -name man3)
[ -n "$man3" ] || complain "no pages are installed"
version=$(sed -nE 's/^project\(dstream VERSION ([0-9.]+).*/\1/p' \
  "$source/CMakeLists.txt")

# As it is read, on one line.
read_page() { # FILE
  groff -man -ww -Tascii -P-cbou -rHY=0 -rLL=200n "$1" 2>"$work/warnings" |
    tr -s '[:space:]' ' ' >"$work/text"
  [ ! -s "$work/warnings" ] || complain "$1: $(cat "$work/warnings")"
}
said() { # TEXT
  grep -qF -e "$1" "$work/text" || complain "$page does not have \"$1\""
}

functions=0
for header in "$source"/include/dstream/*.h; do
  name=$(basename "$header" .h)
  page=dstream_$name.3
  [ "$name" != dstream ] || page=dstream.3
  if [ ! -f "$man3/$page" ]; then
    complain "there is no $page for $name.h"
    continue
  fi
  read_page "$man3/$page"
  said "#include <dstream/$name.h>"
  said "dstream $version"
  # Everything that the compiler sees declared or defined here.
  for word in $(sed -nE 's/^.*[ *](dstream_[a-z0-9_]+)\(.*/\1/p
    s/^(dstream_[a-z0-9_]+)\(.*/\1/p' "$header" | grep -v '^ \*' | sort -u); do
    grep -qE "^(DSTREAM_API .*|.*\*)?$word\(|^typedef .*$word\(" "$header" ||
      continue
    said "$word("
    grep -q "^typedef .*$word(" "$header" && continue
    functions=$((functions + 1))
    case $(cat "$man3/$word.3" 2>/dev/null) in
    ".so man3/$page") ;;
    *) complain "man $word does not find $page" ;;
    esac
  done
  for word in $(sed -nE 's/^(struct|enum) (dstream_[a-z_]+) \{$/\2/p
    s/^  (DSTREAM_[A-Z_]+)( = [0-9]+)?,?( .*)?$/\1/p
    s/^  [^\/*]*[ *]([a-z_]+)(\[[A-Z_]+\])?;.*/\1/p
    s/^  X\(([A-Z]+),.*/DSTREAM_\1/p' "$header" | sort -u); do
    said "$word"
  done
  if command -v mandoc >/dev/null; then
    # A page has no date: its version says what it is of.
    mandoc -Tlint -W warning "$man3/$page" | grep -v 'missing date' >"$work/lint" ||
      :
    [ ! -s "$work/lint" ] || complain "$(cat "$work/lint")"
  fi
  ! grep -nE '.{81}' <(groff -man -Tascii -P-cbou -rHY=0 -rLL=80n "$man3/$page") ||
    complain "$page: lines are wider than a terminal"
done

# As many as the library exports, where it has all of them.
if [ -e "$build/lib/libdstream.so" ]; then
  exported=$(nm -D --defined-only "$build/lib/libdstream.so" |
    grep -c ' T dstream_')
  [ "$functions" = "$exported" ] ||
    complain "$functions functions are found by name, $exported are exported"
fi

# The same as HTML; what it links to is there.
if command -v mandoc >/dev/null; then
  sh "$source/scripts/api-pages.sh" --html "$work/api" "$version"
  for page in "$work"/api/html/*.html; do
    for link in $(grep -oE 'href="[^"#]+"' "$page" | cut -d'"' -f2 | sort -u); do
      [ -f "$work/api/html/$link" ] || complain "${page##*/} links to $link"
    done
  done
  [ "$(find "$work/api/html" -name '*.html' | wc -l)" = \
    "$(find "$source/include/dstream" -name '*.h' | wc -l)" ] ||
    complain "the pages of HTML are not as many as headers"
fi

# The maker does not leave out what it can't read.
begin="/* dstream/loop.h - summary. */"
for text in 'static inline int dstream_new(void) { return 0; }' \
  'DSTREAM_API int dstream_new(void);' \
  '/* Lonely. */' 'union dstream_new {'; do
  printf '%s\n#ifndef A\n#define A\n\n%s\n\n#endif\n' "$begin" "$text" \
    >"$work/loop.h"
  ! awk -v version=1 -f "$source/scripts/api-page.awk" "$work/loop.h" \
    >"$work/out" 2>&1 || complain "not refused: $text"
done
echo "api: $functions functions"
exit $status
