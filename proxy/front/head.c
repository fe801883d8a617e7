/*
 * Heads of HTTP/1 messages; see head.h for how strict, and why.
 *
 *   request-line | status-line CRLF
 *   name ":" [space] value [space] CRLF     (any number)
 *   CRLF
 *
 * Invariant: what is read from here on are slices of a head that head_find_end() has found whole,
 * so every line of it ends in CR LF.
 */
#include "front/head.h"

#include <strings.h>

enum head_found head_find_end(struct head_scan *scan, struct slice data, size_t *ret_size)
{
    size_t bound = data.size < HEAD_BYTES_MAX ? data.size : HEAD_BYTES_MAX;
    while (scan->scanned < bound) {
        const uint8_t *at = &data.data[scan->scanned];
        const uint8_t *lf = memchr(at, '\n', bound - scan->scanned);
        if (lf == NULL) {
            scan->scanned = bound;
            break;
        }
        size_t line_end = (size_t)(lf - data.data);
        if (line_end == scan->line_start || data.data[line_end - 1] != '\r') {
            return HEAD_MALFORMED;
        }
        bool empty = line_end - scan->line_start == 1;
        scan->scanned = line_end + 1;
        scan->line_start = line_end + 1;
        if (empty) {
            *ret_size = line_end + 1;
            return HEAD_WHOLE;
        }
    }
    return data.size >= HEAD_BYTES_MAX ? HEAD_TOO_LARGE : HEAD_MORE;
}

/* ------------------------------------------------------------------ pieces */

/* A token's characters, RFC 9110 section 5.6.2. */
static bool is_token_byte(uint8_t byte)
{
    return (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') ||
           (byte >= '0' && byte <= '9') || (byte != 0 && strchr("!#$%&'*+-.^_`|~", byte) != NULL);
}

static bool is_token(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (!is_token_byte(text.data[i])) {
            return false;
        }
    }
    return text.size > 0;
}

static bool equals(struct slice text, const char *word)
{
    return text.size == strlen(word) && strncasecmp((const char *)text.data, word, text.size) == 0;
}

static struct slice trim(struct slice text)
{
    struct slice dropped;
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        (void)!slice_take(&text, 1, &dropped);
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* Cuts what stands before `separator`, or everything, off the front. False: nothing was left. */
static bool take_until(struct slice *rest, char separator, struct slice *ret_part)
{
    if (rest->size == 0) {
        return false;
    }
    const uint8_t *end = memchr(rest->data, separator, rest->size);
    size_t size = end == NULL ? rest->size : (size_t)(end - rest->data);
    struct slice dropped;
    return slice_take(rest, size, ret_part) && (end == NULL || slice_take(rest, 1, &dropped));
}

/* Cuts the next line off, without its CR LF. False: it was the empty one. */
static bool take_line(struct slice *rest, struct slice *ret_line)
{
    if (!take_until(rest, '\n', ret_line) || ret_line->size <= 1) {
        return false;
    }
    ret_line->size--;
    return true;
}

static bool take_header(struct slice line, struct slice *ret_name, struct slice *ret_value)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    struct slice dropped;
    if (colon == NULL || !slice_take(&line, (size_t)(colon - line.data), ret_name) ||
        !is_token(*ret_name) || !slice_take(&line, 1, &dropped)) {
        return false;
    }
    *ret_value = trim(line);
    for (size_t i = 0; i < ret_value->size; i++) {
        uint8_t byte = ret_value->data[i];
        if (byte != '\t' && (byte < ' ' || byte == 0x7f)) {
            return false;
        }
    }
    return true;
}

bool head_take_line(struct slice *rest, struct slice *ret_line)
{
    return take_line(rest, ret_line);
}

bool head_take_field(struct slice *rest, struct slice *ret_name, struct slice *ret_value)
{
    struct slice line;
    while (take_line(rest, &line)) {
        if (take_header(line, ret_name, ret_value)) {
            return true;
        }
    }
    return false;
}

bool head_take_item(struct slice *rest, struct slice *ret_item)
{
    if (!take_until(rest, ',', ret_item)) {
        return false;
    }
    *ret_item = trim(*ret_item);
    return true;
}

