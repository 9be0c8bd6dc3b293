# tests/bench/report.awk - tables of results.tsv, in Markdown.
#
#   awk -f report.awk -v part=tables|goals|plot -v names=FILE results.tsv
#
# names: PEER<TAB>what people call it, in the order of the tables.  A number is
# the median of the repetitions, and the least and the most in brackets where
# there is more than one.  A ratio is taken within each repetition first.
BEGIN {
  FS = OFS = "\t"
  while ((getline line < names) > 0) {
    split(line, field, "\t")
    peer[++peers] = field[1]
    called[field[1]] = field[2]
  }
}

{
  value[$1, $2, $4, $3] = $5
  seen[$1, $2] = seen[$1] = 1
  if ($3 + 0 > turns)
    turns = $3 + 0
}

# ---- statistics: list[1..count] -> median, least, most ----

function settle(count, i, j, kept) {
  for (i = 2; i <= count; i++) {
    kept = list[i]
    for (j = i - 1; j >= 1 && list[j] > kept; j--)
      list[j + 1] = list[j]
    list[j + 1] = kept
  }
  if (count == 0)
    return 0
  least = list[1]
  most = list[count]
  median = count % 2 ? list[(count + 1) / 2] \
                     : (list[count / 2] + list[count / 2 + 1]) / 2
  return count
}

function gather(what, who, metric, i, count) {
  for (i = 1; i <= turns; i++)
    if ((what, who, metric, i) in value)
      list[++count] = value[what, who, metric, i] + 0
  return settle(count + 0)
}

# A / B in each repetition.
function compare(whatA, whoA, metricA, whatB, whoB, metricB, i, count) {
  for (i = 1; i <= turns; i++)
    if (((whatA, whoA, metricA, i) in value) &&
        ((whatB, whoB, metricB, i) in value) &&
        value[whatB, whoB, metricB, i] > 0)
      list[++count] = value[whatA, whoA, metricA, i] / \
                      value[whatB, whoB, metricB, i]
  return settle(count + 0)
}

function digits(n, size) {
  size = n < 0 ? -n : n
  return sprintf(size >= 100 ? "%.0f" : size >= 10 ? "%.1f" : "%.2f", n)
}

function shown(count) {
  if (count == 0)
    return "-"
  if (count == 1)
    return digits(median)
  return digits(median) " (" digits(least) "-" digits(most) ")"
}

# ---- tables ----

# heads and metrics: as many, divided by "|"; "x METRIC": against ours
function table(what, title, heads, metrics, h, m, count, i, p, row) {
  if (!(what in seen))
    return
  count = split(heads, h, "|")
  split(metrics, m, "|")
  print "\n### " title "\n"
  row = "| |"
  for (i = 1; i <= count; i++)
    row = row " " h[i] " |"
  print row
  row = "|---|"
  for (i = 1; i <= count; i++)
    row = row "---|"
  print row
  for (p = 1; p <= peers; p++) {
    if (!((what, peer[p]) in seen))
      continue
    row = "| " called[peer[p]] " |"
    for (i = 1; i <= count; i++)
      row = row " " cell(what, peer[p], m[i]) " |"
    print row
  }
}

function cell(what, who, metric) {
  if ((what, who, "failed", 1) in value)
    return "failed"
  if (substr(metric, 1, 2) != "x ")
    return shown(gather(what, who, metric))
  metric = substr(metric, 3)
  if (compare(what, who, metric, what, "dstream", metric) == 0)
    return "-"
  return digits(median)
}

function throughput(what, title) {
  table(what, title,
        "MB/s|against ours|CPU s/GB: entry|relay|exit|chain|against ours",
        "mb_s|x mb_s|cpu_entry|cpu_relay|cpu_exit|cpu_chain|x cpu_chain")
}

function streams(count) {
  table("streams-" count, count " streams at once, device to service",
        "MB/s|against ours|slowest / fastest|CPU s/GB: relay|chain",
        "mb_s|x mb_s|slowest_fastest|cpu_relay|cpu_chain")
}

function tables() {
  throughput("bulk-down", "Bulk, device to service")
  throughput("bulk-up", "Bulk, service to device")
  throughput("bulk-both", "Bulk, both ways at once")
  streams(8)
  streams(64)
  streams(256)
  table("echo", "64 bytes there and back, microseconds",
        "p50|against ours|p99|p99.9|CPU of one, chain",
        "echo_p50_us|x echo_p50_us|echo_p99_us|echo_p999_us|cpu_chain")
  table("echo-idle", "64 bytes there and back beside idle streams, microseconds",
        "p50 alone|p50 beside them|p99|p99.9",
        "alone_echo_p50_us|echo_p50_us|echo_p99_us|echo_p999_us")
  table("echo-bulk", "64 bytes there and back beside a bulk stream, microseconds",
        "p50|p99|p99.9|bulk, MB/s",
        "echo_p50_us|echo_p99_us|echo_p999_us|beside_mb_s")
  table("first", "A new stream to its first byte, microseconds",
        "p50|against ours|p99|two resumed TLS handshakes, p50",
        "first_p50_us|x first_p50_us|first_p99_us|tls_p50_us")
  table("first-alone",
        "The same when none was opened within 5 s before it",
        "p50|two resumed TLS handshakes, p50", "first_p50_us|tls_p50_us")
  table("opens", "Streams opened, used and closed, 16 under way",
        "a second|CPU ms of one: entry|relay|exit",
        "opens_s|cpu_entry|cpu_relay|cpu_exit")
  table("idle", "Memory of an idle stream (PSS), KB", "entry|relay|exit",
        "kb_entry|kb_relay|kb_exit")
  table("stalled", "Memory of a stream that nobody reads (PSS), KB",
        "entry|relay|exit", "kb_entry|kb_relay|kb_exit")
  table("rtt", "100 ms round trip on the device's leg, device to service",
        "MB/s|against ours", "mb_s|x mb_s")
  table("frames", "Messages of 64 bytes, each a TLS record, at the relay",
        "a second|CPU ns of one", "frames_s|cpu_relay")
}

