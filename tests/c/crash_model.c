/* crash_model.c -- see crash_model.h. */
#include "tests/c/crash_model.h"

#include <string.h>

#include "tests/c/check.h"

enum {
    CHANGES_FIRST = 1024,
};

void crash_model_open(struct crash_model *model, uint32_t key_count)
{
    CHECK(key_count > 0);
    *model = (struct crash_model){.key_count = key_count};
    model->base = calloc(key_count, sizeof *model->base);
    model->newest = malloc(key_count * sizeof *model->newest);
    model->changes = malloc(CHANGES_FIRST * sizeof *model->changes);
    CHECK(model->base != NULL && model->newest != NULL && model->changes != NULL);
    model->change_capacity = CHANGES_FIRST;
    memset(model->newest, 0xff, key_count * sizeof *model->newest);
}

void crash_model_close(struct crash_model *model)
{
    free(model->changes);
    free(model->newest);
    free(model->base);
    *model = (struct crash_model){0};
}

void crash_model_begin(struct crash_model *model)
{
    model->position++;
}

void crash_model_add(struct crash_model *model, uint32_t key_index,
                     const struct crash_content *content)
{
    CHECK(key_index < model->key_count);
    CHECK(model->position > 0);
    if (model->change_count == model->change_capacity) {
        model->change_capacity *= 2;
        model->changes = realloc(model->changes, model->change_capacity * sizeof *model->changes);
        CHECK(model->changes != NULL);
    }
    model->changes[model->change_count] = (struct crash_change){
        .key_index = key_index,
        .older = model->newest[key_index],
        .position = model->position,
        .last_position = model->position,
        .content = *content,
    };
    model->newest[key_index] = (uint32_t)model->change_count++;
}

void crash_model_loosen(struct crash_model *model, size_t first_change)
{
    for (size_t i = first_change; i < model->change_count; i++) {
        model->changes[i].position = model->changes[first_change].position;
        model->changes[i].last_position = model->position;
    }
}

void crash_model_keep(struct crash_model *model, bool power)
{
    model->process_position = model->position;
    if (power) {
        model->power_position = model->position;
    }
}

void crash_model_doubt(struct crash_model *model, size_t first_change)
{
    for (size_t i = first_change; i < model->change_count; i++) {
        model->changes[i].is_doubtful = true;
    }
}

static bool is_there(const struct crash_model *model, const struct crash_content *content)
{
    return content->is_present && (content->expires_ms == 0 || content->expires_ms > model->now_ms);
}

/* Whether a key with this content shows itself as found. */
static bool shows_as(const struct crash_model *model, const struct crash_content *content,
                     const struct crash_content *found)
{
    if (!is_there(model, content) || !found->is_present) {
        return !is_there(model, content) && !found->is_present;
    }
    return content->size == found->size && content->hash == found->hash &&
           content->expires_ms == found->expires_ms;
}

/* Changes from this one to older ones that are not void; NULL at the base. */
static struct crash_change *skip_void(const struct crash_model *model, uint32_t index)
{
    while (index != CRASH_NO_CHANGE && model->changes[index].is_void) {
        index = model->changes[index].older;
    }
    return index == CRASH_NO_CHANGE ? NULL : &model->changes[index];
}

static struct crash_change *newest_of(const struct crash_model *model, uint32_t key_index)
{
    return skip_void(model, model->newest[key_index]);
}

static struct crash_change *older_than(const struct crash_model *model,
                                       const struct crash_change *change)
{
    return skip_void(model, change->older);
}

/* What the key has by the last change up to position that is not doubtful. */
static struct crash_content content_at(const struct crash_model *model, uint32_t key_index,
                                       uint32_t position)
{
    const struct crash_change *change = newest_of(model, key_index);
    while (change != NULL && (change->is_doubtful || change->position > position)) {
        change = older_than(model, change);
    }
    return change != NULL ? change->content : model->base[key_index];
}

struct crash_content crash_model_current(const struct crash_model *model, uint32_t key_index)
{
    CHECK(key_index < model->key_count);
    struct crash_content content = content_at(model, key_index, model->position);
    return is_there(model, &content) ? content : (struct crash_content){0};
}

bool crash_model_is_doubtful(const struct crash_model *model, uint32_t key_index)
{
    const struct crash_change *change = newest_of(model, key_index);
    return change != NULL && change->is_doubtful;
}

