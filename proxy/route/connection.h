#ifndef HOLDFAST_ROUTE_CONNECTION_H
#define HOLDFAST_ROUTE_CONNECTION_H

/*
 * One client connection and its own connection to the server.
 *
 *              incoming                     upstream's pending
 *   client ---[ partial message ]--> requests.c ------------------> server
 *                                        |  ^ a boundary's commands
 *                                        v  v
 *                                     boundary (one request at a time)
 *   client <---------------- replies.c <--[ partial message ]------ server
 *       downstream's pending                  reply_incoming
 *
 * Messages that need no change never enter a buffer of ours: they go from the worker's receive
 * buffer to the other socket; a write once it is there whole. What is kept is at most one message
 * each way (LIMIT_MESSAGE_BYTES_MAX) and what the other side does not take (BACK_PRESSURE_BYTES,
 * then its source is not read).
 *
 * A read that goes to another member of a replica set has a connection of its own (elsewhere.h).
 *
 * `expected` says for each request on its way, oldest first, what to do with its reply.
 *
 * End of life, all cases:
 *   - the server's side ends: everything ends; a boundary's request learns that its command is
 * lost. If that is a commit of the native engine the client is answered first; if it has not
 * logged in it gets another connection to the server then.
 *   - the client's side ends: nothing more is read from it. While a boundary works, or plain writes
 *     that are counted at a gate are on their way, the server's side stays open until their replies
 *     have come: only then is it known that they can no longer meet a unit's undo.
 *   - the client's side ends, or only its sending direction (no driver does that), while a boundary
 *     works for it: it counts as gone at once, for its unit may hold locks that others wait for.
 *     Not so while what works is an unacknowledged write, whose sender waits for nothing: that, and
 *     what was sent behind it, is carried out.
 *   - both have ended and no request is active: the connection is freed, from the loop only.
 *
 * Thread: the worker's.
 */

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/buffer.h"
#include "boundary/domain.h"
#include "boundary/request.h"
#include "holdfast/histogram.h"
#include "holdfast/limits.h"
#include "net/address_counts.h"
#include "net/listener.h"
#include "net/stream.h"
#include "read/read.h"
#include "route/cursor_places.h"
#include "route/hello.h"
#include "route/login.h"
#include "route/router.h"
#include "unit/gate.h"
#include "wire/frame.h"
#include "wire/reply.h"

#define BACK_PRESSURE_BYTES (1024u * 1024u)
#define EXPECTED_MAX 256u
#define FOLLOW_HELLO_BYTES 4096u
/* Room for so many without memory of its own: drivers send one at a time. */
#define EXPECTED_FIRST 4u

enum expected_kind {
    EXPECT_PASS,      /* forward as it comes */
    EXPECT_WRITE,     /* the same, and leave the gate */
    EXPECT_READ,      /* forward as it comes, if no unit has come between (dispatch_reads.c) */
    EXPECT_GET_MORE,  /* the same, and end its turn */
    EXPECT_SWALLOW,   /* an unacknowledged write made acknowledged: leave the gate, tell nobody */
    EXPECT_HELLO,     /* rewrite */
    EXPECT_LOGIN,     /* forward and follow */
    EXPECT_OPERATION, /* to the boundary */
    EXPECT_PROCESS,   /* to process_check.c */
    EXPECT_CURSOR,    /* of a read that asked for what is there: its cursor has to be known */
};

/* What a client is told whose answer is lost with the server (follow.h): a label. */
enum expected_loss {
    LOSS_PLAIN,
    LOSS_RETRYABLE,
    LOSS_TRANSIENT,
    LOSS_RESUMABLE,
};

struct expected {
    enum expected_kind kind;
    enum expected_loss loss;
    uint32_t gate;          /* EXPECT_WRITE, EXPECT_SWALLOW; as the next */
    bool changes_namespace; /* namespace_cache_changing() was called for it */
    uint64_t namespace_hash;
    int32_t request_id;
    bool streaming; /* a reply with moreToCome came: its next reply answers that one */
};

