/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --port-remap (NB-03): the ports that the command names are its own. A port that is free outside is
 * kept, otherwise the socket gets another real one, and the names it is told are translated back.
 * Receiver threads; addresses are copies of the child's, the real ports are the kernel's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "net/rules.h"

#define REMAP_MAX 4096 /* then no further port is told apart: bind fails with EADDRINUSE */

struct remap_entry {
    uint8_t proto; /* enum net_proto */
    uint16_t seen; /* what the command calls it */
    uint16_t real;
    uint64_t ino; /* of the socket that was bound last */
};

struct remap {
    pthread_mutex_t lock; /* leaf; held over bind, which does not wait */
    struct remap_entry *v;
    size_t n;
};

static struct remap *remap_of(const struct request *r)
{
    return supervisor_state(r->sup, &net_remap_feature);
}

static struct remap_entry *find_seen(const struct remap *m, unsigned proto, uint16_t port)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].proto == proto && m->v[i].seen == port)
            return &m->v[i];
    }
    return NULL;
}

static const struct remap_entry *find_real(const struct remap *m, unsigned proto, uint16_t port)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].proto == proto && m->v[i].real == port)
            return &m->v[i];
    }
    return NULL;
}

static void set_port(struct net_addr *a, uint16_t port)
{
    if (a->u.sa.sa_family == AF_INET)
        a->u.in.sin_port = htons(port);
    else
        a->u.in6.sin6_port = htons(port);
}

static int bind_to(int fd, struct net_addr *a, uint16_t port)
{
    set_port(a, port);
    return bind(fd, &a->u.sa, a->len) ? -errno : 0;
}

static uint16_t real_port(int fd)
{
    struct net_addr a = {.len = sizeof(a.u)};
    int port = getsockname(fd, &a.u.sa, &a.len) ? -1 : net_addr_port(&a);

    return port > 0 ? (uint16_t)port : 0;
}

static uint64_t socket_ino(int fd)
{
    struct stat st;

    return fstat(fd, &st) ? 0 : st.st_ino;
}

/* Is the socket that took the port still somebody's inside? When in doubt, yes. */
static bool entry_is_held(const struct remap_entry *e)
{
    struct net_inodes own;
    bool held;

    if (net_own_inodes(&own) < 0)
        return true;
    held = net_inodes_have(&own, e->ino);
    free(own.v);
    return held;
}

static int remap_note(struct remap *m, unsigned proto, uint16_t seen, uint16_t real, uint64_t ino)
{
    struct remap_entry *e = find_seen(m, proto, seen);

    if (!e) {
        if (m->n == REMAP_MAX)
            return -ENOBUFS;
        if (!m->v)
            m->v = calloc(REMAP_MAX, sizeof(*m->v));
        if (!m->v)
            return -ENOMEM;
        e = &m->v[m->n++];
    }
    *e = (struct remap_entry){(uint8_t)proto, seen, real, ino};
    return 0;
}

/* Any real port will do: taken outside, or not ours to take (below 1024). */
static int bind_elsewhere(const struct policy *p, int fd, struct net_addr *a)
{
    int rc;

    if (!port_set_is_empty(&p->net_deny_bind))
        return net_bind_any_port(fd, a, p);
    rc = bind_to(fd, a, 0);
    return rc;
}

/* A port that was had before, by a socket that may share it (SO_REUSEPORT, the other family). */
static int bind_again(const struct policy *p, int fd, struct net_addr *a, struct remap_entry *e)
{
    int rc = bind_to(fd, a, e->real);

    if (rc != -EADDRINUSE || entry_is_held(e))
        return rc;
    return bind_elsewhere(p, fd, a); /* taken outside after it was given back */
}

static int bind_named(struct remap *m, const struct policy *p, unsigned proto, int fd,
                      struct net_addr *a, uint16_t seen)
{
    struct remap_entry *e = find_seen(m, proto, seen);
    int rc;

    if (e)
        return bind_again(p, fd, a, e);
    rc = bind_to(fd, a, seen);
    /* The real port of another name of ours is taken as well: elsewhere, too. */
    return rc == -EADDRINUSE || rc == -EACCES ? bind_elsewhere(p, fd, a) : rc;
}

