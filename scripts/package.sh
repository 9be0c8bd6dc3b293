#!/bin/bash
# scripts/package.sh [--no-lint] [OUTDIR] - builds the Debian packages into OUTDIR
# (default: build-package), and has lintian look at them.
#
# Builds a copy of the files that belong to this tree, as they are now, in a
# temporary folder; this tree stays as it is.  debian/ in it is
# packaging/debian.  What DEB_BUILD_OPTIONS says holds (parallel=N, nocheck,
# noautodbgsym, ...).  scripts/setup.sh --tests installs what it needs.
# Exit status: 0 done, 1 failed or not clean, 2 wrong usage.
set -eu
export LC_ALL=C

lint=yes
out=build-package
case ${1:-} in
--no-lint)
  lint=no
  shift
  ;;
esac
case ${1:-} in
-*)
  echo "usage: scripts/package.sh [--no-lint] [OUTDIR]" >&2
  exit 2
  ;;
esac
[ $# -le 1 ] || {
  echo "usage: scripts/package.sh [--no-lint] [OUTDIR]" >&2
  exit 2
}
out=$(realpath -m "${1:-$(dirname "$0")/../build-package}")
cd "$(dirname "$0")/.."

fail() {
  echo "package: $*" >&2
  exit 1
}

for tool in dpkg-buildpackage dh lintian; do
  [ $tool != lintian ] || [ $lint = yes ] || continue
  command -v $tool >/dev/null ||
    fail "$tool is missing; scripts/setup.sh --tests installs it"
done

# The project's one version; Debian's changelog begins with the same.
version=$(sed -nE 's/^project\(.* VERSION ([0-9.]+).*/\1/p' CMakeLists.txt)
[ -n "$version" ] || fail "CMakeLists.txt names no version"
told=$(dpkg-parsechangelog -l packaging/debian/changelog -S Version)
[ "$told" = "$version" ] ||
  fail "packaging/debian/changelog begins with $told, but this is $version"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tree=$work/dstream-$version
mkdir "$tree"

tree_files() { # with a zero after each: those that git knows, or would
  if [ -e .git ]; then
    git ls-files -z --cached --others --exclude-standard |
      while IFS= read -r -d '' file; do
        [ ! -e "$file" ] || printf '%s\0' "$file"
      done
  else
    find . -path './build*' -prune -o -type f -print0
  fi
}
tree_files | tar -c --null -T - | tar -x -C "$tree"
cp -a packaging/debian "$tree/debian"

# Old packages of another version would be taken for these.
mkdir -p "$out"
rm -f "$out"/{libdstream,dstream}*.{deb,ddeb,changes,buildinfo}

build() (
  cd "$tree"
  if command -v ccache >/dev/null; then
    # The folder has another name each time.
    export CMAKE_C_COMPILER_LAUNCHER=ccache CCACHE_BASEDIR=$work
  fi
  dpkg-buildpackage -us -uc -b
)
DEB_BUILD_OPTIONS="parallel=$(nproc) ${DEB_BUILD_OPTIONS:-}"
export DEB_BUILD_OPTIONS
if ! build >"$work/log" 2>&1; then
  cp "$work/log" "$out/build.log"
  tail -40 "$work/log" >&2
  fail "the build failed; all it said is in $out/build.log"
fi
cp "$work"/*.{deb,changes,buildinfo} "$out/"
cp "$work/log" "$out/build.log"

if [ $lint = yes ]; then
  lintian --fail-on error,warning --no-tag-display-limit \
    "$out"/*.changes || fail "lintian is not content"
fi
(cd "$out" && ls -1 -- *.deb)
