/* properties.h -- YCSB's properties: names and values, from files and from -p name=value.
 *
 * A file has a property a line, "name=value" or "name: value"; blanks around both do not count, and
 * lines that begin with # or ! are comments. A later value replaces an earlier one.
 *
 * One thread. Depends on: nothing.   Used by: spec.c, driver.c.
 */
#ifndef CUBBY_BENCH_PROPERTIES_H
#define CUBBY_BENCH_PROPERTIES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROPERTIES_MAX = 256,
};

struct property {
    char *name;
    char *value;
    bool from_file; /* else from the command line */
    bool is_used;   /* somebody has asked for it */
};

/* Zeros: none. */
struct properties {
    struct property list[PROPERTIES_MAX];
    size_t count;
};

/* Set one. text: "name=value". Returns whether it is one, and there is room. */
bool properties_set(struct properties *properties, const char *text);

/* Set all of a file. Returns 0, an errno, or EINVAL with the number of the line that is not one. */
int properties_load(struct properties *properties, const char *path, unsigned *line_number);

/* The value, or the default (which may be NULL), of a name. */
const char *properties_get(struct properties *properties, const char *name, const char *otherwise);

void properties_free(struct properties *properties);

#endif
