/*
 * The resolver's thread (resolver.h): its queue, looking, and what an operator's words mean.
 *
 * The queue and `stopping` belong to the mutex; a job to the thread once taken.
 */
/* OpenSSL 3 would rather have EVP, which can fail. */
#define OPENSSL_API_COMPAT 10101

#include "engine/resolver.h"

#include <errno.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/resolver_private.h"

/* A server that has stopped answering keeps an operator, and the end of the process, no longer. */
#define ANSWER_MS 10000u

struct resolver {
    struct resolver_options options;
    char *upstream_uri;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct resolver_job *first;
    struct resolver_job **last;
    size_t count; /* queued and at work */
    bool stopping;
};

/* ------------------------------------------------------------------ what was shown */

static void add(SHA256_CTX *hash, const void *bytes, size_t size)
{
    uint64_t length = size; /* so that no two lists of parts give the same bytes */
    (void)SHA256_Update(hash, &length, sizeof length);
    (void)SHA256_Update(hash, bytes, size);
}

static void add_image(SHA256_CTX *hash, struct image image)
{
    uint8_t presence = (uint8_t)image.presence;
    add(hash, &presence, sizeof presence);
    add(hash, image.document.data == NULL ? (const uint8_t *)"" : image.document.data,
        image.document.size);
}

void resolver_digest(const struct resolve_plan *plan, char ret_digest[RESOLVER_DIGEST_BYTES])
{
    SHA256_CTX hash;
    uint8_t digest[SHA256_DIGEST_LENGTH];
    (void)SHA256_Init(&hash);
    add(&hash, &plan->history->unit, sizeof plan->history->unit);
    add(&hash, &plan->history->last_lsn, sizeof plan->history->last_lsn);
    for (size_t i = 0; i < plan->document_count; i++) {
        const struct resolve_document *document = &plan->documents[i];
        add(&hash, document->namespace, strlen(document->namespace));
        add(&hash, document->key.data, document->key.size);
        add_image(&hash, document->before);
        add_image(&hash, document->after);
        add_image(&hash, document->found);
    }
    (void)SHA256_Final(digest, &hash);
    for (size_t i = 0; i < sizeof digest; i++) {
        (void)snprintf(ret_digest + 2 * i, 3, "%02x", digest[i]);
    }
}

/* ------------------------------------------------------------------ what is to be done */

static bool choice_of(char letter, enum resolve_choice *ret_choice)
{
    switch (letter) {
    case 'k':
        *ret_choice = RESOLVE_KEEP;
        return true;
    case 'r':
        *ret_choice = RESOLVE_RESTORE;
        return true;
    case 'a':
        *ret_choice = RESOLVE_APPLY;
        return true;
    default:
        return false;
    }
}

/* The number at `text`, 1 if none is there. False: it is too large. */
static bool take_count(const char *text, uint64_t *ret_count, const char **ret_rest)
{
    char *end = NULL;
    *ret_count = 1;
    *ret_rest = text;
    if (*text < '0' || *text > '9') {
        return true;
    }
    errno = 0;
    *ret_count = strtoull(text, &end, 10);
    *ret_rest = end;
    return errno == 0;
}

enum status resolver_choose(struct resolve_plan *plan, const char *choices, struct error *ret_error)
{
    enum resolve_choice choice = RESOLVE_KEEP;
    if (choices[0] != '\0' && choices[1] == '\0' && choice_of(choices[0], &choice)) {
        resolve_choose(plan, choice);
        return STATUS_OK;
    }
    size_t at = 0;
    bool fits = true;
    while (fits && choice_of(*choices, &choice)) {
        uint64_t count = 1;
        fits = take_count(choices + 1, &count, &choices) && count <= plan->document_count - at;
        for (; fits && count > 0; count--) {
            plan->documents[at++].choice = choice;
        }
    }
    return fits && *choices == '\0' && at == plan->document_count
               ? STATUS_OK
               : error_set(ret_error, STATUS_INVALID,
                           "not one choice for each of the %zu documents: letters k, r or a, each "
                           "perhaps with a number",
                           plan->document_count);
}

/* ------------------------------------------------------------------ jobs */