bool head_is_word(struct slice text, const char *word)
{
    return equals(text, word);
}

/* ------------------------------------------------------------------ header lines */

/* What the lines say, before the rules are applied. */
struct lines {
    size_t lengths;
    uint64_t length;
    size_t encodings;
    bool chunked;      /* the last transfer coding is */
    bool only_chunked; /* one line, of this word and nothing else: no list that others read */
    size_t hosts;
    bool close;
    bool keep_alive;
    bool connection_upgrade;
    bool upgrade;
    bool upgrade_http2;
    bool expects_continue;
};

static bool parse_length(struct slice text, uint64_t *ret_length)
{
    uint64_t length = 0;
    if (text.size == 0 || text.size > 18) {
        return false;
    }
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        length = length * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret_length = length;
    return true;
}

static void take_encodings(struct slice value, struct lines *lines)
{
    struct slice coding;
    lines->only_chunked = lines->encodings == 0 && equals(value, "chunked");
    while (take_until(&value, ',', &coding)) {
        coding = trim(coding);
        if (coding.size > 0) {
            lines->chunked = equals(coding, "chunked");
            lines->encodings++;
        }
    }
}

static void take_connection(struct slice value, struct lines *lines)
{
    struct slice option;
    while (take_until(&value, ',', &option)) {
        option = trim(option);
        lines->close = lines->close || equals(option, "close");
        lines->keep_alive = lines->keep_alive || equals(option, "keep-alive");
        lines->connection_upgrade = lines->connection_upgrade || equals(option, "upgrade");
    }
}

static bool names_continue(struct slice value)
{
    struct slice expectation;
    while (take_until(&value, ',', &expectation)) {
        if (equals(trim(expectation), "100-continue")) {
            return true;
        }
    }
    return false;
}

static bool names_http2(struct slice value)
{
    struct slice protocol;
    while (take_until(&value, ',', &protocol)) {
        protocol = trim(protocol);
        if (equals(protocol, "h2c") || equals(protocol, "h2") || equals(protocol, "http/2") ||
            equals(protocol, "http/2.0")) {
            return true;
        }
    }
    return false;
}

static const char *take_length(struct slice value, struct lines *lines)
{
    uint64_t length;
    if (!parse_length(value, &length)) {
        return "Content-Length is no number";
    }
    if (lines->lengths > 0 && length != lines->length) {
        return "two different Content-Lengths";
    }
    lines->length = length;
    lines->lengths++;
    return NULL;
}

static const char *take_lines(struct slice rest, struct lines *lines, struct http_head *head)
{
    struct slice line;
    struct slice name;
    struct slice value;
    const char *wrong = NULL;
    while (wrong == NULL && take_line(&rest, &line)) {
        if (!take_header(line, &name, &value)) {
            return "a header line is malformed";
        }
        if (equals(name, "content-length")) {
            wrong = take_length(value, lines);
        } else if (equals(name, "transfer-encoding")) {
            take_encodings(value, lines);
            /* An empty one may be read as one by others. */
            wrong = lines->encodings == 0 ? "Transfer-Encoding is empty" : NULL;
        } else if (equals(name, "connection")) {
            take_connection(value, lines);
        } else if (equals(name, "upgrade")) {
            lines->upgrade = true;
            lines->upgrade_http2 = lines->upgrade_http2 || names_http2(value);
        } else if (equals(name, "expect")) {
            lines->expects_continue = lines->expects_continue || names_continue(value);
        } else if (equals(name, "host")) {
            lines->hosts++;
        } else if (equals(name, "content-type")) {
            head->content_type = value;
        } else if (equals(name, "traceparent") && head->traceparents++ == 0) {
            head->traceparent = value;
        } else if (equals(name, "idempotency-key") && head->idempotency_keys++ == 0) {
            head->idempotency_key = value;
        }
    }
    return wrong;
}

static void apply_connection(const struct lines *lines, struct http_head *head)
{
    head->keep_alive = !lines->close && (head->minor_version > 0 || lines->keep_alive);
    head->upgrade = lines->upgrade && lines->connection_upgrade;
    head->upgrade_http2 = lines->upgrade_http2;
    head->coded = lines->encodings > 0 && !lines->only_chunked;
}

