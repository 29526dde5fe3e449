/* usage_probe.c -- see usage_probe.h. Found by, in /sys/dev/block/MAJOR:MINOR/:
 *
 *   mm_stat                              zram
 *   device/device/vendor, .../device     the PCI ids of an NVMe namespace's controller
 *   dm/name                              the device mapper; its answer says whether it is a vdo
 *
 * Depends on: usage_probe.h, usage_parse.h, file_probe.h.   Used by: file_device.c.
 */
#include "blockdev/usage_probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/nvme_ioctl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "blockdev/file_probe.h"
#include "blockdev/usage_parse.h"
#include "engine/base/cubby_assert.h"

enum {
    ST_BLOCKS_UNIT = 512, /* whatever the device's */
    TEXT_BYTES = 256,

    NVME_GET_LOG_PAGE = 0x02,
    SCALEFLUX_VENDOR = 0xcc53,
    SCALEFLUX_LOG_PAGE = 0xc2,
    SCALEFLUX_LOG_PAGE_OF_0020 = 0xd2, /* of the drives with PCI device id 0x0020 */

    DM_ANSWER_BYTES = 4096,
};

static int ask_file(const struct usage_probe *probe, struct block_usage *usage)
{
    struct stat info;
    struct statvfs file_system;
    if (fstat(probe->fd, &info) != 0 || fstatvfs(probe->fd, &file_system) != 0) {
        return errno;
    }
    uint64_t physical_bytes = (uint64_t)info.st_blocks * ST_BLOCKS_UNIT;
    *usage = (struct block_usage){
        .source = "st_blocks",
        .physical_bytes = physical_bytes,
        .capacity_bytes = physical_bytes + (uint64_t)file_system.f_bavail * file_system.f_frsize,
    };
    return 0;
}

static int ask_zram(const struct usage_probe *probe, struct block_usage *usage)
{
    char text[TEXT_BYTES];
    ssize_t size = pread(probe->source_fd, text, sizeof text - 1, 0);
    if (size < 0) {
        return errno;
    }
    text[size] = '\0';
    return usage_parse_zram(text, usage);
}

static int ask_scaleflux(const struct usage_probe *probe, struct block_usage *usage)
{
    uint8_t page[SCALEFLUX_PAGE_BYTES] = {0};
    struct nvme_admin_cmd command = {
        .opcode = NVME_GET_LOG_PAGE,
        .nsid = UINT32_MAX,
        .addr = (uintptr_t)page,
        .data_len = sizeof page,
        .cdw10 = probe->log_page | (uint32_t)(sizeof page / 4 - 1) << 16, /* in words, less 1 */
    };
    int answer = ioctl(probe->fd, NVME_IOCTL_ADMIN_CMD, &command);
    if (answer != 0) {
        return answer < 0 ? errno : EIO; /* above 0 it is a status of NVMe */
    }
    return usage_parse_scaleflux(page, sizeof page, usage);
}

/* The device mapper's question and, in the same place, its answer. */
struct dm_message {
    struct dm_ioctl head;
    uint8_t room[DM_ANSWER_BYTES];
};

static int ask_vdo(const struct usage_probe *probe, struct block_usage *usage, bool *compresses)
{
    struct dm_message message = {
        .head =
            {
                .version = {DM_VERSION_MAJOR, 0, 0},
                .data_size = sizeof message,
                .data_start = offsetof(struct dm_message, room),
                .flags = DM_NOFLUSH_FLAG, /* the volume need not be flushed for its figures */
                .dev = probe->device,
            },
    };
    if (ioctl(probe->source_fd, DM_TABLE_STATUS, &message) != 0) {
        return errno;
    }
    struct dm_target_spec target;
    uint32_t begin = message.head.data_start;
    if ((message.head.flags & DM_BUFFER_FULL_FLAG) != 0 || message.head.target_count != 1 ||
        begin >= sizeof message - sizeof target) {
        return EBADMSG;
    }
    memcpy(&target, (const uint8_t *)&message + begin, sizeof target);
    if (strncmp(target.target_type, "vdo", sizeof target.target_type) != 0) {
        return ENOTTY;
    }
    message.room[sizeof message.room - 1] = '\0';
    return usage_parse_vdo((const char *)&message + begin + sizeof target, usage, compresses);
}

