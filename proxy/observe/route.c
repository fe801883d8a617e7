/*
 * Routes (route.h).
 *
 *     root -> service -> method -> segment -> segment -> ...      a tree; children are a list
 *
 * A node is either open (up to ROUTE_VALUES_MAX children, each a value that was seen) or closed:
 * then it has at most one child, "{}", into which the former children were merged.
 *
 * Invariants: nodes in use and the free list are all of the table's; a list of segments has no two
 * equal values; recursion is as deep as a path, ROUTE_SEGMENTS_MAX.
 */
#include "observe/route.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "observe/identifier.h"
#include "observe/text.h"

#define SEGMENT_BYTES IDENTIFIER_BYTES_MAX
#define WILDCARD "{}"

struct node {
    struct node *next; /* sibling, or in the free list */
    struct node *children;
    uint32_t child_count;
    bool closed;
    bool fixed; /* services and methods are never taken together */
    uint8_t size;
    char value[SEGMENT_BYTES];
};

struct route_table {
    pthread_mutex_t mutex;
    struct node root;
    struct node *free;
    size_t free_count;
    size_t used; /* of `nodes`; those behind were never touched */
    struct node nodes[ROUTE_NODES_MAX];
};

struct route_table *route_table_new(void)
{
    struct route_table *table = calloc(1, sizeof *table);
    if (table != NULL) {
        (void)pthread_mutex_init(&table->mutex, NULL);
        table->root.fixed = true;
    }
    return table;
}

struct route_table *route_table_free(struct route_table *table)
{
    if (table != NULL) {
        (void)pthread_mutex_destroy(&table->mutex);
        free(table);
    }
    return NULL;
}

/* ------------------------------------------------------------------ nodes */

static struct node *node_new(struct route_table *table, struct slice value)
{
    struct node *node = table->free;
    if (node != NULL) {
        table->free = node->next;
        table->free_count--;
    } else if (table->used < ROUTE_NODES_MAX) {
        node = &table->nodes[table->used++];
    } else {
        return NULL;
    }
    *node = (struct node){.size = (uint8_t)value.size};
    if (value.size > 0) {
        memcpy(node->value, value.data, value.size);
    }
    return node;
}

static void node_free(struct route_table *table, struct node *node)
{
    node->next = table->free;
    table->free = node;
    table->free_count++;
}

static struct node *child_find(const struct node *parent, struct slice value)
{
    struct node *child = parent->children;
    while (child != NULL && !slice_equal(slice_make(child->value, child->size), value)) {
        child = child->next;
    }
    return child;
}

static void child_link(struct node *parent, struct node *child)
{
    child->next = parent->children;
    parent->children = child;
    parent->child_count++;
}

static void merge(struct route_table *table, struct node *into, struct node *from);

/* All children become one. */
static void node_close(struct route_table *table, struct node *node)
{
    struct node *child = node->children;
    struct node *one = child;
    if (node->closed) {
        return;
    }
    node->closed = true;
    if (one == NULL) {
        return;
    }
    child = one->next;
    one->next = NULL;
    node->child_count = 1;
    one->size = sizeof(WILDCARD) - 1;
    memcpy(one->value, WILDCARD, sizeof(WILDCARD) - 1);
    while (child != NULL) {
        struct node *next = child->next;
        merge(table, one, child);
        child = next;
    }
}

/* Takes `from` apart: its children go into `into`. */
static void merge(struct route_table *table, struct node *into, struct node *from)
{
    struct node *child = from->children;
    if (from->closed) {
        node_close(table, into);
    }
    while (child != NULL) {
        struct node *next = child->next;
        struct node *same =
            into->closed ? into->children : child_find(into, slice_make(child->value, child->size));
        if (same != NULL) {
            merge(table, same, child);
        } else {
            child_link(into, child);
            if (into->closed) {
                child->size = sizeof(WILDCARD) - 1;
                memcpy(child->value, WILDCARD, sizeof(WILDCARD) - 1);
            } else if (into->child_count > ROUTE_VALUES_MAX) {
                node_close(table, into);
            }
        }
        child = next;
    }
    node_free(table, from);
}

/* Makes room: the place with the most values becomes "{}". False: there is none with several. */
static bool close_widest(struct route_table *table, const struct node *node, struct node **widest)
{
    for (struct node *child = node->children; child != NULL; child = child->next) {
        if (!child->fixed && !child->closed && child->child_count > 1 &&
            (*widest == NULL || child->child_count > (*widest)->child_count)) {
            *widest = child;
        }
        (void)close_widest(table, child, widest);
    }
    if (node == &table->root && *widest != NULL) {
        node_close(table, *widest);
    }
    return *widest != NULL;
}

