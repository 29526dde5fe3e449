/* block_device.h -- one device of 4 KiB blocks, whatever is behind it.
 *
 * Kinds (one file each, one constructor each): memory, file or raw device, below; an emulated drive
 * that compresses, csd.h; in front of any other, faults, fault_device.h, and a model of a drive's
 * speed, model_device.h.
 * All sizes are in blocks of CUBBY_BLOCK_BYTES and all places are LBAs; buffers are aligned to
 * CUBBY_BLOCK_BYTES (asserted). Blocking calls are thread-safe. A queue, for many requests in
 * flight, belongs to one thread; it may change hands while nothing is in flight, or, once its
 * event_fd was asked for, at any time.
 *
 * Promises: what read returns was written there, or zeros (or anything at all, after a discard); a
 * write, cached or not, that returned 0 survives the process; after flush returned 0, all writes
 * that had returned before survive a power cut. A short transfer is never success. Memory promises
 * neither survival.
 *
 * Depends on: engine/base.   Used by: engine/store (through page_io), mmapio.
 */
#ifndef CUBBY_BLOCK_DEVICE_H
#define CUBBY_BLOCK_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum block_operation {
    BLOCK_READ,
    BLOCK_WRITE,
};

/* How a device stands with its physical space, as drives that compress report and act on it. */
enum block_space_state {
    BLOCK_SPACE_NORMAL,
    BLOCK_SPACE_WARNING,   /* nearly full */
    BLOCK_SPACE_THROTTLED, /* writes are slowed down */
    BLOCK_SPACE_REJECTING, /* writes that take more space are refused with ENOSPC */
};

/* What the data take up physically. */
struct block_usage {
    const char *source;      /* who says so: "csd", "zram", "st_blocks", "scaleflux", "vdo",
                                "memory"; "none": nobody, and all figures are 0 */
    uint64_t logical_bytes;  /* of blocks that hold something, before compression; 0: not told */
    uint64_t physical_bytes; /* that they take up; 0: nothing, or not told */
    uint64_t capacity_bytes; /* physical bytes there are for them; 0: not told, or no limit */
    enum block_space_state state;
};

struct block_geometry {
    uint64_t block_count;
    uint32_t atomic_write_bytes;         /* what a power cut cannot tear; 0: not known */
    uint32_t discard_granularity_blocks; /* 0: no discard */
    bool discard_zeroes;                 /* what was discarded reads as zeros */
    bool compresses;                     /* stores less than it is given where data allow */
    bool partial_tail;                   /* a regular file has bytes behind its last whole block */
    bool resizable;                      /* resize works: a regular file */
};

/* One request of a queue. The caller fills all but result and must not touch the buffer, or free
 * the request, before it is reaped. */
struct block_request {
    enum block_operation operation;
    uint32_t block_count; /* at least 1 */
    uint64_t lba;
    void *buffer;
    int result; /* as of read and write, set when reaped */
};

struct block_queue;

struct block_queue_ops {
    /* Take one request. Returns 0, or EAGAIN when the queue's depth is in flight: reap first; after
     * a change of thread also an errno, when the queue cannot follow. Two requests in flight on one
     * block are done in any order. */
    int (*submit)(struct block_queue *queue, struct block_request *request);
    /* Wait for at least one request in flight and return how many of at most capacity are done,
     * in done[], in any order; 0 if none is in flight. The queue's own failure is reported in their
     * results. */
    size_t (*reap)(struct block_queue *queue, struct block_request **done, size_t capacity);
    /* As reap, but never wait: start what was submitted, and return what is done already. A queue
     * that does requests when they are reaped does a few. capacity 0 starts only; done may then be
     * NULL. */
    size_t (*poll)(struct block_queue *queue, struct block_request **done, size_t capacity);
    /* A descriptor for an event loop: readable whenever poll would return something, and sometimes
     * when it would not, but then no longer after that poll. What is submitted counts only once a
     * poll has started it. The queue owns the descriptor. Nothing may be in flight the first time.
     * Returns 0 or an errno. */
    int (*event_fd)(struct block_queue *queue, int *fd);
    /* Nothing may be in flight. */
    void (*close)(struct block_queue *queue);
};

struct block_queue {
    const struct block_queue_ops *ops;
};

struct block_device;

