/* fault.c -- plain pointers: who touches what is not there brings it there, in a SIGBUS handler.
 *
 * The handler runs in the thread that has touched the page, at that very instruction, so it may do
 * what any function may whose caller holds none of our locks: and nobody touches a region's memory
 * with one held. What it cannot mend goes to the handler that was there before.
 *
 * Source: ioctl_userfaultfd(2), UFFD_FEATURE_SIGBUS.
 * Depends on: pfd.h, uffd.h.   Used by: region.c, pin.c.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

#include "mmapio/pfd.h"
#include "mmapio/uffd.h"

enum {
    REGIONS_MAX = 256,
    FAULT_WRITES = 2, /* in the error code of x86 */
};

static _Atomic(struct mmapio_region *) regions[REGIONS_MAX];
static pthread_mutex_t register_lock = PTHREAD_MUTEX_INITIALIZER; /* guards what follows */
static bool has_handler;
static struct sigaction previous; /* constant once there is a handler */

static __thread struct mmapio_fault last_fault;

struct mmapio_fault mmapio_last_fault(void)
{
    return last_fault;
}

/* Pages ------------------------------------------------------------------------------------------
 */

int fault_unprotect(struct mmapio_region *region, uint64_t page)
{
    struct mmapio_shard *shard = shard_of(region, page);
    pthread_rwlock_rdlock(&shard->lifting);
    int status = uffd_protect(shard->uffd, page_address(region, page), PAGE_BYTES, false);
    if (status == 0) {
        atomic_fetch_and(&region->words[page], ~(uint32_t)WORD_PROTECTED);
    }
    pthread_rwlock_unlock(&shard->lifting);
    return status;
}

/* Have a page there, for a store to change. It is not pinned any more when this returns: it may be
 * gone before the instruction is done again, and then all begins anew. */
static int resolve(struct mmapio_view *view, uint64_t page, bool is_write)
{
    struct mmapio_region *region = view->region;
    uint8_t *address;
    enum mmapio_access access = is_write ? MMAPIO_WRITE : MMAPIO_READ;
    int status;
    do {
        status = mmapio_pin(region, page, access, &address);
    } while (status == EAGAIN);
    if (status == 0) {
        status = region->ppr != NULL ? pve_map(view, page, is_write) : 0;
        mmapio_unpin(region, page, access);
    }
    return status;
}

/* Faults -----------------------------------------------------------------------------------------
 */

/* Whether the instruction would store; where the processor does not tell: whether the page is there
 * already, for what is read only faults where it is not. */
static bool would_write(const struct mmapio_region *region, uint64_t page, const void *context)
{
#if defined(__x86_64__)
    (void)region;
    (void)page;
    const ucontext_t *stopped = context;
    return (stopped->uc_mcontext.gregs[REG_ERR] & FAULT_WRITES) != 0;
#else
    (void)context;
    return word_is_in_memory(atomic_load(&region->words[page]));
#endif
}

static void pass_on(int number, siginfo_t *info, void *context)
{
    bool was_sent = info->si_code <= 0; /* by kill, and not by an instruction */
    if ((previous.sa_flags & SA_SIGINFO) != 0 && previous.sa_sigaction != NULL) {
        previous.sa_sigaction(number, info, context);
    } else if (previous.sa_handler == SIG_DFL || (previous.sa_handler == SIG_IGN && !was_sent)) {
        signal(number, SIG_DFL);
        raise(number); /* ends the process when the handler returns */
    } else if (previous.sa_handler != SIG_IGN) {
        previous.sa_handler(number);
    }
}

static void handle(int number, siginfo_t *info, void *context)
{
    const int kept_errno = errno;
    uintptr_t address = (uintptr_t)info->si_addr;
    for (unsigned i = 0; i < REGIONS_MAX; i++) {
        struct mmapio_region *region = atomic_load_explicit(&regions[i], memory_order_acquire);
        struct mmapio_view *view = region != NULL ? pve_find(region, address) : NULL;
        if (view == NULL) {
            continue;
        }
        uintptr_t offset = address - (uintptr_t)atomic_load(&view->base);
        uint64_t page = view->first_page + offset / PAGE_BYTES;
        pfd_count(&pfd_slot(region)->pointer_faults, 1);
        int status = resolve(view, page, would_write(region, page, context));
        if (status == 0) {
            errno = kept_errno;
            return;
        }
        last_fault = (struct mmapio_fault){.status = status, .page = page};
        break;
    }
    pass_on(number, info, context);
    errno = kept_errno;
}

/* Regions ----------------------------------------------------------------------------------------
 */

/* The handler runs on the stack of the thread that has touched the page, not on an alternate one:
 * those are made for handlers that say what happened and give up (Python's faulthandler has 12 KiB,
 * on the heap, Rust's threads 8 KiB), and a load that has to evict takes more. */
static int add_handler(void)
{
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &previous) == 0 ? 0 : errno;
}

int fault_register(struct mmapio_region *region)
{
    pthread_mutex_lock(&register_lock);
    int status = has_handler ? 0 : add_handler();
    has_handler = status == 0;
    unsigned at = 0;
    while (at < REGIONS_MAX && atomic_load(&regions[at]) != NULL) {
        at++;
    }
    if (status == 0 && at < REGIONS_MAX) {
        atomic_store(&regions[at], region);
    } else if (status == 0) {
        status = ENOSPC;
    }
    pthread_mutex_unlock(&register_lock);
    return status;
}

/* The handler stays: another may have been put in front of it that passes on to it. */
void fault_unregister(struct mmapio_region *region)
{
    pthread_mutex_lock(&register_lock);
    for (unsigned i = 0; i < REGIONS_MAX; i++) {
        if (atomic_load(&regions[i]) == region) {
            atomic_store(&regions[i], NULL);
        }
    }
    pthread_mutex_unlock(&register_lock);
}