/* "HTTP/1.d" */
static enum status parse_version(struct slice text, unsigned *ret_minor, const char **ret_reason)
{
    bool formed = text.size == 8 && memcmp(text.data, "HTTP/", 5) == 0 && text.data[6] == '.' &&
                  text.data[5] >= '0' && text.data[5] <= '9' && text.data[7] >= '0' &&
                  text.data[7] <= '9';
    if (!formed) {
        *ret_reason = "the first line has no HTTP version";
        return STATUS_INVALID;
    }
    if (text.data[5] != '1') {
        *ret_reason = "it is not HTTP/1.1 or HTTP/1.0";
        return STATUS_UNSUPPORTED;
    }
    *ret_minor = (unsigned)(text.data[7] - '0');
    return STATUS_OK;
}

/* ------------------------------------------------------------------ requests */

bool head_split_target(struct slice target, struct slice *ret_authority, struct slice *ret_path)
{
    static const char *const schemes[] = {"http://", "https://"};
    if (target.size > 0 && target.data[0] == '/') {
        *ret_authority = slice_front(target, 0);
        *ret_path = target;
        return true;
    }
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        size_t size = strlen(schemes[i]);
        if (target.size < size || strncasecmp((const char *)target.data, schemes[i], size) != 0) {
            continue;
        }
        struct slice rest = slice_rest(target, size);
        size_t end = 0;
        while (end < rest.size && strchr("/?", rest.data[end]) == NULL) {
            end++;
        }
        *ret_authority = slice_front(rest, end);
        *ret_path = slice_rest(rest, end);
        return true;
    }
    return false;
}

/* In one of the forms of RFC 9112, section 3.2: what is none of them others might read in a way of
   their own. */
static bool is_form(struct slice method, struct slice target)
{
    struct slice authority;
    struct slice path;
    if (head_split_target(target, &authority, &path)) {
        bool is_url = target.data[0] != '/';
        return !is_url ||
               (authority.size > 0 && memchr(authority.data, '@', authority.size) == NULL &&
                memchr(authority.data, '#', authority.size) == NULL);
    }
    return equals(method, "CONNECT") || (equals(method, "OPTIONS") && equals(target, "*"));
}

static bool is_target(struct slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= ' ' || text.data[i] == 0x7f) {
            return false;
        }
    }
    return text.size > 0;
}

static const char *apply_request(const struct lines *lines, struct http_head *head)
{
    if (lines->lengths > 0 && lines->encodings > 0) {
        return "both Content-Length and Transfer-Encoding";
    }
    if (lines->lengths > 1) {
        return "more than one Content-Length";
    }
    if (lines->hosts > 1) {
        return "more than one Host";
    }
    if (lines->encodings > 0 && (!lines->only_chunked || head->minor_version == 0)) {
        return "a Transfer-Encoding other than chunked, or in HTTP/1.0";
    }
    if (lines->encodings > 0) {
        head->framing = FRAMING_CHUNKED;
    } else if (lines->lengths > 0) {
        head->framing = FRAMING_LENGTH;
        head->length = lines->length;
    }
    /* An older caller's is to be ignored, RFC 9110 section 10.1.1: it does not wait. */
    head->expects_continue = lines->expects_continue && head->minor_version > 0;
    apply_connection(lines, head);
    return NULL;
}

enum status head_parse_request(struct slice head, struct http_head *ret_head,
                               const char **ret_reason)
{
    struct http_head parsed = {.framing = FRAMING_NONE};
    struct lines lines = {0};
    struct slice rest = head;
    struct slice line = {0};
    if (!take_line(&rest, &line) || !take_until(&line, ' ', &parsed.method) ||
        !is_token(parsed.method) || !take_until(&line, ' ', &parsed.target) ||
        !is_target(parsed.target) || !is_form(parsed.method, parsed.target)) {
        *ret_reason = "the request line is malformed";
        return STATUS_INVALID;
    }
    enum status status = parse_version(line, &parsed.minor_version, ret_reason);
    if (status != STATUS_OK) {
        return status;
    }
    const char *wrong = take_lines(rest, &lines, &parsed);
    wrong = wrong == NULL ? apply_request(&lines, &parsed) : wrong;
    if (wrong != NULL) {
        *ret_reason = wrong;
        return STATUS_INVALID;
    }
    *ret_head = parsed;
    return STATUS_OK;
}

