# What `cmake --install` puts where (GNUInstallDirs), and the Debian package of the same.
#
# Paths in the unit are those of the configured prefix, so give it when configuring:
# -DCMAKE_INSTALL_PREFIX=/usr/local is the default, the preset `package` has /usr.
include(GNUInstallDirs)

# Manual pages and completion are made of what the programs themselves say (docs/man/generate).
find_program(PYTHON3_FOR_MANUALS python3)
file(GLOB manual_templates CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/docs/man/*.in)
set(manuals ${CMAKE_BINARY_DIR}/manuals)
add_custom_command(
  OUTPUT ${manuals}/stamp
  # What --help leaves to the end of the process is no leak that may stop a build.
  COMMAND ${CMAKE_COMMAND} -E env ASAN_OPTIONS=detect_leaks=0
          ${PYTHON3_FOR_MANUALS} ${CMAKE_SOURCE_DIR}/docs/man/generate
          ${CMAKE_RUNTIME_OUTPUT_DIRECTORY} ${manuals}
  COMMAND ${CMAKE_COMMAND} -E touch ${manuals}/stamp
  DEPENDS holdfastd holdfast holdfast-bench ${CMAKE_SOURCE_DIR}/docs/man/generate
          ${manual_templates} ${CMAKE_SOURCE_DIR}/conf/holdfast.yaml
  COMMENT "Manual pages and completion"
  VERBATIM)
add_custom_target(manuals ALL DEPENDS ${manuals}/stamp)

configure_file(${CMAKE_SOURCE_DIR}/deploy/systemd/holdfastd.service.in
               ${CMAKE_BINARY_DIR}/holdfastd.service @ONLY)

install(TARGETS holdfastd holdfast holdfast-bench RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(FILES conf/holdfast.yaml DESTINATION ${CMAKE_INSTALL_FULL_SYSCONFDIR}/holdfast)
install(DIRECTORY conf/scrub DESTINATION ${CMAKE_INSTALL_DATADIR}/holdfast)
install(FILES ${CMAKE_BINARY_DIR}/holdfastd.service DESTINATION lib/systemd/system)
install(DIRECTORY ${manuals}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man1
        FILES_MATCHING PATTERN "*.1")
install(DIRECTORY ${manuals}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man5
        FILES_MATCHING PATTERN "*.5")
install(DIRECTORY ${manuals}/man/ DESTINATION ${CMAKE_INSTALL_MANDIR}/man8
        FILES_MATCHING PATTERN "*.8")

# Debian's zsh does not look into site-functions below /usr.
set(zsh_folder site-functions)
if(CMAKE_INSTALL_PREFIX STREQUAL "/usr" AND EXISTS /etc/debian_version)
  set(zsh_folder vendor-completions)
endif()
foreach(program holdfastd holdfast holdfast-bench)
  install(FILES ${manuals}/completion/${program}.bash RENAME ${program}
          DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${manuals}/completion/_${program}
          DESTINATION ${CMAKE_INSTALL_DATADIR}/zsh/${zsh_folder})
  install(FILES ${manuals}/completion/${program}.fish
          DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endforeach()

# As in the repository, so that the links of the pages hold.
install(FILES README.md CHANGELOG.md CONTRIBUTING.md DESTINATION ${CMAKE_INSTALL_DOCDIR})
install(DIRECTORY docs deploy conf DESTINATION ${CMAKE_INSTALL_DOCDIR}
        PATTERN "man" EXCLUDE PATTERN "__pycache__" EXCLUDE PATTERN "*.in" EXCLUDE)

add_custom_target(uninstall
  COMMAND xargs --no-run-if-empty --delimiter=\\n rm -f --verbose < ${CMAKE_BINARY_DIR}/install_manifest.txt
  COMMENT "Removing what install_manifest.txt lists" VERBATIM)

# ------------------------------------------------------------------ the Debian package
set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME holdfast)
set(CPACK_PACKAGE_VERSION ${PROJECT_VERSION})
set(CPACK_PACKAGE_VENDOR Holdfast)
set(CPACK_PACKAGE_CONTACT "Holdfast <holdfast@example.org>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "write-ahead transaction proxy for MongoDB")
set(CPACK_PACKAGE_DESCRIPTION
"Stands between services and a standalone MongoDB server, and makes the several
writes of one API call, or of one driver transaction, one atomic, journaled unit:
after any crash it is wholly there or wholly absent.")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION database)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON) # versions of libraries from what the programs are linked with
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
    ${CMAKE_SOURCE_DIR}/deploy/debian/conffiles ${CMAKE_SOURCE_DIR}/deploy/debian/postinst
    ${CMAKE_SOURCE_DIR}/deploy/debian/prerm ${CMAKE_SOURCE_DIR}/deploy/debian/postrm)
set(CPACK_PACKAGE_DIRECTORY ${CMAKE_BINARY_DIR})
set(CPACK_SET_DESTDIR ON) # the configuration is in /etc, not below the prefix
set(CPACK_STRIP_FILES ON)
include(CPack)
