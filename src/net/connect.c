/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connect on behalf: the address is copied once, the socket duplicated and asked what it is, the
 * path resolved to a descriptor; the kernel sees only our bytes. Receivers try, workers wait. The
 * child's bytes and its descriptor table are hostile and may change at any moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "fs/grants.h"
#include "fs/resolve.h"
#include "net/keep.h"
#include "net/rules.h"
#include "net/watch.h"
#include "sys/uapi.h"

struct connect_job {
    int fd;        /* duplicate of the child's socket */
    int object_fd; /* O_PATH of the socket's place, which addr names by descriptor; or -1 */
    int domain;
    bool blocking;
    struct net_addr addr;
};

static void job_free(struct connect_job *j)
{
    if (!j)
        return;
    util_close(j->fd);
    util_close(j->object_fd);
    free(j);
}

static void job_freep(struct connect_job **j)
{
    job_free(*j);
}

static struct net_watch *connect_watch(const struct request *r)
{
    const struct net_open *open = supervisor_state(r->sup, &net_unix_open_feature);

    return open ? open->watch : net_rules_of(r)->watch;
}

/*
 * One attempt that does not wait. The duplicate shares its file status flags with the child, so a
 * blocking socket is made non-blocking for the length of the call. A child that clears the flag in
 * between makes one thread of its own supervisor wait; the watch ends that wait with the child.
 */
static int connect_once(const struct request *r, const struct connect_job *j)
{
    struct net_watch *watch = connect_watch(r);
    int flags = 0, rc, slot;

    if (j->blocking) {
        flags = fcntl(j->fd, F_GETFL);
        if (flags < 0 || fcntl(j->fd, F_SETFL, flags | O_NONBLOCK))
            return -errno;
    }
    slot = net_watch_enter(watch, r, j->fd);
    rc = connect(j->fd, &j->addr.u.sa, j->addr.len) ? -errno : 0;
    /* On loopback the answer is there when connect returns: asking again spares a worker. */
    if (rc == -EINPROGRESS && j->blocking)
        rc = connect(j->fd, &j->addr.u.sa, j->addr.len) ? -errno : 0;
    net_watch_leave(watch, slot);
    if (rc == 0)
        net_kept_connected(r, j->fd);
    if (j->blocking) {
        flags = fcntl(j->fd, F_GETFL);
        if (flags >= 0)
            (void)fcntl(j->fd, F_SETFL, flags & ~O_NONBLOCK);
    }
    return rc;
}

/* EAGAIN comes from a UNIX listener with a full queue; INET gives it for lack of ports. */
static bool connect_is_pending(const struct connect_job *j, int rc)
{
    return j->blocking &&
           (rc == -EINPROGRESS || rc == -EALREADY || (rc == -EAGAIN && j->domain == AF_UNIX));
}

#define CONNECT_SLICE_MS 50

/* Worker: waits as the blocking call would, then answers. */
static struct verdict connect_wait(const struct request *r, void *arg)
{
    _cleanup_(job_freep) struct connect_job *j = arg;
    int64_t deadline = net_wait_deadline(j->fd, SO_SNDTIMEO), left;
    int slice = 1, rc, ready;

    for (;;) {
        struct pollfd pfd = {.fd = j->domain == AF_UNIX ? -1 : j->fd, .events = POLLOUT};

        /* A full UNIX queue raises no event on our side: look again, less and less often. */
        slice = j->domain == AF_UNIX ? MIN(slice * 2, 20) : CONNECT_SLICE_MS;
        left = deadline - util_now_ms();
        ready = poll(&pfd, 1, (int)MAX(0, MIN(left, slice)));
        if (!request_alive(r))
            return verdict_gone();
        if (ready > 0 || j->domain == AF_UNIX) {
            rc = connect_once(r, j);
            if (!connect_is_pending(j, rc))
                return verdict_result(rc);
        }
        if (util_now_ms() >= deadline)
            return verdict_errno(j->domain == AF_UNIX ? EAGAIN : EINPROGRESS);
        if (net_is_interrupted(r))
            return verdict_errno(EINTR);
    }
}

