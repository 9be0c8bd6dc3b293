#!/bin/bash
# completion.sh SOURCE_DIR BINARY_DIR - completion in bash: commands, verbs,
# options, values and files are offered where they belong, and every option and
# command that --help knows.
set -eu
export LC_ALL=C
source=$1
bin=$2/bin
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
status=0

complain() {
  echo "completion: $*" >&2
  status=1
}

# What bash does only while it completes.
compopt() { :; }
complete() { registered=$*; }
# shellcheck source=../../packaging/bash-completion/dstream.bash
. "$source/packaging/bash-completion/dstream.bash"
for name in dstream dstream-agent dstream-hub; do
  case " $registered " in
  *" $name "*) ;;
  *) complain "$name is not completed" ;;
  esac
done

# The words are those that readline makes of the line.
offered() { # PROGRAM WORD... : what is offered for the last word, one a line
  COMP_WORDS=("$@")
  COMP_CWORD=$(($# - 1))
  COMPREPLY=()
  set +e
  _dstream "$bin/$1"
  set -e
  printf '%s\n' "${COMPREPLY[@]}"
}

expect() { # WANTED PROGRAM WORD... : just these, in any order
  local wanted=$1 have
  shift
  have=$(offered "$@" | sort | tr '\n' ' ')
  [ "${have% }" = "$wanted" ] ||
    complain "\"$*\" offers \"${have% }\", not \"$wanted\""
}

expect_all() { # PROGRAM WORD... : reads what must be among them
  local word
  offered "$@" >"$work/offered"
  while read -r word; do
    grep -qxF -e "$word" "$work/offered" || complain "\"$*\" lacks $word"
  done
}

options_of() { # PROGRAM COMMAND... : every option of its help
  "$bin/$1" "${@:2}" --help | grep -oE -e '--[a-z][a-z0-9-]*' | sort -u
}

commands_of() { # PROGRAM
  "$bin/$1" --help | sed -nE 's/^  ([a-z][a-z-]*) .*/\1/p' | sort -u
}

# ---- every option of every command ----
options_of dstream-agent | expect_all dstream-agent -
count=0
for program in dstream dstream-hub; do
  commands_of $program | expect_all $program ''
  options_of $program | expect_all $program -
  while read -r command; do
    count=$((count + 1))
    verbs=$("$bin/$program" --help |
      sed -nE "s/^  $command ([a-z][a-z-]*) [A-Z].*/\\1/p")
    if [ -z "$verbs" ]; then
      options_of $program "$command" | expect_all $program "$command" -
      continue
    fi
    expect_all $program "$command" '' <<<"$verbs"
    for verb in $verbs; do
      offered $program "$command" "$verb" -
    done | sort -u >"$work/of-verbs"
    while read -r option; do
      grep -qxF -e "$option" "$work/of-verbs" ||
        complain "no verb of $program $command has $option"
    done < <(options_of $program "$command")
  done < <(commands_of $program)
done
[ $count -ge 8 ] || complain "only $count commands are known"

# ---- where they belong ----
expect 'connect' dstream con
expect 'connect' dstream --ca-file x --http-proxy = y con
expect '--ca-file' dstream --ca
expect '--wait' dstream connect --wa
expect 'show streams' dstream s
expect '--kill' dstream streams --k
expect '--watch' dstream streams --device pump-7 --w
expect '--since' dstream log -f --s
expect '' dstream show st
expect 'device devices' dstream dev
expect 'remove' dstream device r
expect '--json' dstream device list --j
expect '--ca-file' dstream device list --ca
expect '' dstream --wa
expect '' dstream-hub nonsense ''
expect 'device' dstream-hub dev
expect 'rotate-key' dstream-hub device ro
expect '--secondary-thumbprint' dstream-hub device add --se
expect '--x509-ca' dstream-hub device add DIR ID --x
expect '' dstream-hub device remove --x
expect '--json' dstream-hub device list --j
expect '--prefix' dstream-hub group add --p
expect 'primary secondary' dstream-hub device rotate-key DIR ID ''
expect 'secondary' dstream-hub policy rotate-key DIR service s
expect '' dstream-hub connection-string --policy ''

cd "$work"
mkdir hub-a hub-b
: >hub.pem
expect 'hub-a hub-b' dstream-hub run hub
expect 'hub-a' dstream-hub device add hub-a
expect 'hub-b' dstream-hub init --host x hub-b
expect '' dstream-hub device add hub-a hub
expect 'hub-a hub-b hub.pem' dstream-agent --ca-file hub
expect 'hub-a hub-b hub.pem' dstream-agent --connection-string-file = hub
expect 'hub.pem' dstream connect --ca-file hub.
expect '' dstream connect --connection-string hub
expect '' dstream-agent --target hub

# A program that is not there offers nothing, and says nothing.
COMP_WORDS=(none -)
COMP_CWORD=1
said=$(_dstream "$work/none" 2>&1 && echo "${COMPREPLY[*]-}")
[ -z "$said" ] || complain "a program that is not there: $said"
exit $status
