/* model_device.c -- drives and their figures, and when a request is complete.
 *
 * A blocking call reserves its place on its line, lets the inner device do the work and then waits
 * for what is left of the time. A queue hands the request to a queue of the inner device at once,
 * and keeps it back, once done, until its time has come; for an event loop a timer says when.
 *
 * Depends on: block_device.h, wait.h.   Used by: open.c, tests.
 */
#include "blockdev/model_device.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "blockdev/block_range.h"
#include "blockdev/wait.h"
#include "engine/base/cubby_assert.h"
#include "engine/base/event.h"
#include "engine/cubby.h"

enum {
    NS_PER_US = 1000,
    DRIVE_NAMES_BYTES = 256,
};

#define NS_PER_SECOND 1e9
#define MB UINT64_C(1000000)

/* The drives. What stands behind a figure:
 *   [1] etc.  published there
 *   derived   from published figures, as said
 *   recalled  often quoted, but no page with it was at hand: an estimate
 *
 * [1] Lenovo product guide of 4XB7A08539, Intel P4500 drives, table 2, technical specifications:
 *     the drive of 4.0 TB, or of 2.0 TB where said
 * [2] Intel SSD DC S4500/S4600 product specification, S4500, first page:
 *     manualzz.com/doc/48879893/intel-solid-state-drive-dc-s4500-s4600-product
 * [3] AnandTech, Intel Optane SSD DC P4800X 750GB Hands-On Review, specifications:
 *     anandtech.com/show/11930
 * [4] AnandTech, Intel Optane SSD DC P4800X Review, "Checking Intel's Numbers", reads one at a
 *     time: anandtech.com/show/11209/4
 * [5] ScaleFlux, "March Madness - do your SSDs perform like champions under pressure": a drive of
 *     7.68 TB, which is a capacity of the CSD 3000 [6], saturates at 950,000 operations per second,
 *     half of them reads: scaleflux.com/blog
 * [6] StorageReview, ScaleFlux CSD 3000 review, specifications: PCIe Gen4 x4, power-loss
 *     protection: storagereview.com/review/scaleflux-csd-3000-ssd-review
 * [7] M. Callaghan, "SSDs, power loss protection and fsync latency", 2026, as summarised at
 *     engineered.at/articles/ssds-power-loss-protection-and-fsync-latency: drives with power-loss
 *     protection sync in 12 to 58 us, file system included
 */
static const struct model_parameters DRIVES[] = {
    {
        /* PCIe 3.0, flash; compresses, on an FPGA. */
        .name = "csd-2000",
        .read_latency_us = 90,  /* derived: 85 of the P4500 of 2.0 TB [1], and 5 (recalled) to
                                   decompress */
        .write_latency_us = 20, /* derived: as the P4500 [1] */
        .flush_latency_us = 12, /* derived: the least of [7] */
        .read_bytes_per_second = 3200 * MB,  /* recalled */
        .write_bytes_per_second = 3200 * MB, /* recalled */
        .reads_per_second = 650000,          /* recalled */
        .writes_per_second = 520000,         /* recalled */
    },
    {
        /* PCIe 4.0, TLC flash; compresses, on a chip of its own. */
        .name = "csd-3000",
        .read_latency_us = 85,               /* derived: as the P4500 of 2.0 TB [1] */
        .write_latency_us = 20,              /* derived: as the P4500 [1] */
        .flush_latency_us = 12,              /* derived: the least of [7], protected as of [6] */
        .read_bytes_per_second = 7877 * MB,  /* derived: all that PCIe Gen4 x4 [6] carries */
        .write_bytes_per_second = 1945 * MB, /* derived: 4 KiB x writes_per_second; sequential
                                                writes are faster */
        .reads_per_second = 950000,          /* derived: the mixture of [5], were it reads alone */
        .writes_per_second = 475000,         /* derived: the writes in the mixture of [5] */
    },
    {
        /* PCIe 3.0, TLC flash: an ordinary drive of a data centre. */
        .name = "p4500",
        .read_latency_us = 115,              /* [1] random */
        .write_latency_us = 20,              /* [1] random */
        .flush_latency_us = 12,              /* derived: the least of [7] */
        .read_bytes_per_second = 3200 * MB,  /* [1] sequential */
        .write_bytes_per_second = 1800 * MB, /* [1] sequential */
        .reads_per_second = 645000,          /* [1] 4 KiB */
        .writes_per_second = 62500,          /* [1] 4 KiB */
    },
    {
        /* PCIe 3.0, 3D XPoint (Optane): low latency. */
        .name = "p4800x",
        .read_latency_us = 9,   /* [4] median; "typical" below 10 [3] */
        .write_latency_us = 10, /* [3] "typical" below 10 */
        .flush_latency_us = 10, /* derived: any command takes that; there is no volatile cache */
        .read_bytes_per_second = 2400 * MB,  /* [3] sequential */
        .write_bytes_per_second = 2000 * MB, /* [3] sequential */
        .reads_per_second = 550000,          /* [3] 4 KiB */
        .writes_per_second = 500000,         /* [3] 4 KiB */
    },
    {
        /* SATA, TLC flash. */
        .name = "s4500",
        .read_latency_us = 110,             /* [2] random */
        .write_latency_us = 52,             /* [2] random */
        .flush_latency_us = 52,             /* derived: as a write; the cache is protected [2] */
        .read_bytes_per_second = 500 * MB,  /* [2] sequential */
        .write_bytes_per_second = 490 * MB, /* [2] sequential */
        .reads_per_second = 72000,          /* [2] 4 KiB */
        .writes_per_second = 33000,         /* [2] 4 KiB */
    },
};

