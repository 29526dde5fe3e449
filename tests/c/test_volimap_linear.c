/* test_volimap_linear.c -- that calls of VoliMap are as if each took place at one moment while it
 * lasted: some threads make a few calls for one key or two, while the pages that have them are
 * replaced, and what they were answered is searched for an order that explains it.
 *
 * The search is that of J. Wing & C. Gong, Testing and Verifying Concurrent Objects, 1993: an order
 * is made from the front, of calls that no other one ended before; which calls are in it already,
 * and what they have left, is where the search goes on. As keys have nothing to do with each other,
 * each is searched by itself (M. Herlihy & J. Wing, Linearizability, 1990: it is local).
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <time.h>

#include "tests/c/volimap_structure.h"

enum {
#ifdef CUBBY_SANITIZED
    ROUNDS = 1500,
#else
    ROUNDS = 15000,
#endif
    THREADS = 3,
    KEYS = 2,
    CALLS_MAX = 4,                         /* of a thread in a round */
    HISTORY_MAX = THREADS * CALLS_MAX + 1, /* calls for one key, and one look at the end */
    VALUES = 4,                            /* 0 to 3 */
    NONE = VALUES,                         /* the state of a key without a pair */
    STATES = VALUES + 1,
    NEIGHBOURS_MAX = 260,
    AWAKE_LOOKS = 1000000,
    SECONDS_MAX = 6, /* where processors are busy, it takes long to begin at the same moment */
};

/* Histories -------------------------------------------------------------------------------------
 */

enum call_kind {
    CALL_PUT,
    CALL_PUT_IF_ABSENT,
    CALL_GET,
    CALL_REMOVE,
    CALL_SWAP,
    CALL_REMOVE_IF,
    CALLS
};

struct call {
    enum call_kind kind;
    unsigned key;
    uint64_t expected;
    uint64_t value;
    int status;   /* what it returned, */
    uint64_t old; /* and the value it told; NONE: none */
    uint64_t begin;
    uint64_t end;
};

struct history {
    struct call calls[HISTORY_MAX];
    unsigned count;
};

/* What a call must return where the key has this state, and what it leaves. */
struct answer {
    int status;
    uint64_t old;
    uint64_t state;
};

static struct answer answer_of(const struct call *call, uint64_t state)
{
    bool has = state != NONE;
    struct answer answer = {
        .status = has ? CUBBY_OK : CUBBY_NOT_FOUND, .old = NONE, .state = state};
    switch (call->kind) {
    case CALL_PUT:
        answer.status = CUBBY_OK;
        answer.state = call->value;
        break;
    case CALL_PUT_IF_ABSENT:
        answer.status = has ? CUBBY_EXISTS : CUBBY_OK;
        answer.old = state;
        answer.state = has ? state : call->value;
        break;
    case CALL_GET:
        answer.old = state;
        break;
    case CALL_REMOVE:
        answer.old = state;
        answer.state = NONE;
        break;
    default: /* on condition */
        if (has && state != call->expected) {
            answer.status = CUBBY_DIFFERS;
            answer.old = call->kind == CALL_SWAP ? state : NONE;
        } else if (has) {
            answer.state = call->kind == CALL_SWAP ? call->value : NONE;
        }
    }
    return answer;
}

/* Whether there is an order of the calls, which are for one key, that explains them. */
static bool is_linear(const struct history *history, uint64_t first_state)
{
    static _Thread_local uint8_t met[STATES << HISTORY_MAX];
    static _Thread_local uint32_t list[STATES << HISTORY_MAX];
    const uint32_t all = (UINT32_C(1) << history->count) - 1;
    size_t count = 0;
    memset(met, 0, (size_t)STATES << history->count);
    list[count++] = (uint32_t)first_state; /* done * STATES + state */
    while (count > 0) {
        uint32_t place = list[--count];
        uint32_t done = place / STATES;
        if (done == all) {
            return true;
        }
        uint64_t first_end =
            UINT64_MAX; /* of those that are not done: what begins later is later */
        for (unsigned i = 0; i < history->count; i++) {
            uint64_t end = history->calls[i].end;
            first_end = (done >> i & 1) == 0 && end < first_end ? end : first_end;
        }
        for (unsigned i = 0; i < history->count; i++) {
            const struct call *call = &history->calls[i];
            if ((done >> i & 1) != 0 || call->begin > first_end) {
                continue;
            }
            struct answer answer = answer_of(call, place % STATES);
            if (answer.status != call->status || answer.old != call->old) {
                continue;
            }
            uint32_t next = (done | UINT32_C(1) << i) * STATES + (uint32_t)answer.state;
            if (met[next] == 0) {
                met[next] = 1;
                list[count++] = next;
            }
        }
    }
    return false;
}