/* ------------------------------------------------------------------ answers */

static const char *apply_answer(const struct lines *lines, bool to_head, struct http_head *head)
{
    if (lines->lengths > 0 && lines->encodings > 0) {
        return "both Content-Length and Transfer-Encoding";
    }
    if (to_head || head->status < 200 || head->status == 204 || head->status == 304) {
        head->framing = FRAMING_NONE;
    } else if (lines->encodings > 0) {
        head->framing = lines->chunked ? FRAMING_CHUNKED : FRAMING_CLOSE;
    } else if (lines->lengths > 0) {
        head->framing = FRAMING_LENGTH;
        head->length = lines->length;
    } else {
        head->framing = FRAMING_CLOSE;
    }
    apply_connection(lines, head);
    head->keep_alive = head->keep_alive && head->framing != FRAMING_CLOSE;
    return NULL;
}

static bool parse_status(struct slice text, unsigned *ret_status)
{
    uint64_t status;
    if (text.size != 3 || !parse_length(text, &status) || status < 100) {
        return false;
    }
    *ret_status = (unsigned)status;
    return true;
}

enum status head_parse_answer(struct slice head, bool to_head, struct http_head *ret_head,
                              const char **ret_reason)
{
    struct http_head parsed = {.framing = FRAMING_NONE};
    struct lines lines = {0};
    struct slice rest = head;
    struct slice line = {0};
    struct slice part = {0};
    if (!take_line(&rest, &line) || !take_until(&line, ' ', &part)) {
        *ret_reason = "the status line is malformed";
        return STATUS_INVALID;
    }
    enum status status = parse_version(part, &parsed.minor_version, ret_reason);
    if (status != STATUS_OK) {
        return status;
    }
    if (!take_until(&line, ' ', &part) || !parse_status(part, &parsed.status)) {
        *ret_reason = "the status line is malformed";
        return STATUS_INVALID;
    }
    const char *wrong = take_lines(rest, &lines, &parsed);
    wrong = wrong == NULL ? apply_answer(&lines, to_head, &parsed) : wrong;
    if (wrong != NULL) {
        *ret_reason = wrong;
        return STATUS_INVALID;
    }
    *ret_head = parsed;
    return STATUS_OK;
}

bool head_find(struct slice head, const char *name, struct slice *ret_value)
{
    struct slice rest = head;
    struct slice line;
    struct slice found;
    struct slice value;
    if (!take_line(&rest, &line)) {
        return false;
    }
    while (head_take_field(&rest, &found, &value)) {
        if (equals(found, name)) {
            *ret_value = value;
            return true;
        }
    }
    return false;
}

/* ------------------------------------------------------------------ rewriting */

static enum status append_text(struct buffer *out, const char *text)
{
    return buffer_append(out, text, strlen(text));
}

static bool is_dropped(struct slice line, const struct head_changes *changes)
{
    struct slice name;
    struct slice value;
    return take_header(line, &name, &value) &&
           ((changes->drop_traceparent && equals(name, "traceparent")) ||
            (changes->drop_upgrade && equals(name, "upgrade")));
}

enum status head_copy(struct slice head, const struct head_changes *changes, struct buffer *out)
{
    struct slice rest = head;
    struct slice line;
    enum status status = STATUS_OK;
    if (!changes->drop_traceparent && !changes->drop_upgrade && changes->traceparent == NULL) {
        return buffer_append(out, head.data, head.size);
    }
    while (status == STATUS_OK && take_line(&rest, &line)) {
        if (!is_dropped(line, changes)) {
            status = buffer_append(out, line.data, line.size + 2);
        }
    }
    if (status == STATUS_OK && changes->traceparent != NULL) {
        status = append_text(out, "traceparent: ");
        status = status == STATUS_OK ? append_text(out, changes->traceparent) : status;
        status = status == STATUS_OK ? append_text(out, "\r\n") : status;
    }
    return status == STATUS_OK ? append_text(out, "\r\n") : status;
}
