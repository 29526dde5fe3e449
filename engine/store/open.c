/* open.c -- cubby_open and cubby_close: from a device to a running store and back.
 *
 *   no store --create--> clean --store_mark_in_use--> in use --cubby_close--> clean
 *                                                       | process or power dies
 *                                                       v
 *                                  in use --replay_run, replay_begin_anew--> in use
 *
 * Depends on: async_get.h, checkpoint.h, recovery.h, space.h, superblock.h.   Used by: users of
 * cubby.h.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/base/environment.h"
#include "engine/store/async_get.h"
#include "engine/store/checkpoint.h"
#include "engine/store/recovery.h"
#include "engine/store/replay.h"
#include "engine/store/segment.h"
#include "engine/store/space.h"
#include "engine/store/writeback.h"

enum {
    SIZE_DEFAULT = 1 << 30,
    BLANK_BLOCKS = 64, /* looked at to tell whether a device holds something */
    FILL_PERCENT_COMPRESSING = 40,
    FILL_PERCENT_PLAIN = 50,
    DIRTY_SHARE = 8, /* of the log: what is dirty must fit what others leave of it, twice */
    DIRTY_BYTES_DEFAULT = 64 << 20,
    DIRTY_BYTES_MIN = 1 << 20, /* unless fewer are asked for */
    REGION_BYTES_DEFAULT = 64 << 20,
    REGION_BYTES_MIN = 256 << 10,
};

void cubby_options_init(struct cubby_options *options)
{
    *options = (struct cubby_options){0};
}

static int compare_stripes(const void *a, const void *b)
{
    uint32_t left = *(const uint32_t *)a;
    uint32_t right = *(const uint32_t *)b;
    return (left > right) - (left < right);
}

size_t store_sort_stripes(uint32_t *stripes, size_t count)
{
    qsort(stripes, count, sizeof *stripes, compare_stripes);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        if (kept == 0 || stripes[kept - 1] != stripes[i]) {
            stripes[kept++] = stripes[i];
        }
    }
    return kept;
}

struct segment_view store_lock_segment(cubby_store *store, uint64_t low_hash)
{
    for (;;) {
        struct segment_view view = store_find_segment(store, low_hash);
        pthread_mutex_lock(&store_stripe(store, view.number)->lock);
        /* It may have been split while we waited; at most once per doubling of the store. */
        struct segment_view now = store_find_segment(store, low_hash);
        if (now.number == view.number) {
            return now;
        }
        pthread_mutex_unlock(&store_stripe(store, view.number)->lock);
    }
}

void store_unlock_segment(cubby_store *store, uint64_t segment_number)
{
    pthread_mutex_unlock(&store_stripe(store, segment_number)->lock);
}

/* What is being opened, and where its complaints go. */
struct opening {
    cubby_store *store;
    cubby_session *session; /* the store's first */
    const char *name;
    struct cubby_options options;
    char *message;
    size_t message_size;
};

__attribute__((format(printf, 3, 4))) static int open_fail(const struct opening *opening,
                                                           int status, const char *format, ...)
{
    char text[CUBBY_MESSAGE_BYTES];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (opening->message != NULL) {
        snprintf(opening->message, opening->message_size, "%s: %s", opening->name, text);
    }
    return status;
}

static int open_fail_session(const struct opening *opening, int status)
{
    const char *message = opening->session->message;
    return open_fail(opening, status, "%s",
                     message[0] != '\0' ? message : cubby_status_text(status));
}

/* The memory that dirty pairs may take. Of what they share with clean ones half, or what a small
 * cache leaves: what they do not take, those have. */
