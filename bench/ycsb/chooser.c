/* chooser.c -- see chooser.h. */
#include "bench/ycsb/chooser.h"

#include "bench/ycsb/records.h"
#include "engine/base/cubby_assert.h"

/* YCSB's ScrambledZipfianGenerator. */
static const double ycsb_theta = 0.99;
static const uint64_t ycsb_items = UINT64_C(10000000001); /* 0 to 10^10 */
static const double ycsb_zeta = 26.46902820178302;        /* of 10^10 items */

void inserts_init(struct inserts *inserts, uint64_t there_count)
{
    *inserts = (struct inserts){.next = there_count, .there_count = there_count};
    pthread_mutex_init(&inserts->lock, NULL);
}

uint64_t inserts_take(struct inserts *inserts)
{
    return atomic_fetch_add(&inserts->next, 1);
}

void inserts_done(struct inserts *inserts, uint64_t number)
{
    uint64_t there_count = atomic_load(&inserts->there_count);
    CUBBY_ASSERT(number >= there_count && number - there_count < INSERTS_WINDOW);
    atomic_store(&inserts->done[number % INSERTS_WINDOW], true);
    pthread_mutex_lock(&inserts->lock);
    there_count = atomic_load(&inserts->there_count);
    while (atomic_load(&inserts->done[there_count % INSERTS_WINDOW])) {
        atomic_store(&inserts->done[there_count % INSERTS_WINDOW], false);
        atomic_store(&inserts->there_count, ++there_count);
    }
    pthread_mutex_unlock(&inserts->lock);
}

void chooser_init(struct chooser *chooser, const struct spec *spec)
{
    *chooser = (struct chooser){.distribution = spec->distribution};
    if (spec->distribution == DISTRIBUTION_ZIPFIAN) {
        /* Room for twice the inserts that are to be expected, so that the popular records stay the
         * same while there are more and more. */
        double new_count = (double)spec->operation_count * spec->proportions[OPERATION_INSERT] * 2;
        chooser->item_count = spec->record_count + (uint64_t)new_count;
        chooser->zipf = zipf_with(ycsb_items, ycsb_theta, ycsb_zeta);
    } else if (spec->distribution == DISTRIBUTION_LATEST) {
        chooser->zipf = zipf_init(spec->record_count, ycsb_theta);
    }
}

/* By age, among those that are there by now. */
static uint64_t next_latest(struct chooser *chooser, uint64_t there_count)
{
    struct zipf *zipf = &chooser->zipf;
    if (there_count > zipf->count) {
        double zeta = zipf_zeta(zipf->count, zipf->zeta, there_count, zipf->theta);
        *zipf = zipf_with(there_count, zipf->theta, zeta);
    }
    return there_count - 1 - zipf_next_item(zipf, &chooser->random);
}

uint64_t chooser_next(struct chooser *chooser, const struct inserts *inserts)
{
    uint64_t there_count = atomic_load_explicit(&inserts->there_count, memory_order_acquire);
    switch (chooser->distribution) {
    case DISTRIBUTION_UNIFORM:
        return pairs_next_below(&chooser->random, there_count);
    case DISTRIBUTION_LATEST:
        return next_latest(chooser, there_count);
    default:
        for (;;) {
            uint64_t item = zipf_next_item(&chooser->zipf, &chooser->random);
            uint64_t number = records_fnv(item) % chooser->item_count;
            if (number < there_count) {
                return number;
            }
        }
    }
}
