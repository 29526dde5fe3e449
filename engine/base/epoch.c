/* epoch.c -- see epoch.h. */
#include "engine/base/epoch.h"

#include <linux/membarrier.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"

void epoch_open(struct epoch *epoch)
{
    atomic_init(&epoch->global, 1);
    epoch->is_fenced =
        syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) != 0;
    int status = pthread_mutex_init(&epoch->lock, NULL);
    CUBBY_ASSERT(status == 0);
    epoch->slots = NULL;
}

void epoch_close(struct epoch *epoch)
{
    CUBBY_ASSERT(epoch->slots == NULL);
    pthread_mutex_destroy(&epoch->lock);
}

void epoch_register(struct epoch *epoch, struct epoch_slot *slot)
{
    atomic_init(&slot->entered, 0);
    pthread_mutex_lock(&epoch->lock);
    slot->next = epoch->slots;
    epoch->slots = slot;
    pthread_mutex_unlock(&epoch->lock);
}

void epoch_unregister(struct epoch *epoch, struct epoch_slot *slot)
{
    CUBBY_ASSERT(atomic_load(&slot->entered) == 0);
    pthread_mutex_lock(&epoch->lock);
    struct epoch_slot **place = &epoch->slots;
    while (*place != slot) {
        CUBBY_ASSERT(*place != NULL);
        place = &(*place)->next;
    }
    *place = slot->next;
    pthread_mutex_unlock(&epoch->lock);
}

uint64_t epoch_advance(struct epoch *epoch)
{
    return atomic_fetch_add(&epoch->global, 1);
}

bool epoch_fence_readers(const struct epoch *epoch)
{
    atomic_thread_fence(memory_order_seq_cst);
    return epoch->is_fenced || syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
}

bool epoch_has_passed(struct epoch *epoch, uint64_t advanced)
{
    bool passed = true;
    pthread_mutex_lock(&epoch->lock);
    for (struct epoch_slot *slot = epoch->slots; slot != NULL && passed; slot = slot->next) {
        uint64_t entered = atomic_load(&slot->entered);
        passed = entered == 0 || entered > advanced;
    }
    pthread_mutex_unlock(&epoch->lock);
    return passed;
}

void epoch_wait(struct epoch *epoch, uint64_t advanced)
{
    const struct timespec pause = {.tv_nsec = 20000};
    while (!epoch_has_passed(epoch, advanced)) {
        nanosleep(&pause, NULL);
    }
}
