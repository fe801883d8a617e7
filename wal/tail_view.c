/*
 * The tail in memory (tail.h): what readers lay over the tables.
 *
 * Invariants: a frame never changes and stays where it is until the view is freed; `count` grows
 * after the frame is in its place. Everything is found by looking through the frames, the newest
 * first: a checkpoint comes before they are many.
 */

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "wal/tail.h"

#define FRAMES_MAX (FORMAT_TAIL_BYTES / FORMAT_FRAME_ALIGNMENT)

struct tail_view {
    atomic_uint holders;
    atomic_size_t count;
    struct tail_frame *frames[FRAMES_MAX];
};

struct tail_view *tail_view_new(void)
{
    struct tail_view *view = calloc(1, sizeof *view);
    if (view != NULL) {
        atomic_init(&view->holders, 1);
    }
    return view;
}

struct tail_view *tail_view_hold(struct tail_view *view)
{
    atomic_fetch_add(&view->holders, 1);
    return view;
}

struct tail_view *tail_view_release(struct tail_view *view)
{
    if (view != NULL && atomic_fetch_sub(&view->holders, 1) == 1) {
        size_t count = atomic_load(&view->count);
        for (size_t i = 0; i < count; i++) {
            tail_frame_free(view->frames[i]);
        }
        free(view);
    }
    return NULL;
}

bool tail_view_is_full(const struct tail_view *view)
{
    return atomic_load(&view->count) == FRAMES_MAX;
}

void tail_view_add(struct tail_view *view, struct tail_frame *frame)
{
    size_t count = atomic_load(&view->count);
    view->frames[count] = frame;
    atomic_store(&view->count, count + 1);
}

/* ------------------------------------------------------------------ by LSN */

struct tail_window tail_window_of(const struct tail_view *view, uint64_t after_lsn)
{
    return (struct tail_window){
        .view = view,
        .frames = view == NULL ? 0 : atomic_load(&view->count),
        .after_lsn = after_lsn,
    };
}

uint64_t tail_window_first_lsn(const struct tail_window *window)
{
    return window->frames == 0 ? 0 : window->view->frames[0]->first_lsn;
}

uint64_t tail_window_last_lsn(const struct tail_window *window)
{
    return window->frames == 0 ? 0 : window->view->frames[window->frames - 1]->last_lsn;
}

bool tail_window_continues(const struct tail_window *window)
{
    return tail_window_first_lsn(window) <= window->after_lsn + 1;
}

const struct tail_entry *tail_window_entry(const struct tail_window *window, uint64_t lsn)
{
    if (lsn <= window->after_lsn) {
        return NULL;
    }
    for (size_t i = window->frames; i-- > 0;) {
        const struct tail_frame *frame = window->view->frames[i];
        if (lsn >= frame->first_lsn) {
            return lsn <= frame->last_lsn ? &frame->entries[lsn - frame->first_lsn] : NULL;
        }
    }
    return NULL;
}

/* ------------------------------------------------------------------ by unit, by session */

bool tail_window_next(const struct tail_window *window, struct tail_place *place)
{
    while (place->frame < window->frames) {
        const struct tail_frame *frame = window->view->frames[place->frame];
        if (frame->last_lsn <= window->after_lsn || place->entry == frame->count) {
            place->frame++;
            place->entry = 0;
            continue;
        }
        place->lsn = frame->first_lsn + place->entry;
        place->at = &frame->entries[place->entry++];
        if (place->lsn > window->after_lsn) {
            return true;
        }
    }
    return false;
}

/* So that who goes through a large journal looks through the frames for few of its units only. */
static bool is_in_range(struct tail_window *window, uint64_t unit)
{
    if (window->lowest_unit == 0) {
        struct tail_place place = {0};
        window->lowest_unit = UINT64_MAX;
        while (tail_window_next(window, &place)) {
            uint64_t number = place.at->unit;
            window->lowest_unit = number < window->lowest_unit ? number : window->lowest_unit;
            window->highest_unit = number > window->highest_unit ? number : window->highest_unit;
        }
    }
    return unit >= window->lowest_unit && unit <= window->highest_unit;
}

void tail_window_unit(struct tail_window *window, uint64_t unit, bool *found,
                      struct format_unit *row)
{
    struct tail_place place = {0};
    if (!is_in_range(window, unit)) {
        return;
    }
    while (tail_window_next(window, &place)) {
        if (place.at->unit != unit) {
            continue;
        }
        uint64_t time_ms = format_record_time_ms(place.at->value.data);
        if (place.at->kind == WAL_KIND_BEGIN) {
            *found = true;
            format_unit_begin(row, unit, place.lsn, time_ms, place.at->session_key);
        }
        format_unit_follow(row, place.at->kind, place.lsn, time_ms);
    }
}

uint64_t tail_window_unit_next(struct tail_window *window, uint64_t after_unit)
{
    struct tail_place place = {0};
    uint64_t next = 0;
    bool is_same = window->next_known && after_unit >= window->next_after &&
                   (window->next_unit == 0 || after_unit < window->next_unit);
    if (is_same) {
        return window->next_unit;
    }
    while (tail_window_next(window, &place)) {
        if (place.at->unit > after_unit && (next == 0 || place.at->unit < next)) {
            next = place.at->unit;
        }
    }
    window->next_known = true;
    window->next_after = after_unit;
    window->next_unit = next;
    return next;
}

void tail_window_session(const struct tail_window *window, struct slice key, bool *found,
                         struct format_session *session)
{
    struct tail_place place = {0};
    while (tail_window_next(window, &place)) {
        if (!slice_equal(place.at->session_key, key) ||
            (*found && session->transaction_number > place.at->transaction_number)) {
            continue;
        }
        *found = true;
        *session = (struct format_session){
            .transaction_number = place.at->transaction_number,
            .unit = place.at->unit,
            .time_ms = format_record_time_ms(place.at->value.data),
        };
    }
}

struct slice tail_window_session_next(const struct tail_window *window, struct slice after)
{
    struct tail_place place = {0};
    struct slice next = {0};
    while (tail_window_next(window, &place)) {
        struct slice key = place.at->session_key;
        if (key.size > 0 && (after.size == 0 || slice_compare(key, after) > 0) &&
            (next.size == 0 || slice_compare(key, next) < 0)) {
            next = key;
        }
    }
    return next;
}

static int compare_tail_records(const void *a_void, const void *b_void)
{
    const struct tail_record *a = a_void;
    const struct tail_record *b = b_void;
    if (a->unit != b->unit) {
        return a->unit < b->unit ? -1 : 1;
    }
    return a->lsn < b->lsn ? -1 : a->lsn > b->lsn ? 1 : 0;
}

enum status tail_window_by_unit(const struct tail_window *window, struct tail_record **ret_records,
                                size_t *ret_count, struct error *ret_error)
{
    struct tail_place place = {0};
    size_t count = 0;
    while (tail_window_next(window, &place)) {
        count++;
    }
    struct tail_record *records = calloc(count + 1, sizeof *records);
    if (records == NULL) {
        return error_set(ret_error, STATUS_MEMORY, "out of memory");
    }
    place = (struct tail_place){0};
    for (size_t i = 0; i < count && tail_window_next(window, &place); i++) {
        records[i] =
            (struct tail_record){.unit = place.at->unit, .lsn = place.lsn, .entry = place.at};
    }
    qsort(records, count, sizeof *records, compare_tail_records);
    *ret_records = records;
    *ret_count = count;
    return STATUS_OK;
}
