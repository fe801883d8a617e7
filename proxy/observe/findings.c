/*
 * What was found (findings.h).
 *
 * Invariants: an item's texts are held by it until another key takes its place; two items of a
 * shard differ in their key. What a shard counts is a part of all keys, so that the method's bound
 * on the error holds for each shard by itself.
 */
#include "observe/findings.h"

#include <pthread.h>
#include <stdlib.h>

#define SHARDS 8u

struct shard {
    pthread_mutex_t mutex;
    struct top_k calls;
    struct top_k outside;
    uint64_t outside_writes; /* also of items whose place was taken over */
    uint64_t outside_bytes;
};

struct findings {
    struct text_table *texts;
    uint64_t seed;
    struct shard shards[SHARDS];
};

struct findings *findings_new(struct text_table *texts, uint64_t seed)
{
    struct findings *findings = calloc(1, sizeof *findings);
    bool made = findings != NULL;
    if (findings == NULL) {
        return NULL;
    }
    findings->texts = texts;
    findings->seed = seed;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &findings->shards[i];
        (void)pthread_mutex_init(&shard->mutex, NULL);
        made = made &&
               top_k_init(&shard->calls, OBSERVE_FINDINGS_MAX / SHARDS, sizeof(struct finding)) &&
               top_k_init(&shard->outside, OBSERVE_FINDINGS_MAX / SHARDS, sizeof(struct outside));
    }
    return made ? findings : findings_free(findings);
}

/* ------------------------------------------------------------------ giving back */

static void call_release(struct text_table *texts, struct observed_call *call)
{
    text_release(texts, call->service);
    text_release(texts, call->route);
    sequence_release(&call->sequence, texts);
    people_release(&call->people, texts);
}

static void outside_release(struct text_table *texts, struct outside *outside)
{
    text_release(texts, outside->shape);
    for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
        text_release(texts, outside->names[kind]);
    }
}

/* An item of a table is the head of what the table holds. */
static struct finding *finding_of(struct top_k_item *item)
{
    return (struct finding *)(void *)item;
}

static struct outside *outside_of(struct top_k_item *item)
{
    return (struct outside *)(void *)item;
}

struct findings *findings_free(struct findings *findings)
{
    if (findings == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &findings->shards[i];
        for (size_t at = 0; at < shard->calls.used; at++) {
            call_release(findings->texts, &finding_of(top_k_at(&shard->calls, at))->sum);
        }
        for (size_t at = 0; at < shard->outside.used; at++) {
            outside_release(findings->texts, outside_of(top_k_at(&shard->outside, at)));
        }
        top_k_destroy(&shard->calls);
        top_k_destroy(&shard->outside);
        (void)pthread_mutex_destroy(&shard->mutex);
    }
    free(findings);
    return NULL;
}

/* ------------------------------------------------------------------ calls */

static uint64_t call_hash(const struct findings *findings, const struct observed_call *call)
{
    const struct text *const names[] = {call->service, call->route};
    return text_hash(sequence_hash(&call->sequence, findings->seed + (uint64_t)call->by), names,
                     sizeof names);
}

static bool is_same_call(const struct top_k_item *item, const void *key)
{
    const struct observed_call *known = &((const struct finding *)(const void *)item)->sum;
    const struct observed_call *call = key;
    return known->by == call->by && known->service == call->service &&
           known->route == call->route && sequence_equal(&known->sequence, &call->sequence);
}

/* What another key left of a place becomes this key's first call; the head stays. */
static void finding_begin(struct text_table *texts, struct finding *finding,
                          const struct observed_call *call)
{
    struct top_k_item head = finding->item;
    call_release(texts, &finding->sum);
    *finding = (struct finding){.item = head, .writes_min = call->writes};
    finding->sum.by = call->by;
    finding->sum.service = text_hold(call->service);
    finding->sum.route = call->route == NULL ? NULL : text_hold(call->route);
    sequence_copy(&call->sequence, &finding->sum.sequence);
}

static void finding_add(struct finding *finding, const struct observed_call *call, bool torn)
{
    finding->counted++;
    finding->torn += torn;
    finding->sum.writes += call->writes;
    finding->sum.bytes += call->bytes;
    finding->sum.several = finding->sum.several || call->several;
    if (call->writes < finding->writes_min) {
        finding->writes_min = call->writes;
    }
    if (call->writes > finding->writes_max) {
        finding->writes_max = call->writes;
    }
    if (call->people.counts[PEOPLE_APPLICATIONS] > finding->applications_max) {
        finding->applications_max = call->people.counts[PEOPLE_APPLICATIONS];
    }
    sequence_merge_marks(&finding->sum.sequence, &call->sequence);
    people_merge(&finding->sum.people, &call->people);
}

void findings_count(struct findings *findings, const struct observed_call *call, bool torn)
{
    uint64_t hash = call_hash(findings, call);
    struct shard *shard = &findings->shards[hash % SHARDS];
    pthread_mutex_lock(&shard->mutex);
    struct top_k_item *item = top_k_find(&shard->calls, hash, is_same_call, call);
    if (item != NULL) {
        top_k_count(&shard->calls, item);
    } else {
        bool taken_over = false;
        item = top_k_place(&shard->calls, hash, &taken_over);
        finding_begin(findings->texts, finding_of(item), call);
    }
    finding_add(finding_of(item), call, torn);
    pthread_mutex_unlock(&shard->mutex);
}

/* ------------------------------------------------------------------ outside */