enum {
    DRIVE_COUNT = sizeof DRIVES / sizeof DRIVES[0],
    LINE_COUNT = BLOCK_WRITE + 1,
};

struct model_device {
    struct block_device device;
    struct block_device_ops ops; /* without write_cached where the inner device has none */
    struct block_device *inner;
    struct model_parameters parameters;
    _Atomic uint64_t cached_bytes; /* written so since the last flush, which pays for them */
    pthread_mutex_t lock;
    uint64_t free_at_ns[LINE_COUNT]; /* when the line has carried all it was given; under lock */
};

/* A request of a model's queue. */
struct model_slot {
    struct block_request *request;
    uint64_t deadline_ns;
    bool inner_done;
};

struct model_queue {
    struct block_queue queue;
    struct model_device *model;
    struct block_queue *inner_queue;
    struct block_request **inner_reaped; /* room for depth */
    int timer_fd;                        /* expires at the next deadline; -1: no event_fd yet */
    int event_fd;                        /* joins it with the inner queue's; -1 likewise */
    size_t depth;
    size_t slot_count;
    struct model_slot slots[]; /* by deadline */
};

/* How long a request occupies its line. */
static uint64_t occupied_ns(uint64_t bytes, uint64_t bytes_per_second, uint32_t per_second)
{
    double carried =
        bytes_per_second == 0 ? 0 : (double)bytes * NS_PER_SECOND / (double)bytes_per_second;
    double counted = per_second == 0 ? 0 : NS_PER_SECOND / per_second;
    return (uint64_t)(carried > counted ? carried : counted);
}

/* Take a place on the line. Returns when the request is complete, as far as the model goes. */
static uint64_t reserve(struct model_device *model, enum block_operation operation,
                        uint64_t block_count)
{
    const struct model_parameters *parameters = &model->parameters;
    uint64_t bytes = block_count * CUBBY_BLOCK_BYTES;
    uint32_t latency_us = parameters->read_latency_us;
    uint64_t line_ns =
        occupied_ns(bytes, parameters->read_bytes_per_second, parameters->reads_per_second);
    if (operation == BLOCK_WRITE) {
        latency_us = parameters->write_latency_us;
        line_ns =
            occupied_ns(bytes, parameters->write_bytes_per_second, parameters->writes_per_second);
    }
    pthread_mutex_lock(&model->lock);
    uint64_t now_ns = wait_now_ns();
    uint64_t *free_at_ns = &model->free_at_ns[operation];
    *free_at_ns = (*free_at_ns > now_ns ? *free_at_ns : now_ns) + line_ns;
    uint64_t carried_at_ns = *free_at_ns;
    pthread_mutex_unlock(&model->lock);
    uint64_t latency_over_ns = now_ns + (uint64_t)latency_us * NS_PER_US;
    return carried_at_ns > latency_over_ns ? carried_at_ns : latency_over_ns;
}