/* What a server said last of itself, for clients that ask while there is none (follow.h). */
struct remembered_hello {
    pthread_mutex_t mutex;
    size_t size; /* 0: none has said anything */
    uint8_t document[FOLLOW_HELLO_BYTES];
};

/* What all connections share; see router.c. */
struct route_shared {
    struct router_options options;
    struct route_listener *listeners;
    size_t listener_count;
    struct route_worker *workers; /* one each */
    size_t worker_count;
    _Atomic uint64_t next_number;
    _Atomic uint64_t connections;
    _Atomic uint64_t connections_max;
    _Atomic uint64_t over_limit;
    _Atomic uint64_t address_max;
    struct address_counts *addresses;
    _Atomic uint64_t unit_lifetime_ms;
    _Atomic bool draining;
    struct remembered_hello hello;
    struct cursor_places cursor_places; /* elsewhere.h */
    _Atomic int pause;                  /* enum router_pause */
};

/* One address that clients connect to. */
struct route_listener {
    struct route_shared *shared;
    struct router_listener options;
    struct listener *listener;
};

/* What must not have changed when the reply of an EXPECT_READ is there, or of an EXPECT_GET_MORE
   that has given its turn up. */
struct read_watch {
    bool active;
    bool has_turn; /* EXPECT_GET_MORE: nobody publishes */
    bool by_name;
    struct lock_name name;       /* by_name */
    struct read_command command; /* else: its gates. Other pointers of it are not valid any more */
    uint64_t stamp;
};

/* What a worker's connections have carried. It alone changes them; others read. On cache lines of
   their own. */
struct route_counters {
    _Alignas(64) _Atomic uint64_t client_bytes_in;
    _Atomic uint64_t client_bytes_out;
    _Atomic uint64_t server_bytes_in;
    _Atomic uint64_t server_bytes_out;
    _Atomic uint64_t commands;
    _Atomic uint64_t accepted;
    _Atomic uint64_t refused; /* connections, for what they sent */
};

/* A worker's connections. */
struct route_worker {
    struct route_counters counters;
    struct route_shared *shared;
    struct worker *worker;
    struct connection *first;
    struct worker_task stop_task;
    struct worker_task hold_task;
    struct boundary_request *spare_requests; /* not in use, linked by `context` (operation.c) */
    size_t spare_count;
    struct worker_task look_task;
    struct worker_task follow_task;
    _Atomic bool looking;   /* `look_task` is on its way */
    _Atomic bool following; /* `follow_task` is on its way */
    bool stopping;
};

struct parcel;

struct connection {
    struct route_shared *shared;
    struct route_worker *owner;
    const struct route_listener *listener;
    struct connection *next;
    struct connection *previous;
    uint64_t number;
    char client[NETWORK_ADDRESS_TEXT_BYTES];
    char local_address[NETWORK_ADDRESS_TEXT_BYTES]; /* our end towards the server */
    char application[LIMIT_APPLICATION_BYTES];
    bool application_known;
    struct login login;
    uint64_t observed_writer; /* hash of the three texts above for the report; 0: not made */
    struct domain_link link;  /* to the domain of its service, if it has one */
    enum hello_persona persona;

    struct stream downstream;
    struct stream upstream;
    bool connected;   /* upstream, and commands may pass */
    bool checking;    /* upstream is connected; which process of the server it is has been asked */
    bool held;        /* the server has restarted, and what it lost is not repaired */
    bool has_process; /* the server told its process */
    uint8_t process[UPSTREAM_PROCESS_BYTES];
    /* follow.h */
    bool away;     /* of a server that is followed: there is no connection to it now */
    bool dialling; /* and one is wanted */
    bool refusing; /* none was found in time: the client's next command is told so */
    unsigned dial_attempts;
    uint64_t dial_since_ms;
    uint64_t generation; /* of the server it is connected to */
    struct event dial_timer;

