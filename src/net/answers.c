/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Answers of our own name server carry the address that was asked: musl and c-ares drop what comes
 * from anybody else. Only sockets that asked are received from on behalf, with their sender replaced;
 * all others go on natively. Receivers, workers; what is written is ours, where to is the child's.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "net/rules.h"

#define ANSWER_MAX 4096
#define IOV_LIMIT 1024 /* UIO_MAXIOV */
#define SLICE_MS 50

/* struct msghdr of 64-bit machines, as in send.c. */
struct child_msghdr {
    uint64_t name;
    uint32_t name_len, pad;
    uint64_t iov, iov_len, control, control_len;
    uint32_t flags, pad2;
};
_Static_assert(sizeof(struct child_msghdr) == 56, "struct msghdr");

struct answer_job {
    int fd, flags;
    bool blocking;
    child_addr msg; /* struct msghdr; 0 with recvfrom */
    struct child_msghdr h;
    child_addr name_len_at; /* recvfrom */
    struct iovec one;
    struct net_addr server; /* who was asked */
};

static uint64_t socket_ino(int fd)
{
    struct stat st;

    return fstat(fd, &st) || !S_ISSOCK(st.st_mode) ? 0 : st.st_ino;
}

void net_asked_note(struct net_asked *a, int fd, const struct net_addr *server)
{
    uint64_t ino = socket_ino(fd);
    unsigned i;

    if (!ino)
        return;
    pthread_mutex_lock(&a->lock);
    for (i = 0; i < NET_ASKED_MAX && a->v[i].ino != ino; i++)
        ;
    if (i == NET_ASKED_MAX)
        i = a->next++ % NET_ASKED_MAX;
    a->v[i].ino = ino;
    a->v[i].server = *server;
    atomic_store(&a->any, true);
    pthread_mutex_unlock(&a->lock);
}

static bool asked_find(struct net_asked *a, uint64_t ino, struct net_addr *ret)
{
    bool found = false;

    pthread_mutex_lock(&a->lock);
    for (unsigned i = 0; i < NET_ASKED_MAX && ino && !found; i++) {
        found = a->v[i].ino == ino;
        if (found)
            *ret = a->v[i].server;
    }
    pthread_mutex_unlock(&a->lock);
    return found;
}

static int write_data(const struct request *r, const struct answer_job *j, const char *data,
                      size_t n)
{
    struct iovec iov[IOV_LIMIT];
    size_t count = j->msg.addr ? j->h.iov_len : 1;

    if (count > IOV_LIMIT)
        return -EMSGSIZE;
    iov[0] = j->one;
    if (j->msg.addr && request_read(r, (child_addr){j->h.iov}, iov, count * sizeof(*iov)) < 0)
        return -EFAULT;
    for (size_t i = 0; i < count && n; i++) {
        size_t part = MIN(n, iov[i].iov_len);

        if (request_write(r, (child_addr){(uintptr_t)iov[i].iov_base}, data, part) < 0)
            return -EFAULT;
        data += part;
        n -= part;
    }
    return (int)n; /* what did not fit */
}

static int write_name(const struct request *r, struct answer_job *j, const struct net_addr *from)
{
    uint32_t room = j->h.name_len, full = from->len;

    if (!j->h.name)
        return 0;
    if (!j->msg.addr && request_read(r, j->name_len_at, &room, sizeof(room)) < 0)
        return -EFAULT;
    if ((int32_t)room < 0)
        return -EINVAL;
    if (request_write(r, (child_addr){j->h.name}, &from->u, MIN(room, full)) < 0)
        return -EFAULT;
    j->h.name_len = full;
    return j->msg.addr ? 0 : request_write(r, j->name_len_at, &full, sizeof(full));
}

static bool is_own_server(const struct net_addr *a)
{
    struct net_dest d;

    return net_dest_of(&a->u.sa, a->len, &d) == 0 && (d.v6 ? d.addr[15] == 1 : d.addr[0] == 127);
}

