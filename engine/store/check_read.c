/* check_read.c -- see check_read.h. */
#include "engine/store/check_read.h"

void check_read_begin(cubby_session *session, struct check_read *read, uint64_t lba,
                      uint32_t block_count, uint8_t *buffer)
{
    *read = (struct check_read){
        .request = {
            .operation = BLOCK_READ, .block_count = block_count, .lba = lba, .buffer = buffer}};
    if (session->io->ops->submit(session->io, &read->request) != 0) {
        read->request.result = session->io->ops->read(session->io, lba, block_count, buffer);
        read->is_done = true;
    }
}

void check_read_start(cubby_session *session)
{
    (void)session->io->ops->poll(session->io, NULL, 0);
}

int check_read_wait(cubby_session *session, struct check_read *read)
{
    struct block_request *done[PAGE_IO_DEPTH];
    while (!read->is_done) {
        size_t count = session->io->ops->reap(session->io, done, PAGE_IO_DEPTH);
        for (size_t i = 0; i < count; i++) {
            ((struct check_read *)(void *)done[i])->is_done = true;
        }
    }
    return read->request.result;
}
