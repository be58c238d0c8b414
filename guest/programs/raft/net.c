#define _GNU_SOURCE /* accept4 */
#include "net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

enum { LISTEN_EVENT = NET_CONNECTIONS_MAX, EVENTS = 16, LISTEN_BACKLOG = 16 };

static struct sockaddr_in address_of(const struct net *net, uint8_t node)
{
    const struct net_config *config = &net->config;
    return (struct sockaddr_in){
        .sin_family = AF_INET,
        .sin_port = htons((uint16_t)(config->first_port + config->port_step * node)),
        .sin_addr.s_addr = htonl(config->first_address + config->address_step * node),
    };
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static bool watch(struct net *net, int op, int fd, uint32_t events, uint32_t number)
{
    struct epoll_event event = {.events = events, .data.u32 = number};
    return epoll_ctl(net->epoll_fd, op, fd, &event) == 0;
}

/* A place for a connection: a call of this side to `peer`, or one that was accepted. */
static struct net_connection *connection_new(struct net *net, int fd, bool called, enum net_peer peer, uint64_t now_ms)
{
    for (uint32_t i = 0; i < NET_CONNECTIONS_MAX; i++) {
        struct net_connection *connection = &net->connections[i];
        if (connection->state != NET_FREE)
            continue;
        if (!watch(net, EPOLL_CTL_ADD, fd, called ? EPOLLOUT : EPOLLIN, i))
            return NULL;
        int on = 1;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection->fd = fd;
        connection->state = called ? NET_CONNECTING : NET_OPEN;
        connection->called = called;
        connection->peer = peer;
        connection->node = RAFT_NOBODY;
        connection->open_ms = now_ms;
        connection->generation++;
        connection->deadline_ms = 0;
        connection->unacknowledged = 0;
        connection->wants_write = called;
        connection->in_bytes = connection->out_bytes = 0;
        connection->in = net->in[i];
        connection->out = net->out[i];
        return connection;
    }
    return NULL;
}

static int number_of(const struct net *net, const struct net_connection *connection)
{
    return (int)(connection - net->connections);
}

static void due_by(struct net *net, uint64_t at_ms)
{
    if (at_ms < net->due_ms)
        net->due_ms = at_ms;
}

/* When to call `node` again if it does not call first. */
static void retry_later(struct net *net, uint8_t node, uint64_t now_ms)
{
    struct net_link *link = &net->links[node];
    link->retry_ms = now_ms + link->backoff_ms + (node < net->config.node ? NET_COURTESY_MS : 0);
    link->backoff_ms *= 2;
    if (link->backoff_ms > NET_BACKOFF_MAX_MS)
        link->backoff_ms = NET_BACKOFF_MAX_MS;
    due_by(net, link->retry_ms);
}

/* Send to `node` on whatever open connection there is. False if there is none. */
static bool link_choose(struct net *net, uint8_t node)
{
    struct net_link *link = &net->links[node];
    link->connection = -1;
    for (int i = 0; i < NET_CONNECTIONS_MAX; i++) {
        const struct net_connection *connection = &net->connections[i];
        if (connection->state == NET_OPEN && connection->peer == NET_NODE && connection->node == node)
            link->connection = i;
    }
    return link->connection >= 0;
}

static void connection_close(struct net *net, struct net_connection *connection, uint64_t now_ms)
{
    /* Closing is not enough for the peer to hear of it soon where packets are lost, but it is all there is. */
    close(connection->fd);
    connection->state = NET_FREE;
    if (connection->peer == NET_NODE) {
        if (number_of(net, connection) == net->links[connection->node].connection &&
            !link_choose(net, connection->node))
            retry_later(net, connection->node, now_ms);
    } else if (number_of(net, connection) == net->client) {
        net->client = -1;
        net->handlers.client_closed(net->handlers.context);
    }
}

static void flush_one(struct net *net, struct net_connection *connection, uint64_t now_ms)
{
    uint32_t done = 0;
    while (done < connection->out_bytes) {
        ssize_t sent = send(connection->fd, connection->out + done, connection->out_bytes - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN) {
            connection_close(net, connection, now_ms);
            return;
        }
        if (sent < 0)
            break;
        done += (uint32_t)sent;
    }
    memmove(connection->out, connection->out + done, connection->out_bytes - done);
    connection->out_bytes -= done;
    bool blocked = connection->out_bytes > 0;
    if (blocked != connection->wants_write) {
        uint32_t events = EPOLLIN | (blocked ? (uint32_t)EPOLLOUT : 0);
        watch(net, EPOLL_CTL_MOD, connection->fd, events, (uint32_t)number_of(net, connection));
        connection->wants_write = blocked;
    }
}

static bool queue(struct net_connection *connection, const uint8_t *frame, size_t bytes)
{
    if (connection->state == NET_FREE || NET_OUT_BYTES - connection->out_bytes < bytes)
        return false;
    memcpy(connection->out + connection->out_bytes, frame, bytes);
    connection->out_bytes += (uint32_t)bytes;
    return true;
}

/* Call `node`; the greeting waits in the buffer until the connection is there. */
static struct net_connection *call(struct net *net, uint8_t node, enum net_peer peer, uint64_t now_ms)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return NULL;
    /* To choose a port for connect() the kernel fills a table with 256 KiB of random numbers; for bind() it does not. */
    struct sockaddr_in address = address_of(net, node), any = {.sin_family = AF_INET};
    int done = bind(fd, (struct sockaddr *)&any, sizeof any);
    if (done == 0)
        done = connect(fd, (struct sockaddr *)&address, sizeof address);
    struct net_connection *connection = NULL;
    if (done == 0 || errno == EINPROGRESS)
        connection = connection_new(net, fd, true, peer, now_ms);
    if (connection == NULL) {
        close(fd);
        return NULL;
    }
    connection->node = node;
    connection->deadline_ms = now_ms + NET_CONNECT_MS;
    due_by(net, connection->deadline_ms);
    uint8_t frame[FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX];
    struct hello hello = {.node = net->config.node, .is_client = peer == NET_SERVER};
    queue(connection, frame, encode_hello(frame, &hello));
    return connection;
}

