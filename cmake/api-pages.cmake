# The API's manual pages, made from the headers; scripts/api-pages.sh says how.
set(api_folder ${PROJECT_BINARY_DIR}/api)
file(GLOB api_headers CONFIGURE_DEPENDS include/dstream/*.h)
add_custom_command(OUTPUT ${api_folder}/stamp
  COMMAND sh ${PROJECT_SOURCE_DIR}/scripts/api-pages.sh
          ${api_folder} ${PROJECT_VERSION}
  COMMAND ${CMAKE_COMMAND} -E touch ${api_folder}/stamp
  DEPENDS ${api_headers} scripts/api-pages.sh scripts/api-page.awk
  COMMENT "Making the API's manual pages" VERBATIM)
add_custom_target(dstream_api_pages ALL DEPENDS ${api_folder}/stamp)
install(DIRECTORY ${api_folder}/man3 DESTINATION ${CMAKE_INSTALL_MANDIR}
  FILES_MATCHING PATTERN "*.3")
