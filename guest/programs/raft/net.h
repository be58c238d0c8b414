/*
 * The TCP transport: one thread, epoll, non-blocking sockets.
 *
 * Two nodes have one connection, which either may make; Raft messages go both ways on it, so that an answer carries the
 * acknowledgement of what it answers: a frame of its own for that would cost as much as the answer. Where both call at
 * once, the call of the lower number stays. A node's own client has one more connection, to the node it thinks leads. A
 * message that cannot be sent now (no connection, full buffer) is dropped: Raft repeats what matters. A connection whose
 * bytes are not acknowledged for a while is given up and made anew, because TCP's own patience grows to minutes and a
 * healed network would stay unused.
 */
#ifndef RAFT_NET_H
#define RAFT_NET_H

#include "codec.h"

enum {
    NET_CONNECTIONS_MAX = 32,
    NET_IN_BYTES = 16 << 10,
    NET_OUT_BYTES = 64 << 10,
    NET_CONNECT_MS = 300, /* patience for a connection to come about */
    NET_STALL_MS = 400,   /* ... for bytes to be acknowledged, and for a caller to say who it is */
    NET_BACKOFF_MIN_MS = 20,
    NET_BACKOFF_MAX_MS = 320,
    NET_COURTESY_MS = 30, /* how much later the higher number calls: two calls at once are one too many */
};

/* Where the nodes are: node i at first_address + i * address_step, port first_port + i * port_step. */
struct net_config {
    uint8_t node, nodes;
    uint32_t first_address; /* host byte order */
    uint32_t address_step;
    uint16_t first_port, port_step;
};

enum net_state { NET_FREE, NET_CONNECTING, NET_OPEN };

/* Who is at the other end. */
enum net_peer { NET_UNKNOWN, NET_NODE, NET_CLIENT, NET_SERVER };

struct net_connection {
    int fd;
    enum net_state state;
    enum net_peer peer;
    uint8_t node;
    bool called;           /* this side made it */
    uint32_t generation;   /* a handle of an earlier use of this slot is recognised by it */
    uint64_t deadline_ms;  /* NET_CONNECTING: give up; else: since when it waits */
    uint64_t open_ms;      /* since when it is open */
    int unacknowledged;    /* at the last look */
    bool wants_write;      /* EPOLLOUT is armed */
    uint32_t in_bytes, out_bytes;
    uint8_t *in;           /* NET_IN_BYTES; apart from the rest, which is looked through at every turn */
    uint8_t *out;          /* NET_OUT_BYTES */
};

struct net_link {
    int connection; /* index of the one to send on, or -1 */
    uint64_t retry_ms;
    uint32_t backoff_ms;
};

/* What the transport hands up. A request's `handle` names the connection for net_reply(). */
struct net_handlers {
    void *context;
    void (*message)(void *context, const struct raft_message *message);
    void (*request)(void *context, uint64_t handle, const struct client_request *request);
    void (*reply)(void *context, const struct client_reply *reply);
    void (*client_open)(void *context);
    void (*client_closed)(void *context);
};

struct net {
    struct net_config config;
    struct net_handlers handlers;
    int epoll_fd, listen_fd;
    struct net_link links[RAFT_NODES_MAX]; /* to other nodes */
    int client;                            /* connection of the own client, or -1 */
    uint64_t due_ms;                       /* of the next upkeep */
    struct net_connection connections[NET_CONNECTIONS_MAX];
    char error[160];
    /* Not touched before they are used: a boot would spend 1.7 million instructions on their pages. */
    uint8_t in[NET_CONNECTIONS_MAX][NET_IN_BYTES];
    uint8_t out[NET_CONNECTIONS_MAX][NET_OUT_BYTES];
};

/* Listen. False: one line in net->error. */
bool net_open(struct net *net, const struct net_config *config, const struct net_handlers *handlers, uint64_t now_ms);

/* Make what connections are due, give up those that are stuck; the time of the next such thing. */
uint64_t net_upkeep(struct net *net, uint64_t now_ms);

/* Wait until something arrives or `timeout_ms` passed, and hand up what did. */
void net_wait(struct net *net, int timeout_ms, uint64_t now_ms);

void net_send(struct net *net, const struct raft_message *message);
void net_reply(struct net *net, uint64_t handle, const struct client_reply *reply);

/* Push out what net_send() and the others have queued. */
void net_flush(struct net *net, uint64_t now_ms);

/* The own client's connection: to `node`, instead of any it has. */
void net_client_connect(struct net *net, uint8_t node, uint64_t now_ms);
bool net_client_send(struct net *net, const struct client_request *request);

#endif
