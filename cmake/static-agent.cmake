# -DDSTREAM_STATIC_AGENT=ON: dstream-agent as one file that needs no shared
# library, not libc's either; docs/building.md says what that means for names,
# certificates and updates.
#
# Each library must be there as an archive (lib*.a).  Debian's -dev packages have
# them, but for cJSON: that is taken as libcjson.a where there is one, else
# compiled from DSTREAM_CJSON_SOURCE, a folder with cJSON.c and cJSON.h.
# scripts/static.sh fetches Debian's.
set(DSTREAM_CJSON_SOURCE "" CACHE PATH
    "Folder of cJSON.c, for DSTREAM_STATIC_AGENT where there is no libcjson.a")
if(DSTREAM_SANITIZE)
  message(FATAL_ERROR "Sanitizers need shared libraries: DSTREAM_STATIC_AGENT "
                      "and DSTREAM_SANITIZE exclude each other")
endif()

# dstream_archive(NAME [OPTIONAL]) appends its path to ${static_archives}.
function(dstream_archive name)
  string(MAKE_C_IDENTIFIER "DSTREAM_${name}_ARCHIVE" path)
  find_library(${path} lib${name}.a HINTS ${LWS_STATIC_LIBRARY_DIRS}
    ${CJSON_STATIC_LIBRARY_DIRS})
  mark_as_advanced(${path})
  if(${path})
    list(APPEND static_archives ${${path}})
    set(static_archives ${static_archives} PARENT_SCOPE)
  elseif(NOT ARGN)
    message(FATAL_ERROR "DSTREAM_STATIC_AGENT needs lib${name}.a, which was "
                        "not found; see docs/building.md")
  endif()
endfunction()

set(static_archives)
dstream_archive(websockets)
dstream_archive(paho-mqtt3as)
dstream_archive(ssl)
dstream_archive(crypto)
# libwebsockets uses them or not, as it was built.
dstream_archive(cap OPTIONAL)
dstream_archive(z OPTIONAL)
if(DSTREAM_CJSON_SOURCE)
  if(NOT EXISTS ${DSTREAM_CJSON_SOURCE}/cJSON.c)
    message(FATAL_ERROR "DSTREAM_CJSON_SOURCE: there is no "
                        "${DSTREAM_CJSON_SOURCE}/cJSON.c")
  endif()
  add_library(dstream_cjson STATIC ${DSTREAM_CJSON_SOURCE}/cJSON.c)
  target_compile_options(dstream_cjson PRIVATE -w)
  list(PREPEND static_archives $<TARGET_FILE:dstream_cjson>)
else()
  find_library(DSTREAM_cjson_ARCHIVE libcjson.a
    HINTS ${CJSON_STATIC_LIBRARY_DIRS})
  mark_as_advanced(DSTREAM_cjson_ARCHIVE)
  if(NOT DSTREAM_cjson_ARCHIVE)
    message(FATAL_ERROR "DSTREAM_STATIC_AGENT needs cJSON as an archive, "
                        "which Debian does not ship: give "
                        "-DDSTREAM_CJSON_SOURCE=FOLDER with its cJSON.c, or "
                        "run scripts/static.sh, which fetches it")
  endif()
  list(PREPEND static_archives ${DSTREAM_cjson_ARCHIVE})
endif()

# A program that finds its place by itself, as all others here do, where
# compiler and C library can.
set(CMAKE_REQUIRED_FLAGS -fPIE)
set(CMAKE_REQUIRED_LINK_OPTIONS -static-pie)
check_c_source_compiles("int main(void) { return 0; }" DSTREAM_HAS_STATIC_PIE)
unset(CMAKE_REQUIRED_FLAGS)
unset(CMAKE_REQUIRED_LINK_OPTIONS)

add_executable(dstream-agent-program src/tools/dstream_agent.c
  src/tools/static/loop_poll.c)
set_target_properties(dstream-agent-program PROPERTIES
  OUTPUT_NAME dstream-agent)
target_include_directories(dstream-agent-program PRIVATE include src)
# The files, not the targets: those stand for shared libraries too.
target_link_libraries(dstream-agent-program PRIVATE dstream_flags
  $<TARGET_FILE:dstream_tool_objects> $<TARGET_FILE:dstream_loop_uv>
  $<TARGET_FILE:dstream_static> ${static_archives} Threads::Threads)
add_dependencies(dstream-agent-program dstream_tool_objects dstream_loop_uv
  dstream_static)
# Neither -pie nor -no-pie of CMake's own: they win over what is asked for here.
set_property(TARGET dstream-agent-program PROPERTY POSITION_INDEPENDENT_CODE)
if(DSTREAM_HAS_STATIC_PIE)
  target_compile_options(dstream-agent-program PRIVATE -fPIE)
  target_link_options(dstream-agent-program PRIVATE -static-pie)
else()
  target_link_options(dstream-agent-program PRIVATE -static)
endif()
