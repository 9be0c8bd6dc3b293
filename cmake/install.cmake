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

if(DSTREAM_BUILD_HUB)
  install(FILES docs/man/dstream-hub.1
    DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
endif()

if(DSTREAM_BUILD_TOOLS)
  install(FILES docs/man/dstream.1 docs/man/dstream-agent.1
    DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
  # The unit starts the program where it is installed.
  file(READ packaging/systemd/dstream-agent.service unit)
  string(REPLACE "ExecStart=/usr/bin/" "ExecStart=${CMAKE_INSTALL_FULL_BINDIR}/"
    unit "${unit}")
  file(WRITE ${PROJECT_BINARY_DIR}/dstream-agent.service "${unit}")
  install(FILES ${PROJECT_BINARY_DIR}/dstream-agent.service
    DESTINATION lib/systemd/system)
  install(FILES packaging/dstream-agent/agent.json
    DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
endif()

# What a static link needs.  Not Requires.private: that would ask everybody who
# links the shared library for the development files of these.
set(pc_private "-lwebsockets -lpaho-mqtt3as -lssl -lcrypto -lpthread")
if(DSTREAM_BUILD_SERVICE)
  string(APPEND pc_private " -lcjson")
endif()
# Paths relative to the file itself, so that the prefix may be moved.
file(RELATIVE_PATH pc_prefix
  ${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig ${CMAKE_INSTALL_PREFIX})
configure_file(cmake/dstream.pc.in dstream.pc @ONLY)
install(FILES ${PROJECT_BINARY_DIR}/dstream.pc
  DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
