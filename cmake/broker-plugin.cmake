# The plugin that mosquitto loads.  mosquitto itself is not built with
# sanitizers, so neither is what it loads: a sanitized build compiles the
# plugin's parts a second time without them.
file(GLOB plugin_sources CONFIGURE_DEPENDS src/hub/broker-plugin/*.c)
add_library(dstream_broker_plugin MODULE ${plugin_sources})
set_target_properties(dstream_broker_plugin PROPERTIES PREFIX ""
  C_VISIBILITY_PRESET default
  LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/lib/dstream)
target_include_directories(dstream_broker_plugin PRIVATE include src)
target_link_options(dstream_broker_plugin PRIVATE
  -Wl,--version-script=${PROJECT_SOURCE_DIR}/cmake/broker-plugin.map)
set_target_properties(dstream_broker_plugin PROPERTIES
  LINK_DEPENDS ${PROJECT_SOURCE_DIR}/cmake/broker-plugin.map)

if(DSTREAM_SANITIZE OR DSTREAM_BUILD_FUZZERS)
  set(plain_sources ${hub_sources})
  list(FILTER plain_sources INCLUDE REGEX "/(identity|broker|table)[^/]*\\.c$")
  add_library(dstream_plain STATIC EXCLUDE_FROM_ALL
    ${core_sources} ${plain_sources})
  target_include_directories(dstream_plain PUBLIC include src)
  target_link_libraries(dstream_plain
    PUBLIC dstream_warnings ${dstream_hub_dependencies})
  target_link_libraries(dstream_broker_plugin PRIVATE dstream_plain)
else()
  target_link_libraries(dstream_broker_plugin PRIVATE dstream_hub_objects)
endif()
install(TARGETS dstream_broker_plugin
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/dstream)
