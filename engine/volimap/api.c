/* api.c -- VoliMap as cubby.h has it: arguments checked, words for failures, and the choice between
 * the two kinds of map.
 *
 * Depends on: api.h, walk.h.   Used by: programs.
 */
#include "engine/volimap/api.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/cubby_assert.h"
#include "engine/volimap/walk.h"

typedef unsigned long long ull; /* what printf takes */

enum {
    CLEAR_PAIRS = 256, /* that are removed at a time */
};

/* Opening ----------------------------------------------------------------------------------------
 */

__attribute__((format(printf, 4, 5))) static int say(int status, char *message, size_t message_size,
                                                     const char *format, ...)
{
    if (message != NULL && message_size > 0) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(message, message_size, format, arguments);
        va_end(arguments);
    }
    return status;
}

static int check_options(const struct cubby_volimap_options *options, char *message, size_t size)
{
    if (options->high < options->low) {
        return say(CUBBY_BAD_ARGUMENT, message, size, "high, %llu, is below low, %llu",
                   (ull)options->high, (ull)options->low);
    }
    bool is_bounded = options->low != 0 || options->high != 0;
    if (is_bounded && options->window != 0) {
        return say(CUBBY_BAD_ARGUMENT, message, size,
                   "low and high say what keys there are, and window does: give one of them");
    }
    if (is_bounded && options->high - options->low >= ARRAY_PLACES_MAX) {
        return say(CUBBY_BAD_ARGUMENT, message, size,
                   "from low, %llu, to high, %llu, there are more than 2^40 keys: leave both 0",
                   (ull)options->low, (ull)options->high);
    }
    if (options->window != 0 &&
        (options->window < ARRAY_WINDOW_MIN || options->window > ARRAY_PLACES_MAX)) {
        return say(CUBBY_BAD_ARGUMENT, message, size, "window is %llu, and must be 256 to 2^40",
                   (ull)options->window);
    }
    return CUBBY_OK;
}

/* Make the array that is wanted. Where the system, or the processor, does not allow it the map is
 * an ordinary one. */
static int open_array(cubby_volimap *map, const struct cubby_volimap_options *options)
{
    struct array *array = malloc(sizeof *array);
    if (array == NULL) {
        return ENOMEM;
    }
    if (array_open(array, map->low, map->high, options->window) != CUBBY_OK) {
        array_close(array);
        free(array);
        return CUBBY_OK;
    }
    map->array = array;
    return CUBBY_OK;
}

int cubby_volimap_open(const struct cubby_volimap_options *options, cubby_volimap **opened,
                       char *message, size_t message_size)
{
    CUBBY_ASSERT(opened != NULL);
    const struct cubby_volimap_options defaults = {0};
    options = options != NULL ? options : &defaults;
    int status = check_options(options, message, message_size);
    if (status != CUBBY_OK) {
        return status;
    }
    cubby_volimap *map = aligned_alloc(64, (sizeof *map + 63) / 64 * 64);
    if (map == NULL) {
        return say(ENOMEM, message, message_size, "no memory for a map");
    }
    bool is_bounded = options->low != 0 || options->high != 0;
    *map = (struct cubby_volimap){
        .low = options->low,
        .high = is_bounded ? options->high : UINT64_MAX,
    };
    status = volimap_open(&map->map);
    if (status != CUBBY_OK) {
        free(map);
        return say(status, message, message_size, "no map can be made");
    }
    if (is_bounded || options->window != 0) {
        status = open_array(map, options);
    }
    if (status != CUBBY_OK) {
        cubby_volimap_close(map);
        return say(status, message, message_size, "no memory for a map");
    }
    *opened = map;
    return CUBBY_OK;
}

void cubby_volimap_close(cubby_volimap *map)
{
    if (map == NULL) {
        return;
    }
    if (map->array != NULL) {
        array_close(map->array);
        free(map->array);
    }
    volimap_close(&map->map);
    free(map);
}

int cubby_volimap_session_open(cubby_volimap *map, cubby_volimap_session **opened)
{
    CUBBY_ASSERT(map != NULL && opened != NULL);
    cubby_volimap_session *session = calloc(1, sizeof *session);
    if (session == NULL) {
        return ENOMEM;
    }
    session->owner = map;
    session->array = map->array;
    volimap_session_open(&map->map, &session->inner);
    *opened = session;
    return CUBBY_OK;
}