static uint64_t wanted_dirty_bytes(const struct cubby_options *options)
{
    if (options->dirty_bytes != 0) {
        return options->dirty_bytes;
    }
    uint64_t memory_bytes = options->memory_bytes;
    if (memory_bytes == 0) {
        return DIRTY_BYTES_DEFAULT;
    }
    uint64_t half = memory_bytes / 2;
    uint64_t left = memory_bytes > (uint64_t)DIRTY_CLEAN_BYTES_MIN
                        ? memory_bytes - (uint64_t)DIRTY_CLEAN_BYTES_MIN
                        : 0;
    uint64_t dirty_bytes = half < left ? half : left;
    return dirty_bytes > DIRTY_BYTES_MIN ? dirty_bytes : DIRTY_BYTES_MIN;
}

static int check_io(const struct opening *opening)
{
    const struct cubby_options *options = &opening->options;
    if (options->io > CUBBY_IO_MMAP) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "%u is no way to reach a device",
                         options->io);
    }
    if (options->region_bytes == 0) {
        return CUBBY_OK;
    }
    if (options->io != CUBBY_IO_MMAP) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT,
                         "there is a region only with io by mmap, and no memory for it otherwise");
    }
    if (options->region_bytes < REGION_BYTES_MIN ||
        options->region_bytes > DIRTY_MEMORY_BYTES_MAX) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT,
                         "a region has 256 KiB to 8 TiB, not %llu bytes",
                         (unsigned long long)options->region_bytes);
    }
    return CUBBY_OK;
}

static int check_options(const struct opening *opening)
{
    const struct cubby_options *options = &opening->options;
    bool creates = (options->flags & (CUBBY_CREATE | CUBBY_NEW)) != 0;
    if (creates && (options->flags & CUBBY_READ_ONLY_OPEN) != 0) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "a store cannot be created read-only");
    }
    if (options->fill_percent != 0 && (options->fill_percent < 10 || options->fill_percent > 75)) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "fill is 10 to 75 percent, not %u",
                         options->fill_percent);
    }
    if (options->size_bytes != 0 && options->size_bytes < STORE_SIZE_MIN) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "size is at least 1 MiB, not %llu bytes",
                         (unsigned long long)options->size_bytes);
    }
    if (options->size_bytes > STORE_SIZE_MAX) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "size is at most 1 PiB, not %llu bytes",
                         (unsigned long long)options->size_bytes);
    }
    if (options->durability > CUBBY_DURABILITY_POWER) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "%u is no durability", options->durability);
    }
    uint64_t memory_bytes = options->memory_bytes;
    if (memory_bytes > DIRTY_MEMORY_BYTES_MAX) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT, "memory is %llu bytes, and at most 8 TiB",
                         (unsigned long long)memory_bytes);
    }
    uint64_t dirty_bytes = wanted_dirty_bytes(options);
    if (memory_bytes != 0 && (memory_bytes < dirty_bytes ||
                              memory_bytes - dirty_bytes < (uint64_t)DIRTY_CLEAN_BYTES_MIN)) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT,
                         "memory is %llu bytes: beside the %llu bytes for pairs that are not in "
                         "their place it needs 16 MiB for a cache, or is 0 for none",
                         (unsigned long long)memory_bytes, (unsigned long long)dirty_bytes);
    }
    uint32_t percents[SPACE_MARK_COUNT];
    if (!space_percents(options, percents)) {
        return open_fail(opening, CUBBY_BAD_ARGUMENT,
                         "the marks of physical space are 1 to 100 percent, or %d for never, and "
                         "ascend: warn at %u, no growth at %u, read and delete at %u",
                         CUBBY_PERCENT_NEVER, percents[0], percents[1], percents[2]);
    }
    return check_io(opening);
}

