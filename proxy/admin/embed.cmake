# Makes a C file of the admin page's files: cmake -DOUTPUT=FILE.c -DFOLDER=page -P embed.cmake
#
# One array of bytes each, and the table admin_assets (assets.h). Nothing is rewritten: what stands in
# the folder is what is served.

set(types_html "text/html; charset=utf-8")
set(types_css "text/css; charset=utf-8")
set(types_js "text/javascript; charset=utf-8")
set(types_svg "image/svg+xml")

file(GLOB files LIST_DIRECTORIES false RELATIVE ${FOLDER} ${FOLDER}/*.*)
list(SORT files)
set(arrays "")
set(table "")
foreach(file ${files})
  get_filename_component(extension ${file} LAST_EXT)
  string(SUBSTRING ${extension} 1 -1 extension)
  if(NOT DEFINED types_${extension})
    message(FATAL_ERROR "${file}: no content type is known for .${extension}")
  endif()
  string(MAKE_C_IDENTIFIER "asset_${file}" name)
  file(READ ${FOLDER}/${file} bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
  set(path "/${file}")
  if(file STREQUAL "index.html")
    set(path "/")
  endif()
  string(APPEND arrays "static const unsigned char ${name}[] = {\n${bytes}};\n")
  string(APPEND table "    {\"${path}\", \"${types_${extension}}\", ${name}, sizeof ${name}},\n")
endforeach()
list(LENGTH files count)
file(WRITE ${OUTPUT} "/* Made by embed.cmake from the files in proxy/admin/page. */
#include \"admin/assets.h\"

${arrays}
const struct admin_asset admin_assets[] = {
${table}};
const size_t admin_asset_count = ${count};
")
