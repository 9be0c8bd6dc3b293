# shellcheck shell=bash
# Completion for dstream, dstream-agent and dstream-hub, installed under each of
# these names.  What there is to complete is read from the programs' own --help,
# so that it is what this version of the program knows.

_dstream_help() { # [COMMAND]
  "${_dstream_program/#\~/$HOME}" "$@" --help 2>/dev/null </dev/null
}

# Lines of "  command WORD..." in the list of commands: the first word of each;
# with a command: the second word of its lines, where that is a verb.
_dstream_commands() { # [COMMAND]
  _dstream_help | awk -v command="${1:-}" '
    !/^  [a-z]/ { next }
    { sub(/^  /, ""); sub(/  .*/, "") }
    command == "" { print $1; next }
    $1 == command && $2 ~ /^[a-z][a-z-]*$/ { print $2 }' | sort -u
}

# A help text on stdin: one line for each synopsis, "COMMAND WORD...".
_dstream_synopses() {
  awk '
    function tell() { if (text != "") print text; text = "" }
    sub(/^Usage: /, "       ") { usage = 1 }
    !usage { next }
    /^       dstream/ { tell(); $1 = ""; text = $0; next }
    /^        / && text != "" { text = text " " $0; next }
    { usage = 0 }
    END { tell() }' | sed -E 's/^ +//; s/ +/ /g'
}

# The synopses of a verb: those with that word, or with it among others
# ("remove|enable"), in second place.
_dstream_of_verb() { # VERB
  awk -v verb="$1" '("|" $2 "|") ~ ("[|]" verb "[|]")'
}

_dstream_options() { # a text on stdin: the options in it
  grep -oE '(^|[^[:alnum:]-])--?[a-z][a-z0-9-]*' | sed -E 's/^[^-]+//' |
    sort -u
}

# What follows an option, in a text on stdin: FILE, N, primary|secondary; nothing
# after one without a value.
_dstream_value_of() { # OPTION
  grep -oE -e "(^|[^[:alnum:]-])$1[ =]([A-Z][A-Z_=:]*|[a-z]+([|][a-z]+)+)" |
    sed -nE '1s/^.*[ =]//p'
}

_dstream_offer() { # KIND : the words for what stands there in a synopsis
  case $1 in
  F | FILE | CERT | KEY)
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$_dstream_cur")
    ;;
  DIR)
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -d -- "$_dstream_cur")
    ;;
  [a-z]*'|'*)
    mapfile -t COMPREPLY < <(compgen -W "${1//|/ }" -- "$_dstream_cur")
    ;;
  esac
}

_dstream_words() { # reads them
  mapfile -t COMPREPLY < <(compgen -W "$(cat)" -- "$_dstream_cur")
}

# The words of the line before the cursor's that are no options and no values of
# options; "--option=value" is three words to bash.
_dstream_positional() { # TEXT : where options are explained
  local i word
  _dstream_found=()
  for ((i = 1; i < COMP_CWORD; i++)); do
    word=${COMP_WORDS[i]}
    case $word in
    -?*)
      if [[ ${COMP_WORDS[i + 1]-} == = ]]; then
        ((i += 2))
      elif [[ -n $(_dstream_value_of "$word" <<<"$1") ]]; then
        ((i++))
      fi
      ;;
    *) _dstream_found+=("$word") ;;
    esac
  done
}

# The value of the option before the cursor, if there is one.
_dstream_value() { # TEXT
  local option=${COMP_WORDS[COMP_CWORD - 1]} kind
  if [[ $_dstream_cur == = ]]; then
    _dstream_cur=''
  elif [[ $option == = ]] && ((COMP_CWORD > 1)); then
    option=${COMP_WORDS[COMP_CWORD - 2]}
  fi
  [[ $option == -?* ]] || return 1
  kind=$(_dstream_value_of "$option" <<<"$1")
  [[ -n $kind ]] || return 1
  case $option in *-file) kind=FILE ;; esac
  _dstream_offer "$kind"
}

# What stands in the first synopsis for the next word.
_dstream_argument() { # SYNOPSIS WORDS_BEFORE
  local words
  words=$(sed -E ':a; s/\[[^][]*\]//; ta; s/\.\.\.//g' <<<"$1")
  read -r -a words <<<"$words"
  _dstream_offer "${words[$2]-}"
}

_dstream() {
  local _dstream_program=$1 _dstream_cur=${COMP_WORDS[COMP_CWORD]}
  local _dstream_found=() all text synopses verbs='' command
  COMPREPLY=()
  all=$(_dstream_help) || return 0
  # Options that may stand before the command are explained with each of them.
  text=$all
  case $all in
  *'[OPTION]... COMMAND'*)
    command=$(_dstream_commands | head -n 1)
    text+=$'\n'$(_dstream_help "$command" | sed -n '/^Of every command:/,$p')
    ;;
  esac
  _dstream_positional "$text"
  command=''
  synopses=$(_dstream_synopses <<<"$all")
  if [[ $synopses == *COMMAND* ]]; then
    command=${_dstream_found[0]-}
    if [[ -z $command ]]; then
      _dstream_value "$text" && return 0
      case $_dstream_cur in
      -*) _dstream_words < <(_dstream_options <<<"$text") ;;
      *) _dstream_words < <(_dstream_commands) ;;
      esac
      return 0
    fi
    verbs=$(_dstream_commands "$command")
    text=$(_dstream_help "$command") || return 0
    synopses=$(_dstream_synopses <<<"$text")
  fi
  if [[ -n $verbs ]]; then
    if [[ -z ${_dstream_found[1]-} ]]; then
      _dstream_words <<<"$verbs --help"
      return 0
    fi
    # Each verb has its own options, those of its synopses, and perhaps those of
    # every command.
    synopses=$(_dstream_of_verb "${_dstream_found[1]}" <<<"$synopses")
    text="$synopses --help"$'\n'$(sed -n '/^Of every command:/,$p' <<<"$text")
  fi
  _dstream_positional "$text"
  _dstream_value "$text" && return 0
  case $_dstream_cur in
  -*) _dstream_words < <(_dstream_options <<<"$text") ;;
  *) _dstream_argument "${synopses%%$'\n'*}" "${#_dstream_found[@]}" ;;
  esac
}

complete -F _dstream dstream dstream-agent dstream-hub