    struct elsewhere *elsewhere; /* elsewhere.h; NULL until the first read by preference */
    bool elsewhere_busy;         /* it has a request */

    bool client_gone; /* downstream is closed */
    bool server_gone; /* upstream is closed */
    bool finishing;   /* its end is on the way through the loop */
    bool carried_unit;
    bool reading; /* the worker's receive buffer or `incoming` is being worked through: whatever a
                     callback ends or answers, reading goes on only after that */

    uint64_t received;         /* bytes from the client */
    uint64_t watched_since_ms; /* slow_clients.c; 0: not watched */
    uint64_t watched_received; /* `received` at that time */
    struct address_key address;

    struct buffer incoming;
    uint32_t request_remaining; /* of a message being forwarded */
    struct buffer reply_incoming;
    uint32_t reply_remaining;
    bool reply_discarded; /* what remains is not forwarded */

    struct expected *expected; /* ring, of a power of two */
    uint32_t expected_capacity;
    uint32_t expected_at;
    uint32_t expected_count;
    struct expected expected_first[EXPECTED_FIRST];

    /* a read that is forwarded, to be done again if a unit comes between */
    struct read_watch read_watch;
    struct buffer read_bytes;
    struct event turn_timer;     /* runs while it has its turn */
    struct name_wait *name_wait; /* what a name of a read is, is asked; NULL: it is not */
    unsigned names_asked;        /* of the same read */

    /* a plain write that waits until no unit is in its namespace */
    struct gate_waiter gate_waiter;
    struct worker_task gate_task;
    bool gate_waiting;
    bool gate_admitted;

    /* the boundary's request */
    bool active;
    struct buffer request_bytes; /* its message */
    int32_t request_id;
    bool request_unanswered;          /* moreToCome: the client wants no reply */
    uint64_t request_started_us;      /* wall clock; 0: neither trace nor log wants it */
    struct boundary_request *request; /* one of the worker's; NULL: not `active` */
    bool authorized; /* comment_unit.c has asked the server; set back at each login or logout */
    struct engine_channel channel;
    void (*answered)(void *context, enum status status, struct slice reply);
    void *answered_context;
    int32_t next_request_id; /* of our own commands */
    struct worker_task lost_task;
    bool lost_posted;
    bool lost_unsent; /* `lost_posted`: and the command never left */

    uint64_t recent_sessions[UNIT_RECENT_SESSIONS];
    uint32_t recent_at;
    struct worker_task finish_task;
};

/* Fields of a log line that concerns it. */
#define LOG_CONNECTION(connection_)                                                                \
    LOG_TEXT("client", (connection_)->client), LOG_TEXT("user", (connection_)->login.user),        \
        LOG_TEXT("appName", (connection_)->application)

/* connection.c */
void connection_accept(struct route_worker *owner, const struct route_listener *listener,
                       int descriptor, const struct sockaddr *peer, socklen_t peer_size,
                       const struct address_key *address);
/* router.c */
struct route_shared *router_shared(struct router *router);
/* One that another process has handed over, `parcel_unpack()`ed; takes all of it. */
void connection_adopt(struct route_worker *owner, struct parcel *parcel);
/* Without a word to either side: its sockets are another process's. From the worker's loop. */
void connection_let_go(struct connection *connection);
/* A connection has ended: its place is free. (router.c) */
void route_shared_leave(struct route_shared *shared, const struct address_key *address);
/* The service of its domain is known by now. False: it is known as another already, and stays so.
 */
bool connection_link(struct connection *connection, struct domain *domain, size_t service);
/* The same by its driver's appName, if it is known and a rule says so. False, and logged: whose its
   writes are cannot be told, so it has to end. (dispatch.c) */