static struct verdict connect_perform(struct request *r, struct connect_job **job)
{
    int rc = connect_once(r, *job);
    struct verdict v;

    if (!connect_is_pending(*job, rc))
        return verdict_result(rc);
    v = request_defer(r, connect_wait, *job);
    if (v.kind == VERDICT_LATER)
        *job = NULL; /* the worker's now */
    return v;
}

static struct verdict connect_refuse(struct request *r, const char *subject, const char *rule,
                                     const char *hint)
{
    request_explain(r, subject, EACCES, rule, hint);
    return verdict_errno(EACCES);
}

static struct verdict connect_unix(struct request *r, struct connect_job **job)
{
    int rc = net_unix_settle(r, &(*job)->addr, &(*job)->object_fd);
    struct verdict v;

    if (rc == -ESRCH)
        return verdict_gone();
    if (rc < 0)
        return verdict_errno(rc);
    v = connect_perform(r, job);
    if (v.kind == VERDICT_ERRNO && v.value == EPERM)
        net_unix_explain_scope(r, &(*job)->addr);
    return v;
}

/* The port rule is asked here too: a second lock beside Landlock's own on this thread. */
static struct verdict connect_inet(struct request *r, struct connect_job **job)
{
    const struct policy *p = supervisor_policy(r->sup);
    const struct net_addr *a = &(*job)->addr;
    char text[NET_TEXT_MAX], hint[48];
    bool dissolves = a->len >= sizeof(sa_family_t) && a->u.sa.sa_family == AF_UNSPEC;
    int rc = 0;

    /* Without rules as well: a socket that was received may be of a kind that none allows. */
    if (!dissolves)
        rc = net_rules_judge(r, (*job)->fd, &(*job)->addr);
    if (rc < 0)
        return verdict_errno(rc);
    if ((supervisor_plan(r->sup)->handled_net & LANDLOCK_ACCESS_NET_CONNECT_TCP) &&
        net_sockopt((*job)->fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP) {
        rc = net_connect_check(&p->net_connect, (*job)->domain, a);
        if (rc == -EACCES) {
            net_addr_text(a, text);
            snprintf(hint, sizeof(hint), "--net-allow :%d", net_addr_port(a));
            return connect_refuse(r, text, "TCP port not allowed", hint);
        }
        if (rc < 0)
            return verdict_errno(rc);
    }
    return connect_perform(r, job);
}

struct verdict net_connect(struct request *r)
{
    _cleanup_(job_freep) struct connect_job *j = calloc(1, sizeof(*j));
    int rc, flags;

    if (!j)
        return verdict_errno(ENOMEM);
    j->object_fd = -1;
    j->fd = net_socket_dup(r, &j->domain);
    if (j->fd == -EISCONN)
        return verdict_errno(EISCONN);
    if (j->fd == -EACCES)
        return connect_refuse(r, "socket", "the socket cannot be duplicated for checking", NULL);
    if (j->fd < 0)
        return verdict_errno(j->fd);
    rc = net_addr_read(r, call_addr(&r->call, 1), r->call.args[2], &j->addr);
    if (rc < 0)
        return verdict_errno(rc);
    if (!request_alive(r))
        return verdict_gone();
    flags = fcntl(j->fd, F_GETFL);
    if (flags < 0)
        return verdict_errno(errno);
    j->blocking = !(flags & O_NONBLOCK);
    if (j->domain == AF_UNIX)
        return connect_unix(r, &j);
    if (j->domain == AF_INET || j->domain == AF_INET6)
        return connect_inet(r, &j);
    if (net_rules_of(r))
        return connect_refuse(r, "socket", "protocol not allowed", NULL);
    return connect_perform(r, &j);
}