/* A PCI id of the controller behind an NVMe namespace; 0 if there is none. */
static unsigned long pci_id(dev_t device, const char *name)
{
    char attribute[64];
    char text[TEXT_BYTES];
    snprintf(attribute, sizeof attribute, "device/device/%s", name);
    if (!file_probe_attribute(device, attribute, text, sizeof text)) {
        snprintf(attribute, sizeof attribute, "../device/device/%s", name); /* of a partition */
        if (!file_probe_attribute(device, attribute, text, sizeof text)) {
            return 0;
        }
    }
    return strtoul(text, NULL, 16);
}

static bool find_zram(struct usage_probe *probe)
{
    char path[FILE_PROBE_PATH_BYTES];
    file_probe_attribute_path(probe->device, "mm_stat", path);
    probe->source_fd = open(path, O_RDONLY | O_CLOEXEC);
    struct block_usage usage;
    if (probe->source_fd >= 0 && ask_zram(probe, &usage) == 0) {
        return true;
    }
    usage_probe_close(probe);
    return false;
}

static bool find_scaleflux(struct usage_probe *probe)
{
    if (pci_id(probe->device, "vendor") != SCALEFLUX_VENDOR) {
        return false;
    }
    bool is_0020 = pci_id(probe->device, "device") == 0x0020;
    probe->log_page = is_0020 ? SCALEFLUX_LOG_PAGE_OF_0020 : SCALEFLUX_LOG_PAGE;
    struct block_usage usage;
    return ask_scaleflux(probe, &usage) == 0;
}

static bool find_vdo(struct usage_probe *probe, bool *compresses)
{
    char name[TEXT_BYTES];
    if (!file_probe_attribute(probe->device, "dm/name", name, sizeof name)) {
        return false;
    }
    probe->source_fd = open("/dev/" DM_DIR "/" DM_CONTROL_NODE, O_RDWR | O_CLOEXEC);
    struct block_usage usage;
    return probe->source_fd >= 0 && ask_vdo(probe, &usage, compresses) == 0;
}

bool usage_probe_open(struct usage_probe *probe, int fd, const struct stat *info)
{
    CUBBY_ASSERT(probe != NULL);
    CUBBY_ASSERT(info != NULL);
    *probe = (struct usage_probe){.fd = fd, .source_fd = -1, .device = info->st_rdev};
    bool compresses = true;
    if (!S_ISBLK(info->st_mode)) {
        probe->kind = USAGE_ST_BLOCKS;
        return false;
    }
    if (find_zram(probe)) {
        probe->kind = USAGE_ZRAM;
    } else if (find_scaleflux(probe)) {
        probe->kind = USAGE_SCALEFLUX;
    } else if (find_vdo(probe, &compresses)) {
        probe->kind = USAGE_VDO;
    } else {
        usage_probe_close(probe);
        return false;
    }
    return compresses;
}

int usage_probe_ask(const struct usage_probe *probe, struct block_usage *usage)
{
    CUBBY_ASSERT(probe != NULL);
    CUBBY_ASSERT(usage != NULL);
    bool compresses;
    switch (probe->kind) {
    case USAGE_ST_BLOCKS:
        return ask_file(probe, usage);
    case USAGE_ZRAM:
        return ask_zram(probe, usage);
    case USAGE_SCALEFLUX:
        return ask_scaleflux(probe, usage);
    case USAGE_VDO:
        return ask_vdo(probe, usage, &compresses);
    case USAGE_NONE:
        break;
    }
    *usage = (struct block_usage){.source = "none"};
    return 0;
}

void usage_probe_close(struct usage_probe *probe)
{
    CUBBY_ASSERT(probe != NULL);
    if (probe->source_fd >= 0) {
        close(probe->source_fd);
    }
    probe->kind = USAGE_NONE;
    probe->source_fd = -1;
}
