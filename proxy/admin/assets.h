#ifndef HOLDFAST_ADMIN_ASSETS_H
#define HOLDFAST_ADMIN_ASSETS_H

/* The files of the admin page (proxy/admin/page), as they were when the program was built. */

#include <stddef.h>

struct admin_asset {
    const char *path; /* "/app.js"; index.html is "/" */
    const char *content_type;
    const unsigned char *bytes;
    size_t size;
};

extern const struct admin_asset admin_assets[];
extern const size_t admin_asset_count;

#endif