struct outside_key {
    uint64_t writer_hash;
    struct slice shape;
    uint64_t shape_hash;
};

/* Writers are told apart by their hash alone: to compare texts they would have to be cleaned for
   every write, and a collision, once in 2^64, would only add up two lines of a report. */
static bool is_same_outside(const struct top_k_item *item, const void *key)
{
    const struct outside *known = (const struct outside *)(const void *)item;
    const struct outside_key *wanted = key;
    return known->writer_hash == wanted->writer_hash &&
           text_is(known->shape, wanted->shape, wanted->shape_hash);
}

void findings_count_outside(struct findings *findings, const struct shape *shape,
                            uint64_t shape_hash, const struct people_writer *writer, size_t bytes)
{
    const struct outside_key key = {
        .writer_hash = writer->hash,
        .shape = slice_make(shape->text, shape->size),
        .shape_hash = shape_hash,
    };
    uint64_t hash = text_hash(shape_hash, &writer->hash, sizeof writer->hash);
    struct shard *shard = &findings->shards[hash % SHARDS];
    pthread_mutex_lock(&shard->mutex);
    shard->outside_writes++;
    shard->outside_bytes += bytes;
    struct top_k_item *item = top_k_find(&shard->outside, hash, is_same_outside, &key);
    if (item != NULL) {
        top_k_count(&shard->outside, item);
    } else {
        bool taken_over = false;
        item = top_k_place(&shard->outside, hash, &taken_over);
        struct outside *outside = outside_of(item);
        struct top_k_item head = *item;
        outside_release(findings->texts, outside);
        *outside = (struct outside){.item = head, .writer_hash = writer->hash};
        outside->shape = text_keep_hashed(findings->texts, key.shape, shape_hash);
        for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
            outside->names[kind] = people_keep(writer, (enum people_kind)kind, findings->texts);
        }
    }
    outside_of(item)->bytes += bytes;
    outside_of(item)->several = outside_of(item)->several || shape->several;
    pthread_mutex_unlock(&shard->mutex);
}

void findings_outside_figures(struct findings *findings, uint64_t *ret_writes, uint64_t *ret_bytes)
{
    *ret_writes = 0;
    *ret_bytes = 0;
    for (size_t i = 0; i < SHARDS; i++) {
        struct shard *shard = &findings->shards[i];
        pthread_mutex_lock(&shard->mutex);
        *ret_writes += shard->outside_writes;
        *ret_bytes += shard->outside_bytes;
        pthread_mutex_unlock(&shard->mutex);
    }
}

/* ------------------------------------------------------------------ lists */

static int more_frequent_first(const void *left, const void *right)
{
    const struct top_k_item *a = left;
    const struct top_k_item *b = right;
    /* What may all be error comes behind what was certainly seen as often. */
    uint64_t certain_a = a->count - a->error;
    uint64_t certain_b = b->count - b->error;
    if (a->count != b->count) {
        return a->count < b->count ? 1 : -1;
    }
    return (certain_a < certain_b) - (certain_a > certain_b);
}

struct finding *findings_list(struct findings *findings, size_t *ret_count)
{
    struct finding *list = calloc(OBSERVE_FINDINGS_MAX, sizeof *list);
    size_t count = 0;
    *ret_count = 0;
    for (size_t i = 0; list != NULL && i < SHARDS; i++) {
        struct shard *shard = &findings->shards[i];
        pthread_mutex_lock(&shard->mutex);
        for (size_t at = 0; at < shard->calls.used; at++) {
            const struct finding *from = finding_of(top_k_at(&shard->calls, at));
            struct finding *to = &list[count++];
            *to = *from;
            (void)text_hold(to->sum.service);
            to->sum.route = from->sum.route == NULL ? NULL : text_hold(from->sum.route);
            sequence_copy(&from->sum.sequence, &to->sum.sequence);
            to->sum.people = (struct people){.counts = {0}};
            people_merge(&to->sum.people, &from->sum.people);
        }
        pthread_mutex_unlock(&shard->mutex);
    }
    if (count > 0) {
        qsort(list, count, sizeof *list, more_frequent_first);
    }
    *ret_count = count;
    return list;
}

void findings_list_free(struct findings *findings, struct finding *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        call_release(findings->texts, &list[i].sum);
    }
    free(list);
}

struct outside *outside_list(struct findings *findings, size_t *ret_count)
{
    struct outside *list = calloc(OBSERVE_FINDINGS_MAX, sizeof *list);
    size_t count = 0;
    *ret_count = 0;
    for (size_t i = 0; list != NULL && i < SHARDS; i++) {
        struct shard *shard = &findings->shards[i];
        pthread_mutex_lock(&shard->mutex);
        for (size_t at = 0; at < shard->outside.used; at++) {
            struct outside *to = &list[count++];
            *to = *outside_of(top_k_at(&shard->outside, at));
            (void)text_hold(to->shape);
            for (unsigned int kind = 0; kind < PEOPLE_KINDS; kind++) {
                to->names[kind] = to->names[kind] == NULL ? NULL : text_hold(to->names[kind]);
            }
        }
        pthread_mutex_unlock(&shard->mutex);
    }
    if (count > 0) {
        qsort(list, count, sizeof *list, more_frequent_first);
    }
    *ret_count = count;
    return list;
}

void outside_list_free(struct findings *findings, struct outside *list, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        outside_release(findings->texts, &list[i]);
    }
    free(list);
}