static void print_history(const struct history *history, uint64_t first_state)
{
    static const char *const names[CALLS] = {"put",    "put_if_absent",    "get",
                                             "remove", "compare_and_swap", "remove_if"};
    fprintf(stderr, "state at first %llu (%d: none)\n", (unsigned long long)first_state, NONE);
    for (unsigned i = 0; i < history->count; i++) {
        const struct call *call = &history->calls[i];
        fprintf(stderr, "%3llu to %3llu: %s expected %llu value %llu -> %d, %llu\n",
                (unsigned long long)call->begin, (unsigned long long)call->end, names[call->kind],
                (unsigned long long)call->expected, (unsigned long long)call->value, call->status,
                (unsigned long long)call->old);
    }
}

/* Histories that are made up ---------------------------------------------------------------------
 */

static bool is_made_up_linear(const struct call *calls, unsigned count)
{
    struct history history = {.count = count};
    memcpy(history.calls, calls, count * sizeof *calls);
    return is_linear(&history, NONE);
}

static void test_a_history_that_cannot_be_is_found_out(void)
{
    struct call stale[] = {
        {.kind = CALL_PUT, .value = 1, .old = NONE, .begin = 0, .end = 1},
        {.kind = CALL_GET, .status = CUBBY_NOT_FOUND, .old = NONE, .begin = 2, .end = 3},
    };
    CHECK(!is_made_up_linear(stale, 2));
    stale[1].begin = 0; /* while it was put: that can be */
    CHECK(is_made_up_linear(stale, 2));

    struct call twice[] = {
        {.kind = CALL_PUT_IF_ABSENT, .value = 1, .old = NONE, .begin = 0, .end = 9},
        {.kind = CALL_PUT_IF_ABSENT, .value = 2, .old = NONE, .begin = 0, .end = 9},
        {.kind = CALL_REMOVE, .old = 1, .begin = 0, .end = 9},
    };
    CHECK(!is_made_up_linear(twice, 2));
    CHECK(is_made_up_linear(twice, 3)); /* there was a removal in between */

    const struct call lost[] = {
        {.kind = CALL_PUT, .value = 0, .old = NONE, .begin = 0, .end = 1},
        {.kind = CALL_SWAP, .expected = 0, .value = 1, .old = NONE, .begin = 2, .end = 9},
        {.kind = CALL_SWAP, .expected = 0, .value = 2, .old = NONE, .begin = 2, .end = 9},
    };
    CHECK(!is_made_up_linear(lost, 3));

    const struct call back[] = {
        {.kind = CALL_PUT, .value = 0, .old = NONE, .begin = 0, .end = 1},
        {.kind = CALL_PUT, .value = 1, .old = NONE, .begin = 2, .end = 9},
        {.kind = CALL_GET, .old = 1, .begin = 3, .end = 4},
        {.kind = CALL_GET, .old = 0, .begin = 5, .end = 6},
    };
    CHECK(!is_made_up_linear(back, 4));
    CHECK(is_made_up_linear(back, 3));

    const struct call removed[] = {
        {.kind = CALL_PUT, .value = 3, .old = NONE, .begin = 0, .end = 1},
        {.kind = CALL_REMOVE_IF, .expected = 3, .old = NONE, .begin = 2, .end = 9},
        {.kind = CALL_REMOVE, .old = 3, .begin = 2, .end = 9},
    };
    CHECK(!is_made_up_linear(removed, 3));
}

/* Rounds ----------------------------------------------------------------------------------------
 *
 * A round has keys of its own, among neighbours that leave their page little room, or that are so
 * few that it is merged when some more go.
 */
struct round {
    uint64_t base;
    uint64_t step; /* between neighbours */
    unsigned neighbours;
    bool grows;
    bool is_last;
    unsigned players; /* the others have a rest: there may be fewer processors */
    unsigned ready;   /* what game.ready will be when all can begin */
    uint64_t keys[KEYS];
    uint64_t first_states[KEYS];
};

struct player;

struct game {
    struct volimap_opened it;
    struct round round;
    struct player *players;
    pthread_barrier_t barrier; /* before a round, and after it */
    atomic_uint ready;         /* players of all rounds */
    _Atomic uint64_t clock;
};