static void connected(struct net *net, struct net_connection *connection, uint64_t now_ms)
{
    int error = 0;
    socklen_t bytes = sizeof error;
    if (getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) {
        connection_close(net, connection, now_ms);
        return;
    }
    connection->state = NET_OPEN;
    connection->open_ms = now_ms;
    connection->deadline_ms = 0;
    if (connection->peer == NET_NODE)
        net->links[connection->node].backoff_ms = NET_BACKOFF_MIN_MS;
    watch(net, EPOLL_CTL_MOD, connection->fd, EPOLLIN, (uint32_t)number_of(net, connection));
    connection->wants_write = false;
    flush_one(net, connection, now_ms);
    if (connection->state == NET_OPEN && connection->peer == NET_SERVER)
        net->handlers.client_open(net->handlers.context);
}

/* --- receiving ---------------------------------------------------------------------------------------------------- */

/*
 * A node or client that calls again has lost its earlier connection, whether this side noticed or not. An own call to
 * that node goes as well, unless the two have called each other at once and this side's number is the lower one.
 */
static void drop_earlier(struct net *net, const struct net_connection *newer, uint64_t now_ms)
{
    bool ours_stays = net->config.node < newer->node;
    for (uint32_t i = 0; i < NET_CONNECTIONS_MAX; i++) {
        struct net_connection *other = &net->connections[i];
        if (other == newer || other->state == NET_FREE || other->peer != newer->peer || other->node != newer->node)
            continue;
        bool at_once = other->called && (other->state == NET_CONNECTING || now_ms - other->open_ms < NET_CONNECT_MS);
        if (!(at_once && ours_stays))
            connection_close(net, other, now_ms);
    }
}

static bool greeted(struct net *net, struct net_connection *connection, const uint8_t *payload, size_t bytes,
                    uint64_t now_ms)
{
    struct hello hello;
    if (!decode_hello(payload, bytes, &hello) || hello.node >= net->config.nodes ||
        (hello.node == net->config.node && !hello.is_client))
        return false;
    connection->node = hello.node;
    connection->peer = hello.is_client ? NET_CLIENT : NET_NODE;
    drop_earlier(net, connection, now_ms);
    if (connection->peer == NET_NODE) {
        struct net_link *link = &net->links[connection->node];
        if (link->connection < 0 || net->connections[link->connection].state != NET_OPEN)
            link->connection = number_of(net, connection);
        link->backoff_ms = NET_BACKOFF_MIN_MS;
    }
    return true;
}

