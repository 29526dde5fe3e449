/* file_lock.c -- take the lock, or find out who has it.
 *
 * flock belongs to the open file, so a second open in the same process is refused like one in
 * another process, and the kernel gives it back when the process dies, however it dies. Who holds
 * it stands in /proc/locks:
 *
 *   3: FLOCK  ADVISORY  WRITE 1234 fe:01:5678 0 EOF      kind, pid, device (hex) and inode
 *
 * Depends on: file_lock.h.   Used by: file_device.c.
 */
#include "blockdev/file_lock.h"

#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/cubby_assert.h"
#include "engine/cubby.h"

enum {
    /* udev takes a shared lock for some milliseconds on a block device that was just closed. */
    BLOCK_DEVICE_TRIES = 20,
    /* The kernel takes an io_uring apart some milliseconds after its process has died, and with it
     * gives back the files that were read through it. */
    DEAD_HOLDER_TRIES = 100,
    TRY_INTERVAL_MS = 10,
};

/* The pid in one line of /proc/locks if it is a flock on this file, else 0. */
static long long holder_in_line(const char *line, const struct stat *info)
{
    char kind[16];
    long long pid;
    unsigned device_major;
    unsigned device_minor;
    unsigned long long inode;
    /* A line of one who waits has "->" in the place of the kind. */
    int fields = sscanf(line, "%*s %15s %*s %*s %lld %x:%x:%llu", kind, &pid, &device_major,
                        &device_minor, &inode);
    if (fields != 5 || kind[0] != 'F' || kind[1] != 'L') {
        return 0;
    }
    if (inode != info->st_ino || device_major != major(info->st_dev) ||
        device_minor != minor(info->st_dev)) {
        return 0;
    }
    return pid;
}

/* The pid that holds a flock on this file, or 0 if it cannot be seen from here. */
static long long find_holder(int fd)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return 0;
    }
    FILE *locks = fopen("/proc/locks", "re");
    if (locks == NULL) {
        return 0;
    }
    long long pid = 0;
    char line[256];
    while (pid <= 0 && fgets(line, sizeof line, locks) != NULL) {
        pid = holder_in_line(line, &info);
    }
    fclose(locks);
    return pid > 0 ? pid : 0;
}

static int say_holder(int fd, const char *path, struct device_message message)
{
    long long pid = find_holder(fd);
    if (pid == getpid()) {
        return device_message_set(message, CUBBY_LOCKED, "%s is in use by this process", path);
    }
    if (pid == 0) {
        return device_message_set(message, CUBBY_LOCKED, "%s is in use by another process", path);
    }
    return device_message_set(message, CUBBY_LOCKED, "%s is in use by process %lld", path, pid);
}

/* Whether the lock's holder may be a process that is no more: it does not exist, or has no number.
 */
static bool holder_may_be_dead(int fd)
{
    long long pid = find_holder(fd);
    return pid == 0 || (kill((pid_t)pid, 0) != 0 && errno == ESRCH);
}

int file_lock_take(int fd, const char *path, bool shared, struct device_message message)
{
    CUBBY_ASSERT(fd >= 0);
    CUBBY_ASSERT(path != NULL);
    struct stat info;
    if (fstat(fd, &info) != 0) {
        return errno;
    }
    int operation = (shared ? LOCK_SH : LOCK_EX) | LOCK_NB;
    int tries = S_ISBLK(info.st_mode) ? BLOCK_DEVICE_TRIES : 1;
    bool waits_for_dead = false;
    const struct timespec interval = {.tv_nsec = TRY_INTERVAL_MS * 1000000L};
    for (int i = 0; i < tries; i++) {
        if (i > 0) {
            nanosleep(&interval, NULL);
        }
        if (flock(fd, operation) == 0) {
            return 0;
        }
        if (errno != EWOULDBLOCK && errno != EINTR) {
            int status = errno;
            return device_message_set(message, status, "%s cannot be locked: %s", path,
                                      cubby_status_text(status));
        }
        if (!waits_for_dead && holder_may_be_dead(fd)) {
            waits_for_dead = true;
            tries = DEAD_HOLDER_TRIES;
        }
    }
    return say_holder(fd, path, message);
}

void file_lock_release(int fd)
{
    CUBBY_ASSERT(fd >= 0);
    flock(fd, LOCK_UN); /* cannot fail on an open file */
}