static int make_shell(struct block_device *device, const struct opening *opening,
                      cubby_store **result)
{
    cubby_store *store = calloc(1, sizeof *store);
    if (store == NULL) {
        return ENOMEM;
    }
    store->stripes = aligned_alloc(64, STRIPE_COUNT * sizeof *store->stripes);
    store->key_locks = calloc(KEY_STRIPE_COUNT, sizeof *store->key_locks);
    store->fork_guard = mmap(NULL, (size_t)sysconf(_SC_PAGESIZE), PROT_READ | PROT_WRITE,
                             MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (store->stripes == NULL || store->key_locks == NULL || store->fork_guard == MAP_FAILED ||
        madvise(store->fork_guard, (size_t)sysconf(_SC_PAGESIZE), MADV_WIPEONFORK) != 0) {
        if (store->fork_guard != MAP_FAILED) {
            munmap(store->fork_guard, (size_t)sysconf(_SC_PAGESIZE));
        }
        free(store->stripes);
        free(store->key_locks);
        free(store);
        return ENOMEM;
    }
    atomic_store(store->fork_guard, 1);
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_init(&store->stripes[i].lock, NULL);
        atomic_init(&store->stripes[i].version, 0);
    }
    for (size_t i = 0; i < KEY_STRIPE_COUNT; i++) {
        pthread_mutex_init(&store->key_locks[i], NULL);
    }
    writeback_open(&store->writeback);
    pthread_mutex_init(&store->check_lock, NULL);
    pthread_mutex_init(&store->split_lock, NULL);
    pthread_mutex_init(&store->checkpoint_lock, NULL);
    pthread_mutex_init(&store->sessions_lock, NULL);
    epoch_open(&store->epoch);
    store->device = device;
    store->references = 1;
    store->read_only = (opening->options.flags & CUBBY_READ_ONLY_OPEN) != 0;
    store->environment = opening->options.environment != NULL ? *opening->options.environment
                                                              : *environment_of_system();
    store->durability = opening->options.durability != CUBBY_DURABILITY_DEFAULT
                            ? (enum cubby_durability)opening->options.durability
                            : CUBBY_DURABILITY_PROCESS;
    space_open(store, &opening->options);
    *result = store;
    return CUBBY_OK;
}

void store_free_shell(cubby_store *store)
{
    pthread_mutex_destroy(&store->sessions_lock);
    pthread_mutex_destroy(&store->check_lock);
    munmap(store->fork_guard, (size_t)sysconf(_SC_PAGESIZE));
    free(store);
}

/* Let go of all that an open store has but its shell, which waits for the last session. */
static void close_parts(cubby_store *store)
{
    pthread_mutex_lock(&store->sessions_lock);
    for (cubby_session *session = store->sessions; session != NULL; session = session->next) {
        async_get_cancel(session);
        epoch_unregister(&store->epoch, &session->slot);
        session->io->ops->close(session->io);
        session->io = NULL;
    }
    store->sessions = NULL;
    pthread_mutex_unlock(&store->sessions_lock);
    free(store->doomed);
    directory_close(&store->directory);
    if (store->extents.extent_count > 0) {
        extents_close(&store->extents);
    }
    log_close(&store->log);
    dirty_close(&store->dirty);
    writeback_close(&store->writeback);
    epoch_close(&store->epoch);
    for (size_t i = 0; i < KEY_STRIPE_COUNT; i++) {
        pthread_mutex_destroy(&store->key_locks[i]);
    }
    free(store->key_locks);
    for (size_t i = 0; i < STRIPE_COUNT; i++) {
        pthread_mutex_destroy(&store->stripes[i].lock);
    }
    free(store->stripes);
    pthread_mutex_destroy(&store->split_lock);
    pthread_mutex_destroy(&store->checkpoint_lock);
    page_io_region_close(store->region);
    store->device->ops->close(store->device);
}

/* Give up the store's own reference. */
static void drop_reference(cubby_store *store)
{
    pthread_mutex_lock(&store->sessions_lock);
    bool last = --store->references == 0;
    pthread_mutex_unlock(&store->sessions_lock);
    if (last) {
        store_free_shell(store);
    }
}