/* One datagram, or -EAGAIN. */
static int64_t answer_take(const struct request *r, struct answer_job *j)
{
    char data[ANSWER_MAX];
    struct net_addr from = {.len = sizeof(from.u)};
    ssize_t n = recvfrom(j->fd, data, sizeof(data), j->flags | MSG_DONTWAIT | MSG_TRUNC, &from.u.sa,
                         &from.len);
    size_t len = n > 0 ? MIN((size_t)n, sizeof(data)) : 0;
    int rest, rc;

    if (n < 0)
        return -errno;
    if (is_own_server(&from))
        from = j->server;
    rest = write_data(r, j, data, len);
    rc = rest < 0 ? rest : write_name(r, j, &from);
    if (rc < 0)
        return rc;
    if (j->msg.addr) {
        j->h.control_len = 0;
        j->h.flags = rest || (size_t)n > len ? MSG_TRUNC : 0;
        if (request_write(r, j->msg, &j->h, sizeof(j->h)) < 0)
            return -EFAULT;
    }
    return (j->flags & MSG_TRUNC) ? n : (int64_t)len - rest;
}

static void job_free(struct answer_job *j)
{
    if (j)
        util_close(j->fd);
    free(j);
}

static void job_freep(struct answer_job **j)
{
    job_free(*j);
}

static struct verdict answer_wait(const struct request *r, void *arg)
{
    _cleanup_(job_freep) struct answer_job *j = arg;
    int64_t deadline = net_wait_deadline(j->fd, SO_RCVTIMEO), rc;

    for (;;) {
        struct pollfd p = {.fd = j->fd, .events = POLLIN};

        if (poll(&p, 1, (int)MAX(0, MIN(deadline - util_now_ms(), SLICE_MS))) > 0) {
            rc = answer_take(r, j);
            if (rc != -EAGAIN)
                return verdict_result(rc);
        }
        if (!request_alive(r))
            return verdict_gone();
        if (util_now_ms() >= deadline)
            return verdict_errno(EAGAIN);
        if (net_is_interrupted(r))
            return verdict_errno(EINTR);
    }
}

static struct verdict answer_run(struct request *r, struct answer_job **job)
{
    struct answer_job *j = *job;
    int64_t rc = answer_take(r, j);
    struct verdict v;

    if (rc != -EAGAIN || !j->blocking)
        return verdict_result(rc);
    v = request_defer(r, answer_wait, j);
    if (v.kind == VERDICT_LATER)
        *job = NULL; /* the worker's now */
    return v;
}

/* The job when the socket has asked our server; NULL: it goes on natively. */
static struct answer_job *job_new(struct request *r, int flags)
{
    struct net_rules_state *s = net_rules_of(r);
    _cleanup_close_ int fd = -1;
    struct answer_job *j;
    struct net_addr server;
    int domain, status;

    if (!s || !atomic_load(&s->asked.any) || (flags & (MSG_ERRQUEUE | MSG_OOB)))
        return NULL;
    fd = net_socket_dup(r, &domain);
    if (fd < 0 || !asked_find(&s->asked, socket_ino(fd), &server))
        return NULL;
    j = calloc(1, sizeof(*j));
    if (!j)
        return NULL;
    status = fcntl(fd, F_GETFL);
    j->fd = steal_fd(&fd);
    j->server = server;
    j->flags = flags;
    j->blocking = status >= 0 && !(status & O_NONBLOCK) && !(flags & MSG_DONTWAIT);
    return j;
}

#define GO_ON "receiving reaches nobody: the caller gets what its own socket holds, natively"

struct verdict net_recvfrom(struct request *r)
{
    _cleanup_(job_freep) struct answer_job *j = job_new(r, call_int(&r->call, 3));

    if (!j)
        return verdict_continue(GO_ON);
    j->one = (struct iovec){(void *)(uintptr_t)r->call.args[1], r->call.args[2]};
    j->h.name = r->call.args[4];
    j->name_len_at = call_addr(&r->call, 5);
    return answer_run(r, &j);
}

struct verdict net_recvmsg(struct request *r)
{
    _cleanup_(job_freep) struct answer_job *j = job_new(r, call_int(&r->call, 2));

    if (!j)
        return verdict_continue(GO_ON);
    j->msg = call_addr(&r->call, 1);
    if (request_read(r, j->msg, &j->h, sizeof(j->h)) < 0)
        return verdict_errno(EFAULT);
    return answer_run(r, &j);
}
