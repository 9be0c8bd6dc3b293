#!/bin/bash
# docs.sh SOURCE_DIR BINARY_DIR - what the documentation tells to do, works: every
# block of the pages below is run or compiled, or has a reason why not before it
# (page.awk).  Each page is one session in the order of its blocks, as root on a
# machine of its own with dstream installed (reader.sh).
set -eu
export LC_ALL=C
source=$(cd "$1" && pwd)
build=$(cd "$2" && pwd)
here=$source/tests/package
pages='README.md docs/device.md docs/proxy.md docs/hub.md docs/monitoring.md
  docs/registry.md docs/agent.md docs/ssh.md docs/azure.md'
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

fail() {
  echo "docs: $*" >&2
  status=1
}

# Pages that are wrong are found out.
check_itself() {
  local page=$work/wrong.md
  printf '%s\n' '```text' x '```' '' '    indented' '' '<!-- not run: -->' \
    '```' y '```' >"$page"
  mkdir "$work/wrong"
  awk -v page=wrong.md -v folder="$work/wrong" -f "$here/page.awk" "$page" \
    >"$work/wrong.out"
  [ "$(grep -c '^wrong.md' "$work/wrong.out")" = 3 ] ||
    fail "a page that is wrong gets by: $(cat "$work/wrong.out")"
}

# Every file and heading that is linked to.
check_links() { # PAGE
  local target file heading
  while read -r target; do
    file=${target%%#*}
    file=$(dirname "$source/$1")/${file:-$(basename "$1")}
    [ -e "$file" ] || fail "$1: there is no $target"
    case $target in *.md'#'*) heading=${target#*#} ;; '#'*) heading=${target#\#} ;; *) continue ;; esac
    sed -nE 's/^#+ //p' "$file" | tr '[:upper:]' '[:lower:]' |
      tr -cd 'a-z0-9 \n_-' | tr ' ' '-' | grep -qxF "$heading" ||
      fail "$1: there is no heading for $target"
  done < <(grep -oE '\]\([^)]+\)' "$source/$1" | sed 's/^](//; s/)$//' |
    grep -vE '^(https?|mailto):')
}

compile() { # PAGE BLOCK
  local compiler
  for compiler in gcc clang; do
    command -v $compiler >/dev/null || continue
    $compiler -std=c11 -D_POSIX_C_SOURCE=200809L -Wall -Wextra -Werror \
      -I"$work/prefix/include" -fsyntax-only "$2" ||
      fail "$1: the block at ${2##*-} does not compile with $compiler"
  done
}

total=(0 0 0 0)
try() { # PAGE
  local folder counts name rc=0 i
  name=$(basename "$1" .md)
  folder=$work/$name
  mkdir "$folder"
  awk -v page="$1" -v folder="$folder" -f "$here/page.awk" "$source/$1" \
    >"$folder/said"
  ! grep -v '^COUNTS' "$folder/said" >&2 || fail "$1 is no page to try"
  read -ra counts < <(sed -n 's/^COUNTS //p' "$folder/said")
  for i in 0 1 2 3; do
    total[i]=$((total[i] + counts[i]))
  done
  for block in "$folder"/c-*.c; do
    [ ! -e "$block" ] || compile "$1" "$block"
  done
  [ -s "$folder/session" ] || return 0
  timeout 120 bash "$here/reader.sh" "$folder" "$source" "$build" \
    >"$folder/log" 2>&1 </dev/null || rc=$?
  if [ $rc = 77 ]; then
    tail -1 "$folder/log"
    skipped=yes
  elif [ $rc != 0 ]; then
    tail -40 "$folder/log" >&2
    fail "$1: what it tells to do failed"
  fi
}

skipped=no
# The official clients for Node, as its own tests install them.
NODE_PATH=$(DSTREAM_BINARY_DIR=$build bash "$source/tests/interop/npm.sh" \
  printenv NODE_PATH) || {
  echo "docs: no packages for node"
  exit 77
}
export NODE_PATH
check_itself
cmake --install "$build" --prefix "$work/prefix" >/dev/null
while read -r page; do
  check_links "$page"
done < <(cd "$source" && printf '%s\n' ./*.md docs/*.md)
for page in $pages; do
  try "$page"
  echo "docs: $page ($SECONDS s)"
done
[[ ${total[0]} -ge 55 && ${total[1]} -ge 10 ]] ||
  fail "only ${total[0]} blocks run and ${total[1]} compiled"
echo "docs: ${total[0]} run, ${total[1]} compiled, ${total[2]} files," \
  "${total[3]} left out with a reason"
[ $status = 0 ] || exit 1
[ $skipped = no ] || exit 77
