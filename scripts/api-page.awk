# awk -v version=1.2.3 -v others="NAME..." -f scripts/api-page.awk HEADER
#
# Makes the manual page of a public header from its comments, in man(7), on
# stdout; scripts/api-pages.sh runs it for each.  A page has everything that the
# header has, in its order.  It reads headers as they are written here (and as
# clang-format leaves them), and stops at what it does not know: nothing is left
# out in silence.
#
#   /* dstream/stream.h - summary.    the page's name; then its description
#   /* ---- bridge ---- */            a section
#   /* text */ declaration            types, functions, constants
#   member; /* text */                members, also with the comment before them
#
# In a text an empty line ends a paragraph, two more spaces begin a list ("term
# and two spaces, text") or something to keep as it is, and "DSTREAM_E..." at the
# beginning of a line after a full stop begins the list of statuses.

function die(text) {
  print FILENAME ":" FNR ": " text > "/dev/stderr"
  died = 1
  exit 1
}

function trim(text) {
  gsub(/^[ \t]+|[ \t]+$/, "", text)
  return text
}

function roff(text) {
  gsub(/\\/, "\\e", text)
  return text
}

# Names of this library in bold, `words` in italics.  Not "connecti[on_string]".
function mark(text,    out, before, word) {
  out = ""
  text = roff(text)
  while (match(text, /(dstream_|DSTREAM_|on_)[A-Za-z0-9_]+|`[^`]+`/)) {
    before = substr(text, 1, RSTART - 1)
    word = substr(text, RSTART, RLENGTH)
    text = substr(text, RSTART + RLENGTH)
    if (substr(word, 1, 1) == "`")
      word = "\\fI" substr(word, 2, length(word) - 2) "\\fR"
    else if ((out before) !~ /[A-Za-z0-9_]$/)
      word = "\\fB" word "\\fR"
    out = out before word
  }
  out = out text
  while (match(" " out, /[ (]-[0-9]/)) # numbers below zero
    out = substr(out, 1, RSTART - 1) "\\" substr(out, RSTART)
  if (out ~ /^[.']/)
    out = "\\&" out
  return out
}

# ---- output; what comes before the synopsis is known at the end only ----

function put(line,    n, lines) {
  if (last_line ~ /^\.(SH|SS|RS)/)
    sub(/^\.PP(\n|$)/, "", line)
  if (line == "")
    return
  body = body line "\n"
  n = split(line, lines, "\n")
  last_line = lines[n]
}

function code(text) { # lines of C, in bold, as they are
  gsub(/\n/, "\\fR\n\\fB", text)
  return "\\fB" text "\\fR"
}

# A prototype in lines of 72 characters at most.
function wrapped(proto,    open, indent, parts, n, i, line, out, piece) {
  if (length(proto) <= 72)
    return proto
  open = index(proto, "(")
  if (substr(proto, open, 2) == "(*") # a pointer to a function
    open = open + index(substr(proto, open + 1), "(")
  if (!open)
    return proto
  n = arguments(substr(proto, open + 1), parts)
  indent = open
  for (i = 1; i <= n; i++)
    if (indent + length(parts[i]) + (i < n) > 72)
      indent = 4
  out = indent == open ? "" : substr(proto, 1, open) "\n"
  line = indent == open ? substr(proto, 1, open) : sprintf("%4s", "")
  for (i = 1; i <= n; i++) {
    piece = wrapped_part(parts[i] (i < n ? "," : ""), indent)
    if (i > 1 && length(line) + 1 + length(piece) > 72) {
      out = out line "\n"
      line = sprintf("%" indent "s", "") piece
    } else
      line = line (i > 1 ? " " : "") piece
  }
  return out line
}

# One that is itself too long, as a pointer to a function may be.
function wrapped_part(part, indent,    rest) {
  if (indent + length(part) <= 72)
    return part
  rest = sprintf("\n%" indent "s", "")
  part = wrapped(part)
  gsub(/\n/, rest, part)
  return part
}

function arguments(text, parts,    n, depth, i, c, piece) {
  n = 0
  depth = 0
  piece = ""
  for (i = 1; i <= length(text); i++) {
    c = substr(text, i, 1)
    depth += (c == "(") - (c == ")")
    if (c == "," && depth == 0) {
      parts[++n] = trim(piece)
      piece = ""
    } else
      piece = piece c
  }
  parts[++n] = trim(piece)
  return n
}

function put_text(text,    lines, n, i, line, mode, previous, term) {
  # mode: "" after an empty line, p in a paragraph, t in a list, n as it is
  n = split(text, lines, "\n")
  mode = "p"
  previous = ""
  for (i = 1; i <= n; i++) {
    line = lines[i]
    sub(/[ \t]+$/, "", line)
    if (line == "") {
      if (mode == "n")
        put(".fi\n.RE")
      mode = ""
    } else if (line ~ /^  +[^ ]+  +[^ ]/ && mode != "n") {
      sub(/^ +/, "", line)
      term = line
      sub(/  +.*/, "", term)
      sub(/^[^ ]+ +/, "", line)
      put(".TP 16\n" mark(term) "\n" mark(line))
      mode = "t"
    } else if (line ~ /^  / && mode == "t")
      put(mark(trim(line)))
    else if (line ~ /^  /) {
      if (mode != "n")
        put(".RS\n.nf")
      put(mark(substr(line, 3)))
      mode = "n"
    } else {
      if (mode == "n")
        put(".fi\n.RE")
      if (mode != "p" || (previous ~ /\.\)?$/ && line ~ /^DSTREAM_E/))
        put(".PP")
      put(mark(line))
      mode = "p"
    }
    if (line != "")
      previous = line
  }
  if (mode == "n")
    put(".fi\n.RE")
}

# ---- sections ----

function section(title) {
  if (title == current)
    return
  body_of[current] = body
  current = title
  if (!(title in body_of)) {
    order[++section_count] = title
    body_of[title] = ".SH " toupper(title) "\n"
  }
  body = body_of[title]
  last_line = body ~ /^[^\n]*\n$/ ? ".SH" : ""
}

function default_section(title) {
  if (!named)
    section(title)
}

# ---- declarations ----

function put_function(proto, text) {
  default_section("functions")
  synopsis = synopsis code(roff(wrapped(proto))) "\n"
  # One that has no comment of its own shares that of the one above it.
  if (text == "") {
    if (!after_function)
      die("a function without a comment: " proto)
    before_text = before_text code(roff(wrapped(proto))) "\n"
  } else {
    put(".PP\n.nf\n" code(roff(wrapped(proto))))
    before_text = body
    body = ""
    put(".fi\n.RS 4")
    put_text(text)
    put(".RE")
    text_of_function = body
  }
  body = before_text text_of_function
  name = proto
  sub(/\(.*/, "", name)
  sub(/.*[ *]/, "", name)
  names = names ", " name
}

function put_code_item(lines, text) {
  put(".PP\n.nf\n" code(roff(lines)) "\n.fi")
  if (text != "") {
    put(".RS 4")
    put_text(text)
    put(".RE")
  }
}

# The members of a struct or the values of an enum.
function put_members(text, end,    pending, line_end, at, c, depth, member, joined) {
  pending = ""
  joined = 0
  member_count = 0
  while (text != "") {
    if (match(text, /^[ \t]*\n[ \t]*\n/)) { # an empty line ends a group
      joined = 0
      text = substr(text, RLENGTH)
    } else if (match(text, /^[ \t]+/))
      text = substr(text, RLENGTH + 1)
    else if (substr(text, 1, 1) == "\n") {
      line_end = 1
      text = substr(text, 2)
    } else if (substr(text, 1, 2) == "/*") {
      at = index(text, "*/")
      if (at == 0)
        die("a comment without an end")
      comment = member_text(substr(text, 3, at - 3))
      text = substr(text, at + 2)
      if (line_end)
        pending = comment
      else
        about[member_count] = comment
    } else {
      depth = 0
      for (at = 1; at <= length(text); at++) {
        c = substr(text, at, 1)
        depth += (c == "(") - (c == ")")
        if (depth == 0 && (c == end || c == "\n" || substr(text, at, 2) == "/*"))
          break
      }
      member = substr(text, 1, at - 1)
      text = substr(text, at + (c == end))
      gsub(/[ \t\n]+/, " ", member)
      members[++member_count] = trim(member)
      about[member_count] = pending
      shares[member_count] = pending == "" && joined && \
        (members[member_count] ~ /\(\*/) == (members[member_count - 1] ~ /\(\*/)
      joined = pending != "" || shares[member_count]
      pending = ""
      line_end = 0
    }
  }
  put_member_list()
}

function member_text(text,    lines, n, i, out) {
  n = split(text, lines, "\n")
  out = ""
  for (i = 1; i <= n; i++) {
    sub(/^[ \t]+\* ?/, "", lines[i])
    lines[i] = trim(lines[i])
    out = out (i > 1 ? "\n" : "") lines[i]
  }
  return trim(out)
}

function put_member_list(    i, text, last) {
  for (i = 1; i <= member_count; i = last + 1) {
    last = i
    while (last < member_count && shares[last + 1] && about[last + 1] == "")
      last++
    text = about[i]
    if (members[i] ~ /\(\*/ || last > i) {
      put(".PP\n.RS 4\n.nf")
      for (; i <= last; i++)
        put(code(roff(wrapped(members[i]))))
      put(".fi")
      if (text != "") {
        put(".RS 4")
        put_text(text)
        put(".RE")
      }
      put(".RE")
    } else if (text == "")
      put(".PP\n.RS 4\n" code(roff(members[i])) "\n.RE")
    else {
      put(".PP\n.RS 4\n" code(roff(members[i])) "\n.RS 4")
      put_text(text)
      put(".RE\n.RE")
    }
  }
}

function put_statuses(    i) {
  put(".PP\n.nf\n" code("enum dstream_status") "\n.fi\n.RS 4")
  sub(/^name, value, text\. +/, "", status_text)
  put_text(status_text)
  put(".RE\n.PD 0")
  for (i = 1; i <= status_count; i++) {
    put(".TP 27\n\\fBDSTREAM_" status_name[i] "\\fR " status_value[i])
    put(mark(status_about[i]))
  }
  put(".PD")
}

function declare(text, comment,    flat) {
  flat = text
  gsub(/[ \t\n]+/, " ", flat)
  flat = trim(flat)
  if (flat ~ /^DSTREAM_API /) {
    sub(/^DSTREAM_API /, "", flat)
    sub(/\* dstream/, "*dstream", flat)
    put_function(flat, comment)
    after_function = 1
    return
  }
  after_function = 0
  default_section("types")
  if (flat ~ /^enum dstream_status \{/)
    put_statuses()
  else if (flat ~ /^(struct|enum) [a-z_]+ \{/) {
    match(flat, /^[a-z]+ [a-z_]+/)
    put_code_item(substr(flat, 1, RLENGTH), comment)
    sub(/^[^{]*\{/, "", text)
    sub(/\};[ \t\n]*$/, "", text)
    put_members(text, flat ~ /^enum/ ? "," : ";")
  } else if (flat ~ /^typedef /)
    put_code_item(wrapped(flat), comment)
  else
    die("not known here: " flat)
}

# ---- reading ----

function comment_line(line) {
  sub(/[ \t]*\*\/$/, "", line)
  sub(/^ \* ?/, "", line)
  return line
}

function end_comment(    title) {
  in_comment = 0
  sub(/\n+$/, "", comment)
  if (summary == "") {
    if (comment !~ /^dstream\/[a-z_]+\.h - /)
      die("the first comment is not \"dstream/NAME.h - summary.\"")
    header = comment
    sub(/ - .*/, "", header)
    summary = comment
    sub(/^[^ ]+ - /, "", summary)
    if (index(summary, "\n\n")) {
      intro = substr(summary, index(summary, "\n\n") + 2)
      summary = substr(summary, 1, index(summary, "\n\n") - 1)
    }
    gsub(/\n/, " ", summary)
    sub(/\.$/, "", summary)
    comment = ""
  } else if (comment ~ /^---- .* ----$/) {
    title = comment
    gsub(/^-+ | -+$/, "", title)
    named = 1
    section(title)
    comment = ""
    after_function = 0
  }
}

in_define { # a macro that goes on
  if (/X\([A-Z]+, -?[0-9]+, ".*"\)/) {
    match($0, /X\([A-Z]+/)
    status_name[++status_count] = substr($0, RSTART + 2, RLENGTH - 2)
    match($0, /-?[0-9]+/)
    status_value[status_count] = substr($0, RSTART, RLENGTH)
    sub(/^-/, "\\-", status_value[status_count])
    match($0, /".*"/)
    status_about[status_count] = substr($0, RSTART + 1, RLENGTH - 2)
  }
  in_define = /\\$/
  next
}

in_comment {
  comment = comment "\n" comment_line($0)
  if (/\*\/$/)
    end_comment()
  next
}

in_declaration {
  if (!/^#/ && !/^  DSTREAM_STATUS_MAP\(X\)$/)
    declaration = declaration "\n" $0
  if (in_braces ? /^};$/ : /;$/) {
    in_declaration = 0
    declare(declaration, comment)
    comment = ""
  }
  next
}

/^\/\*/ {
  if (comment != "")
    die("a comment that belongs to nothing")
  comment = $0
  sub(/^\/\* ?/, "", comment)
  in_comment = 1
  if (/\*\/$/) {
    sub(/[ \t]*\*\/$/, "", comment)
    end_comment()
  }
  next
}

/^#define [A-Z_]+ [0-9]+$/ && comment != "" {
  default_section("constants")
  put_code_item($0, comment)
  comment = ""
  after_function = 0
  next
}

/^#define DSTREAM_STATUS_MAP\(X\)/ {
  status_text = comment
  comment = ""
}

/^#/ {
  in_define = /\\$/
  next
}

/^extern "C" \{$/ || /^}$/ {
  next
}

/^[ \t]*$/ {
  if (comment != "")
    die("a comment that belongs to nothing")
  after_function = 0
  next
}

{
  declaration = $0
  in_braces = /\{$/
  if (in_braces || !/;$/)
    in_declaration = 1
  else {
    declare(declaration, comment)
    comment = ""
  }
}

END {
  if (died)
    exit 1
  if (in_comment || in_declaration || comment != "")
    die("the file ends in the middle")
  page = header
  gsub(/^dstream\/|\.h$/, "", page)
  page = page == "dstream" ? page : "dstream_" page
  print ".\\\" made from include/" header " by scripts/api-page.awk"
  print ".TH " toupper(page) " 3 \"\" \"dstream " version "\" \"Library Functions Manual\""
  print ".nh\n.ad l"
  print ".SH NAME"
  print page names " \\- " summary
  print ".SH SYNOPSIS\n.nf"
  print "\\fB#include <" header ">\\fR"
  if (synopsis != "")
    printf ".PP\n%s", synopsis
  print ".fi"
  if (intro != "") {
    section("")
    body = ""
    last_line = ".SH"
    put_text(intro)
    printf ".SH DESCRIPTION\n%s", body
  }
  section("")
  for (i = 1; i <= section_count; i++)
    printf "%s", body_of[order[i]]
  print ".SH SEE ALSO"
  n = split(others, list, " ")
  separator = ""
  for (i = 1; i <= n; i++)
    if (list[i] != page) {
      printf "%s.BR %s (3)", separator, list[i]
      separator = ",\n"
    }
  print ""
}
