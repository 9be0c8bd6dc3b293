# page.awk - makes of a page of documentation what has to be done to see that it
# is right.  Variables: page, its name; folder, where to put it.
#
# Writes folder/session, a script that does what the page tells to do, in its
# order, and folder/c-LINE.c, blocks of C; prints a line for each thing that is
# wrong with the page, and at last "COUNTS run compiled notes left".
#
# A block is fenced.  Its language says what becomes of it:
#
#   sh         run, in one shell for the whole page, which a failure ends
#   console    "$ COMMAND" is run, and what it prints has to be what stands below,
#              where "..." stands for anything
#   c          compiled by itself
#   json       has to be JSON
#
# A comment before it changes that:
#
#   <!-- file: PATH -->        it is the content of that file, from there on
#   <!-- not run: REASON -->   nothing is done
#
#   <!-- given: a hub -->      something is there (reader_session.sh) that the page
#                              does not tell to make
#
# All others need such a comment.
function tell(line) { print page ":" FNR ": " line }
function end_console() {
  if (command == "") return
  print "DOCS_END\nshows" > session
  command = ""
}
function begin_console(line) {
  end_console()
  command = substr(line, 3)
  print "at " page ":" FNR > session
  print "IFS= read -r -d '' command <<'DOCS_END' || :\n" command > session
  print "DOCS_END\nIFS= read -r -d '' expected <<'DOCS_END' || :" > session
  run++
}
function begin_block(language) {
  kind = language
  text = ""
  if (note ~ /^<!-- not run: [^ ].* -->$/) {
    kind = "left"
    left++
  } else if (note ~ /^<!-- file: [^ ]+ -->$/) {
    split(note, word, " ")
    kind = "file"
    print "at " page ":" FNR > session
    print "cat >" word[3] " <<'DOCS_END'" > session
    files++
  } else if (language == "sh") {
    print "at " page ":" FNR > session
    run++
  } else if (language == "c") {
    place = folder "/c-" FNR ".c"
    compiled++
  } else if (language == "json") {
    print "at " page ":" FNR "\nis_json <<'DOCS_END'" > session
    files++
  } else if (language != "console") {
    tell("a block of \"" language "\" that nobody tries, without a reason")
  }
}
function end_block() {
  if (kind == "console") end_console()
  if (kind == "file" || kind == "json") print "DOCS_END" > session
  inside = 0
  note = ""
}
BEGIN {
  session = folder "/session"
  printf "%s", page ~ /\// ? "cd\n" : "" > session
}
/^```/ && inside { end_block(); next }
/^```/ { inside = 1; begin_block(substr($0, 4)); next }
inside && kind == "console" && /^\$ / { begin_console($0); next }
inside && kind == "console" && command == "" { tell("no command"); next }
inside && kind == "c" { print > place; next }
inside && kind != "left" { print > session }
# A reader waits until it is there.
inside && kind == "sh" && /^dstream-hub run [^ ]+ .*&$/ {
  split($0, word, " ")
  print "await_hub " word[3] > session
}
inside { next }
/^<!-- given: [a-z ]+ -->$/ {
  gsub(/^<!-- given: | -->$/, "")
  print "given \"" $0 "\"" > session
  next
}
/^<!-- / { note = $0; next }
/^    / && blank && !list { tell("a block without a fence") }
/^$/ { blank = 1; next }
{ blank = 0; note = "" }
/^ *([-*]|[0-9]+\.) / { list = 1; next }
!/^ / { list = 0 }
END {
  if (inside) tell("a block without an end")
  print "COUNTS", run + 0, compiled + 0, files + 0, left + 0
}
