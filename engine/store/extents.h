/* extents.h -- which extents, and which granules of blob extents, are free.
 *
 * Segments and checkpoints take runs of whole extents from the low end. Blobs take granules
 * (blocks) inside extents of their own from the high end; each such extent has a 16-bit map of live
 * granules.
 *
 *   free --take--> live --hold--> held (in quarantine) --release--> free
 *
 * Held space is neither reused nor discarded until extents_release, which the store calls after a
 * durable checkpoint and after all readers have left (invariant I8). A held run knows the log
 * record that freed it: only a checkpoint that makes this record superfluous may release the run.
 *
 * What a blob takes is unnamed until extents_name_run_locked, which is called when a pair that
 * names it is in the log. A checkpoint leaves out what is unnamed: after a crash nobody would know
 * of it. Of what is live, only named granules can be held.
 *
 * Memory is taken only for the parts of the maps that were ever used.
 *
 * Thread-safe: one mutex guards all of it. No I/O.
 *
 * Depends on: base, disk_format.h.   Used by: the rest of the store.
 */
#ifndef CUBBY_EXTENTS_H
#define CUBBY_EXTENTS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/memory.h"
#include "engine/store/disk_format.h"

/* A run of blocks that was freed and waits in quarantine. */
struct held_run {
    uint64_t lba;
    uint64_t block_count; /* a run of granules (within one extent) or of whole extents */
    uint64_t lsn;         /* of the log record that freed it */
};

struct extents {
    pthread_mutex_t lock;                   /* guards everything below */
    uint64_t first_lba;                     /* of extent 0; constant */
    _Atomic uint64_t extent_count;          /* grows; may be read without the lock, too */
    uint64_t growth_limit;                  /* of extent_count; constant */
    struct reserved_array taken;            /* uint64_t words, a bit per extent: live or held */
    struct reserved_array full_words;       /* a bit per word of taken that is all ones */
    struct reserved_array live_granules;    /* uint16_t per extent: granules of live blobs */
    struct reserved_array held_granules;    /* uint16_t per extent: granules of held blobs */
    struct reserved_array unnamed_granules; /* uint16_t per extent: live ones nothing names yet */
    uint64_t taken_count;
    uint64_t low_end;           /* extents [low_end, blob_end) were never taken */
    uint64_t blob_end;          /* blobs stand at and above */
    _Atomic uint64_t blob_span; /* extent_count - blob_end, for whoever does not hold the lock */
    uint64_t low_hint;          /* no free extent below */
    uint64_t high_hint;         /* no free extent in [blob_end, high_hint) */
    uint64_t blob_cursor;       /* where the search for free granules goes on */
    struct held_run *held;      /* in any order */
    size_t held_count;
    size_t held_capacity;
    uint64_t held_blocks; /* also of what was taken out of held, until it is released */
};

enum {
    /* A checkpoint is due when so many runs are held: 1.5 MiB of DRAM. */
    EXTENTS_HELD_MAX = 65536,
    EXTENTS_GROWTH = 16,
};

/* 1 TiB and 4 PiB. */
#define EXTENTS_GROWN_MIN (UINT64_C(1) << 24)
#define EXTENTS_GROWN_MAX (UINT64_C(1) << 36)

/* As far as a store of extent_count extents can grow while it is open: so much address space is
 * reserved for what is kept per extent, or per segment, without ever moving. */
static inline uint64_t extents_growth_limit(uint64_t extent_count)
{
    uint64_t limit = extent_count < EXTENTS_GROWN_MAX / EXTENTS_GROWTH
                         ? extent_count * EXTENTS_GROWTH
                         : EXTENTS_GROWN_MAX;
    limit = limit > EXTENTS_GROWN_MIN ? limit : EXTENTS_GROWN_MIN;
    return limit > extent_count ? limit : extent_count;
}

int extents_open(struct extents *extents, uint64_t first_lba, uint64_t extent_count);
void extents_close(struct extents *extents);

/* Grow in two steps, so that the second one cannot fail: make the maps large enough for so many
 * extents (returns CUBBY_OK, or ENOMEM, also beyond extents_growth_limit), then let the new ones be
 * taken. What stands is left where it is: as long as there are no blobs, they will begin at the new
 * high end, else the new extents are free ones among the blobs' own. One thread at a time. */
int extents_reserve_growth(struct extents *extents, uint64_t extent_count);
void extents_grow(struct extents *extents, uint64_t extent_count);

static inline uint64_t extent_lba(const struct extents *extents, uint64_t extent)
{
    return extents->first_lba + extent * EXTENT_BLOCKS;
}

/* Whether a run of blocks, wherever it comes from, lies inside the extents. No lock is needed. */
bool extents_contain(const struct extents *extents, uint64_t lba, uint64_t block_count);

/* Take count whole extents in one run, leaving at least reserve_count free ones. Returns CUBBY_OK
 * or CUBBY_FULL. */
int extents_take(struct extents *extents, uint64_t count, uint64_t reserve_count, uint64_t *extent);