void cubby_volimap_session_close(cubby_volimap_session *session)
{
    if (session == NULL) {
        return;
    }
    volimap_session_close(&session->inner);
    free(session->message);
    free(session);
}

/* Words ------------------------------------------------------------------------------------------
 */

const char *cubby_volimap_session_message(const cubby_volimap_session *session)
{
    return session->message != NULL ? session->message : "";
}

int volimap_explain(cubby_volimap_session *session, int status, const char *format, ...)
{
    if (session->message == NULL) {
        session->message = malloc(CUBBY_MESSAGE_BYTES);
    }
    if (session->message != NULL) {
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(session->message, CUBBY_MESSAGE_BYTES, format, arguments);
        va_end(arguments);
    }
    return status;
}

/* Say why a call for a key failed, if it did. */
static int explain_key(cubby_volimap_session *session, uint64_t key, int status)
{
    const cubby_volimap *map = session->owner;
    switch (status) {
    case CUBBY_OK:
        return status;
    case CUBBY_NOT_FOUND:
        return volimap_explain(session, status, "there is no key %llu", (ull)key);
    case CUBBY_EXISTS:
        return volimap_explain(session, status, "there is a key %llu", (ull)key);
    case CUBBY_DIFFERS:
        return volimap_explain(session, status, "the value of %llu is another", (ull)key);
    case CUBBY_BAD_ARGUMENT:
        return volimap_explain(session, status,
                               "the key %llu is not in the range of the map, %llu to %llu",
                               (ull)key, (ull)map->low, (ull)map->high);
    case CUBBY_FULL:
        return volimap_explain(session, status,
                               "the key %llu has the place of another one in the window of %llu "
                               "keys: remove that, or make the window larger",
                               (ull)key, (ull)map->array->window);
    default:
        return volimap_explain(session, status, "no memory for the pair of %llu", (ull)key);
    }
}

/* Single pairs -----------------------------------------------------------------------------------
 */

static bool has_key(const cubby_volimap *map, uint64_t key)
{
    return key >= map->low && key <= map->high;
}

int cubby_volimap_get(cubby_volimap_session *session, uint64_t key, uint64_t *value)
{
    if (session->array != NULL) {
        return array_get(session->array, key, value);
    }
    return session->inner.gets->get(&session->inner, key, value);
}

/* Do what write says in an ordinary map. Returns a status. */
static int write_page(cubby_volimap_session *session, uint64_t key, struct page_write *write)
{
    static const int statuses[] = {
        [PAGE_DONE] = CUBBY_OK,          [PAGE_ADDED] = CUBBY_OK,
        [PAGE_EXISTS] = CUBBY_EXISTS,    [PAGE_DIFFERS] = CUBBY_DIFFERS,
        [PAGE_ABSENT] = CUBBY_NOT_FOUND,
    };
    enum page_result result;
    int status = volimap_write(&session->inner, key, write, &result);
    return status != CUBBY_OK ? status : statuses[result];
}

static int put(cubby_volimap_session *session, uint64_t key, uint64_t value, bool if_absent,
               uint64_t *existing)
{
    struct array *array = session->array;
    if (!has_key(session->owner, key)) {
        return CUBBY_BAD_ARGUMENT;
    }
    if (array == NULL) {
        struct page_write write = {
            .how = if_absent ? PAGE_PUT_IF_ABSENT : PAGE_PUT,
            .value = value,
        };
        int status = write_page(session, key, &write);
        if (status == CUBBY_EXISTS && existing != NULL) {
            *existing = write.old;
        }
        return status;
    }
    bool was_there;
    int status = array_put(array, key, value, if_absent ? ARRAY_PUT_IF_ABSENT : ARRAY_PUT_ALWAYS,
                           &was_there, existing);
    if (status == CUBBY_OK && !was_there) {
        volimap_count_pairs(&session->inner, 1);
    }
    return status;
}