/* One payload. False: it is not what may come on this connection. */
static bool take_payload(struct net *net, struct net_connection *connection, const uint8_t *payload, size_t bytes,
                         uint64_t now_ms)
{
    const struct net_handlers *handlers = &net->handlers;
    switch (connection->peer) {
    case NET_UNKNOWN:
        return greeted(net, connection, payload, bytes, now_ms);
    case NET_NODE: {
        struct raft_message message;
        if (!decode_raft(payload, bytes, &message) || message.from != connection->node)
            return false;
        handlers->message(handlers->context, &message);
        return true;
    }
    case NET_CLIENT: {
        struct client_request request;
        if (!decode_request(payload, bytes, &request))
            return false;
        uint64_t handle = (uint64_t)connection->generation << 32 | (uint32_t)number_of(net, connection);
        handlers->request(handlers->context, handle, &request);
        return true;
    }
    case NET_SERVER: {
        struct client_reply reply;
        if (!decode_reply(payload, bytes, &reply))
            return false;
        handlers->reply(handlers->context, &reply);
        return true;
    }
    }
    return false;
}

static void receive(struct net *net, struct net_connection *connection, uint64_t now_ms)
{
    ssize_t got = recv(connection->fd, connection->in + connection->in_bytes, NET_IN_BYTES - connection->in_bytes, 0);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return;
    if (got <= 0) {
        connection_close(net, connection, now_ms);
        return;
    }
    connection->in_bytes += (uint32_t)got;
    uint32_t generation = connection->generation;
    uint32_t at = 0;
    for (;;) {
        int length = frame_payload(connection->in + at, connection->in_bytes - at);
        if (length == 0)
            break;
        const uint8_t *payload = connection->in + at + FRAME_HEADER_BYTES;
        bool good = length > 0 && take_payload(net, connection, payload, (size_t)length, now_ms);
        if (connection->state == NET_FREE || connection->generation != generation)
            return; /* a handler closed it */
        if (!good) {
            connection_close(net, connection, now_ms);
            return;
        }
        at += FRAME_HEADER_BYTES + (uint32_t)length;
    }
    memmove(connection->in, connection->in + at, connection->in_bytes - at);
    connection->in_bytes -= at;
}

