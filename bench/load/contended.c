/* See contended.h. */
#include "bench/load/contended.h"

#include <bson/bson.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>

#include "bench/load/link.h"
#include "holdfast/limits.h"
#include "wire/bson_walk.h"

/* The sum of the values of the documents whose _id is below `end`. */
static enum status sum_below(int descriptor, const char *collection, int32_t end, int64_t *ret_sum,
                             struct error *ret_error)
{
    struct reply_view view;
    struct buffer reply;
    struct slice rows;
    struct bson_element row;
    struct bson_element sum;
    buffer_init(&reply, LIMIT_MESSAGE_BYTES_MAX);
    bson_t *command = BCON_NEW(
        "aggregate", BCON_UTF8(collection), "pipeline", "[", "{", "$match", "{", "_id", "{", "$lt",
        BCON_INT32(end), "}", "}", "}", "{", "$group", "{", "_id", BCON_NULL, "sum", "{", "$sum",
        "$value", "}", "}", "}", "]", "cursor", "{", "}", "$db", BCON_UTF8(DOCUMENTS_DATABASE));
    enum status status = link_ask(descriptor, command, "aggregate", &reply, &view, ret_error);
    if (status == STATUS_OK &&
        !(bson_fields_open(view.batch, &rows) && bson_element_next(&rows, &row) &&
          bson_element_find(row.value, "sum", &sum) && bson_element_integer(&sum, ret_sum))) {
        status = error_set(ret_error, STATUS_PROTOCOL, "aggregate: no sum came");
    }
    bson_destroy(command);
    buffer_free(&reply);
    return status;
}

enum status contended_sum(const struct load_options *options, const struct documents *documents,
                          struct contended_sums *ret, struct error *ret_error)
{
    int descriptor;
    struct contended_sums sums = {0};
    enum status status = link_open(&options->address, &descriptor, ret_error);
    if (status != STATUS_OK) {
        return status;
    }
    status =
        sum_below(descriptor, documents->collection, (int32_t)options->hot, &sums.hot, ret_error);
    if (status == STATUS_OK) {
        status = sum_below(descriptor, documents->collection, (int32_t)documents->count, &sums.all,
                           ret_error);
    }
    (void)close(descriptor);
    if (status == STATUS_OK) {
        *ret = sums;
    }
    return status;
}

enum status contended_check(const struct load_options *options,
                            const struct contended_result *result, struct error *ret_error)
{
    if (options->kind == LOAD_ACCOUNTS) {
        return result->after.hot == result->before.hot
                   ? STATUS_OK
                   : error_set(ret_error, STATUS_PROTOCOL,
                               "the accounts held %" PRId64 " together, and now %" PRId64,
                               result->before.hot, result->after.hot);
    }
    int64_t transactions = (int64_t)result->transactions.operations;
    int64_t plain = (int64_t)result->plain.operations;
    int64_t hot = result->after.hot - result->before.hot;
    int64_t own = result->after.all - result->before.all - hot;
    if (hot == transactions + plain && own == transactions) {
        return STATUS_OK;
    }
    return error_set(ret_error, STATUS_PROTOCOL,
                     "%" PRId64 " transactions and %" PRId64
                     " plain updates were acknowledged, but "
                     "the hot documents grew by %" PRId64 " and the others by %" PRId64,
                     transactions, plain, hot, own);
}

static int compare(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return left < right ? -1 : left > right;
}

void contended_share(struct contended_figures *figures, uint64_t *counts, size_t count)
{
    if (count == 0) {
        return;
    }
    qsort(counts, count, sizeof *counts, compare);
    figures->fewest = counts[0];
    figures->median = counts[count / 2];
    figures->most = counts[count - 1];
}

double contended_unfairness(const struct contended_figures *figures)
{
    uint64_t median = histogram_percentile(&figures->waits, 50);
    return median == 0 ? 0 : (double)figures->longest_ns / (double)median;
}