static int model_read(struct block_device *device, uint64_t lba, size_t block_count, void *buffer)
{
    struct model_device *model = (struct model_device *)device;
    int status = block_range_check(device, lba, block_count);
    if (status != 0) {
        return status; /* a drive refuses at once, and the line would be taken for ages */
    }
    uint64_t deadline_ns = reserve(model, BLOCK_READ, block_count);
    status = model->inner->ops->read(model->inner, lba, block_count, buffer);
    wait_until_ns(deadline_ns);
    return status;
}

static int model_write(struct block_device *device, uint64_t lba, size_t block_count,
                       const void *buffer)
{
    struct model_device *model = (struct model_device *)device;
    if (block_range_check(device, lba, block_count) != 0) {
        /* Which of its reasons to refuse comes first is the inner device's to say. */
        return model->inner->ops->write(model->inner, lba, block_count, buffer);
    }
    uint64_t deadline_ns = reserve(model, BLOCK_WRITE, block_count);
    int status = model->inner->ops->write(model->inner, lba, block_count, buffer);
    wait_until_ns(deadline_ns);
    return status;
}

/* Into memory: the drive sees nothing of it. */
static int model_write_cached(struct block_device *device, uint64_t offset, size_t size,
                              const void *buffer)
{
    struct model_device *model = (struct model_device *)device;
    int status = model->inner->ops->write_cached(model->inner, offset, size, buffer);
    if (status == 0) {
        atomic_fetch_add(&model->cached_bytes, size);
    }
    return status;
}

/* What was written cached takes one write of the drive first, as if its bytes were end to end. */
static int model_flush(struct block_device *device)
{
    struct model_device *model = (struct model_device *)device;
    uint64_t latency_ns = (uint64_t)model->parameters.flush_latency_us * NS_PER_US;
    uint64_t cached_bytes = atomic_exchange(&model->cached_bytes, 0);
    uint64_t begun_ns = wait_now_ns();
    if (cached_bytes > 0) {
        uint64_t block_count = (cached_bytes + CUBBY_BLOCK_BYTES - 1) / CUBBY_BLOCK_BYTES;
        begun_ns = reserve(model, BLOCK_WRITE, block_count);
    }
    int status = model->inner->ops->flush(model->inner);
    wait_until_ns(begun_ns + latency_ns);
    return status;
}

static int model_discard(struct block_device *device, uint64_t lba, uint64_t block_count)
{
    struct block_device *inner = ((struct model_device *)device)->inner;
    return inner->ops->discard(inner, lba, block_count);
}

static int model_resize(struct block_device *device, uint64_t block_count)
{
    struct block_device *inner = ((struct model_device *)device)->inner;
    int status = inner->ops->resize(inner, block_count);
    block_range_resize(device, block_range_total(inner));
    return status;
}

static int model_usage(struct block_device *device, struct block_usage *usage)
{
    struct block_device *inner = ((struct model_device *)device)->inner;
    return inner->ops->usage(inner, usage);
}

static void model_close(struct block_device *device)
{
    struct model_device *model = (struct model_device *)device;
    model->inner->ops->close(model->inner);
    pthread_mutex_destroy(&model->lock);
    free(model);
}

static int queue_submit(struct block_queue *queue, struct block_request *request)
{
    struct model_queue *self = (struct model_queue *)queue;
    CUBBY_ASSERT(request != NULL);
    if (self->slot_count == self->depth) {
        return EAGAIN;
    }
    int status = self->inner_queue->ops->submit(self->inner_queue, request);
    if (status != 0) {
        return status;
    }
    uint64_t deadline_ns = 0; /* refused at once */
    if (block_range_check(&self->model->device, request->lba, request->block_count) == 0) {
        deadline_ns = reserve(self->model, request->operation, request->block_count);
    }
    size_t place = self->slot_count++;
    while (place > 0 && self->slots[place - 1].deadline_ns > deadline_ns) {
        self->slots[place] = self->slots[place - 1];
        place--;
    }
    self->slots[place] = (struct model_slot){.request = request, .deadline_ns = deadline_ns};
    return 0;
}