MUST_CHECK bool connection_link_application(struct connection *connection);
/* Ends a side; the rest follows from the rules above. Harmless if it has ended. */
void connection_end_client(struct connection *connection);
void connection_end_server(struct connection *connection);
/* A plain write that was admitted by its gate is not carried out after all. Harmless if none was.
 */
void connection_leave_gate(struct connection *connection);
/* The server's side broke: as connection_end_server(), but where the server is followed the
   client's side goes on if it can. */
void connection_lose_server(struct connection *connection);
/* As it was before it was connected. Nothing may be expected of it any more. */
void connection_close_upstream(struct connection *connection);
/* The server's side has ended, a request has outlived that and is answered: connects anew, so that
   its client goes on as behind a mongos. False: it cannot, for it has logged in, or ends anyway.
   From a worker's task only: no handler of the former stream may be on the stack. */
bool connection_come_again(struct connection *connection);
/* For stream_connect(). */
const struct stream_callbacks *connection_upstream_callbacks(void);
/* Both, because of what a peer did; logs it. */
void connection_refuse(struct connection *connection, const char *reason);
/* Sends to the client; ends its side if that is not possible. */
void connection_send_client(struct connection *connection, struct slice bytes);
void connection_send_server(struct connection *connection, struct slice bytes);
/* Something ended or was answered: go on reading, or end. */
void connection_continue(struct connection *connection);

/* parcel.c: a connection as bytes. */
struct parcel {
    int client;
    int server; /* -1: none */
    const struct route_listener *listener;
    struct sockaddr_storage peer;
    socklen_t peer_size;
    struct address_key address;
    struct login login;
    char application[LIMIT_APPLICATION_BYTES];
    bool application_known;
    bool heard; /* something came from its client */
    bool has_process;
    uint8_t process[UPSTREAM_PROCESS_BYTES];
    uint64_t recent_sessions[UNIT_RECENT_SESSIONS];
    struct expected expected[EXPECTED_MAX];
    uint32_t expected_count;
    struct buffer incoming;
};
/* Whether it is at rest, so that another process can go on with it. */
bool parcel_can_be_made(const struct connection *connection);
/* Whether it will be when what is on its way has passed. */
bool parcel_may_be_made_later(const struct connection *connection);
/* Whether something is on its way that its end would lose, or that holds the engine up. */
bool parcel_must_wait(const struct connection *connection);
/* STATUS_MEMORY. bson_destroy() what it appends to. */
MUST_CHECK enum status parcel_pack(const struct connection *connection, bson_t *state);
/* Of a peer's bytes: STATUS_INVALID, STATUS_MEMORY. Fills in all but the sockets and the address.
 */
MUST_CHECK enum status parcel_unpack(struct route_shared *shared, struct slice state,
                                     struct parcel *parcel, struct error *ret_error);

/* expected.c */
void expected_init(struct connection *connection);
void expected_free(struct connection *connection);
/* Room for one more. False: EXPECTED_MAX are on their way, or out of memory. */
bool expected_reserve(struct connection *connection);
/* False: as expected_reserve(). */
bool expected_push(struct connection *connection, struct expected expected);
/* The one that was pushed `index` after the first; less than expected_count. */
const struct expected *expected_get(const struct connection *connection, uint32_t index);
/* NULL: none. */
struct expected *expected_first(struct connection *connection);
void expected_pop(struct connection *connection);
/* The reply of an EXPECT_WRITE or EXPECT_SWALLOW is there, or never comes. */
void expected_leave(struct connection *connection, const struct expected *expected);

/* requests.c */
void requests_read(struct connection *connection);
/* Whether what is next is up to the client: to send the rest of a message, or its first one. */
bool requests_wait_for_client(const struct connection *connection);

/* slow_clients.c: closes those that have stopped. */
void slow_clients_look(struct route_worker *worker, uint64_t now_ms);

