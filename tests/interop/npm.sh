#!/bin/bash
# npm.sh PROGRAM ... - runs a test that needs the npm packages of package.json
# and ports 443 and 8883, which the official clients can't be talked out of.
#
# The packages are installed into the build's folder, once for each
# package-lock.json; DSTREAM_NODE_MODULES tells the test where.  The overrides of
# package.json keep to releases for node 18, which Debian 12 has.  The ports come
# with a network namespace of the test's own.  Where namespaces are not allowed
# the test runs without: it then needs both ports to be free on 127.0.0.1.
# Exit status 77 where node or npm is missing: "skipped".
set -eu
here=$(cd "$(dirname "$0")" && pwd)

skip() {
  echo "skipped: $*" >&2
  exit 77
}

install_packages() { # FOLDER
  mkdir -p "$1"
  exec 9>"$1/lock"
  flock 9
  if ! cmp -s "$here/package-lock.json" "$1/installed"; then
    rm -f "$1/installed"
    cp "$here/package.json" "$here/package-lock.json" "$1/"
    if ! (cd "$1" && npm ci --ignore-scripts --no-audit --no-fund \
      --prefer-offline >npm.log 2>&1 9>&-); then
      tail -20 "$1/npm.log" >&2
      echo "npm.sh: the packages could not be installed" >&2
      return 1
    fi
    cp "$here/package-lock.json" "$1/installed"
  fi
  exec 9>&-
}

command -v node >/dev/null || skip "node is not installed"
command -v npm >/dev/null || skip "npm is not installed"
major=$(node -p 'process.versions.node.split(".")[0]')
[ "$major" -ge 18 ] || skip "node $major is too old, 18 is needed"

folder=$DSTREAM_BINARY_DIR/tests/npm
install_packages "$folder"
export DSTREAM_NODE_MODULES=$folder/node_modules
export NODE_PATH=$DSTREAM_NODE_MODULES

# Root may make one as it is; others become root in a user namespace first.
for flags in -n -Urn; do
  # shellcheck disable=SC2016
  if unshare $flags ip link set lo up 2>/dev/null; then
    exec unshare $flags bash -c 'ip link set lo up && exec "$@"' - "$@"
  fi
done
exec "$@"
