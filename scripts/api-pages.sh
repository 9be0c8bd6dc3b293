#!/bin/sh
# scripts/api-pages.sh [--html] FOLDER VERSION - the API's manual, made from the
# comments in include/dstream: one page for each header, and for each function a
# name under which its page is found.
#
#   FOLDER/man3/dstream_stream.3        include/dstream/stream.h
#   FOLDER/man3/dstream_stream_write.3  the same page
#
#   --html   FOLDER/html/*.html too, by mandoc
#
# The build runs it and `cmake --install` installs man3.
set -eu
html=no
if [ "${1:-}" = --html ]; then
  html=yes
  shift
fi
if [ $# != 2 ]; then
  echo "usage: scripts/api-pages.sh [--html] FOLDER VERSION" >&2
  exit 2
fi
folder=$1
version=$2
root=$(cd "$(dirname "$0")/.." && pwd)

page_of() { # HEADER
  name=$(basename "$1" .h)
  [ "$name" = dstream ] || name=dstream_$name
  echo "$name"
}

pages=''
for header in "$root"/include/dstream/*.h; do
  pages="$pages $(page_of "$header")"
done

rm -rf "$folder/man3" "$folder/html"
mkdir -p "$folder/man3"
for header in "$root"/include/dstream/*.h; do
  page=$(page_of "$header")
  file=$folder/man3/$page.3
  awk -v version="$version" -v others="$pages" \
    -f "$root/scripts/api-page.awk" "$header" >"$file"
  sed -n '/^\.SH NAME/,/ \\- /s/^\([^\\]*\) \\- .*/\1/p' "$file" | tr -d , |
    tr ' ' '\n' | while read -r name; do
    [ "$name" = "$page" ] || echo ".so man3/$page.3" >"$folder/man3/$name.3"
  done
done

if [ $html = yes ]; then
  mkdir "$folder/html"
  cat >"$folder/html/api.css" <<'END'
:root { color-scheme: light dark; --line: #8884; --link: #1a5fb4; }
@media (prefers-color-scheme: dark) { :root { --link: #8ab8f0; } }
body { max-width: 46em; margin: 0 auto; padding: 1em;
  font: 16px/1.5 system-ui, sans-serif; }
a { color: var(--link); }
a.permalink { color: inherit; text-decoration: none; }
table.head, table.foot { width: 100%; border-collapse: collapse;
  font-size: .85em; opacity: .7; }
td.head-vol { text-align: center; }
td.head-rtitle, td.foot-os { text-align: right; }
h1.Sh { margin: 2em 0 .6em; padding-bottom: .2em; font-size: 1.1em;
  border-bottom: 1px solid var(--line); }
pre { margin: 1.2em 0 .3em; overflow-x: auto; font-size: .9em; }
.Bd-indent { margin-left: 2em; }
.Bd-indent > .Bd-indent, .Bd-indent > p { margin-top: .1em; }
dl.Bl-tag dd { margin-left: 2em; }
END
  for page in $pages; do
    mandoc -Thtml -O "man=%N.html,style=api.css" "$folder/man3/$page.3" \
      >"$folder/html/$page.html"
  done
fi