/* Memory that grows with the store, sized for the superblock in store->super. */
static int open_maps(cubby_store *store, const struct cubby_options *options)
{
    const struct superblock *super = &store->super;
    store->hash_seed = super->hash_seed;
    store->secret = super->secret;
    memcpy(store->store_id, super->store_id, sizeof store->store_id);
    store->fill_percent = super->fill_percent;
    int status = directory_open(&store->directory, extents_growth_limit(super->extent_count));
    if (status != CUBBY_OK) {
        return status;
    }
    status = extents_open(&store->extents, super->extents_lba, super->extent_count);
    const struct block_geometry *geometry = &store->device->geometry;
    if (status == CUBBY_OK) {
        status = log_open(&store->log, super, geometry->compresses,
                          geometry->atomic_write_bytes >= BLOCK_BYTES);
    }
    if (status == CUBBY_OK) {
        uint64_t most = log_capacity(&store->log) / DIRTY_SHARE;
        uint64_t wanted = wanted_dirty_bytes(options);
        status = dirty_open(&store->dirty, wanted < most ? wanted : most, options->memory_bytes,
                            log_capacity(&store->log));
    }
    return status;
}

/* Whether the first blocks are all zero. */
static int is_blank(struct opening *opening, bool *blank)
{
    cubby_session *session = opening->session;
    uint64_t count = session->store->device->geometry.block_count;
    *blank = !session->store->device->geometry.partial_tail;
    for (uint64_t lba = 0; lba < count && lba < BLANK_BLOCKS && *blank; lba++) {
        int status = session->io->ops->read(session->io, lba, 1, session->home);
        if (status != 0) {
            return open_fail(opening, status, "reading LBA %llu failed: %s",
                             (unsigned long long)lba, cubby_status_text(status));
        }
        *blank =
            session->home[0] == 0 && memcmp(session->home, session->home + 1, BLOCK_BYTES - 1) == 0;
    }
    return CUBBY_OK;
}

/* The size of a new store. */
static uint64_t choose_size(const struct opening *opening)
{
    const struct block_geometry *geometry = &opening->store->device->geometry;
    uint64_t asked = opening->options.size_bytes / BLOCK_BYTES * STORE_LOGICAL_PER_ASKED;
    if (!geometry->resizable) {
        return asked != 0 && asked < geometry->block_count ? asked : geometry->block_count;
    }
    if (asked == 0 && geometry->block_count == 0) {
        return (uint64_t)SIZE_DEFAULT / BLOCK_BYTES * STORE_LOGICAL_PER_ASKED;
    }
    return asked != 0 ? asked : geometry->block_count;
}

/* Give a file its size, and forget what a device holds. */
static int clear_device(struct opening *opening, uint64_t block_count)
{
    struct block_device *device = opening->store->device;
    struct page_io *io = opening->session->io;
    if (device->geometry.resizable) {
        /* To the new size first: if that is refused, nothing is lost yet. */
        int status = device->ops->resize(device, block_count);
        if (status == 0) {
            status = device->ops->resize(device, 0);
        }
        return status == 0 ? device->ops->resize(device, block_count) : status;
    }
    /* Saves space where it works; nothing relies on it. */
    (void)io->ops->discard(io, 0, block_count);
    /* An old superblock must not outlive the first new one. */
    memset(opening->session->home, 0, BLOCK_BYTES);
    for (uint64_t lba = 0; lba < SUPERBLOCK_COUNT && lba < block_count; lba++) {
        int status = io->ops->write(io, lba, 1, opening->session->home);
        if (status != 0) {
            return status;
        }
    }
    return io->ops->flush(io);
}