/* Mark the first count requests of inner_reaped: the inner device is done with them. */
static void mark_inner_done(struct model_queue *self, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        size_t place = 0;
        while (self->slots[place].request != self->inner_reaped[i]) {
            place++;
            CUBBY_ASSERT(place < self->slot_count);
        }
        self->slots[place].inner_done = true;
    }
}

/* Wait until the inner device is done with some request, and mark it. */
static void reap_inner(struct model_queue *self)
{
    struct block_queue *inner_queue = self->inner_queue;
    size_t count = inner_queue->ops->reap(inner_queue, self->inner_reaped, self->depth);
    CUBBY_ASSERT(count > 0);
    mark_inner_done(self, count);
}

/* Take out what is complete now, by deadline. */
static size_t take_complete(struct model_queue *self, struct block_request **done, size_t capacity)
{
    uint64_t now_ns = wait_now_ns();
    size_t done_count = 0;
    size_t kept_count = 0;
    for (size_t i = 0; i < self->slot_count; i++) {
        const struct model_slot *slot = &self->slots[i];
        if (slot->inner_done && slot->deadline_ns <= now_ns && done_count < capacity) {
            done[done_count++] = slot->request;
        } else {
            self->slots[kept_count++] = *slot;
        }
    }
    self->slot_count = kept_count;
    return done_count;
}

static size_t queue_reap(struct block_queue *queue, struct block_request **done, size_t capacity)
{
    struct model_queue *self = (struct model_queue *)queue;
    CUBBY_ASSERT(done != NULL);
    CUBBY_ASSERT(capacity > 0);
    size_t done_count = 0;
    while (done_count == 0 && self->slot_count > 0) {
        if (self->slots[0].inner_done) {
            wait_until_ns(self->slots[0].deadline_ns);
        } else {
            reap_inner(self);
        }
        done_count = take_complete(self, done, capacity);
    }
    return done_count;
}

/* Make the event descriptor readable when the next request that the inner device is done with is
 * complete; not at all if there is none. */
static void set_timer(struct model_queue *self)
{
    struct itimerspec expiry = {0};
    for (size_t i = 0; i < self->slot_count; i++) {
        if (self->slots[i].inner_done) {
            uint64_t ns = self->slots[i].deadline_ns;
            ns = ns > 0 ? ns : 1; /* 0 would be never */
            expiry.it_value.tv_sec = (time_t)(ns / (uint64_t)NS_PER_SECOND);
            expiry.it_value.tv_nsec = (long)(ns % (uint64_t)NS_PER_SECOND);
            break;
        }
    }
    int status = timerfd_settime(self->timer_fd, TFD_TIMER_ABSTIME, &expiry, NULL);
    CUBBY_ASSERT(status == 0);
}

static size_t queue_poll(struct block_queue *queue, struct block_request **done, size_t capacity)
{
    struct model_queue *self = (struct model_queue *)queue;
    struct block_queue *inner_queue = self->inner_queue;
    CUBBY_ASSERT(done != NULL || capacity == 0);
    mark_inner_done(self, inner_queue->ops->poll(inner_queue, self->inner_reaped, self->depth));
    size_t count = take_complete(self, done, capacity);
    if (self->timer_fd >= 0) {
        set_timer(self);
    }
    return count;
}

static int queue_event_fd(struct block_queue *queue, int *fd)
{
    struct model_queue *self = (struct model_queue *)queue;
    CUBBY_ASSERT(fd != NULL);
    if (self->event_fd < 0) {
        CUBBY_ASSERT(self->slot_count == 0);
        int inner_fd;
        int status = self->inner_queue->ops->event_fd(self->inner_queue, &inner_fd);
        if (status != 0) {
            return status;
        }
        int timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
        if (timer_fd < 0) {
            return errno;
        }
        status = event_join(inner_fd, timer_fd, &self->event_fd);
        if (status != 0) {
            close(timer_fd);
            return status;
        }
        self->timer_fd = timer_fd;
    }
    *fd = self->event_fd;
    return 0;
}