static enum status look(struct resolver *resolver, struct upstream *upstream,
                        struct resolver_job *job, struct error *ret_error)
{
    enum status status = resolve_look(resolver->options.engine->wal, upstream, job->unit,
                                      RESOLVER_BYTES_MAX, &job->plan, ret_error);
    if (status == STATUS_OK) {
        resolver_digest(&job->plan, job->digest);
    }
    return status;
}

/* A connection for each job: they are rare, and a decision pins its own. */
static void run(struct resolver *resolver, struct resolver_job *job)
{
    struct upstream *upstream = NULL;
    job->status = upstream_open_answering(resolver->upstream_uri, resolver->options.connect_ms,
                                          ANSWER_MS, &upstream, &job->error);
    if (job->status == STATUS_OK) {
        job->status = job->decide ? resolver_decide(&resolver->options, upstream, job, &job->error)
                                  : look(resolver, upstream, job, &job->error);
    }
    upstream_close(upstream);
    if (job->status == STATUS_NOT_FOUND) {
        error_prefix(&job->error, "unit %" PRIu64, job->unit);
    }
}

/* The mutex is held. */
static struct resolver_job *take_first(struct resolver *resolver)
{
    struct resolver_job *job = resolver->first;
    if (job != NULL) {
        resolver->first = job->next;
        if (resolver->first == NULL) {
            resolver->last = &resolver->first;
        }
    }
    return job;
}

static void *resolver_main(void *context)
{
    struct resolver *resolver = context;
    pthread_mutex_lock(&resolver->mutex);
    for (;;) {
        while (resolver->first == NULL && !resolver->stopping) {
            (void)pthread_cond_wait(&resolver->work, &resolver->mutex);
        }
        struct resolver_job *job = take_first(resolver);
        if (job == NULL) {
            break;
        }
        bool stopping = resolver->stopping;
        pthread_mutex_unlock(&resolver->mutex);
        if (stopping) {
            job->status = error_set(&job->error, STATUS_UNREACHABLE, "holdfastd is ending");
        } else {
            run(resolver, job);
        }
        struct resolve_plan plan = job->plan;
        job->done(job);
        resolve_plan_free(&plan);
        pthread_mutex_lock(&resolver->mutex);
        resolver->count--;
    }
    pthread_mutex_unlock(&resolver->mutex);
    return NULL;
}

static void resolver_free(struct resolver *resolver)
{
    (void)pthread_cond_destroy(&resolver->work);
    (void)pthread_mutex_destroy(&resolver->mutex);
    free(resolver->upstream_uri);
    free(resolver);
}

enum status resolver_start(const struct resolver_options *options, struct resolver **ret_resolver,
                           struct error *ret_error)
{
    struct resolver *resolver = calloc(1, sizeof *resolver);
    if (resolver == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    resolver->options = *options;
    resolver->last = &resolver->first;
    (void)pthread_mutex_init(&resolver->mutex, NULL);
    (void)pthread_cond_init(&resolver->work, NULL);
    resolver->upstream_uri = strdup(options->upstream_uri);
    if (resolver->upstream_uri == NULL) {
        resolver_free(resolver);
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    if (pthread_create(&resolver->thread, NULL, resolver_main, resolver) != 0) {
        resolver_free(resolver);
        return error_set(ret_error, STATUS_IO, "cannot start a thread: %s", strerror(errno));
    }
    *ret_resolver = resolver;
    return STATUS_OK;
}

void resolver_refuse(struct resolver *resolver)
{
    if (resolver != NULL) {
        pthread_mutex_lock(&resolver->mutex);
        resolver->stopping = true;
        (void)pthread_cond_signal(&resolver->work);
        pthread_mutex_unlock(&resolver->mutex);
    }
}

struct resolver *resolver_stop(struct resolver *resolver)
{
    if (resolver == NULL) {
        return NULL;
    }
    resolver_refuse(resolver);
    (void)pthread_join(resolver->thread, NULL);
    resolver_free(resolver);
    return NULL;
}

bool resolver_ask(struct resolver *resolver, struct resolver_job *job)
{
    pthread_mutex_lock(&resolver->mutex);
    bool taken = resolver->count < RESOLVER_JOBS_MAX && !resolver->stopping;
    if (taken) {
        job->next = NULL;
        *resolver->last = job;
        resolver->last = &job->next;
        resolver->count++;
        (void)pthread_cond_signal(&resolver->work);
    }
    pthread_mutex_unlock(&resolver->mutex);
    return taken;
}
