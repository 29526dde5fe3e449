/* build.h -- what pages and directories are replaced by.
 *
 * Depends on: change.h.   Used by: change.c, volimap.c.
 */
#ifndef CUBBY_VOLIMAP_BUILD_H
#define CUBBY_VOLIMAP_BUILD_H

#include "engine/volimap/change.h"

enum {
    FULL_NODES = 224, /* pairs that a page can have at most and still get a few more, unless they
                         follow each other */
    MERGE_NODES_MAX = 112, /* pairs of two pages that are merged: fewer than two halves of one that
                              was split have, or it would be merged again at once */
};

/* What a page without room, or with few pairs, is best replaced by. */
struct page_plan {
    enum page_plan_kind {
        PLAN_RESIZE,  /* by one page */
        PLAN_SPLIT,   /* by several, for which the directory has entries */
        PLAN_HANG,    /* by a directory, under its one entry */
        PLAN_REWRITE, /* the directory has to be replaced, too */
    } kind;
    unsigned lines; /* PLAN_RESIZE */
    unsigned split; /* else: the highest bit in which two keys differ, */
    uint64_t key;   /* one of them */
};

/* pairs: what the page has, and key, if that is not NULL, what it is to have room for. directory:
 * that it is in; NULL: the root. */
struct page_plan build_plan(const struct object *page, const struct object *directory,
                            const struct volimap_pair *pairs, unsigned count, const uint64_t *key);

/* Build a change's outcome, zeroed before; its objects are frozen. Returns CUBBY_OK, ENOMEM, or
 * CUBBY_NOT_FOUND: what is frozen is not what the change is for, and it is off. What has been made
 * is in outcome->made, whatever is returned. */
int build(struct volimap_session *session, const struct change *change, struct outcome *outcome);

#endif
