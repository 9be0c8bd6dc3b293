# tests/load/load.sh - sourced by the tests of this folder, after
# programs/lib.sh: a hub with a group of devices, and dstream_load beside it.
# shellcheck shell=bash disable=SC2154,SC2016

# As start_hub; devices load-0, load-1, ... can connect to it.
start_hub_for_load() { # [LIMIT VALUE]...
  start_hub "$@"
  "$bin/dstream-hub" group add "$hub_dir" load >/dev/null
  DSTREAM_LOAD_DEVICE=$("$bin/dstream-hub" group device "$hub_dir" load load-0)
  DSTREAM_LOAD_KEY=$("$bin/dstream-hub" group key "$hub_dir" load)
  export DSTREAM_LOAD_DEVICE DSTREAM_LOAD_KEY
}

# Devices and a service that take commands.
start_streams() { # DEVICES
  mkfifo "$work/commands"
  exec 8<>"$work/commands"
  exec 9>"$work/commands"
  launch load bash -c \
    'exec "$1" streams 0 "$2" <"$3" 8<&- 9>&-' \
    bash "$bin/dstream_load" "$1" "$work/commands"
  exec 8<&-
  next_line load
  [ "$line" = ready ] || fail "dstream_load said \"$line\""
}

# Sends a command; its answer must begin as told.  Sets `line`.
ask() { # COMMAND ANSWER
  echo "$1" >&9
  next_line load 300
  case $line in
  "$2 "*) ;;
  *) fail "dstream_load said \"$line\" to \"$1\"" ;;
  esac
}

# The word behind a name in `line`.
value() { # NAME
  local words=" $line "
  words=${words#* "$1" }
  echo "${words%% *}"
}

cpu_ms() { # PID
  awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, "")
    print int(($12 + $13) * 1000 / hz) }' "/proc/$1/stat"
}

pss_kb() { # PID
  awk '/^Pss:/ { print $2 }' "/proc/$1/smaps_rollup"
}

descriptors() { # PID
  find "/proc/$1/fd" -mindepth 1 | wc -l
}