static int describe_new(struct opening *opening, uint64_t block_count)
{
    cubby_store *store = opening->store;
    struct superblock *super = &store->super;
    *super = (struct superblock){
        .format_version = FORMAT_VERSION,
        .compatible = FEATURES_COMPATIBLE,
        .compatible_read = FEATURES_COMPATIBLE_READ,
        .incompatible = FEATURES_INCOMPATIBLE,
        .fill_percent = opening->options.fill_percent,
        .lsn = BLOCK_BYTES,
    };
    if (super->fill_percent == 0) {
        super->fill_percent =
            store->device->geometry.compresses ? FILL_PERCENT_COMPRESSING : FILL_PERCENT_PLAIN;
    }
    int status = superblock_lay_out(super, block_count);
    if (status != CUBBY_OK) {
        return open_fail(opening, status, "%llu blocks of 4 KiB are too small for a store",
                         (unsigned long long)block_count);
    }
    uint8_t random[40];
    status = store->environment.random_bytes(store->environment.state, random, sizeof random);
    if (status != 0) {
        return open_fail(opening, status, "no random numbers: %s", cubby_status_text(status));
    }
    memcpy(super->store_id, random, 16);
    memcpy(&super->hash_seed, random + 16, 8);
    memcpy(&super->secret, random + 24, 8);
    return CUBBY_OK;
}

/* Write the first, empty segment. */
static int write_first_segment(struct opening *opening)
{
    cubby_store *store = opening->store;
    cubby_session *session = opening->session;
    struct segment_view view = {.place = {.home_count = FIRST_SEGMENT_HOMES}};
    uint32_t extent_count = segment_extent_count(FIRST_SEGMENT_HOMES);
    int status = directory_reserve(&store->directory, 0);
    if (status == CUBBY_OK) {
        status = extents_take(&store->extents, extent_count, 0, &view.place.base_extent);
    }
    if (status == CUBBY_OK) {
        status = aligned_buffer_reserve(&session->image, (size_t)extent_count * EXTENT_BYTES);
    }
    if (status != CUBBY_OK) {
        return status;
    }
    struct segment_pairs none = {0};
    uint64_t lba = segment_lba(store, view.place);
    segment_build(store, &none, view, lba, 1, session->image.data);
    status = session->io->ops->write(session->io, lba, segment_block_count(FIRST_SEGMENT_HOMES),
                                     session->image.data);
    directory_set(&store->directory, 0, view.place);
    atomic_store(&store->directory.segment_count, 1);
    return status;
}

static int create(struct opening *opening)
{
    cubby_store *store = opening->store;
    uint64_t block_count = choose_size(opening);
    int status = describe_new(opening, block_count);
    if (status != CUBBY_OK) {
        return status;
    }
    status = clear_device(opening, block_count);
    if (status != CUBBY_OK) {
        return open_fail(opening, status, "making room for %llu blocks of 4 KiB failed: %s",
                         (unsigned long long)block_count, cubby_status_text(status));
    }
    status = open_maps(store, &opening->options);
    if (status == CUBBY_OK) {
        log_stand_at(&store->log, store->super.lsn);
        status = write_first_segment(opening);
    }
    /* Twice, so that both superblocks are there. */
    for (int i = 0; status == CUBBY_OK && i < SUPERBLOCK_COUNT; i++) {
        status = checkpoint_write(opening->session, CHECKPOINT_CLEAN);
    }
    return status == CUBBY_OK ? CUBBY_OK : open_fail_session(opening, status);
}

/* A store that was not closed in order, or whose directory is to be rebuilt. */
static int recover(struct opening *opening, const struct replay_order *order)
{
    cubby_store *store = opening->store;
    cubby_session *session = opening->session;
    store->recovered = true;
    if (!order->from_headers && !store->super.clean &&
        (store->super.incompatible & FEATURE_LOG) == 0) {
        return session_fail(session, CUBBY_CORRUPT,
                            "the store was not closed in order by a CubbyDB without a log; open it "
                            "with recovery");
    }
    int status = order->from_headers ? recovery_run(session) : checkpoint_read(session);
    if (status == CUBBY_OK) {
        status = replay_run(session, order);
    }
    if (order->from_headers) {
        store->super.run_count = 0; /* the checkpoint's extents are free as far as we know */
    }
    if (status == CUBBY_OK && !store->read_only) {
        status = replay_begin_anew(session);
    }
    return status;
}

