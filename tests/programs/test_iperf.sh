#!/bin/bash
# iperf3 both ways at once, over several connections: it counts and checks.
. "$(dirname "$0")/lib.sh"
need iperf3 node

iperf_port=$(free_port)
launch iperf iperf3 -s -B 127.0.0.1 -p "$iperf_port"
eventually listens "$iperf_port"
start_hub
start_agent device-7 --target "iperf=127.0.0.1:$iperf_port"
forward 1 device-7 iperf 0

# --bidir needs two data connections for each of -P and the control connection.
timeout 60 iperf3 -c 127.0.0.1 -p "${ports[0]}" --bidir -P 2 -t 2 -J \
  >"$work/iperf.json" || fail "iperf3: $(tail -5 "$work/iperf.json")"
node -e '
  const end = JSON.parse(require("fs").readFileSync(process.argv[1])).end;
  for (const way of ["sum_received", "sum_received_bidir_reverse"]) {
    const bytes = end[way].bytes;
    console.log(way, bytes);
    if (!(bytes > 1e6))
      process.exit(1);
  }' "$work/iperf.json" || fail "iperf3 moved too little"
note "both ways at once"