/* process_check.c */
/* Upstream is connected: asks which process it is. `connected` is set when that is known. */
void process_check_start(struct connection *connection);
void process_check_take(struct connection *connection, struct slice document);
/* After a repair: a connection that was held goes on. */
void process_check_again(struct connection *connection);

/* replies.c */
void replies_read(struct connection *connection);

/* dispatch.c: a message has come; what to do with it. */
enum dispatch_kind {
    DISPATCH_MORE,      /* more bytes are needed to decide */
    DISPATCH_BLOCKED,   /* something before it must end first */
    DISPATCH_FORWARD,   /* as it is; `expected` for its reply */
    DISPATCH_REWRITE,   /* with `body` in place of its body */
    DISPATCH_OPERATION, /* to a boundary: request->message and view are filled in by the caller */
    DISPATCH_ELSEWHERE, /* to another member: elsewhere.h */
    DISPATCH_ANSWER,    /* answer `body` at once */
    DISPATCH_REFUSE,    /* not the protocol: `reason` */
};

/* Who carries out a DISPATCH_OPERATION. */
enum dispatch_boundary {
    DISPATCH_TO_DRIVER,  /* driver_start() */
    DISPATCH_TO_NATIVE,  /* native_commit_start() */
    DISPATCH_TO_PLAIN,   /* plain_start() */
    DISPATCH_TO_READ,    /* reading_start() */
    DISPATCH_TO_CALL,    /* call_write_start() */
    DISPATCH_TO_COMMENT, /* comment_start() */
};

struct dispatch {
    enum dispatch_kind kind;
    struct expected expected;
    bool expects_reply;
    bson_t body; /* REWRITE, ANSWER: destroyed by who carries it out */
    struct op_msg message;
    bool clear_more_to_come;
    enum dispatch_boundary boundary; /* OPERATION */
    struct domain_write_call call;   /* DISPATCH_TO_CALL, as the next */
    enum call_part part;
    int64_t stale_cursor; /* DISPATCH_TO_READ, as of struct boundary_request */
    bool read_is_lost;
    bool in_call; /* an API call is open to whose service the connection belongs */
    const char *reason;
};

/* `available` is the start of a message of `header->length` bytes. */
void dispatch_decide(struct connection *connection, const struct wire_header *header,
                     struct slice available, struct dispatch *ret_dispatch);

/* dispatch_reads.c. Once the worker's loop is known. */
void dispatch_read_init(struct connection *connection);
/* The reply of an EXPECT_READ or EXPECT_GET_MORE is there. */
bool dispatch_read_disturbed(const struct connection *connection);
/* Of an EXPECT_READ: its cursor has to be known. */
bool dispatch_read_wants_cursor(const struct connection *connection);
void dispatch_read_take_cursor(struct connection *connection, int64_t cursor_id);
/* Of an EXPECT_GET_MORE whose cursor waits for new documents: there was none. */
bool dispatch_read_shows_nothing(const struct connection *connection,
                                 const struct reply_view *view);
/* It goes to the client, or never comes. Ends a turn. */
void dispatch_read_forget(struct connection *connection);
/* It does not; the read becomes an operation: of a getMore one that only closes the cursor and
   fails. `stale_cursor`: that nobody asks for; 0: none. */
void dispatch_read_again(struct connection *connection, enum expected_kind kind,
                         int64_t stale_cursor);

/* operation.c: a boundary's request on this connection. */
void operation_init(struct connection *connection);
/* Its channel is somebody else's until it is taken back (boundary/lend.h). Only where nothing is on
   its way. False: out of memory. */
bool operation_lend(struct connection *connection);
void operation_take_back(struct connection *connection);
/* The worker ends: its connections have. */
void operation_free_spare(struct route_worker *worker);
void operation_start(struct connection *connection, const struct wire_header *header,
                     struct slice message, const struct dispatch *dispatch);
void operation_take_reply(struct connection *connection, struct slice reply);
void operation_server_gone(struct connection *connection);

#endif