bool crash_model_accepts(const struct crash_model *model, uint32_t key_index,
                         const struct crash_content *found)
{
    const struct crash_change *change = newest_of(model, key_index);
    while (change != NULL) {
        if (shows_as(model, &change->content, found)) {
            return true;
        }
        if (!change->is_doubtful) {
            return false;
        }
        change = older_than(model, change);
    }
    return shows_as(model, &model->base[key_index], found);
}

/* Whether what the key may have had before a change looks as found, too. */
static bool older_shows_as(const struct crash_model *model, const struct crash_change *change,
                           const struct crash_content *found)
{
    const struct crash_change *older = change;
    do {
        older = older_than(model, older);
        if (shows_as(model, older != NULL ? &older->content : &model->base[change->key_index],
                     found)) {
            return true;
        }
    } while (older != NULL && older->is_doubtful);
    return false;
}

bool crash_model_resolve(struct crash_model *model, size_t first_change, uint32_t key_index,
                         const struct crash_content *found)
{
    if (!crash_model_accepts(model, key_index, found)) {
        return false;
    }
    struct crash_change *change = newest_of(model, key_index);
    while (change != NULL && change->is_doubtful &&
           change - model->changes >= (ptrdiff_t)first_change) {
        if (shows_as(model, &change->content, found)) {
            /* Unless what was before looks the same. */
            change->is_doubtful = older_shows_as(model, change, found);
            return true;
        }
        change->is_void = true;
        change = older_than(model, change);
    }
    return true;
}

