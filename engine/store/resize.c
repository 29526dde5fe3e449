/* resize.c -- cubby_resize: a store that grows while it is open.
 *
 *   old size --device resized, flushed--> old size, on a larger device
 *            --first superblock, flushed--> new size --second superblock, flushed--> new size
 *
 * Wherever that is cut off, what is left opens: a device may be larger than the store on it. New
 * extents are taken only once the new size is durable, and both superblocks tell it, so that damage
 * to one of them does not bring the old size back.
 *
 * Depends on: checkpoint.h, space.h, superblock.h.   Used by: users of cubby.h.
 */
#include "engine/base/cubby_assert.h"
#include "engine/store/checkpoint.h"
#include "engine/store/space.h"

static uint64_t device_block_count(const cubby_store *store)
{
    return __atomic_load_n(&store->device->geometry.block_count, __ATOMIC_RELAXED);
}

static double in_mib(uint64_t block_count)
{
    return (double)block_count * BLOCK_BYTES / (1 << 20);
}

static int check_size(cubby_session *session, uint64_t size_bytes)
{
    if (size_bytes != 0 && (size_bytes < STORE_SIZE_MIN || size_bytes > STORE_SIZE_MAX)) {
        return session_fail(session, CUBBY_BAD_ARGUMENT, "size is 1 MiB to 1 PiB, not %llu bytes",
                            (unsigned long long)size_bytes);
    }
    return CUBBY_OK;
}

static int refuse_smaller(cubby_session *session, uint64_t block_count)
{
    return session_fail(
        session, CUBBY_BAD_ARGUMENT,
        "a store of %.1f MiB does not shrink to %.1f MiB (four times the size asked for): dump it, "
        "create a smaller one, and load the dump into that",
        in_mib(session->store->super.block_count), in_mib(block_count));
}

/* The size for a store of size_bytes of pairs, or, with 0, of all that the device has.
 * checkpoint_lock is held, as in all that follows. */
static int choose_block_count(cubby_session *session, uint64_t size_bytes, uint64_t *block_count)
{
    cubby_store *store = session->store;
    uint64_t asked = size_bytes / BLOCK_BYTES * STORE_LOGICAL_PER_ASKED;
    uint64_t present = store->super.block_count;
    if (asked != 0 && asked < present) {
        return refuse_smaller(session, asked);
    }
    if (!store->device->geometry.resizable) {
        /* Not to change it: to learn whether it has grown by itself. */
        (void)store->device->ops->resize(store->device, asked);
    }
    uint64_t available = device_block_count(store);
    bool is_limited = !store->device->geometry.resizable && asked > available;
    if (is_limited && available == present) {
        return session_fail(session, CUBBY_BAD_ARGUMENT,
                            "all %.1f MiB of the device are the store's already: make the device "
                            "larger first; one of a fixed size, such as csd: and mem:, is left for "
                            "a larger one by dump, create and load",
                            in_mib(available));
    }
    *block_count = asked == 0 || is_limited ? available : asked;
    return CUBBY_OK;
}

/* Make room in memory and on the device; the store still has its old size. */
static int make_room(cubby_session *session, const struct superblock *super)
{
    cubby_store *store = session->store;
    struct block_device *device = store->device;
    if (super->extent_count > store->extents.growth_limit) {
        return session_fail(
            session, CUBBY_BAD_ARGUMENT,
            "a store of %.1f MiB does not grow to %.1f MiB while it is open: grow it in steps of "
            "16 times, and reopen it between them",
            in_mib(store->super.block_count), in_mib(super->block_count));
    }
    int status = extents_reserve_growth(&store->extents, super->extent_count);
    if (status != CUBBY_OK || device_block_count(store) >= super->block_count) {
        return status;
    }
    status = device->ops->resize(device, super->block_count);
    if (status != 0) {
        return session_fail(session, status, "making it %.1f MiB large failed: %s",
                            in_mib(super->block_count), cubby_status_text(status));
    }
    return store_flush(session); /* a superblock must not tell a size that the file then has not */
}

/* Tell the new size in the next copy of the superblock. */
static int write_size(cubby_session *session, struct superblock *super)
{
    super->generation++;
    int status = checkpoint_write_superblock(session, super);
    if (status == CUBBY_OK) {
        session->store->super = *super;
    }
    return status;
}

static int grow(cubby_session *session, uint64_t block_count)
{
    cubby_store *store = session->store;
    struct superblock super = store->super;
    superblock_grow(&super, block_count);
    int status = make_room(session, &super);
    if (status == CUBBY_OK) {
        status = write_size(session, &super);
    }
    if (status != CUBBY_OK) {
        return status;
    }
    extents_grow(&store->extents, super.extent_count);
    atomic_store(&store->split_blocked, false);
    return write_size(session, &super);
}

int cubby_resize(cubby_session *session, uint64_t size_bytes, uint64_t *logical_bytes)
{
    CUBBY_ASSERT(logical_bytes != NULL);
    int status = session_enter(session, true);
    if (status != CUBBY_OK) {
        return status;
    }
    cubby_store *store = session->store;
    status = check_size(session, size_bytes);
    if (status == CUBBY_OK) {
        uint64_t block_count = 0;
        pthread_mutex_lock(&store->checkpoint_lock);
        status = choose_block_count(session, size_bytes, &block_count);
        if (status == CUBBY_OK && block_count > store->super.block_count) {
            status = grow(session, block_count);
        }
        if (status == CUBBY_OK) {
            *logical_bytes = store->super.block_count * BLOCK_BYTES;
        }
        pthread_mutex_unlock(&store->checkpoint_lock);
        space_ask(store); /* a device that has grown has another capacity */
    }
    return session_leave(session, status);
}
