/* view_api.c -- views for tools: the cubby_region_view_* functions of cubby_region.h.
 *
 * Depends on: region_request.h, region.h.   Used by: Python.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "mmapio/region_request.h"

struct cubby_region_view {
    struct mmapio_view *mapped; /* of whole pages */
    uint64_t skipped_bytes;     /* of the first page, before those that were asked for */
};

/* Put into words why there is no view. Returns the public status. */
static int say_no_view(const struct request *request, int status)
{
    const char *name = request->owner->name;
    switch (status) {
    case EOPNOTSUPP:
        return device_message_set(request->message, status,
                                  "%s can have no such view: it was opened with pins only, or the "
                                  "system does not allow pointers, or is too old; use "
                                  "cubby_region_pin",
                                  name);
    case ENOSPC:
        return device_message_set(request->message, EAGAIN,
                                  "%s has as many views as it can have (%d); close one", name,
                                  CUBBY_REGION_VIEWS_MAX);
    case ENOMEM:
        return device_message_set(request->message, status, "there is no memory for a view of %s",
                                  name);
    default:
        return request_failure(request, status);
    }
}

int cubby_region_view_open(cubby_region *region, uint64_t offset, uint64_t size, uint32_t access,
                           cubby_region_view **view, char *message, size_t message_size)
{
    CUBBY_ASSERT(region != NULL);
    CUBBY_ASSERT(view != NULL);
    struct request request = {region, "showing", offset, size, {message, message_size}};
    int status = request_check(&request);
    if (status != 0) {
        return status;
    }
    if (size == 0 || access > CUBBY_REGION_WRITE) {
        return device_message_set(request.message, CUBBY_BAD_ARGUMENT,
                                  "%s: a view has 1 byte or more, and is to read (%d) or to write "
                                  "(%d); not %" PRIu64 " bytes and %" PRIu32,
                                  region->name, CUBBY_REGION_READ, CUBBY_REGION_WRITE, size,
                                  access);
    }
    cubby_region_view *opened = malloc(sizeof *opened);
    if (opened == NULL) {
        return say_no_view(&request, ENOMEM);
    }
    struct pages pages = request_pages(offset, size);
    status = mmapio_view_open(region->mapped, pages.first, pages.count, (enum mmapio_access)access,
                              &opened->mapped);
    if (status != 0) {
        free(opened);
        return say_no_view(&request, status);
    }
    opened->skipped_bytes = offset % PAGE_BYTES;
    *view = opened;
    return CUBBY_OK;
}

void cubby_region_view_close(cubby_region_view *view)
{
    if (view != NULL) {
        mmapio_view_close(view->mapped);
        free(view);
    }
}

uint8_t *cubby_region_view_base(const cubby_region_view *view)
{
    CUBBY_ASSERT(view != NULL);
    return mmapio_view_base(view->mapped) + view->skipped_bytes;
}
