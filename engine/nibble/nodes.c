/* nodes.c -- see nodes.h. The two system calls are made directly: libnuma would be one more library
 * for machines of which most have one node.
 */
#include "engine/nibble/nodes.h"

#include <linux/mempolicy.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    NODES_MAX = 64, /* bits of the mask that the kernel is given */
};

unsigned nodes_count(void)
{
    /* As "0", or "0-3", or "0,2-3": the last number is what is asked for. */
    char text[256] = "";
    FILE *file = fopen("/sys/devices/system/node/online", "re");
    if (file == NULL) {
        return 1;
    }
    if (fgets(text, sizeof text, file) == NULL) {
        text[0] = '\0';
    }
    fclose(file);
    size_t end = strcspn(text, "\n");
    size_t begin = end;
    while (begin > 0 && text[begin - 1] >= '0' && text[begin - 1] <= '9') {
        begin--;
    }
    long last = strtol(text + begin, NULL, 10);
    return last >= 0 && last < NODES_MAX ? (unsigned)last + 1 : 1;
}

unsigned nodes_current(void)
{
    unsigned processor;
    unsigned node;
    return syscall(SYS_getcpu, &processor, &node, NULL) == 0 ? node : 0;
}

void nodes_bind(void *begin, uint64_t bytes, unsigned node)
{
    unsigned long mask = 1ul << node;
    /* Preferred, not bound: memory from another node is better than none. */
    (void)syscall(SYS_mbind, begin, bytes, MPOL_PREFERRED, &mask, NODES_MAX + 1, 0);
}