struct player {
    struct game *game;
    unsigned self;
    struct call calls[CALLS_MAX];
    unsigned count;
};

static void make_call(struct game *game, cubby_volimap_session *session, struct call *call)
{
    uint64_t key = game->round.keys[call->key];
    uint64_t old = NONE;
    call->begin = atomic_fetch_add(&game->clock, 1);
    switch (call->kind) {
    case CALL_PUT:
        call->status = cubby_volimap_put(session, key, call->value);
        break;
    case CALL_PUT_IF_ABSENT:
        call->status = cubby_volimap_put_if_absent(session, key, call->value, &old);
        break;
    case CALL_GET:
        call->status = cubby_volimap_get(session, key, &old);
        break;
    case CALL_REMOVE:
        call->status = cubby_volimap_remove(session, key, &old);
        break;
    case CALL_SWAP:
        call->status =
            cubby_volimap_compare_and_swap(session, key, call->expected, call->value, &old);
        break;
    default:
        call->status = cubby_volimap_remove_if(session, key, call->expected);
    }
    call->end = atomic_fetch_add(&game->clock, 1);
    call->old = old;
}

/* Put or remove one of the neighbours that a player has. */
static void move_neighbour(const struct round *round, cubby_volimap_session *session, unsigned self,
                           uint64_t drawn)
{
    uint64_t number = drawn % NEIGHBOURS_MAX / THREADS * THREADS + self;
    uint64_t key = round->base + (number + 1) * round->step;
    if (round->grows) {
        CHECK_EQUAL(cubby_volimap_put(session, key, number), CUBBY_OK);
    } else {
        int status = cubby_volimap_remove(session, key, NULL);
        CHECK(status == CUBBY_OK || status == CUBBY_NOT_FOUND);
    }
}

/* Begin at about the same moment as the others. ready: how many there will be. */
static void begin_together(struct game *game, unsigned ready)
{
    atomic_fetch_add(&game->ready, 1);
    for (unsigned i = 0; atomic_load(&game->ready) < ready; i++) {
        if (i > AWAKE_LOOKS) {
            sched_yield();
        }
    }
}

static void play_round(struct player *player, cubby_volimap_session *session, uint64_t *random)
{
    struct game *game = player->game;
    const struct round *round = &game->round;
    player->count = 1 + (unsigned)(next_random(random) % CALLS_MAX);
    begin_together(game, round->ready);
    for (unsigned i = 0; i < player->count; i++) {
        uint64_t drawn = next_random(random);
        for (unsigned j = 0; j < (drawn & 3); j++) {
            move_neighbour(round, session, player->self, next_random(random));
        }
        player->calls[i] = (struct call){
            .kind = (enum call_kind)((drawn >> 8) % CALLS),
            .key = (drawn >> 16 & 3) == 0,
            .expected = drawn >> 24 & (VALUES - 1),
            .value = drawn >> 32 & (VALUES - 1),
        };
        make_call(game, session, &player->calls[i]);
    }
}

/* All players but the first one, which is the main thread. */
static void *play(void *state)
{
    struct player *player = state;
    struct game *game = player->game;
    cubby_volimap_session *session = volimap_session(game->it.map);
    uint64_t random = player->self;
    for (;;) {
        pthread_barrier_wait(&game->barrier);
        if (game->round.is_last) {
            break;
        }
        player->count = 0;
        if (player->self < game->round.players) {
            play_round(player, session, &random);
        }
        pthread_barrier_wait(&game->barrier);
    }
    cubby_volimap_session_close(session);
    return NULL;
}

static void set_round(struct game *game, uint64_t number, uint64_t *random)
{
    static const unsigned shifts[] = {0, 1, 9, 30, 52};
    struct round *round = &game->round;
    uint64_t drawn = next_random(random);
    unsigned shift = shifts[drawn % 5];
    *round = (struct round){
        .base = number % 8 << ROOT_ENTRY_BITS,
        .step = UINT64_C(1) << shift,
        .grows = (drawn >> 8 & 1) != 0,
        .players = (drawn >> 9 & 3) == 0 ? THREADS : 2,
    };
    round->ready = atomic_load(&game->ready) + round->players;
    /* A page of 16 nodes, or one that is as full as it gets. */
    uint64_t some = drawn >> 16 & 31;
    round->neighbours = (unsigned)((drawn >> 24 & 1) != 0 ? some : 200 + some);
    for (uint64_t i = 0; i < round->neighbours; i++) {
        CHECK_EQUAL(cubby_volimap_put(game->it.session, round->base + (i + 1) * round->step, i),
                    CUBBY_OK);
    }
    for (unsigned i = 0; i < KEYS; i++) {
        /* Behind the neighbours. */
        uint64_t place = NEIGHBOURS_MAX + THREADS + (drawn >> (32 + 8 * i)) % 100 * KEYS + i;
        round->keys[i] = round->base + place * round->step;
        round->first_states[i] = NONE;
        (void)cubby_volimap_remove(game->it.session, round->keys[i], NULL); /* another round's */
        if ((drawn >> (56 + i) & 1) != 0) {
            uint64_t value = drawn >> 60 & (VALUES - 1);
            round->first_states[i] = value;
            CHECK_EQUAL(cubby_volimap_put(game->it.session, round->keys[i], value), CUBBY_OK);
        }
    }
}