static int open_existing(struct opening *opening)
{
    cubby_store *store = opening->store;
    if (!store->read_only &&
        (store->super.compatible_read & ~(uint64_t)FEATURES_COMPATIBLE_READ) != 0) {
        return open_fail(opening, CUBBY_FORMAT_VERSION,
                         "the store has features that this CubbyDB %s can only read; open it "
                         "read-only, or use a newer CubbyDB",
                         cubby_version());
    }
    int status = open_maps(store, &opening->options);
    if (status != CUBBY_OK) {
        return open_fail(opening, status, "%s", cubby_status_text(status));
    }
    const uint32_t flags = opening->options.flags;
    struct replay_order order = {
        .from_headers = (flags & (CUBBY_RECOVER | CUBBY_ACCEPT_LOSS)) != 0,
        .accept_loss = (flags & CUBBY_ACCEPT_LOSS) != 0,
    };
    if (store->super.clean && !order.from_headers) {
        status = checkpoint_read(opening->session);
        return status == CUBBY_OK ? CUBBY_OK : open_fail_session(opening, status);
    }
    status = recover(opening, &order);
    return status == CUBBY_OK ? CUBBY_OK : open_fail_session(opening, status);
}

/* Decide between opening and creating. */
static int open_or_create(struct opening *opening)
{
    cubby_store *store = opening->store;
    uint32_t flags = opening->options.flags;
    char text[CUBBY_MESSAGE_BYTES] = "";
    int found = superblock_read(opening->session->io, store->device->geometry.block_count,
                                &store->super, opening->session->home, text, sizeof text);
    if ((flags & (CUBBY_CREATE | CUBBY_NEW)) == 0 ||
        (found == CUBBY_OK && (flags & (CUBBY_NEW | CUBBY_EXCLUSIVE)) == 0)) {
        return found == CUBBY_OK ? open_existing(opening) : open_fail(opening, found, "%s", text);
    }
    if (found == CUBBY_OK && (flags & CUBBY_NEW) == 0) {
        return open_fail(opening, CUBBY_NOT_EMPTY, "there is a store already");
    }
    if (found == CUBBY_NOT_A_STORE && (flags & CUBBY_FORCE) == 0) {
        bool blank;
        int status = is_blank(opening, &blank);
        if (status != CUBBY_OK) {
            return status;
        }
        if (!blank) {
            return open_fail(opening, CUBBY_NOT_EMPTY,
                             "it holds something that is not a store; force its creation to "
                             "overwrite it");
        }
    } else if (found != CUBBY_OK && (flags & CUBBY_FORCE) == 0) {
        return open_fail(opening, found, "%s; force its creation to overwrite it", text);
    }
    return create(opening);
}

/* Map the store's extents, if that was asked for. Only now: creating it may have resized the device
 * and written behind the region's back, and what recovery reads it reads once. */
static int open_region(struct opening *opening)
{
    const struct cubby_options *options = &opening->options;
    cubby_store *store = opening->store;
    if (options->io != CUBBY_IO_MMAP) {
        return CUBBY_OK;
    }
    uint64_t bytes = options->region_bytes != 0 ? options->region_bytes : REGION_BYTES_DEFAULT;
    bytes = (bytes + BLOCK_BYTES - 1) / BLOCK_BYTES * BLOCK_BYTES;
    char text[CUBBY_MESSAGE_BYTES] = "";
    int status = page_io_region_open(store->device, store->super.extents_lba,
                                     store->super.extent_count * EXTENT_BLOCKS, bytes,
                                     store->read_only, &store->region, text, sizeof text);
    if (status == CUBBY_OK) {
        status = page_io_region_reach(store->region, &opening->session->io);
    }
    if (status != CUBBY_OK) {
        return open_fail(opening, status, "mapping its blocks failed: %s",
                         text[0] != '\0' ? text : cubby_status_text(status));
    }
    return CUBBY_OK;
}

