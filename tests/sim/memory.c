/*
 * Memory. When the simulated process dies, all that it had must be gone: its heap, and what its
 * variables held.
 *
 * Every block that malloc() and the like give out (the simulator is linked with --wrap for each)
 * carries a header; those of the product's fibers are in a list. libbson gives out its memory
 * through the same functions. The product's variables lie between two markers, for its libraries
 * are linked between variables_begin.c and variables_end.c; they are copied once, at the start, and
 * put back for each life.
 */
#include <assert.h>
#include <bson/bson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sim.h"
#include "variables.h"

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
void __real_free(void *memory);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_reallocarray(void *memory, size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void __wrap_free(void *memory);
char *__wrap_strdup(const char *text);

#define MAGIC 0x51D0B10Cu

struct header {
    struct header *next; /* of the product's; NULL if it is not one of them */
    struct header *previous;
    void *block;
    size_t size;
    uint32_t magic;
    bool tracked;
} __attribute__((aligned(16)));

static struct header product = {.next = &product, .previous = &product};
static size_t product_blocks;

static void *give(void *block, size_t offset, size_t size, bool tracked)
{
    struct header *header =
        (struct header *)(void *)((uint8_t *)block + offset - sizeof(struct header));
    *header = (struct header){.block = block, .size = size, .magic = MAGIC, .tracked = tracked};
    if (tracked) {
        header->next = &product;
        header->previous = product.previous;
        product.previous->next = header;
        product.previous = header;
        product_blocks++;
    }
    return (uint8_t *)block + offset;
}

static void *allocate(size_t size, bool zero, bool tracked)
{
    size_t whole = size + sizeof(struct header);
    assert(whole > size);
    void *block = zero ? __real_calloc(1, whole) : __real_malloc(whole);
    assert(block != NULL);
    return give(block, sizeof(struct header), size, tracked);
}

static struct header *header_of(void *memory)
{
    struct header *header = (struct header *)(void *)((uint8_t *)memory - sizeof(struct header));
    assert(header->magic == MAGIC);
    return header;
}

static void release(void *memory)
{
    if (memory == NULL) {
        return;
    }
    struct header *header = header_of(memory);
    if (header->tracked) {
        header->previous->next = header->next;
        header->next->previous = header->previous;
        product_blocks--;
    }
    header->magic = 0;
    __real_free(header->block);
}

static void *resize(void *memory, size_t size, bool tracked)
{
    if (memory == NULL) {
        return allocate(size, false, tracked);
    }
    const struct header *header = header_of(memory);
    void *other = allocate(size, false, header->tracked);
    memcpy(other, memory, header->size < size ? header->size : size);
    release(memory);
    return other;
}

/* ------------------------------------------------------------------ in malloc's place */

void *__wrap_malloc(size_t size)
{
    return allocate(size, false, fiber_is_product());
}

void *__wrap_calloc(size_t count, size_t size)
{
    size_t whole;
    assert(!__builtin_mul_overflow(count, size, &whole));
    return allocate(whole, true, fiber_is_product());
}

void *__wrap_realloc(void *memory, size_t size)
{
    return resize(memory, size, fiber_is_product());
}

void *__wrap_reallocarray(void *memory, size_t count, size_t size)
{
    size_t whole;
    assert(!__builtin_mul_overflow(count, size, &whole));
    return resize(memory, whole, fiber_is_product());
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    size_t offset = (sizeof(struct header) + alignment - 1) / alignment * alignment;
    void *block = __real_aligned_alloc(alignment, offset + size);
    assert(block != NULL);
    return give(block, offset, size, fiber_is_product());
}

void __wrap_free(void *memory)
{
    release(memory);
}

char *__wrap_strdup(const char *text)
{
    size_t size = strlen(text) + 1;
    return memcpy(__wrap_malloc(size), text, size);
}

/* ------------------------------------------------------------------ the simulator's own */

void *sim_malloc(size_t size)
{
    return allocate(size, true, false);
}

void *sim_realloc(void *memory, size_t size)
{
    return resize(memory, size, false);
}

void sim_free(void *memory)
{
    release(memory);
}

void bytes_append(struct bytes *bytes, const void *data, size_t size)
{
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = (bytes->size + size) * 2;
        bytes->data = sim_realloc(bytes->data, bytes->capacity);
    }
    if (size > 0) {
        memcpy(bytes->data + bytes->size, data, size);
    }
    bytes->size += size;
}

void bytes_consume(struct bytes *bytes, size_t size)
{
    assert(size <= bytes->size);
    memmove(bytes->data, bytes->data + size, bytes->size - size);
    bytes->size -= size;
}

void bytes_free(struct bytes *bytes)
{
    sim_free(bytes->data);
    *bytes = (struct bytes){0};
}

/* ------------------------------------------------------------------ the product's variables */

static uint8_t *kept_data;

/* Byte by byte, unseen by sanitizers: between variables lies what they have poisoned. */
__attribute__((no_sanitize("address", "undefined"),
               optimize("no-tree-loop-distribute-patterns"))) static void
copy(volatile uint8_t *to, const volatile uint8_t *from, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = from[i];
    }
}

__attribute__((no_sanitize("address", "undefined"),
               optimize("no-tree-loop-distribute-patterns"))) static void
clear(volatile uint8_t *to, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        to[i] = 0;
    }
}

static size_t span(const uint8_t *begin, const uint8_t *end)
{
    assert((uintptr_t)begin < (uintptr_t)end);
    return (uintptr_t)end - (uintptr_t)begin;
}

void memory_begin(void)
{
    static const bson_mem_vtable_t table = {
        .malloc = __wrap_malloc,
        .calloc = __wrap_calloc,
        .realloc = __wrap_realloc,
        .free = __wrap_free,
        .aligned_alloc = __wrap_aligned_alloc,
    };
    bson_mem_set_vtable(&table);
    size_t size = span(variables_data_begin, variables_data_end);
    kept_data = sim_malloc(size);
    copy(kept_data, variables_data_begin, size);
}

void memory_forget_product(void)
{
    assert(!fiber_is_product());
    while (product.next != &product) {
        release((uint8_t *)product.next + sizeof(struct header));
    }
    copy(variables_data_begin, kept_data, span(variables_data_begin, variables_data_end));
    clear(variables_bss_begin, span(variables_bss_begin, variables_bss_end));
}

size_t memory_product_blocks(void)
{
    return product_blocks;
}