struct block_device_ops {
    /* 0, an errno, or CUBBY_CORRUPT: a kind that checks what it stores found damage (read block by
     * block to learn which LBA). block_count is at least 1. EIO for a short transfer, EINVAL
     * outside the device, EROFS for a write to a read-only one, ENOSPC out of physical space. */
    int (*read)(struct block_device *device, uint64_t lba, size_t block_count, void *buffer);
    int (*write)(struct block_device *device, uint64_t lba, size_t block_count, const void *buffer);
    /* Read or write some bytes, aligned to nothing. Both NULL, or EOPNOTSUPP always, where only
     * whole blocks can move, as through O_DIRECT; else as read and write. */
    int (*read_bytes)(struct block_device *device, uint64_t offset, size_t size, void *buffer);
    int (*write_bytes)(struct block_device *device, uint64_t offset, size_t size,
                       const void *buffer);
    /* Write some bytes, aligned to nothing, so that they survive the process: into the kernel's
     * page cache, which costs the device nothing before the next flush (the kernel may write them
     * sooner). Reads see them at once, those of queues and of other processes too. NULL, or
     * EOPNOTSUPP always, where there is no such way; else as write, ENOSPC included, with one
     * exception: a block device that is thin, and full, says so at the flush only.
     *
     * From a cached write of a block to the next flush, or discard, of it, the block may be changed
     * by cached writes alone: not by write, nor by a queue. The first cached write of a block had
     * better be of the whole block, or the kernel reads the rest of it.
     *
     * Of a block that this device has lately written cached, a part is written, where the kernel
     * lets us, by a store: some 60 ns, which wait for no other I/O. So a log first writes whole
     * blocks of zeros (a range of whole blocks is always a call, which finds the space, or none),
     * then its records into them. What one call wrote the kernel may keep as one: a part that is
     * stored after a flush may cost the next one as many blocks as that call had. Threads may write
     * different bytes of one block at once. The process dies of SIGBUS if such a block is taken
     * away behind the device's back: see cached_window.h. */
    int (*write_cached)(struct block_device *device, uint64_t offset, size_t size,
                        const void *buffer);
    /* Where a flush fails the kernel forgets what was written through its cache, so after cached
     * writes no later flush of this device succeeds either: EIO until it is reopened. */
    int (*flush)(struct block_device *device);
    /* Tell the device that blocks are no longer needed. Their content is then anything at all.
     * EOPNOTSUPP where it cannot, EROFS where it is read-only. */
    int (*discard)(struct block_device *device, uint64_t lba, uint64_t block_count);
    /* Change the size, new blocks reading as zeros. EINVAL where the size is fixed; a block device
     * that has grown since it was opened is then taken as it is, which geometry.block_count tells
     * afterwards. Other calls may run meanwhile; one who reads geometry.block_count meanwhile does
     * so with an atomic load. */
    int (*resize)(struct block_device *device, uint64_t block_count);
    /* What the data take up physically: cheap enough to ask once per MiB written. */
    int (*usage)(struct block_device *device, struct block_usage *usage);
    /* A queue of at most depth requests, 1 or more, for one thread. The device must outlive it. */
    int (*queue_open)(struct block_device *device, unsigned depth, struct block_queue **queue);
    void (*close)(struct block_device *device);
};

struct block_device {
    const struct block_device_ops *ops;
    struct block_geometry geometry;
};

enum block_device_flag {
    BLOCK_DEVICE_READ_ONLY = 1, /* shared lock, no writes */
    BLOCK_DEVICE_CREATE = 2,    /* create the file if there is none */
};

/* Open by name, and lock: exclusive, or shared if read-only.
 *
 *   mem:SIZE      memory: bytes, or with a suffix K, M, G, T; never read-only
 *   PATH          a file or block device; file:PATH is the same, whatever PATH begins with
 *   csd:NAME      the emulated compressing drive that NAME, any of these but a csd, holds. It is
 *                 made, with all defaults, in memory, and, with BLOCK_DEVICE_CREATE, in a file that
 *                 did not exist or is empty; nothing else is overwritten
 *
 * In front of them, in this order, faults and one model:
 *
 *   fault:FAULT,...:    each once, also spread over several "fault:...:"; see fault_device.h
 *     read=N write=N flush=N   the Nth such operation, and all later ones, fail with EIO
 *     once                     that one only
 *     seed=N cut=N tear        an unflushed write is volatile; power goes during the Nth operation;
 *                              and may tear blocks
 *     flip=N                   one bit of the Nth block read is wrong
 *     delay=N                  so many microseconds before each operation, at most a minute
 *   model:DRIVE:        as slow as that drive; see model_device.c
 *
 * message, message_size: room for one sentence on failure (may be NULL, 0).
 * Returns 0, CUBBY_LOCKED (the message names the holder's pid), CUBBY_BAD_ARGUMENT (a name that is
 * not understood, a directory, pipe or character device, blocks larger than 4 KiB, no csd where
 * there should be one), CUBBY_CORRUPT (a damaged csd), EBUSY (a block device that is mounted or in
 * use by the kernel), or another errno. */
int block_device_open(const char *name, unsigned flags, struct block_device **device, char *message,
                      size_t message_size);

/* Make an emulated compressing drive by a name that begins with csd: (csd.h says what options are).
 * A file is created if there is none. Without force nothing that has content, a byte that is not
 * zero in its first 64 blocks, is overwritten. A file that this call created is gone when it fails.
 * Returns as block_device_open, or CUBBY_NOT_EMPTY. */
struct csd_options;
int block_device_create_csd(const char *name, const struct csd_options *options, bool force,
                            char *message, size_t message_size);

/* Memory of block_count blocks, all zero; gone at close. Each block is read and written whole. */
int mem_device_open(uint64_t block_count, struct block_device **device);

/* A regular file or block device through O_DIRECT (buffered where the file system refuses it). */
int file_device_open(const char *path, unsigned flags, struct block_device **device, char *message,
                     size_t message_size);

/* A queue that does each request by the device's blocking calls when it is reaped: for kinds, and
 * machines, where a ring is refused or slower. */
int blocking_queue_open(struct block_device *device, unsigned depth, struct block_queue **queue);

#endif
