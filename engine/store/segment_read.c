/* segment_read.c -- see segment_read.h. */
#include "engine/store/segment_read.h"

int segment_read(cubby_session *session, struct segment_view view, struct aligned_buffer *image,
                 struct segment_pairs *pairs)
{
    const cubby_store *store = session->store;
    uint32_t block_count = segment_block_count(view.place.home_count);
    uint64_t lba = segment_lba(store, view.place);
    int status = aligned_buffer_reserve(image, (size_t)block_count * BLOCK_BYTES);
    if (status != CUBBY_OK) {
        return status;
    }
    status = session->io->ops->read(session->io, lba, block_count, image->data);
    if (status != 0) {
        return session_fail(session, status, "reading segment %llu at LBA %llu failed: %s",
                            (unsigned long long)view.number, (unsigned long long)lba,
                            cubby_status_text(status));
    }
    struct segment_damage damage;
    status = segment_check_blocks(store, image->data, view, lba, &damage);
    if (status == CUBBY_OK) {
        status = segment_collect(store, image->data, view, pairs, &damage);
    }
    if (status == CUBBY_CORRUPT) {
        session_fail(session, status, "block %u of segment %llu at LBA %llu is damaged: %s",
                     damage.block_index, (unsigned long long)view.number,
                     (unsigned long long)(lba + damage.block_index), damage.reason);
    }
    return status;
}