int cubby_volimap_put(cubby_volimap_session *session, uint64_t key, uint64_t value)
{
    CUBBY_ASSERT(session != NULL);
    return explain_key(session, key, put(session, key, value, false, NULL));
}

int cubby_volimap_put_if_absent(cubby_volimap_session *session, uint64_t key, uint64_t value,
                                uint64_t *existing)
{
    CUBBY_ASSERT(session != NULL);
    return explain_key(session, key, put(session, key, value, true, existing));
}

int cubby_volimap_compare_and_swap(cubby_volimap_session *session, uint64_t key, uint64_t expected,
                                   uint64_t value, uint64_t *existing)
{
    CUBBY_ASSERT(session != NULL);
    struct array *array = session->array;
    if (array != NULL) {
        return explain_key(session, key,
                           array_compare_and_swap(array, key, expected, value, existing));
    }
    struct page_write write = {.how = PAGE_SWAP, .expected = expected, .value = value};
    int status = write_page(session, key, &write);
    if (status == CUBBY_DIFFERS && existing != NULL) {
        *existing = write.old;
    }
    return explain_key(session, key, status);
}

/* expected: NULL, or the value that it must have. */
static int remove_pair(cubby_volimap_session *session, uint64_t key, const uint64_t *expected,
                       uint64_t *value)
{
    struct array *array = session->array;
    if (array != NULL) {
        int status = array_remove(array, key, expected, value);
        volimap_count_pairs(&session->inner, status == CUBBY_OK ? -1 : 0);
        return status;
    }
    struct page_write write = {
        .how = expected != NULL ? PAGE_REMOVE_IF : PAGE_REMOVE,
        .expected = expected != NULL ? *expected : 0,
    };
    int status = write_page(session, key, &write);
    if (status == CUBBY_OK && value != NULL) {
        *value = write.old;
    }
    return status;
}

int cubby_volimap_remove(cubby_volimap_session *session, uint64_t key, uint64_t *value)
{
    CUBBY_ASSERT(session != NULL);
    return explain_key(session, key, remove_pair(session, key, NULL, value));
}

int cubby_volimap_remove_if(cubby_volimap_session *session, uint64_t key, uint64_t expected)
{
    CUBBY_ASSERT(session != NULL);
    return explain_key(session, key, remove_pair(session, key, &expected, NULL));
}

/* In order ---------------------------------------------------------------------------------------
 */

int cubby_volimap_floor(cubby_volimap_session *session, uint64_t key, uint64_t *found,
                        uint64_t *value)
{
    CUBBY_ASSERT(session != NULL && found != NULL && value != NULL);
    if (session->array != NULL) {
        return array_floor(session->array, key, found, value);
    }
    struct volimap_pair pair;
    if (!walk_floor(&session->inner, key, &pair)) {
        return CUBBY_NOT_FOUND;
    }
    *found = pair.key;
    *value = pair.value;
    return CUBBY_OK;
}

int cubby_volimap_ceiling(cubby_volimap_session *session, uint64_t key, uint64_t *found,
                          uint64_t *value)
{
    CUBBY_ASSERT(session != NULL && found != NULL && value != NULL);
    if (session->array != NULL) {
        return array_ceiling(session->array, key, found, value);
    }
    struct volimap_pair pair;
    if (!walk_ceiling(&session->inner, key, &pair)) {
        return CUBBY_NOT_FOUND;
    }
    *found = pair.key;
    *value = pair.value;
    return CUBBY_OK;
}

int cubby_volimap_range(cubby_volimap_session *session, uint64_t first, uint64_t last,
                        uint32_t descending, size_t limit, uint64_t *keys, uint64_t *values,
                        size_t *count)
{
    CUBBY_ASSERT(session != NULL && count != NULL);
    if (session->array != NULL) {
        *count = array_range(session->array, first, last, descending != 0, limit, keys, values);
    } else {
        *count = walk_range(&session->inner, first, last, descending != 0, limit, keys, values);
    }
    return CUBBY_OK;
}

/* Many -------------------------------------------------------------------------------------------
 */

