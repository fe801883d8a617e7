/* What sessions with callers and services have in common; see http2.h. */
#include "front/http2.h"

#include <string.h>

#include "front/http2_text.h"
#include "holdfast/clock.h"

/* ------------------------------------------------------------------ budget */

#define TOKENS_MAX 10000u
#define TOKENS_A_SECOND 500u
#define TOKENS_EARNED 4u /* a DATA frame: WINDOW_UPDATEs of stream and connection, a PING */

static void add_tokens(struct http2_budget *budget, uint64_t tokens)
{
    uint64_t room = TOKENS_MAX - budget->tokens;
    budget->tokens += tokens < room ? tokens : room;
}

static void fill_up(struct http2_budget *budget)
{
    uint64_t now_ms = clock_monotonic_ms();
    uint64_t tokens = (now_ms - budget->filled_ms) * TOKENS_A_SECOND / 1000u;
    if (tokens > 0) {
        add_tokens(budget, tokens);
        budget->filled_ms = now_ms;
    }
}

static unsigned price_of(const nghttp2_frame *frame)
{
    switch (frame->hd.type) {
    case NGHTTP2_RST_STREAM:
    case NGHTTP2_SETTINGS:
        return 10;
    case NGHTTP2_PING:
        return 2;
    case NGHTTP2_DATA:
        return frame->hd.length == 0 && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 ? 2 : 0;
    case NGHTTP2_HEADERS:
        return 0; /* a request: work that is bounded elsewhere */
    default:
        return 1;
    }
}

bool http2_budget_pay(struct http2_budget *budget, const nghttp2_frame *frame)
{
    unsigned price = price_of(frame);
    if (budget->tokens < price) {
        fill_up(budget);
    }
    if (budget->tokens < price) {
        return false;
    }
    budget->tokens -= price;
    return true;
}

void http2_budget_earn(struct http2_budget *budget)
{
    add_tokens(budget, TOKENS_EARNED);
}

/* ------------------------------------------------------------------ frames */

static int on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *header, void *context)
{
    struct http2_budget *budget = &((struct http2_peer *)context)->budget;
    (void)session;
    if (header->type != NGHTTP2_CONTINUATION) {
        budget->continuations = 0;
        return 0;
    }
    return ++budget->continuations <= HTTP2_CONTINUATIONS_MAX ? 0 : NGHTTP2_ERR_CALLBACK_FAILURE;
}

static int on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                     size_t name_size, const uint8_t *value, size_t value_size, uint8_t flags,
                     void *context)
{
    struct http2_lane *lane = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags;
    (void)context;
    if (lane == NULL) {
        return 0;
    }
    http2_fields_add(&lane->fields, slice_make(name, name_size), slice_make(value, value_size));
    return lane->fields.size > HTTP2_FIELDS_SPENT_BYTES ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int on_data(nghttp2_session *session, uint8_t flags, int32_t stream, const uint8_t *bytes,
                   size_t size, void *context)
{
    struct http2_peer *peer = context;
    struct http2_lane *lane = nghttp2_session_get_stream_user_data(session, stream);
    (void)flags;
    http2_budget_earn(&peer->budget);
    (void)nghttp2_session_consume_connection(session, size);
    if (lane == NULL || lane->refused || lane->pipe.descriptor < 0) {
        (void)nghttp2_session_consume_stream(session, stream, size);
    } else {
        http2_lane_take_data(lane, slice_make(bytes, size));
    }
    return 0;
}

/* NULL: out of memory. */
static nghttp2_session_callbacks *make_callbacks(const struct http2_handlers *handlers)
{
    nghttp2_session_callbacks *made = NULL;
    if (nghttp2_session_callbacks_new(&made) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_frame_callback(made, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(made, handlers->begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(made, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(made, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(made, handlers->received);
    nghttp2_session_callbacks_set_on_frame_send_callback(made, handlers->sent);
    nghttp2_session_callbacks_set_on_stream_close_callback(made, handlers->closed);
    return made;
}

/* ------------------------------------------------------------------ sessions */

static bool submit_settings(nghttp2_session *session, bool is_server)
{
    const nghttp2_settings_entry of_server[] = {
        {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HTTP2_STREAMS_MAX},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_FIELDS_BYTES_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_CALLER_WINDOW_BYTES},
    };
    const nghttp2_settings_entry of_client[] = {
        {NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
        {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, HTTP2_FIELDS_BYTES_MAX},
        {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HTTP2_SERVICE_WINDOW_BYTES},
    };
    return nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, is_server ? of_server : of_client,
                                   3) == 0 &&
           nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0,
                                                 (int32_t)HTTP2_CONNECTION_WINDOW_BYTES) == 0;
}

bool http2_peer_start(struct http2_peer *peer, const struct http2_handlers *handlers,
                      bool is_server)
{
    nghttp2_session *session = NULL;
    nghttp2_option *option = NULL;
    nghttp2_session_callbacks *callbacks = make_callbacks(handlers);
    int made = callbacks == NULL ? NGHTTP2_ERR_NOMEM : nghttp2_option_new(&option);
    if (made == 0) {
        nghttp2_option_set_no_auto_window_update(option, 1);
        nghttp2_option_set_no_closed_streams(option, 1);
        nghttp2_option_set_max_outbound_ack(option, 100);
        /* Its bound is an estimate, of 12 bytes a field and more: what we have let in shall go out.
         */
        nghttp2_option_set_max_send_header_block_length(option, 1024u * 1024u);
        nghttp2_option_set_peer_max_concurrent_streams(option, HTTP2_STREAMS_MAX);
        made = is_server ? nghttp2_session_server_new2(&session, callbacks, peer, option)
                         : nghttp2_session_client_new2(&session, callbacks, peer, option);
    }
    nghttp2_option_del(option);
    nghttp2_session_callbacks_del(callbacks);
    if (made != 0 || !submit_settings(session, is_server)) {
        nghttp2_session_del(session);
        return false;
    }
    peer->session = session;
    peer->budget = (struct http2_budget){.tokens = TOKENS_MAX, .filled_ms = clock_monotonic_ms()};
    return true;
}

bool http2_session_send(nghttp2_session *session, struct stream *to)
{
    while (stream_pending(to) < HTTP2_PENDING_BYTES_MAX) {
        const uint8_t *bytes = NULL;
        ssize_t size = nghttp2_session_mem_send(session, &bytes);
        if (size == 0) {
            return true;
        }
        if (size < 0 || stream_send(to, slice_make(bytes, (size_t)size)) != STATUS_OK) {
            return false;
        }
    }
    return true;
}

bool http2_is_preface(struct slice data, bool *ret_whole)
{
    size_t size = data.size < NGHTTP2_CLIENT_MAGIC_LEN ? data.size : NGHTTP2_CLIENT_MAGIC_LEN;
    *ret_whole = size == NGHTTP2_CLIENT_MAGIC_LEN;
    return size > 0 && memcmp(data.data, NGHTTP2_CLIENT_MAGIC, size) == 0;
}
