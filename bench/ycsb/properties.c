/* properties.c -- see properties.h. */
#include "bench/ycsb/properties.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Cut blanks off both ends, in place. */
static char *trim(char *text)
{
    while (isspace((unsigned char)*text)) {
        text++;
    }
    size_t size = strlen(text);
    while (size > 0 && isspace((unsigned char)text[size - 1])) {
        text[--size] = '\0';
    }
    return text;
}

static struct property *find(struct properties *properties, const char *name)
{
    for (size_t i = 0; i < properties->count; i++) {
        if (strcmp(properties->list[i].name, name) == 0) {
            return &properties->list[i];
        }
    }
    return NULL;
}

/* text is changed. */
static bool set(struct properties *properties, char *text, bool from_file)
{
    char *separator = text + strcspn(text, from_file ? "=:" : "=");
    if (*separator == '\0') {
        return false;
    }
    *separator = '\0';
    char *name = trim(text);
    char *value = trim(separator + 1);
    struct property *property = find(properties, name);
    if (property == NULL) {
        if (properties->count == PROPERTIES_MAX || *name == '\0') {
            return false;
        }
        property = &properties->list[properties->count];
        *property = (struct property){.name = strdup(name)};
        if (property->name == NULL) {
            return false;
        }
        properties->count++;
    }
    free(property->value);
    property->value = strdup(value);
    property->from_file = from_file;
    return property->value != NULL;
}

bool properties_set(struct properties *properties, const char *text)
{
    char *copy = strdup(text);
    bool is_set = copy != NULL && set(properties, copy, false);
    free(copy);
    return is_set;
}

int properties_load(struct properties *properties, const char *path, unsigned *line_number)
{
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return errno;
    }
    int status = 0;
    char *line = NULL;
    size_t line_size = 0;
    errno = 0;
    for (*line_number = 1; status == 0 && getline(&line, &line_size, file) >= 0; ++*line_number) {
        char *text = trim(line);
        if (*text != '\0' && *text != '#' && *text != '!' && !set(properties, text, true)) {
            status = EINVAL;
            break;
        }
    }
    if (status == 0 && ferror(file)) {
        status = errno != 0 ? errno : EIO;
    }
    free(line);
    fclose(file);
    return status;
}

const char *properties_get(struct properties *properties, const char *name, const char *otherwise)
{
    struct property *property = find(properties, name);
    if (property == NULL) {
        return otherwise;
    }
    property->is_used = true;
    return property->value;
}

void properties_free(struct properties *properties)
{
    for (size_t i = 0; i < properties->count; i++) {
        free(properties->list[i].name);
        free(properties->list[i].value);
    }
    properties->count = 0;
}
