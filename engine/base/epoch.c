/* epoch.c -- see epoch.h. */
#include "engine/base/epoch.h"

#include <stddef.h>
#include <time.h>

#include "engine/base/cubby_assert.h"

void epoch_open(struct epoch *epoch)
{
    atomic_init(&epoch->global, 1);
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

void epoch_synchronize(struct epoch *epoch)
{
    /* Under the lock, so that no slot goes away meanwhile; a thread that wants to register waits.
     */
    pthread_mutex_lock(&epoch->lock);
    uint64_t before = atomic_fetch_add(&epoch->global, 1);
    const struct timespec pause = {.tv_nsec = 20000};
    for (struct epoch_slot *slot = epoch->slots; slot != NULL; slot = slot->next) {
        for (;;) {
            uint64_t entered = atomic_load(&slot->entered);
            if (entered == 0 || entered > before) {
                break;
            }
            nanosleep(&pause, NULL);
        }
    }
    pthread_mutex_unlock(&epoch->lock);
}
