# The status page's files, as bytes in a C file (src/hub/page_files.h), which is
# appended to hub_sources.  Made when the build is configured, and again when one
# of them has changed.
set(page_data "")
set(page_table "")
foreach(name index.html page.css page.js icon.svg)
  set(page_file ${PROJECT_SOURCE_DIR}/src/hub/page/${name})
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page_file})
  string(MAKE_C_IDENTIFIER ${name} page_id)
  file(READ ${page_file} page_hex HEX)
  file(SHA256 ${page_file} page_hash)
  string(SUBSTRING ${page_hash} 0 32 page_hash)
  string(REGEX REPLACE "(..)" "0x\\1," page_hex "${page_hex}")
  string(APPEND page_data
    "static const unsigned char ${page_id}[] = {${page_hex}};\n")
  string(APPEND page_table "    {\"${name}\", \"\\\"${page_hash}\\\"\", "
    "${page_id}, sizeof ${page_id}},\n")
endforeach()
# Written only if it is not the same.
file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/generated/page_files.c CONTENT
"#include \"hub/page_files.h\"
${page_data}const struct page_file page_files[PAGE_FILES_COUNT] = {
${page_table}};
")
list(APPEND hub_sources ${PROJECT_BINARY_DIR}/generated/page_files.c)
