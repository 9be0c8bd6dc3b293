# scripts/debian.sh - sourced: packages of Debian and its relatives fetched into
# folders, by an apt of their own; nothing is installed, and no root is needed.
# shellcheck shell=bash

# An apt that knows of no installed package.  Sets `apt_options`.
private_apt() { # FOLDER ARCHITECTURE
  mkdir -p "$1/lists/partial" "$1/cache/archives/partial"
  : >"$1/status"
  apt_options=(-q -y -o "Dir::State::lists=$1/lists" -o "Dir::Cache=$1/cache"
    -o "Dir::State::status=$1/status" -o "APT::Architecture=$2"
    -o "APT::Architectures=$2" -o "APT::Architectures::=$2"
    -o Debug::NoLocking=1 -o Acquire::Languages=none
    -o "APT::Sandbox::User=$(id -un)")
}

# The libraries of another architecture, unpacked into a folder, with all that
# they need.  Status 1: they could not be fetched; what apt said is on stderr.
make_sysroot() { # FOLDER ARCHITECTURE PACKAGES...
  local folder=$1 architecture=$2 scratch file
  shift 2
  scratch=$(mktemp -d)
  private_apt "$scratch" "$architecture"
  # A source without this architecture is no reason to stop.
  apt-get "${apt_options[@]}" update >&2 || :
  if ! apt-get "${apt_options[@]}" --download-only --no-install-recommends \
    install "$@" >&2; then
    rm -rf "$scratch"
    return 1
  fi
  rm -rf "$folder" "$folder.new"
  mkdir -p "$folder.new"
  for file in "$scratch"/cache/archives/*.deb; do
    dpkg-deb -x "$file" "$folder.new"
  done
  rm -rf "$scratch"
  # As on an installed system, and links that lead to places in the folder.
  cp -a "$folder.new/lib/." "$folder.new/usr/lib/"
  rm -r "$folder.new/lib"
  ln -s usr/lib "$folder.new/lib"
  find "$folder.new/usr/lib" -name '*.so' -lname '/*' |
    while read -r file; do
      ln -sfn "$(realpath -m --relative-to="${file%/*}" \
        "$folder.new$(readlink "$file")")" "$file"
    done
  mv "$folder.new" "$folder"
}

# The source of a package, with the distribution's patches: FOLDER becomes what
# holds it.  Status 1: it could not be fetched; what apt said is on stderr.
fetch_source() { # FOLDER PACKAGE
  local folder=$1 package=$2 scratch status=0
  scratch=$(mktemp -d)
  private_apt "$scratch" "$(dpkg --print-architecture)"
  apt-get indextargets --format 'deb-src $(REPO_URI) $(RELEASE) $(COMPONENT)' \
    'Created-By: Packages' 2>/dev/null | sort -u >"$scratch/sources.list"
  apt_options+=(-o "Dir::Etc::sourcelist=$scratch/sources.list"
    -o Dir::Etc::sourceparts=-)
  apt-get "${apt_options[@]}" update >&2 || :
  (cd "$scratch" && apt-get "${apt_options[@]}" source "$package") >&2 ||
    status=1
  if [ $status = 0 ]; then
    rm -rf "$folder"
    mv "$(find "$scratch" -mindepth 1 -maxdepth 1 -type d \
      -iname "$package-*")" "$folder"
  fi
  rm -rf "$scratch"
  return $status
}
