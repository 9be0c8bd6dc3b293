# The packages the library and the hub stand on, as link targets.  Installed
# beside the library too, for programs that link it statically.
find_package(OpenSSL 1.1.1 REQUIRED)
set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(LWS REQUIRED IMPORTED_TARGET libwebsockets>=4.1)

# Paho's own package file names no include folder on Debian.
find_path(PAHO_INCLUDE_DIR MQTTAsync.h)
find_library(PAHO_LIBRARY paho-mqtt3as)
mark_as_advanced(PAHO_INCLUDE_DIR PAHO_LIBRARY)
if(NOT PAHO_INCLUDE_DIR OR NOT PAHO_LIBRARY)
  message(FATAL_ERROR "Paho MQTT C with OpenSSL (paho-mqtt3as) was not found;"
                      " on Debian: apt-get install libpaho-mqtt-dev")
endif()
if(NOT TARGET paho_mqtt)
  add_library(paho_mqtt INTERFACE IMPORTED)
  set_target_properties(paho_mqtt PROPERTIES
    INTERFACE_INCLUDE_DIRECTORIES "${PAHO_INCLUDE_DIR}"
    INTERFACE_LINK_LIBRARIES "${PAHO_LIBRARY}")
endif()

set(dstream_dependencies PkgConfig::LWS paho_mqtt OpenSSL::SSL
    OpenSSL::Crypto Threads::Threads)

if(DSTREAM_BUILD_SERVICE OR DSTREAM_BUILD_HUB)
  pkg_check_modules(CJSON REQUIRED IMPORTED_TARGET libcjson)
endif()
if(DSTREAM_BUILD_SERVICE)
  list(APPEND dstream_dependencies PkgConfig::CJSON)
endif()

if(DSTREAM_BUILD_HUB OR DSTREAM_BUILD_TOOLS)
  pkg_check_modules(UV REQUIRED IMPORTED_TARGET libuv)
endif()

if(DSTREAM_BUILD_HUB)
  pkg_check_modules(SQLITE REQUIRED IMPORTED_TARGET sqlite3)
  pkg_check_modules(MOSQUITTO REQUIRED IMPORTED_TARGET libmosquitto)
  set(dstream_hub_dependencies PkgConfig::SQLITE PkgConfig::MOSQUITTO
      PkgConfig::UV PkgConfig::CJSON ${dstream_dependencies})
endif()