/* The child for a segment; NULL: no more nodes. */
static struct node *child_get(struct route_table *table, struct node *parent, struct slice value)
{
    bool any = parent->closed || (!parent->fixed && slice_equal(value, slice_text(WILDCARD)));
    value = any ? slice_text(WILDCARD) : value;
    struct node *child = child_find(parent, value);
    if (child != NULL) {
        return child;
    }
    child = node_new(table, value);
    if (child == NULL) {
        return NULL;
    }
    child_link(parent, child);
    if (!parent->fixed && parent->child_count > ROUTE_VALUES_MAX) {
        node_close(table, parent);
        return parent->children;
    }
    return child;
}

/* ------------------------------------------------------------------ paths */

/* The path of a request's target: no "http://host" before it, no query or fragment behind. */
static struct slice path_of(const char *target)
{
    const char *scheme = target[0] == '/' ? NULL : strstr(target, "://");
    if (scheme != NULL) {
        target = scheme + 3 + strcspn(scheme + 3, "/?#");
    }
    return slice_make(target, strcspn(target, "?#"));
}

/* Cuts the next segment that is not empty off. */
static bool segment_next(struct slice *path, struct slice *ret_segment)
{
    size_t begin = 0;
    while (begin < path->size && path->data[begin] == '/') {
        begin++;
    }
    size_t end = begin;
    while (end < path->size && path->data[end] != '/') {
        end++;
    }
    *ret_segment = slice_make(path->data + begin, end - begin);
    *path = slice_make(path->data + end, path->size - end);
    return ret_segment->size > 0;
}

static bool is_value(struct slice segment)
{
    for (size_t i = 0; i < segment.size; i++) {
        uint8_t byte = segment.data[i];
        if (byte <= 0x20 || byte >= 0x7f || strchr("%@{}\"\\<>=,;", byte) != NULL) {
            return true;
        }
    }
    return identifier_is(segment);
}

struct route {
    char *text;
    size_t size;
};

static bool route_add(struct route *route, struct slice text)
{
    /* Its slash before it, and behind it room for the slash and the mark of what is left out. */
    if (route->size + 1 + text.size + 1 + TEXT_MORE_BYTES > ROUTE_BYTES_MAX) {
        return false;
    }
    route->text[route->size++] = '/';
    memcpy(route->text + route->size, text.data, text.size);
    route->size += text.size;
    return true;
}

static void route_add_path(struct route_table *table, struct node *node, struct slice path,
                           struct route *route)
{
    struct slice segment;
    unsigned int count = 0;
    bool empty = true;
    while (segment_next(&path, &segment)) {
        struct slice value = is_value(segment) ? slice_text(WILDCARD) : segment;
        bool room = node != NULL && count++ < ROUTE_SEGMENTS_MAX;
        node = room ? child_get(table, node, value) : NULL;
        if (node == NULL || !route_add(route, slice_make(node->value, node->size))) {
            memcpy(route->text + route->size, "/" TEXT_MORE, 1 + TEXT_MORE_BYTES);
            route->size += 1 + TEXT_MORE_BYTES;
            return;
        }
        empty = false;
    }
    if (empty) {
        route->text[route->size++] = '/';
    }
}

static const char *method_known(const char *method)
{
    static const char *const methods[] = {"GET",  "POST",    "PUT",     "DELETE", "PATCH",
                                          "HEAD", "OPTIONS", "CONNECT", "TRACE"};
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (strcmp(method, methods[i]) == 0) {
            return methods[i];
        }
    }
    return "OTHER"; /* a client chooses it: any number of them */
}

size_t route_make(struct route_table *table, const char *service, const char *method,
                  const char *target, char ret_route[ROUTE_BYTES_MAX + 1])
{
    struct route route = {.text = ret_route};
    struct node *widest = NULL;
    struct node *node = NULL;
    const char *known = method_known(method);
    size_t method_size = strlen(known);
    memcpy(route.text, known, method_size);
    route.text[method_size] = ' ';
    route.size = method_size + 1;

    pthread_mutex_lock(&table->mutex);
    if (ROUTE_NODES_MAX - table->used + table->free_count < ROUTE_SEGMENTS_MAX + 2) {
        (void)close_widest(table, &table->root, &widest);
    }
    node = child_get(table, &table->root, slice_make(service, strnlen(service, SEGMENT_BYTES)));
    if (node != NULL) {
        node->fixed = true;
        node = child_get(table, node, slice_text(known));
    }
    route_add_path(table, node, path_of(target), &route);
    pthread_mutex_unlock(&table->mutex);
    route.text[route.size] = '\0';
    return route.size;
}