static void accept_all(struct net *net, uint64_t now_ms)
{
    for (;;) {
        int fd = accept4(net->listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        if (connection_new(net, fd, false, NET_UNKNOWN, now_ms) == NULL)
            close(fd);
    }
}

void net_wait(struct net *net, int timeout_ms, uint64_t now_ms)
{
    struct epoll_event events[EVENTS];
    int count = epoll_wait(net->epoll_fd, events, EVENTS, timeout_ms);
    uint32_t generations[EVENTS];
    for (int i = 0; i < count; i++)
        if (events[i].data.u32 < NET_CONNECTIONS_MAX)
            generations[i] = net->connections[events[i].data.u32].generation;
    for (int i = 0; i < count; i++) {
        if (events[i].data.u32 == LISTEN_EVENT) {
            accept_all(net, now_ms);
            continue;
        }
        struct net_connection *connection = &net->connections[events[i].data.u32];
        if (connection->state == NET_FREE || connection->generation != generations[i])
            continue; /* closed, perhaps used anew, by an event before this one */
        if (connection->state == NET_CONNECTING)
            connected(net, connection, now_ms);
        else if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
            receive(net, connection, now_ms);
        else
            flush_one(net, connection, now_ms);
    }
}

/* --- time --------------------------------------------------------------------------------------------------------- */

/* Has the other side acknowledged nothing, or not said who it is, for too long? */
static bool stalled(struct net_connection *connection, uint64_t now_ms)
{
    int waiting = connection->peer == NET_UNKNOWN;
    if (!waiting && ioctl(connection->fd, SIOCOUTQ, &waiting) != 0)
        return true;
    if (waiting == 0 || waiting < connection->unacknowledged || connection->deadline_ms == 0)
        connection->deadline_ms = now_ms;
    connection->unacknowledged = waiting;
    return waiting > 0 && now_ms - connection->deadline_ms >= NET_STALL_MS;
}

static void give_up_stuck(struct net *net, uint64_t now_ms)
{
    for (uint32_t i = 0; i < NET_CONNECTIONS_MAX; i++) {
        struct net_connection *connection = &net->connections[i];
        if (connection->state == NET_CONNECTING && now_ms >= connection->deadline_ms)
            connection_close(net, connection, now_ms);
        else if (connection->state == NET_CONNECTING)
            due_by(net, connection->deadline_ms);
        else if (connection->state == NET_OPEN && stalled(connection, now_ms))
            connection_close(net, connection, now_ms);
    }
}

uint64_t net_upkeep(struct net *net, uint64_t now_ms)
{
    if (now_ms < net->due_ms)
        return net->due_ms;
    net->due_ms = now_ms + NET_STALL_MS / 2;
    give_up_stuck(net, now_ms);
    for (uint8_t node = 0; node < net->config.nodes; node++) {
        struct net_link *link = &net->links[node];
        if (node == net->config.node || link->connection >= 0)
            continue;
        if (now_ms >= link->retry_ms) {
            struct net_connection *connection = call(net, node, NET_NODE, now_ms);
            if (connection != NULL) {
                link->connection = number_of(net, connection);
                continue;
            }
            link->retry_ms = now_ms + NET_BACKOFF_MAX_MS;
        }
        due_by(net, link->retry_ms);
    }
    return net->due_ms;
}

/* --- sending ------------------------------------------------------------------------------------------------------ */

void net_send(struct net *net, const struct raft_message *message)
{
    int number = net->links[message->to].connection;
    if (number < 0 || net->connections[number].state != NET_OPEN)
        return;
    uint8_t frame[FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX];
    queue(&net->connections[number], frame, encode_raft(frame, message));
}

void net_reply(struct net *net, uint64_t handle, const struct client_reply *reply)
{
    struct net_connection *connection = &net->connections[handle % NET_CONNECTIONS_MAX];
    if (connection->state != NET_OPEN || connection->generation != handle >> 32)
        return;
    uint8_t frame[FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX];
    queue(connection, frame, encode_reply(frame, reply));
}

void net_client_connect(struct net *net, uint8_t node, uint64_t now_ms)
{
    int old = net->client;
    net->client = -1; /* given up on purpose: the client need not hear of it */
    if (old >= 0)
        connection_close(net, &net->connections[old], now_ms);
    struct net_connection *connection = call(net, node, NET_SERVER, now_ms);
    if (connection != NULL)
        net->client = number_of(net, connection);
    else
        net->handlers.client_closed(net->handlers.context);
}

bool net_client_send(struct net *net, const struct client_request *request)
{
    uint8_t frame[FRAME_HEADER_BYTES + PAYLOAD_BYTES_MAX];
    return net->client >= 0 && queue(&net->connections[net->client], frame, encode_request(frame, request));
}

void net_flush(struct net *net, uint64_t now_ms)
{
    for (uint32_t i = 0; i < NET_CONNECTIONS_MAX; i++) {
        struct net_connection *connection = &net->connections[i];
        if (connection->state == NET_OPEN && connection->out_bytes > 0 && !connection->wants_write)
            flush_one(net, connection, now_ms);
    }
}

bool net_open(struct net *net, const struct net_config *config, const struct net_handlers *handlers, uint64_t now_ms)
{
    memset(net, 0, offsetof(struct net, in));
    net->config = *config;
    net->handlers = *handlers;
    net->client = -1;
    for (uint8_t node = 0; node < RAFT_NODES_MAX; node++)
        net->links[node] = (struct net_link){
            .connection = -1,
            .retry_ms = node < config->node ? now_ms + NET_COURTESY_MS : now_ms,
            .backoff_ms = NET_BACKOFF_MIN_MS,
        };
    net->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    net->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    struct sockaddr_in address = address_of(net, config->node);
    char text[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &address.sin_addr, text, sizeof text);
    bool good = net->epoll_fd >= 0 && net->listen_fd >= 0 &&
                setsockopt(net->listen_fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
                bind(net->listen_fd, (struct sockaddr *)&address, sizeof address) == 0 &&
                listen(net->listen_fd, LISTEN_BACKLOG) == 0 &&
                watch(net, EPOLL_CTL_ADD, net->listen_fd, EPOLLIN, LISTEN_EVENT);
    if (!good)
        snprintf(net->error, sizeof net->error, "listening on %s port %u: %s", text, ntohs(address.sin_port),
                 strerror(errno));
    return good;
}
