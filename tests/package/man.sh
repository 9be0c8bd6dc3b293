#!/bin/bash
# man.sh SOURCE_DIR BINARY_DIR - the manual page says what the program says: the
# options of hub.json word for word, every command, every option; and it is well
# formed.
set -eu
source=$1
hub=$2/bin/dstream-hub
page=$source/docs/man/dstream-hub.1
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

complain() {
  echo "man: $*" >&2
  status=1
}

# Two lines for each option: "name  bounds, default", "    meaning".
"$hub" config-help | awk '
  NR % 2 == 1 { name = $1; $1 = ""; sub(/^ */, ""); bounds = $0; next }
  {
    sub(/^ */, "")
    printf ".TP\n.B %s\n%s\n(%s)\n", name, $0, bounds
  }' >"$work/wanted"
[ -s "$work/wanted" ] || complain "config-help says nothing"
sed -n '/^\.\\" begin config-help/,/^\.\\" end config-help/p' "$page" |
  sed '1d;$d' >"$work/have"
diff -u --label "dstream-hub.1" "$work/have" --label config-help \
  "$work/wanted" || complain "the options of hub.json differ, see above"

# The page as it is read, on one line, neither hyphenated nor adorned.
LC_ALL=C groff -man -ww -Tascii -P-cbou -rHY=0 -rLL=200n "$page" \
  2>"$work/warnings" | tr -s '[:space:]' ' ' >"$work/text"
if [ -s "$work/warnings" ]; then
  complain "groff warns: $(cat "$work/warnings")"
fi
said() { # TEXT
  grep -qF -e "$1" "$work/text" || complain "does not say \"$1\""
}
"$hub" --help >"$work/help"
sed -nE 's/^  ([a-z][a-z -]*[a-z]) ?(DIR|  ).*/\1/p' "$work/help" >"$work/names"
[ "$(wc -l <"$work/names")" -ge 7 ] || complain "--help names too few commands"
while read -r name; do
  said "dstream-hub $name"
  "$hub" ${name%% *} --help >>"$work/help"
done <"$work/names"
for option in $(grep -oE -e '--[a-z][a-z-]*' "$work/help" | sort -u); do
  said "$option"
done
for name in $(grep -oE 'DSTREAM_[A-Z_]+' "$work/help" | sort -u); do
  said "$name"
done
"$hub" init "$work/hub" --host localhost >/dev/null
for file in "$work"/hub/*; do
  said "DIR/${file##*/}"
done
version=$("$hub" --version)
said "dstream ${version##* }"

exit $status
