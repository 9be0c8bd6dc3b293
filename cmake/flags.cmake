# Two sets of flags as link targets: dstream_warnings is what every file here is
# compiled with, dstream_flags adds the sanitizers.
include(CheckCCompilerFlag)
include(CheckCSourceCompiles)
include(CheckLinkerFlag)
include(CheckPIESupported)
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
check_pie_supported(LANGUAGES C)
# Invariants are checked in release builds too.
foreach(type RELEASE RELWITHDEBINFO MINSIZEREL)
  string(REPLACE "-DNDEBUG" "" CMAKE_C_FLAGS_${type} "${CMAKE_C_FLAGS_${type}}")
  string(REPLACE "-O3" "-O2" CMAKE_C_FLAGS_${type} "${CMAKE_C_FLAGS_${type}}")
endforeach()

# 32-bit systems, too, have files of more than 2 GB, and inode numbers of 64 bits
# without which they can't list a folder.
add_library(dstream_warnings INTERFACE)
target_compile_definitions(dstream_warnings INTERFACE
  _GNU_SOURCE _FILE_OFFSET_BITS=64 DSTREAM_VERSION="${PROJECT_VERSION}")
target_compile_options(dstream_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wundef
  -Wpointer-arith -Wcast-qual -Wwrite-strings -Wvla -Wformat=2
  -ffunction-sections -fdata-sections)
if(DSTREAM_WERROR)
  target_compile_options(dstream_warnings INTERFACE -Werror)
endif()

# ---- hardening: tests/package/hardening.sh checks the built files ----
# What compiler, libc and linker take: the control-flow marks are for x86, and
# old ones know less.
foreach(flag -fstack-protector-strong -fstack-clash-protection -fcf-protection)
  string(MAKE_C_IDENTIFIER "DSTREAM_HAS${flag}" known)
  check_c_compiler_flag("-Werror ${flag}" ${known})
  if(${known})
    target_compile_options(dstream_warnings INTERFACE ${flag})
  endif()
endforeach()
# Checked copies need optimization, and sanitizers check better.
if(CMAKE_BUILD_TYPE MATCHES "^(Release|RelWithDebInfo|MinSizeRel)$" AND
   NOT DSTREAM_SANITIZE)
  set(CMAKE_REQUIRED_FLAGS "-Werror -O2 -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=3")
  check_c_source_compiles("#include <string.h>
    #if defined __GLIBC__ && __USE_FORTIFY_LEVEL < 3
    #error only 2
    #endif
    int main(void) { return 0; }" DSTREAM_HAS_FORTIFY_3)
  unset(CMAKE_REQUIRED_FLAGS)
  set(level 2)
  if(DSTREAM_HAS_FORTIFY_3)
    set(level 3)
  endif()
  target_compile_options(dstream_warnings INTERFACE
    -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=${level})
endif()
if(NOT APPLE)
  # Only what is used is linked: pkg-config names more than that.
  target_link_options(dstream_warnings INTERFACE
    -Wl,--as-needed -Wl,--gc-sections)
  foreach(word relro now noexecstack separate-code)
    string(MAKE_C_IDENTIFIER "DSTREAM_HAS_Z_${word}" known)
    check_linker_flag(C "-Wl,-z,${word}" ${known})
    if(${known})
      target_link_options(dstream_warnings INTERFACE -Wl,-z,${word})
    endif()
  endforeach()
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