static int64_t earlier(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Add 1 to the positions from first to last, if there are any. */
static void allow(int64_t *steps, int64_t first, int64_t last)
{
    if (first <= last) {
        steps[first]++;
        steps[last + 1]--;
    }
}

/* Add 1, and not more, to every position that found allows for one key. Going back in time, each
 * range begins and ends where the one before it does, or earlier. */
static void allow_key(const struct crash_model *model, uint32_t key_index,
                      const struct crash_content *found, int64_t *steps)
{
    int64_t last = model->position; /* at which the content looked at can still be seen */
    int64_t counted = last + 1;     /* the first position that has been counted */
    const struct crash_change *change = newest_of(model, key_index);
    for (; change != NULL; change = older_than(model, change)) {
        if (shows_as(model, &change->content, found)) {
            allow(steps, change->position, earlier(last, counted - 1));
            counted = earlier(counted, change->position);
        }
        if (!change->is_doubtful) {
            last = earlier(last, (int64_t)change->last_position - 1);
        }
    }
    if (shows_as(model, &model->base[key_index], found)) {
        allow(steps, 0, earlier(last, counted - 1));
    }
}

/* Whether found can be what position has left of a key. */
static bool fits(const struct crash_model *model, uint32_t key_index,
                 const struct crash_content *found, uint32_t position)
{
    const struct crash_change *change = newest_of(model, key_index);
    for (; change != NULL; change = older_than(model, change)) {
        if (change->position > position) {
            continue;
        }
        if (shows_as(model, &change->content, found)) {
            return true;
        }
        if (!change->is_doubtful && change->last_position <= position) {
            return false;
        }
    }
    return shows_as(model, &model->base[key_index], found);
}

enum verdict {
    UNKNOWN,
    HAPPENED,
    NOT_HAPPENED,
};

/* Whether a doubtful change has happened, as far as found tells. */
static enum verdict judge(const struct crash_model *model, const struct crash_change *doubtful,
                          const struct crash_content *found, uint32_t position)
{
    bool shows = shows_as(model, &doubtful->content, found);
    const struct crash_change *change = newest_of(model, doubtful->key_index);
    for (; change != doubtful; change = older_than(model, change)) {
        if (change->position <= position &&
            (!change->is_doubtful || shows_as(model, &change->content, found))) {
            return UNKNOWN; /* a later one hides it */
        }
    }
    if (!shows) {
        return NOT_HAPPENED;
    }
    return older_shows_as(model, doubtful, found) ? UNKNOWN : HAPPENED;
}

/* Whether no doubtful batch has happened by half. Changes of a batch stand side by side. */
static bool batches_are_whole(const struct crash_model *model, const struct crash_content *found,
                              uint32_t position, struct crash_conflict *conflict)
{
    uint32_t batch_position = 0;
    const struct crash_change *in = NULL;
    const struct crash_change *out = NULL;
    for (size_t i = 0; i < model->change_count; i++) {
        const struct crash_change *change = &model->changes[i];
        if (change->position != batch_position) {
            batch_position = change->position;
            in = NULL;
            out = NULL;
        }
        bool is_loose = change->position != change->last_position;
        if (is_loose || !change->is_doubtful || change->is_void || change->position > position) {
            continue;
        }
        enum verdict verdict = judge(model, change, &found[change->key_index], position);
        in = verdict == HAPPENED ? change : in;
        out = verdict == NOT_HAPPENED ? change : out;
        if (in != NULL && out != NULL) {
            *conflict = (struct crash_conflict){
                .position = batch_position,
                .misfits = 1,
                .key_index = in->key_index,
                .expected = in->content,
                .is_torn_batch = true,
                .other_index = out->key_index,
            };
            return false;
        }
    }
    return true;
}

static void name_conflict(const struct crash_model *model, const struct crash_content *found,
                          uint32_t position, struct crash_conflict *conflict)
{
    *conflict = (struct crash_conflict){.position = position};
    for (uint32_t i = 0; i < model->key_count; i++) {
        if (!fits(model, i, &found[i], position)) {
            if (conflict->misfits++ == 0) {
                conflict->key_index = i;
                conflict->expected = content_at(model, i, position);
            }
        }
    }
}

/* What was found is the base from now on, and there are no changes since. */
static void begin_anew(struct crash_model *model, const struct crash_content *found,
                       uint32_t position)
{
    for (uint32_t i = 0; i < model->key_count; i++) {
        struct crash_content before = content_at(model, i, position);
        bool is_same = shows_as(model, &before, &found[i]);
        /* What has expired is gone for good: the clock never goes back here. */
        model->base[i] = is_same && found[i].is_present ? before : found[i];
        model->newest[i] = CRASH_NO_CHANGE;
    }
    model->change_count = 0;
    model->position = 0;
    model->process_position = 0;
    model->power_position = 0;
}

/* Of the positions from bound to *position that all keys allow, as allowing counts them, find the
 * last one at which no doubtful batch has happened by half. If there is none *conflict is about the
 * last that they allow, and false is returned. */
static bool find_whole(const struct crash_model *model, const struct crash_content *found,
                       const int64_t *allowing, uint32_t bound, uint32_t *position,
                       struct crash_conflict *conflict)
{
    if (batches_are_whole(model, found, *position, conflict)) {
        return true;
    }
    struct crash_conflict ignored;
    for (uint32_t earlier = *position; earlier-- > bound;) {
        if (allowing[earlier] == model->key_count &&
            batches_are_whole(model, found, earlier, &ignored)) {
            *position = earlier;
            return true;
        }
    }
    return false;
}

bool crash_model_settle(struct crash_model *model, const struct crash_content *found,
                        uint32_t bound, struct crash_conflict *conflict)
{
    CHECK(bound <= model->position);
    int64_t *steps = calloc((size_t)model->position + 2, sizeof *steps);
    CHECK(steps != NULL);
    for (uint32_t i = 0; i < model->key_count; i++) {
        allow_key(model, i, &found[i], steps);
    }
    int64_t most = -1;
    uint32_t best = 0;
    int64_t most_bound = -1; /* the same of those from bound on */
    uint32_t best_bound = bound;
    for (uint32_t position = 0; position <= model->position; position++) {
        steps[position] += position > 0 ? steps[position - 1] : 0; /* now: keys that allow it */
        if (steps[position] >= most) {
            most = steps[position];
            best = position;
        }
        if (position >= bound && steps[position] >= most_bound) {
            most_bound = steps[position];
            best_bound = position;
        }
    }
    bool is_sound = most_bound == model->key_count &&
                    find_whole(model, found, steps, bound, &best_bound, conflict);
    free(steps);
    if (most_bound != model->key_count) {
        /* A whole state that is too old says more than a broken one. */
        name_conflict(model, found, most == model->key_count ? best : best_bound, conflict);
        return false;
    }
    if (!is_sound) {
        return false;
    }
    begin_anew(model, found, best_bound);
    *conflict = (struct crash_conflict){.position = best_bound};
    return true;
}
