/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The sending calls on behalf: header, address, data and ancillary data are copied once, decided
 * about, and given to the kernel on the duplicated socket. Receivers try without waiting, workers
 * wait. Everything that is copied is hostile.
 */
#include "net/send.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>

#include "net/rules.h"

#define IOV_LIMIT 1024 /* UIO_MAXIOV */
#define CONTROL_LIMIT 20480
#define DATAGRAM_LIMIT 65535
#define PACKET_LIMIT (1 << 20) /* of a sequenced-packet socket: above its default buffer */
#define CHUNK 65536            /* of a stream */
#define FLAG_FASTOPEN 0x20000000
#define FLAG_ZEROCOPY 0x4000000
#define SEND_SLICE_MS 50

/* struct msghdr and struct mmsghdr of 64-bit machines. */
struct child_msghdr {
    uint64_t name;
    uint32_t name_len;
    uint32_t pad;
    uint64_t iov;
    uint64_t iov_len;
    uint64_t control;
    uint64_t control_len;
    uint32_t flags;
    uint32_t pad2;
};
_Static_assert(sizeof(struct child_msghdr) == 56, "struct msghdr");
#define MMSG_SIZE 64
#define MMSG_LEN_OFFSET 56

struct send_job {
    int fd, domain, type, flags;
    bool blocking, many;
    child_addr msg;          /* struct msghdr or an array of struct mmsghdr; 0 with sendto */
    struct child_msghdr one; /* sendto */
    struct iovec one_iov;
    uint32_t index, count;
    size_t done; /* bytes of a stream's message that are under way */
};

/* A message as copied. */
struct message {
    struct child_msghdr h;
    struct iovec *iov; /* owned; the child's addresses */
    size_t total;
    struct net_addr to; /* len 0: none */
    int object_fd;      /* what a UNIX destination names by descriptor, or -1; owned */
    void *control;      /* owned */
    struct net_rights rights;
};

static void message_fini(struct message *m)
{
    net_rights_close(&m->rights);
    util_close(m->object_fd);
    free(m->iov);
    free(m->control);
}

static int message_iov(const struct request *r, const struct send_job *j, struct message *m)
{
    if (m->h.iov_len > IOV_LIMIT)
        return -EMSGSIZE;
    m->iov = calloc(m->h.iov_len ? m->h.iov_len : 1, sizeof(*m->iov));
    if (!m->iov)
        return -ENOMEM;
    if (!j->msg.addr)
        m->iov[0] = j->one_iov;
    else if (request_read(r, (child_addr){m->h.iov}, m->iov, m->h.iov_len * sizeof(*m->iov)) < 0)
        return -EFAULT;
    for (size_t i = 0; i < m->h.iov_len; i++) {
        if (m->iov[i].iov_len > SSIZE_MAX - m->total)
            return -EINVAL;
        m->total += m->iov[i].iov_len;
    }
    return 0;
}

static int dup_of_child(void *ctx, int fd)
{
    return request_fd(ctx, fd);
}

static int message_control(const struct request *r, const struct send_job *j, struct message *m)
{
    size_t len = m->h.control ? m->h.control_len : 0;

    m->h.control_len = len;
    if (!len)
        return 0;
    if (len > CONTROL_LIMIT)
        return -ENOBUFS;
    m->control = malloc(len);
    if (!m->control)
        return -ENOMEM;
    if (request_read(r, (child_addr){m->h.control}, m->control, len) < 0)
        return -EFAULT;
    /* Where no rule looks at destinations, nothing that is attached can evade one. */
    if (j->domain != AF_UNIX &&
        !(policy_net_mediated(supervisor_policy(r->sup)) & ~(unsigned)NET_TCP))
        return 0;
    return net_control_translate(m->control, len, j->domain, dup_of_child, (void *)(uintptr_t)r,
                                 &m->rights);
}

/* Streams and sequenced packets have their peer. */
static int message_unix_name(const struct request *r, const struct send_job *j, struct message *m)
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof(peer);

    if (j->type == SOCK_DGRAM)
        return net_unix_settle(r, &m->to, &m->object_fd);
    m->to.len = 0;
    if (j->type != SOCK_STREAM)
        return 0;
    return getpeername(j->fd, (struct sockaddr *)&peer, &len) ? -EOPNOTSUPP : -EISCONN;
}

/* Destinations count on datagram sockets alone. */
static int message_name(const struct request *r, const struct send_job *j, struct message *m)
{
    int e;

    if (!m->h.name || !m->h.name_len)
        return 0;
    /* The kernel cuts the length of a message's name, and refuses the one of sendto. */
    if ((int32_t)m->h.name_len < 0)
        return -EINVAL;
    if (j->msg.addr)
        m->h.name_len = MIN(m->h.name_len, (uint32_t)sizeof(m->to.u.storage));
    e = net_addr_read(r, (child_addr){m->h.name}, m->h.name_len, &m->to);
    if (e < 0)
        return e;
    if (j->domain == AF_UNIX)
        return message_unix_name(r, j, m);
    if (j->type == SOCK_STREAM) {
        m->to.len = 0; /* TCP takes no notice */
        return 0;
    }
    if (m->to.len >= sizeof(sa_family_t) && m->to.u.sa.sa_family == AF_UNSPEC) {
        /* UDP over IPv4 reads an address, over IPv6 none (udp_sendmsg, udpv6_sendmsg). */
        if (j->domain == AF_INET6) {
            m->to.len = 0;
            return 0;
        }
        m->to.u.sa.sa_family = AF_INET;
    }
    return net_rules_judge(r, j->fd, &m->to);
}

