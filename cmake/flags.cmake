# Two sets of flags as link targets: dstream_warnings is what every file here is
# compiled with, dstream_flags adds the sanitizers.
option(DSTREAM_WERROR "Treat warnings as errors" OFF)
set(DSTREAM_SANITIZE "" CACHE STRING
    "Sanitizers, as in -fsanitize=: address,undefined or thread")

if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_C_VISIBILITY_PRESET hidden)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
# Invariants are checked in release builds too.
foreach(type RELEASE RELWITHDEBINFO MINSIZEREL)
  string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_${type} "${CMAKE_C_FLAGS_${type}}")
  string(REPLACE "-O3" "-O2" CMAKE_C_FLAGS_${type} "${CMAKE_C_FLAGS_${type}}")
endforeach()

add_library(dstream_warnings INTERFACE)
target_compile_definitions(dstream_warnings INTERFACE
  _GNU_SOURCE DSTREAM_VERSION="${PROJECT_VERSION}")
target_compile_options(dstream_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wformat=2
  -fstack-protector-strong -ffunction-sections -fdata-sections)
if(DSTREAM_WERROR)
  target_compile_options(dstream_warnings INTERFACE -Werror)
endif()
if(CMAKE_BUILD_TYPE STREQUAL Release AND NOT DSTREAM_SANITIZE)
  target_compile_definitions(dstream_warnings INTERFACE _FORTIFY_SOURCE=2)
endif()
if(NOT APPLE)
  # Only what is used is linked: pkg-config names more than that.
  target_link_options(dstream_warnings INTERFACE
    -Wl,--as-needed -Wl,--gc-sections -Wl,-z,relro -Wl,-z,now)
endif()

add_library(dstream_flags INTERFACE)
target_link_libraries(dstream_flags INTERFACE dstream_warnings)
if(DSTREAM_SANITIZE)
  target_compile_options(dstream_flags INTERFACE
    -fsanitize=${DSTREAM_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -g)
  target_link_options(dstream_flags INTERFACE -fsanitize=${DSTREAM_SANITIZE})
endif()
if(DSTREAM_BUILD_FUZZERS)
  target_compile_options(dstream_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
