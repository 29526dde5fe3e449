/* api.h -- what the files of VoliMap's public functions share.
 *
 * A map is ordinary, in pages that its own page table leads to, or an array (array.h). In an array
 * the ordinary map has no pairs; its sessions count those of the array.
 *
 * Depends on: volimap.h, array.h.   Used by: api.c, file.c.
 */
#ifndef CUBBY_VOLIMAP_API_H
#define CUBBY_VOLIMAP_API_H

#include "engine/cubby.h"
#include "engine/volimap/array.h"
#include "engine/volimap/volimap.h"

struct cubby_volimap {
    struct volimap map;
    struct array *array; /* NULL: it is an ordinary one; constant, as what follows */
    uint64_t low;        /* keys that there can be */
    uint64_t high;
};

struct cubby_volimap_session {
    struct volimap_session inner;
    struct array *array; /* the map's; constant, as the next one */
    cubby_volimap *owner;
    char *message; /* of CUBBY_MESSAGE_BYTES; NULL: none yet */
};

/* Have the session say why a call failed; returns its status. */
__attribute__((format(printf, 3, 4))) int volimap_explain(cubby_volimap_session *session,
                                                          int status, const char *format, ...);

#endif