static int message_read(const struct request *r, const struct send_job *j, struct message *m)
{
    int e;

    memset(m, 0, sizeof(*m));
    m->object_fd = -1;
    m->h = j->one;
    if (j->msg.addr &&
        request_read(r, (child_addr){j->msg.addr + (uint64_t)j->index * (j->many ? MMSG_SIZE : 0)},
                     &m->h, sizeof(m->h)) < 0)
        return -EFAULT;
    e = message_iov(r, j, m);
    if (e == 0)
        e = message_name(r, j, m);
    if (e == 0)
        e = message_control(r, j, m);
    return e;
}

/* Bytes [from, from+len) of the message. */
static int message_data(const struct request *r, const struct message *m, size_t from, size_t len,
                        char *dst)
{
    for (size_t i = 0; i < m->h.iov_len && len; i++) {
        size_t size = m->iov[i].iov_len, n;

        if (from >= size) {
            from -= size;
            continue;
        }
        n = MIN(size - from, len);
        if (request_read(r, (child_addr){(uintptr_t)m->iov[i].iov_base + from}, dst, n) < 0)
            return -EFAULT;
        dst += n;
        len -= n;
        from = 0;
    }
    return 0;
}

/* One call to the kernel that does not wait. Without a signal: that one is the child's. */
static ssize_t message_send(const struct request *r, const struct send_job *j, struct message *m,
                            char *data, size_t len, bool first)
{
    struct iovec iov = {data, len};
    struct msghdr h = {
        .msg_name = m->to.len ? &m->to.u : NULL,
        .msg_namelen = m->to.len,
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = first ? m->control : NULL,
        .msg_controllen = first && m->control ? m->h.control_len : 0,
    };
    ssize_t n = sendmsg(j->fd, &h, j->flags | MSG_DONTWAIT | MSG_NOSIGNAL);

    if (n < 0)
        n = -errno;
    if (n == -EPERM && j->domain == AF_UNIX)
        net_unix_explain_scope(r, &m->to);
    return n;
}

static ssize_t send_whole(const struct request *r, const struct send_job *j, struct message *m)
{
    _cleanup_free_ char *data = NULL;
    int e;

    if (m->total > (j->domain == AF_UNIX ? (size_t)PACKET_LIMIT : (size_t)DATAGRAM_LIMIT))
        return -EMSGSIZE;
    data = malloc(m->total + 1);
    if (!data)
        return -ENOMEM;
    e = message_data(r, m, 0, m->total, data);
    if (e < 0)
        return e;
    return request_alive(r) ? message_send(r, j, m, data, m->total, true) : -ESRCH;
}

/* A stream takes what fits; j->done remembers between the attempts of a blocking call. */
static ssize_t send_stream(const struct request *r, struct send_job *j, struct message *m)
{
    _cleanup_free_ char *data = malloc(CHUNK);
    ssize_t n = 0;

    if (!data)
        return -ENOMEM;
    do {
        size_t len = j->done < m->total ? MIN(m->total - j->done, (size_t)CHUNK) : 0;
        int e = message_data(r, m, j->done, len, data);

        if (e == 0 && !request_alive(r))
            e = -ESRCH;
        n = e < 0 ? e : message_send(r, j, m, data, len, j->done == 0);
        if (n > 0)
            j->done += (size_t)n;
    } while (n > 0 && j->done < m->total);
    if (n == -EAGAIN && j->blocking)
        return n;
    return j->done ? (ssize_t)j->done : n;
}

static ssize_t send_one(const struct request *r, struct send_job *j)
{
    struct message m;
    ssize_t n = message_read(r, j, &m);

    if (n == 0)
        n = j->type == SOCK_STREAM ? send_stream(r, j, &m) : send_whole(r, j, &m);
    message_fini(&m);
    return n;
}

static void raise_sigpipe(const struct request *r, const struct send_job *j)
{
    pid_t tgid;

    if (j->type == SOCK_STREAM && !(j->flags & MSG_NOSIGNAL) && request_status(r, &tgid, NULL) == 0)
        (void)kill(tgid, SIGPIPE);
}

/* As far as it goes without waiting: the call's result, or -EAGAIN. */
static int64_t send_advance(const struct request *r, struct send_job *j)
{
    while (j->index < j->count) {
        ssize_t n = send_one(r, j);
        uint32_t len = (uint32_t)n;

        if (n == -EPIPE)
            raise_sigpipe(r, j);
        if (n < 0)
            return n == -EAGAIN || !j->index ? n : (int64_t)j->index;
        if (!j->many)
            return n;
        j->done = 0;
        if (request_write(
                r, (child_addr){j->msg.addr + (uint64_t)j->index * MMSG_SIZE + MMSG_LEN_OFFSET},
                &len, sizeof(len)) < 0)
            return j->index ? (int64_t)j->index : -EFAULT;
        j->index++;
    }
    return j->index;
}