static void queue_close(struct block_queue *queue)
{
    struct model_queue *self = (struct model_queue *)queue;
    CUBBY_ASSERT(self->slot_count == 0);
    if (self->event_fd >= 0) {
        close(self->event_fd);
        close(self->timer_fd);
    }
    self->inner_queue->ops->close(self->inner_queue);
    free(self->inner_reaped);
    free(self);
}

static const struct block_queue_ops queue_ops = {
    .submit = queue_submit,
    .reap = queue_reap,
    .poll = queue_poll,
    .event_fd = queue_event_fd,
    .close = queue_close,
};

static int model_queue_open(struct block_device *device, unsigned depth, struct block_queue **queue)
{
    struct model_device *model = (struct model_device *)device;
    CUBBY_ASSERT(depth > 0);
    CUBBY_ASSERT(queue != NULL);
    struct model_queue *self = calloc(1, sizeof *self + depth * sizeof self->slots[0]);
    if (self == NULL) {
        return ENOMEM;
    }
    int status = ENOMEM;
    self->inner_reaped = calloc(depth, sizeof(struct block_request *));
    if (self->inner_reaped == NULL) {
        goto free_queue;
    }
    status = model->inner->ops->queue_open(model->inner, depth, &self->inner_queue);
    if (status != 0) {
        goto free_reaped;
    }
    self->queue.ops = &queue_ops;
    self->model = model;
    self->timer_fd = self->event_fd = -1;
    self->depth = depth;
    *queue = &self->queue;
    return 0;

free_reaped:
    free(self->inner_reaped);
free_queue:
    free(self);
    return status;
}

static const struct block_device_ops model_ops = {
    .read = model_read,
    .write = model_write,
    .write_cached = model_write_cached,
    .flush = model_flush,
    .discard = model_discard,
    .resize = model_resize,
    .usage = model_usage,
    .queue_open = model_queue_open,
    .close = model_close,
};

int model_device_open_with(struct block_device *inner, const struct model_parameters *parameters,
                           struct block_device **device)
{
    CUBBY_ASSERT(inner != NULL);
    CUBBY_ASSERT(parameters != NULL);
    CUBBY_ASSERT(device != NULL);
    struct model_device *model = calloc(1, sizeof *model);
    if (model == NULL) {
        return ENOMEM;
    }
    pthread_mutex_init(&model->lock, NULL);
    model->ops = model_ops;
    if (inner->ops->write_cached == NULL) {
        model->ops.write_cached = NULL;
    }
    model->device.ops = &model->ops;
    model->device.geometry = inner->geometry;
    model->inner = inner;
    model->parameters = *parameters;
    *device = &model->device;
    return 0;
}

int model_device_open(struct block_device *inner, const char *name, struct block_device **device,
                      struct device_message message)
{
    CUBBY_ASSERT(name != NULL);
    const struct model_parameters *parameters = model_device_find(name, strlen(name));
    if (parameters == NULL) {
        char names[DRIVE_NAMES_BYTES];
        model_device_list(names, sizeof names);
        return device_message_set(message, CUBBY_BAD_ARGUMENT,
                                  "there is no model of a drive \"%s\"; there are %s", name, names);
    }
    int status = model_device_open_with(inner, parameters, device);
    if (status != 0) {
        device_message_set(message, status, "there is no memory for a model of \"%s\"", name);
    }
    return status;
}

const struct model_parameters *model_device_find(const char *name, size_t name_size)
{
    CUBBY_ASSERT(name != NULL);
    for (size_t i = 0; i < DRIVE_COUNT; i++) {
        if (strlen(DRIVES[i].name) == name_size && memcmp(DRIVES[i].name, name, name_size) == 0) {
            return &DRIVES[i];
        }
    }
    return NULL;
}

void model_device_list(char *text, size_t text_size)
{
    CUBBY_ASSERT(text != NULL);
    CUBBY_ASSERT(text_size > 0);
    text[0] = '\0';
    size_t used = 0;
    for (size_t i = 0; i < DRIVE_COUNT && used < text_size; i++) {
        used += (size_t)snprintf(text + used, text_size - used, "%s%s", i > 0 ? ", " : "",
                                 DRIVES[i].name);
    }
}
