# What `cmake --install` puts in place: the library with its headers, the files
# by which CMake and pkg-config find it, and the manual.
include(CMakePackageConfigHelpers)

install(TARGETS dstream dstream_static EXPORT dstream-targets)
install(DIRECTORY include/dstream DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/dstream)
install(EXPORT dstream-targets NAMESPACE dstream:: DESTINATION ${package_dir})
configure_package_config_file(cmake/dstream-config.cmake.in
  dstream-config.cmake INSTALL_DESTINATION ${package_dir})
write_basic_package_version_file(dstream-config-version.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${PROJECT_BINARY_DIR}/dstream-config.cmake
              ${PROJECT_BINARY_DIR}/dstream-config-version.cmake
  DESTINATION ${package_dir})
install(FILES cmake/dependencies.cmake DESTINATION ${package_dir}
  RENAME dstream-dependencies.cmake)

# A unit starts the program where it is installed.
set(DSTREAM_SYSTEMD_DIR lib/systemd CACHE STRING
    "Where systemd finds units, in system/; relative to the prefix or absolute")
function(install_unit name)
  file(READ packaging/systemd/${name}.service unit)
  string(REPLACE "ExecStart=/usr/bin/" "ExecStart=${CMAKE_INSTALL_FULL_BINDIR}/"
    unit "${unit}")
  file(WRITE ${PROJECT_BINARY_DIR}/${name}.service "${unit}")
  install(FILES ${PROJECT_BINARY_DIR}/${name}.service
    DESTINATION ${DSTREAM_SYSTEMD_DIR}/system)
endfunction()

function(install_program_files name)
  install(FILES docs/man/${name}.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  install(FILES packaging/bash-completion/dstream.bash RENAME ${name}
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
endfunction()

if(DSTREAM_BUILD_HUB)
  install_program_files(dstream-hub)
  install_unit(dstream-hub)
  install(PROGRAMS packaging/acme/dstream-hub-certificate
    DESTINATION ${CMAKE_INSTALL_DATADIR}/dstream-hub)
  # systemd looks in lib only, whatever CMAKE_INSTALL_LIBDIR is.
  install(FILES packaging/sysusers/dstream-hub.conf DESTINATION lib/sysusers.d)
  install(FILES packaging/tmpfiles/dstream-hub.conf DESTINATION lib/tmpfiles.d)
endif()

if(DSTREAM_BUILD_TOOLS)
  install_program_files(dstream)
  install_program_files(dstream-agent)
  install_unit(dstream-agent)
  install(FILES packaging/dstream-agent/agent.json
    DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
endif()

# What a static link needs.  Not Requires.private: that would ask everybody who
# links the shared library for the development files of these.
set(pc_private "-lwebsockets -lpaho-mqtt3as -lssl -lcrypto -lpthread")
if(DSTREAM_BUILD_SERVICE)
  string(APPEND pc_private " -lcjson")
endif()
# What libwebsockets may have in it, as an archive.
foreach(name cap z)
  find_library(DSTREAM_${name}_LIBRARY ${name})
  mark_as_advanced(DSTREAM_${name}_LIBRARY)
  if(DSTREAM_${name}_LIBRARY)
    string(APPEND pc_private " -l${name}")
  endif()
endforeach()
# Paths relative to the file itself, so that the prefix may be moved.
file(RELATIVE_PATH pc_prefix
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/dstream.pc.in dstream.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dstream.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