/* Take granule_count (1 to 16) granules of one extent, unnamed at first. As above. */
int extents_take_granules(struct extents *extents, uint32_t granule_count, uint64_t reserve_count,
                          uint64_t *lba);

/* Take up to *count whole extents in one run for a blob, unnamed at first; *count is set to how
 * many it got. */
int extents_take_for_blob(struct extents *extents, uint64_t *count, uint64_t reserve_count,
                          uint64_t *lba);

/* A pair that names these unnamed granules, one run that was taken or part of it, is in the log. */
void extents_name_run_locked(struct extents *extents, uint64_t lba, uint64_t granule_count);

/* Put live space into quarantine, which lsn, of a log record, has freed. Whole extents of a segment
 * or checkpoint; granules of a blob (a run of whole extents, or part of one). Returns CUBBY_OK,
 * ENOMEM, or CUBBY_CORRUPT if some of the granules are not live, or unnamed, and then nothing is
 * freed. The _locked forms are for a caller that holds extents->lock; extents_hold_locked wants
 * room reserved for the entry, extents_hold_granules_locked cannot return ENOMEM if there is. */
int extents_reserve_hold_locked(struct extents *extents, size_t entries);
void extents_hold_locked(struct extents *extents, uint64_t extent, uint64_t count, uint64_t lsn);
int extents_hold_granules_locked(struct extents *extents, uint64_t lba, uint64_t granule_count,
                                 uint64_t lsn);
int extents_hold_granules(struct extents *extents, uint64_t lba, uint64_t granule_count,
                          uint64_t lsn);

/* Take a run of granules that was put into quarantine, and is still needed, out of it again. The
 * run is one that was held as a whole; one that is not in quarantine is left. */
void extents_unhold_granules_locked(struct extents *extents, uint64_t lba, uint64_t granule_count);

/* Give back space that was taken but never named by anything on the device. Granules may have been
 * named here. */
void extents_untake(struct extents *extents, uint64_t extent, uint64_t count);
void extents_untake_granules(struct extents *extents, uint64_t lba, uint64_t granule_count);

/* Whether a checkpoint should be made to release held space: by how much is held, whatever its
 * LSNs. It may still be true after a checkpoint that had to leave most of it. */
bool extents_want_release(struct extents *extents);

/* Take the list of what records before before_lsn (UINT64_MAX: all) have freed, to be released
 * after the next checkpoint; the caller frees *held. What is held by later records stays, as does
 * everything if there is no memory for two lists. Together with the snapshot of the directory,
 * under the lock. */
void extents_take_held_locked(struct extents *extents, uint64_t before_lsn, struct held_run **held,
                              size_t *held_count);

/* Put back a list that could not be released, and free it. Allowed to leak on ENOMEM: reopening
 * finds it. */
void extents_return_held(struct extents *extents, struct held_run *held, size_t held_count);

/* The runs' quarantine is over. */
void extents_release(struct extents *extents, const struct held_run *held, size_t held_count);

/* The same for granules of one extent. Returns whether the extent is left with none: then it is
 * still taken, to be discarded, and given back by extents_untake. */
bool extents_release_part(struct extents *extents, struct held_run held, uint64_t *extent);

/* For opening a store, by one thread: mark as live, and named, what a checkpoint or a scan of the
 * headers says is. Returns CUBBY_OK, CUBBY_CORRUPT if it is outside or taken already, or ENOMEM. */
int extents_mark(struct extents *extents, uint64_t extent, uint64_t count);
int extents_mark_granules(struct extents *extents, uint64_t extent, uint16_t granules);
int extents_mark_run(struct extents *extents, uint64_t lba, uint64_t granule_count);

/* Likewise, free what was marked but is not live any more, as the log says. There is no quarantine:
 * nobody reads yet, and the log knows it at the next opening, too. Whole extents of a segment,
 * which must be taken; granules of a blob: returns CUBBY_OK, or CUBBY_CORRUPT if some of them are
 * not live and named, and then nothing is freed. */
void extents_unmark(struct extents *extents, uint64_t extent, uint64_t count);
int extents_unmark_run(struct extents *extents, uint64_t lba, uint64_t granule_count);

/* The held granules of an extent (0 if none), the live ones, named or not, those of them that are
 * named, and whether it is live or held at all. */
uint16_t extents_held_granules_locked(const struct extents *extents, uint64_t extent);
uint16_t extents_live_granules_locked(const struct extents *extents, uint64_t extent);
uint16_t extents_named_granules_locked(const struct extents *extents, uint64_t extent);
bool extents_is_taken_locked(const struct extents *extents, uint64_t extent);

/* Figures. */
struct extents_usage {
    uint64_t taken_extents;
    uint64_t held_blocks;
    uint64_t map_bytes;
    uint64_t blob_extents; /* with at least one live granule */
};
void extents_usage(struct extents *extents, struct extents_usage *usage);
uint64_t extents_free_count(struct extents *extents);
uint64_t extents_held_blocks(struct extents *extents);

/* Blocks in quarantine that were freed by records before an LSN. Looks at every run. */
uint64_t extents_held_before(struct extents *extents, uint64_t lsn);

#endif
