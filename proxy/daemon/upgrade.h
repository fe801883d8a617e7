#ifndef HOLDFAST_DAEMON_UPGRADE_H
#define HOLDFAST_DAEMON_UPGRADE_H

/*
 * What the two processes of an upgrade say to each other over their channel (base/channel.h):
 *
 *     old process                                  new process
 *     LISTENER (text; socket), once for each  -->
 *     BEGIN (document)                        -->
 *                                             <--  READY (document)      it could serve
 *     ... old process: what begins waits, what is open ends ...
 *     JOURNAL (-; the owner's lock)           -->                        the journal is closed
 *                                             <--  SERVING               it accepts connections
 *     CONNECTION (parcel; its sockets), many  -->
 *     CALLER (parcel; its socket), many       -->
 *     DONE                                    -->
 *
 *     CANCEL, at any time before JOURNAL      -->
 *                                             <--  FAILED (text), at any time before SERVING
 *
 * The numbers are those of the protocol: never change one, only add. Fields of documents that are
 * not known are passed over.
 */

/* The descriptor of the new process's end. */
#define UPGRADE_VARIABLE "HOLDFAST_UPGRADE"
#define UPGRADE_PROTOCOL 1

enum upgrade_message {
    UPGRADE_LISTENER = 1,
    /* { protocol, pid: Int64, generation: Int64, failed: Int64, firstProcess: Bool, journalDevice:
       Int64, journalInode: Int64, server: "HOST:PORT" } */
    UPGRADE_BEGIN = 2,
    UPGRADE_READY = 3, /* { protocol, version: "..." } */
    UPGRADE_JOURNAL = 4,
    UPGRADE_SERVING = 5,
    UPGRADE_CONNECTION = 6,
    UPGRADE_DONE = 7,
    UPGRADE_CANCEL = 8,
    UPGRADE_FAILED = 9,
    UPGRADE_CALLER = 10,
};

#endif