/* What an interrupted or timed-out call has to tell of its work. */
static int64_t send_so_far(const struct send_job *j, int e)
{
    if (j->index)
        return j->index;
    return j->done ? (int64_t)j->done : e;
}

static void job_free(struct send_job *j)
{
    if (j)
        util_close(j->fd);
    free(j);
}

static void job_freep(struct send_job **j)
{
    job_free(*j);
}

static struct verdict send_wait(const struct request *r, void *arg)
{
    _cleanup_(job_freep) struct send_job *j = arg;
    /* A named datagram waits for a receiver whose queue raises no event on this socket. */
    bool named = j->domain == AF_UNIX && j->type == SOCK_DGRAM;
    int64_t deadline = net_wait_deadline(j->fd, SO_SNDTIMEO), now, rc;
    int slice = named ? 1 : SEND_SLICE_MS;

    for (;;) {
        struct pollfd p = {.fd = named ? -1 : j->fd, .events = POLLOUT};

        now = util_now_ms();
        slice = named ? MIN(slice * 2, 20) : SEND_SLICE_MS;
        if (poll(&p, 1, (int)MAX(0, MIN(deadline - now, slice))) > 0 || named) {
            rc = send_advance(r, j);
            if (rc != -EAGAIN)
                return verdict_result(rc);
        }
        if (!request_alive(r))
            return verdict_gone();
        if (util_now_ms() >= deadline)
            return verdict_result(send_so_far(j, -EAGAIN));
        if (net_is_interrupted(r))
            return verdict_result(send_so_far(j, -EINTR));
    }
}

static struct verdict send_run(struct request *r, struct send_job **job)
{
    struct send_job *j = *job;
    int64_t rc = send_advance(r, j);
    struct verdict v;

    if (rc == -ESRCH)
        return verdict_gone();
    if (rc != -EAGAIN)
        return verdict_result(rc);
    if (!j->blocking)
        return verdict_result(send_so_far(j, -EAGAIN));
    v = request_defer(r, send_wait, j);
    if (v.kind == VERDICT_LATER)
        *job = NULL; /* the worker's now */
    return v;
}

/* The job for argument 0, the socket, with what all three calls share. */
static int job_new(struct request *r, int flags, struct send_job **ret)
{
    _cleanup_(job_freep) struct send_job *j = calloc(1, sizeof(*j));
    int status;

    if (!j)
        return -ENOMEM;
    j->count = 1;
    j->flags = flags;
    j->fd = net_socket_dup(r, &j->domain);
    if (j->fd < 0)
        return j->fd;
    if (flags & FLAG_FASTOPEN)
        return -EOPNOTSUPP;
    if (flags & FLAG_ZEROCOPY) /* the pages would be ours; programs then copy */
        return -ENOBUFS;
    if (j->domain != AF_UNIX && j->domain != AF_INET && j->domain != AF_INET6)
        return -EACCES;
    j->type = net_sockopt(j->fd, SOL_SOCKET, SO_TYPE);
    status = fcntl(j->fd, F_GETFL);
    if (j->type < 0 || status < 0)
        return -EBADF;
    j->blocking = !(status & O_NONBLOCK) && !(flags & MSG_DONTWAIT);
    *ret = STEAL_PTR(j);
    return 0;
}

static struct verdict send_failed(struct request *r, int e)
{
    if (e == -EACCES)
        request_explain(r, "socket", EACCES, "this kind of socket cannot be sent on", NULL);
    return verdict_errno(e);
}

struct verdict net_sendto(struct request *r)
{
    _cleanup_(job_freep) struct send_job *j = NULL;
    int e;

    if (!r->call.args[4]) /* another feature's clause brought it here */
        return verdict_pass();
    e = job_new(r, call_int(&r->call, 3), &j);
    if (e < 0)
        return send_failed(r, e);
    j->one_iov = (struct iovec){(void *)(uintptr_t)r->call.args[1], r->call.args[2]};
    j->one.iov_len = 1;
    j->one.name = r->call.args[4];
    j->one.name_len = call_u32(&r->call, 5);
    return send_run(r, &j);
}

static struct verdict send_messages(struct request *r, bool many)
{
    _cleanup_(job_freep) struct send_job *j = NULL;
    int e = job_new(r, call_int(&r->call, many ? 3 : 2), &j);

    if (e < 0)
        return send_failed(r, e);
    j->many = many;
    j->msg = call_addr(&r->call, 1);
    if (!j->msg.addr)
        return verdict_errno(EFAULT);
    if (many)
        j->count = MIN(call_u32(&r->call, 2), (uint32_t)IOV_LIMIT);
    return send_run(r, &j);
}

struct verdict net_sendmsg(struct request *r)
{
    return send_messages(r, false);
}

struct verdict net_sendmmsg(struct request *r)
{
    return send_messages(r, true);
}