/* Returns whether calls for one key were made at the same time. */
static bool check_round(struct game *game)
{
    bool overlaps = false;
    for (unsigned key = 0; key < KEYS; key++) {
        struct history history = {0};
        for (unsigned i = 0; i < THREADS; i++) {
            const struct player *player = &game->players[i];
            for (unsigned j = 0; j < player->count; j++) {
                if (player->calls[j].key == key) {
                    history.calls[history.count++] = player->calls[j];
                }
            }
        }
        struct call *last = &history.calls[history.count++];
        *last = (struct call){.kind = CALL_GET, .key = key};
        make_call(game, game->it.session, last);
        for (unsigned i = 0; i < history.count; i++) {
            for (unsigned j = 0; j < i; j++) {
                overlaps = overlaps || (history.calls[i].begin < history.calls[j].end &&
                                        history.calls[j].begin < history.calls[i].end);
            }
        }
        bool has_explanation = is_linear(&history, game->round.first_states[key]);
        if (!has_explanation) {
            print_history(&history, game->round.first_states[key]);
        }
        CHECK(has_explanation); /* an order that explains what calls have returned */
        /* One answer in place of another: there is none. */
        last->status = last->status == CUBBY_OK ? CUBBY_NOT_FOUND : CUBBY_OK;
        last->old = last->status == CUBBY_OK ? 0 : NONE;
        CHECK(history.count > 1 || !is_linear(&history, game->round.first_states[key]));
    }
    return overlaps;
}

static uint64_t page_copies(cubby_volimap *map)
{
    struct cubby_volimap_stat stat;
    cubby_volimap_stat(map, &stat);
    return stat.page_copies;
}

static void test_calls_are_as_if_each_took_place_at_one_moment(void)
{
    struct player players[THREADS];
    struct game game = {.it = volimap_opened(), .players = players};
    pthread_t threads[THREADS];
    uint64_t random = 1;
    unsigned overlapping = 0;
    unsigned replacing = 0;
    CHECK_EQUAL(pthread_barrier_init(&game.barrier, NULL, THREADS), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        players[i] = (struct player){.game = &game, .self = i};
    }
    for (unsigned i = 1; i < THREADS; i++) {
        CHECK_EQUAL(pthread_create(&threads[i], NULL, play, &players[i]), 0);
    }
    unsigned number = 0;
    const time_t end = time(NULL) + SECONDS_MAX;
    while (number < ROUNDS && time(NULL) < end) {
        set_round(&game, ++number, &random);
        uint64_t before = page_copies(game.it.map);
        pthread_barrier_wait(&game.barrier);
        play_round(&players[0], game.it.session, &random);
        pthread_barrier_wait(&game.barrier);
        replacing += page_copies(game.it.map) > before;
        overlapping += check_round(&game);
        if (number % 16 == 0) { /* what rounds leave is there for the next ones, too */
            CHECK_EQUAL(cubby_volimap_clear(game.it.session), CUBBY_OK);
        }
    }
    game.round.is_last = true;
    pthread_barrier_wait(&game.barrier);
    for (unsigned i = 1; i < THREADS; i++) {
        CHECK_EQUAL(pthread_join(threads[i], NULL), 0);
    }
    pthread_barrier_destroy(&game.barrier);
    printf("  %u rounds: in %u, calls for one key were made at the same time; in %u, pages were "
           "replaced\n",
           number, overlapping, replacing);
    CHECK(replacing > number / 10);
    volimap_check_structure(game.it.map, FROZEN_SOME, NULL);
    volimap_closed(game.it);
}

int main(void)
{
    RUN(test_a_history_that_cannot_be_is_found_out);
    RUN(test_calls_are_as_if_each_took_place_at_one_moment);
    return 0;
}