int cubby_volimap_put_many(cubby_volimap_session *session, size_t count, const uint64_t *keys,
                           const uint64_t *values, size_t *put_count)
{
    CUBBY_ASSERT(session != NULL);
    int status = CUBBY_OK;
    size_t done = 0;
    while (done < count && status == CUBBY_OK) {
        size_t left = count - done;
        if (done % VOLIMAP_MANY == 0 && left > 1 && session->array == NULL) {
            unsigned some = left < VOLIMAP_MANY ? (unsigned)left : (unsigned)VOLIMAP_MANY;
            session->inner.gets->approach(&session->inner, some, keys + done);
        }
        status =
            explain_key(session, keys[done], put(session, keys[done], values[done], false, NULL));
        done += status == CUBBY_OK;
    }
    if (put_count != NULL) {
        *put_count = done;
    }
    return status;
}

int cubby_volimap_get_many(cubby_volimap_session *session, size_t count, const uint64_t *keys,
                           uint64_t *values, uint8_t *founds)
{
    CUBBY_ASSERT(session != NULL);
    const struct array *array = session->array;
    for (size_t i = 0; i < count && array != NULL; i++) {
        founds[i] = array_get(array, keys[i], &values[i]) == CUBBY_OK;
    }
    for (size_t i = 0; i < count && array == NULL; i += VOLIMAP_MANY) {
        size_t some = count - i < VOLIMAP_MANY ? count - i : (size_t)VOLIMAP_MANY;
        session->inner.gets->get_many(&session->inner, (unsigned)some, keys + i, values + i,
                                      founds + i);
    }
    return CUBBY_OK;
}

int cubby_volimap_clear(cubby_volimap_session *session)
{
    CUBBY_ASSERT(session != NULL);
    uint64_t first = 0;
    for (;;) {
        uint64_t keys[CLEAR_PAIRS];
        uint64_t values[CLEAR_PAIRS];
        size_t count;
        cubby_volimap_range(session, first, UINT64_MAX, 0, CLEAR_PAIRS, keys, values, &count);
        for (size_t i = 0; i < count; i++) {
            int status = remove_pair(session, keys[i], NULL, NULL);
            if (status != CUBBY_OK && status != CUBBY_NOT_FOUND) {
                return explain_key(session, keys[i], status);
            }
        }
        if (count < CLEAR_PAIRS || keys[count - 1] == UINT64_MAX) {
            return CUBBY_OK;
        }
        first = keys[count - 1] + 1;
    }
}

/* Figures ----------------------------------------------------------------------------------------
 */

uint64_t cubby_volimap_count(cubby_volimap *map)
{
    return volimap_count(&map->map);
}

void cubby_volimap_stat(cubby_volimap *map, struct cubby_volimap_stat *stat)
{
    struct volimap_counters sum;
    struct volimap_memory memory;
    volimap_sum(&map->map, &sum);
    volimap_memory(&map->map, &memory);
    *stat = (struct cubby_volimap_stat){
        .pairs = volimap_gauge(&sum.pairs),
        .memory_bytes =
            sizeof *map + memory.session_count * sizeof(cubby_volimap_session) + memory.taken_bytes,
        .page_bytes = volimap_gauge(&sum.page_bytes),
        .directory_bytes = volimap_gauge(&sum.directory_bytes),
        .retired_bytes = counter_read(&sum.retired_bytes),
        .spare_bytes = memory.taken_bytes - memory.used_bytes,
        .pages = volimap_gauge(&sum.pages),
        .directory_nodes = volimap_gauge(&sum.directories),
        .is_array = map->array != NULL,
        .page_splits = counter_read(&sum.page_splits),
        .page_merges = counter_read(&sum.page_merges),
        .page_copies = counter_read(&sum.page_copies),
        .directory_copies = counter_read(&sum.directory_copies),
        .page_copies_max = counter_read(&sum.page_copies_max),
        .directory_copies_max = counter_read(&sum.directory_copies_max),
    };
    if (map->array != NULL) {
        struct array_usage usage;
        array_usage(map->array, &usage);
        stat->pages = usage.page_count;
        stat->page_bytes = usage.place_bytes;
        stat->directory_bytes = usage.state_bytes + usage.table_bytes;
        stat->memory_bytes += stat->page_bytes + stat->directory_bytes;
    }
}