int store_open_device(struct block_device *device, const char *name,
                      const struct cubby_options *options, cubby_store **result, char *message,
                      size_t message_size)
{
    struct opening opening = {.name = name, .message = message, .message_size = message_size};
    if (options != NULL) {
        opening.options = *options;
    }
    int status = check_options(&opening);
    if (status == CUBBY_OK) {
        status = make_shell(device, &opening, &opening.store);
    }
    if (status != CUBBY_OK) {
        device->ops->close(device);
        return status;
    }
    status = cubby_session_open(opening.store, &opening.session);
    if (status == CUBBY_OK) {
        status = open_or_create(&opening);
        status = status == CUBBY_OK ? open_region(&opening) : status;
    } else {
        open_fail(&opening, status, "%s", cubby_status_text(status));
    }
    if (status != CUBBY_OK) {
        close_parts(opening.store);
        cubby_session_close(opening.session);
        drop_reference(opening.store);
        return status;
    }
    opening.store->keeper = opening.session;
    space_ask(opening.store); /* creating, and recovery, have changed what is used */
    *result = opening.store;
    return CUBBY_OK;
}

int cubby_open(const char *path, const struct cubby_options *options, cubby_store **store,
               char *message, size_t message_size)
{
    CUBBY_ASSERT(path != NULL);
    CUBBY_ASSERT(store != NULL);
    struct opening opening = {.name = path, .message = message, .message_size = message_size};
    if (options != NULL) {
        opening.options = *options;
    }
    int status = check_options(&opening); /* before a file is made */
    if (status != CUBBY_OK) {
        return status;
    }
    unsigned device_flags = 0;
    if ((opening.options.flags & CUBBY_READ_ONLY_OPEN) != 0) {
        device_flags |= BLOCK_DEVICE_READ_ONLY;
    }
    if ((opening.options.flags & (CUBBY_CREATE | CUBBY_NEW)) != 0) {
        device_flags |= BLOCK_DEVICE_CREATE;
    }
    struct block_device *device;
    status = block_device_open(path, device_flags, &device, message, message_size);
    if (status != CUBBY_OK) {
        return status;
    }
    return store_open_device(device, path, options, store, message, message_size);
}

/* Write back what is dirty, and write the last checkpoint. What cannot be written back stays in the
 * log: then the next opening recovers, and nothing is lost. */
static int close_in_order(cubby_session *session)
{
    cubby_store *store = session->store;
    if (atomic_load(&store->degraded) != 0) {
        return CUBBY_DEGRADED;
    }
    int status = writeback_drain(session);
    if (atomic_load(&store->poisoned)) {
        return CUBBY_POISONED;
    }
    if (status == CUBBY_OK) {
        return checkpoint_write(session, CHECKPOINT_CLEAN);
    }
    /* What has no place now stays in the log, for good: the next opening finds it there. */
    bool lacks_space = status == CUBBY_FULL || status == CUBBY_PHYSICAL_FULL || status == EAGAIN;
    int flushed = log_flush(session);
    return flushed != CUBBY_OK || lacks_space ? flushed : status;
}

int cubby_close(cubby_store *store)
{
    CUBBY_ASSERT(store != NULL);
    if (atomic_load(store->fork_guard) == 0) {
        return CUBBY_FORKED; /* all of it is the parent's; its memory here goes with the process */
    }
    atomic_store(&store->closing, true);
    session_wait_for_all(store, false);
    int status = CUBBY_OK;
    if (atomic_load(&store->in_use)) {
        status = close_in_order(store->keeper);
    }
    cubby_session *keeper = store->keeper;
    close_parts(store);
    cubby_session_close(keeper);
    drop_reference(store);
    return status;
}
