/* test_region_views.c -- the cubby_region_view_* functions: bytes at addresses of their own, what
 * is refused, and what is said.
 */
#include <errno.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine/cubby.h"
#include "engine/cubby_region.h"
#include "tests/c/check.h"

enum {
    PAGE = CUBBY_BLOCK_BYTES,
    BYTES = 200 * PAGE,
    CACHE_BYTES = 64 * PAGE,
};

static char message[CUBBY_MESSAGE_BYTES];

#define SAID message, sizeof message

/* NULL: views are not possible here. */
static cubby_region *opened(uint32_t has_views)
{
    const struct cubby_region_options options = {.cache_bytes = CACHE_BYTES,
                                                 .has_views = has_views};
    cubby_region *region;
    struct cubby_region_stat stat;
    CHECK_EQUAL(cubby_region_open("mem:819200", &options, &region, SAID), CUBBY_OK);
    CHECK_EQUAL(cubby_region_stat(region, &stat), CUBBY_OK);
    if (stat.has_pointers != 0) {
        cubby_region_view *view;
        int status = cubby_region_view_open(region, 0, 1, CUBBY_REGION_WRITE, &view, SAID);
        if (status == CUBBY_OK) {
            cubby_region_view_close(view);
            return region;
        }
        CHECK_EQUAL(status, EOPNOTSUPP);
    }
    printf("  skipped: no views here: %s\n", message);
    cubby_region_abandon(region);
    return NULL;
}

static cubby_region_view *shown(cubby_region *region, uint64_t offset, uint64_t size,
                                uint32_t access)
{
    cubby_region_view *view;
    CHECK_EQUAL(cubby_region_view_open(region, offset, size, access, &view, SAID), CUBBY_OK);
    return view;
}

static void bytes_are_the_same_everywhere(void)
{
    for (uint32_t has_views = 0; has_views <= 1; has_views++) {
        cubby_region *region = opened(has_views);
        if (region == NULL) {
            continue;
        }
        cubby_region_view *all = shown(region, 0, BYTES, CUBBY_REGION_WRITE);
        cubby_region_view *part = shown(region, 5 * PAGE + 7, PAGE, CUBBY_REGION_READ);
        uint8_t *base = cubby_region_view_base(all);
        const uint8_t *from = cubby_region_view_base(part);
        CHECK_EQUAL(base == cubby_region_base(region), has_views == 0);
        uint8_t buffer[8];
        for (unsigned lap = 0; lap < 3; lap++) { /* more than the cache has */
            for (uint64_t page = 0; page < BYTES / PAGE; page++) {
                CHECK_EQUAL(base[page * PAGE + 7], lap == 0 ? 0 : (uint8_t)(page + lap - 1));
                base[page * PAGE + 7] = (uint8_t)(page + lap);
            }
            CHECK_EQUAL(from[0], (uint8_t)(5 + lap));
            CHECK_EQUAL(from[PAGE - 1], 0);
            CHECK_EQUAL(cubby_region_load(region, 6 * PAGE + 7, 1, buffer, SAID), CUBBY_OK);
            CHECK_EQUAL(buffer[0], (uint8_t)(6 + lap));
        }
        CHECK_EQUAL(cubby_region_close(region, SAID), EBUSY);
        CHECK(strstr(message, "views that are open") != NULL);
        cubby_region_view_close(part);
        cubby_region_view_close(all);
        cubby_region_view_close(NULL);
        CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
    }
}

static void what_is_refused_is_said(void)
{
    cubby_region *region = opened(1);
    if (region == NULL) {
        return;
    }
    cubby_region_view *views[CUBBY_REGION_VIEWS_MAX + 1];
    CHECK_EQUAL(cubby_region_view_open(region, 0, 0, CUBBY_REGION_READ, views, SAID),
                CUBBY_BAD_ARGUMENT);
    CHECK(strstr(message, "1 byte or more") != NULL);
    CHECK_EQUAL(cubby_region_view_open(region, 0, 1, 7, views, SAID), CUBBY_BAD_ARGUMENT);
    CHECK_EQUAL(cubby_region_view_open(region, BYTES - 1, 2, CUBBY_REGION_READ, views, SAID),
                CUBBY_BAD_ARGUMENT);
    CHECK(strstr(message, "is outside") != NULL);
    for (int i = 0; i < CUBBY_REGION_VIEWS_MAX; i++) {
        views[i] = shown(region, (uint64_t)i * PAGE, 1, CUBBY_REGION_READ);
    }
    CHECK_EQUAL(cubby_region_view_open(region, 0, 1, CUBBY_REGION_READ,
                                       &views[CUBBY_REGION_VIEWS_MAX], SAID),
                EAGAIN);
    CHECK(strstr(message, "as many views as it can have (31)") != NULL);
    for (int i = 0; i < CUBBY_REGION_VIEWS_MAX; i++) {
        cubby_region_view_close(views[i]);
    }
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
}

static void pins_alone_have_no_views(void)
{
    struct cubby_region_options options = {.pins_only = 1, .has_views = 1};
    cubby_region *region;
    cubby_region_view *view;
    CHECK_EQUAL(cubby_region_open("mem:819200", &options, &region, SAID), CUBBY_BAD_ARGUMENT);
    CHECK(strstr(message, "pins only has no views") != NULL);
    options.has_views = 0;
    CHECK_EQUAL(cubby_region_open("mem:819200", &options, &region, SAID), CUBBY_OK);
    CHECK_EQUAL(cubby_region_view_open(region, 0, 1, CUBBY_REGION_READ, &view, SAID), EOPNOTSUPP);
    CHECK(strstr(message, "pins only") != NULL);
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
}

static void a_child_has_no_views(void)
{
    cubby_region *region = opened(1);
    if (region == NULL) {
        return;
    }
    cubby_region_view *view = shown(region, 0, PAGE, CUBBY_REGION_WRITE);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        cubby_region_view *other;
        int status = cubby_region_view_open(region, 0, 1, CUBBY_REGION_READ, &other, NULL, 0);
        cubby_region_view_close(view); /* the parent's stays */
        _exit(status == CUBBY_FORKED ? 0 : 1);
    }
    int ended;
    CHECK_EQUAL(waitpid(child, &ended, 0), child);
    CHECK_EQUAL(ended, 0);
    cubby_region_view_base(view)[5] = 5;
    CHECK_EQUAL(cubby_region_view_base(view)[5], 5);
    cubby_region_view_close(view);
    CHECK_EQUAL(cubby_region_close(region, SAID), CUBBY_OK);
}

int main(void)
{
    RUN(bytes_are_the_same_everywhere);
    RUN(what_is_refused_is_said);
    RUN(pins_alone_have_no_views);
    RUN(a_child_has_no_views);
    return 0;
}