int net_remap_bind(const struct request *r, int fd, struct net_addr *a)
{
    const struct policy *p = supervisor_policy(r->sup);
    struct remap *m = remap_of(r);
    uint16_t seen = (uint16_t)net_addr_port(a);
    unsigned proto = net_socket_proto(fd);
    int rc;

    pthread_mutex_lock(&m->lock);
    rc = seen ? bind_named(m, p, proto, fd, a, seen) : bind_elsewhere(p, fd, a);
    if (rc == 0) {
        uint16_t real = real_port(fd);

        /* "Any": the real number, unless something else is called that already. */
        for (uint16_t i = 0; !seen; i++) {
            const struct remap_entry *e = find_seen(m, proto, (uint16_t)(real + i));

            if (real + i > 1023 && (!e || !entry_is_held(e)))
                seen = (uint16_t)(real + i);
        }
        rc = remap_note(m, proto, seen, real, socket_ino(fd));
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}

static bool is_loopback(const struct net_addr *a)
{
    struct net_dest d;

    if (net_dest_of(&a->u.sa, a->len, &d) < 0)
        return false;
    return d.v6 ? IN6_IS_ADDR_LOOPBACK((const struct in6_addr *)d.addr) : d.addr[0] == 127;
}

void net_remap_destination(const struct request *r, unsigned proto, struct net_addr *a)
{
    struct remap *m = remap_of(r);
    const struct remap_entry *e;

    if (!m || !is_loopback(a))
        return;
    pthread_mutex_lock(&m->lock);
    e = find_seen(m, proto, (uint16_t)net_addr_port(a));
    if (e)
        set_port(a, e->real);
    pthread_mutex_unlock(&m->lock);
}

/* ---- what the command is told ---- */

uint16_t net_remap_seen(const struct supervisor *s, unsigned proto, uint16_t real)
{
    struct remap *m = supervisor_state(s, &net_remap_feature);
    const struct remap_entry *e;
    uint16_t seen = real;

    if (!m)
        return real;
    pthread_mutex_lock(&m->lock);
    e = find_real(m, proto, real);
    if (e)
        seen = e->seen;
    pthread_mutex_unlock(&m->lock);
    return seen;
}

/* True when the port has another name inside; a becomes what the command is to see. */
static bool translate_back(const struct supervisor *s, unsigned proto, struct net_addr *a)
{
    int port = net_addr_port(a);
    uint16_t seen = port > 0 ? net_remap_seen(s, proto, (uint16_t)port) : 0;

    if (port <= 0 || seen == port)
        return false;
    set_port(a, seen);
    return true;
}

/* As the kernel: cut to the caller's room, the whole length told. */
static int write_name(const struct request *r, const struct net_addr *a)
{
    int32_t room, full = (int32_t)a->len;
    int rc = request_read(r, call_addr(&r->call, 2), &room, sizeof(room));

    if (rc == 0 && room < 0)
        rc = -EINVAL;
    if (rc == 0)
        rc = request_write(r, call_addr(&r->call, 1), &a->u, (size_t)MIN(room, full));
    return rc ? rc : request_write(r, call_addr(&r->call, 2), &full, sizeof(full));
}

/* The common case costs no duplicate. */
static bool remap_is_empty(struct remap *m)
{
    bool empty;

    pthread_mutex_lock(&m->lock);
    empty = m->n == 0;
    pthread_mutex_unlock(&m->lock);
    return empty;
}

static struct verdict tell_name(struct request *r, bool peer)
{
    int domain = 0;
    _cleanup_close_ int fd = remap_is_empty(remap_of(r)) ? -1 : net_socket_dup(r, &domain);
    struct net_addr a = {.len = sizeof(a.u)};

    if (fd < 0 || (domain != AF_INET && domain != AF_INET6) ||
        (peer ? getpeername(fd, &a.u.sa, &a.len) : getsockname(fd, &a.u.sa, &a.len)) ||
        (peer && !is_loopback(&a)) || !translate_back(r->sup, net_socket_proto(fd), &a))
        return verdict_continue("returns names of the caller's own socket and takes no input");
    return request_alive(r) ? verdict_result(write_name(r, &a)) : verdict_gone();
}

static struct verdict remap_getsockname(struct request *r)
{
    return tell_name(r, false);
}

static struct verdict remap_getpeername(struct request *r)
{
    return tell_name(r, true);
}

/* ---- the feature ---- */

static bool remap_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->port_remap && !p->no_supervisor;
}

static int remap_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct remap *m = calloc(1, sizeof(*m));

    (void)s;
    if (!m)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--port-remap", "out of memory");
    pthread_mutex_init(&m->lock, NULL);
    *ret_state = m;
    return 0;
}

static void remap_stop(void *state)
{
    struct remap *m = state;

    pthread_mutex_destroy(&m->lock);
    free(m->v);
    free(m);
}

void net_remap_list(const struct supervisor *s, struct buf *out)
{
    struct remap *m = supervisor_state(s, &net_remap_feature);

    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++)
        buf_addf(out, "%s%s %u -> %u", out->len ? ", " : "",
                 m->v[i].proto == NET_TCP ? "tcp" : "udp", m->v[i].seen, m->v[i].real);
    pthread_mutex_unlock(&m->lock);
}

static const struct feature_call remap_calls[] = {
    {OP_GETSOCKNAME, remap_getsockname, NULL, 0},
    {OP_GETPEERNAME, remap_getpeername, NULL, 0},
};

/* bind and connect belong to bind-rules and net-rules, which ask here. */
const struct feature net_remap_feature = {
    .name = "port-remap",
    .wanted = remap_wanted,
    .calls = remap_calls,
    .ncalls = ARRAY_SIZE(remap_calls),
    .behalf = true,
    .start = remap_start,
    .stop = remap_stop,
};