# ---- goals ----

function goal(what, sense, limit, count, note, held) {
  held = "not measured"
  if (count > 0)
    held = (sense == "at most" ? median <= limit : median >= limit) ? "yes" \
                                                                    : "**no**"
  print "| " what " | " sense " " limit " | " shown(count) note " | " held " |"
}

# The worst of several cases; cases divided by spaces.
function worst(sense, cases, metric, whoA, whoB, c, n, i, bad, worse) {
  n = split(cases, c, " ")
  chosen = ""
  for (i = 1; i <= n; i++) {
    if (compare(c[i], whoA, metric, c[i], whoB, metric) == 0)
      continue
    worse = sense == "at most" ? median > bad : median < bad
    if (chosen == "" || worse) {
      chosen = c[i]
      bad = median
    }
  }
  return chosen == "" ? 0 : compare(chosen, whoA, metric, chosen, whoB, metric)
}

function bulk_goal(what, sense, limit, metric, who, count) {
  count = worst(sense, "bulk-up bulk-down bulk-both", metric, "dstream", who)
  goal(what, sense, limit, count, count ? ", " chosen : "")
}

# Of several figures of ours, the worst.
function memory_goal(what, limit, of, metrics, m, n, i, bad) {
  n = split(metrics, m, " ")
  chosen = ""
  for (i = 1; i <= n; i++)
    if (gather(of, "dstream", m[i]) && (chosen == "" || median > bad)) {
      chosen = m[i]
      bad = median
    }
  goal(what, "at most", limit, chosen == "" ? 0 : gather(of, "dstream", chosen),
       chosen == "" ? "" : ", " substr(chosen, 4))
}

function goals() {
  print "| ours against | goal | measured | held |"
  print "|---|---|---|---|"
  bulk_goal("relay CPU per GB: haproxy's, TLS to TLS", "at most", 0.85,
            "cpu_relay", "haproxy")
  bulk_goal("chain CPU per GB: ssh -R + -L, aes128-gcm", "at most", 0.65,
            "cpu_chain", "ssh-rl-gcm")
  bulk_goal("chain CPU per GB: ssh -R + -L, default cipher", "at most", 0.45,
            "cpu_chain", "ssh-rl")
  bulk_goal("throughput: ssh -R + -L, aes128-gcm", "at least", 1.4, "mb_s",
            "ssh-rl-gcm")
  bulk_goal("throughput: ssh -R + -L, default cipher", "at least", 2.0, "mb_s",
            "ssh-rl")
  goal("64-byte echo p50: two TLS hops, haproxy", "at most", 1.0,
       compare("echo", "dstream", "echo_p50_us", "echo", "haproxy",
               "echo_p50_us"))
  goal("64-byte echo p50 beside idle streams: alone", "at most", 1.2,
       compare("echo-idle", "dstream", "echo_p50_us", "echo-idle", "dstream",
               "alone_echo_p50_us"))
  memory_goal("KB of an idle stream: hub", 30, "idle", "kb_relay")
  memory_goal("KB of an idle stream: each end", 20, "idle", "kb_entry kb_exit")
  memory_goal("KB of a stalled stream: each process", 256, "stalled",
              "kb_entry kb_relay kb_exit")
  goal("new stream to first byte p50: two resumed TLS handshakes", "at most",
       1.3, compare("first", "dstream", "first_p50_us", "first", "dstream",
                    "tls_p50_us"))
  goal("throughput at 100 ms round trip: ssh -R, aes128-gcm", "at least", 10,
       compare("rtt", "dstream", "mb_s", "rtt", "ssh-rl-gcm", "mb_s"))
  goal("64 streams: slowest / fastest", "at least", 0.8,
       gather("streams-64", "dstream", "slowest_fastest"))
}

# ---- what gnuplot reads: a line for each peer ----

function number(what, who, metric) {
  return gather(what, who, metric) ? median : "0"
}

function plot(p, who) {
  for (p = 1; p <= peers; p++) {
    who = peer[p]
    if (!(("bulk-down", who) in seen))
      continue
    print "\"" who "\"", number("bulk-down", who, "mb_s"),
      number("bulk-up", who, "mb_s"), number("bulk-both", who, "mb_s"),
      number("bulk-down", who, "cpu_entry"),
      number("bulk-down", who, "cpu_relay"),
      number("bulk-down", who, "cpu_exit"),
      number("echo", who, "echo_p50_us")
  }
}

END {
  if (part == "tables")
    tables()
  else if (part == "goals")
    goals()
  else
    plot()
}
