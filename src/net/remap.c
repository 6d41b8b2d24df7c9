/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --port-remap (NB-03): the ports that the command names are its own. A port that is free outside is
 * kept, otherwise the socket gets another real one, and the names it is told are translated back.
 * Receiver threads; addresses are copies of the child's, the real ports are the kernel's.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "net/rules.h"

#define REMAP_MAX 4096     /* then no further port is told apart: bind fails with EADDRINUSE */
#define REMAP_LINES 256    /* of --stats while the command runs */
#define ELSEWHERE_TRIES 16 /* somebody may take the port in between */
#define REMAP_FRESH_MS 50  /* so long a socket that was seen is believed to be there */

struct remap_entry {
    uint8_t proto;   /* enum net_proto */
    bool gone;       /* its socket is closed: for the list at the end, and to get the same again */
    bool any4, any6; /* bound to all addresses of the family */
    struct net_dest at; /* else to this one */
    uint16_t seen;      /* what the command calls it */
    uint16_t real;
    pid_t tid; /* who bound it, and holds it still, likely */
    uint64_t ino;
    int64_t looked; /* when it was last seen, util_now_ms() */
};

struct remap {
    pthread_mutex_t lock; /* leaf; held over bind and looks at /proc, which do not wait */
    struct remap_entry *v;
    size_t n;
    unsigned lines;
    /* Is any port another outside? Most runs: none, and names are the kernel's. */
    atomic_bool differs;
};

static struct remap *remap_of(const struct request *r)
{
    return supervisor_state(r->sup, &net_remap_feature);
}

/* Is the socket still somebody's inside? Nobody tells us of a close: asked when it counts. */
static bool entry_is_held(struct remap_entry *e)
{
    int64_t now = util_now_ms();
    struct net_inodes own;
    bool held;

    if (e->looked && now - e->looked < REMAP_FRESH_MS)
        return true;
    held = net_process_has_inode(e->tid, e->ino);
    if (!held && net_own_inodes(&own) == 0) {
        held = net_inodes_have(&own, e->ino);
        free(own.v);
    }
    e->looked = now;
    e->gone = !held;
    return held;
}

static struct remap_entry *find_seen(const struct remap *m, unsigned proto, uint16_t port)
{
    for (size_t i = 0; i < m->n; i++) {
        struct remap_entry *e = &m->v[i];

        if (e->proto == proto && e->seen == port && !e->gone && entry_is_held(e))
            return e;
    }
    return NULL;
}

/* Does what is sent to this address arrive at the socket? Another address with the same real port may
 * be anybody's. */
static bool entry_covers(const struct remap_entry *e, const struct net_dest *d)
{
    if (d->v6 ? e->any6 : e->any4)
        return true;
    return !e->any4 && !e->any6 && e->at.v6 == d->v6 &&
           memcmp(e->at.addr, d->addr, d->v6 ? 16 : 4) == 0;
}

/* The entry that gives this destination another port, by the command's number or by the real one. */
static struct remap_entry *find_for(const struct remap *m, unsigned proto, const struct net_addr *a,
                                    bool by_real)
{
    struct net_dest d;

    if (net_dest_of(&a->u.sa, a->len, &d) < 0)
        return NULL;
    for (size_t i = 0; i < m->n; i++) {
        struct remap_entry *e = &m->v[i];

        if (e->proto == proto && !e->gone && e->seen != e->real &&
            (by_real ? e->real : e->seen) == d.port && entry_covers(e, &d) && entry_is_held(e))
            return e;
    }
    return NULL;
}

static const struct remap_entry *find_real(const struct remap *m, unsigned proto, uint16_t port)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].proto == proto && m->v[i].real == port && !m->v[i].gone &&
            entry_is_held(&m->v[i]))
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

static uint64_t socket_ino(int fd)
{
    struct stat st;

    return fstat(fd, &st) ? 0 : st.st_ino;
}

/* What the kernel made of a bind. */
static int entry_fill(struct remap_entry *e, int fd)
{
    struct net_addr a = {.len = sizeof(a.u)};
    int port = getsockname(fd, &a.u.sa, &a.len) ? -1 : net_addr_port(&a);

    if (port <= 0)
        return -EINVAL;
    e->real = (uint16_t)port;
    e->ino = socket_ino(fd);
    e->looked = util_now_ms();
    if (a.u.sa.sa_family == AF_INET) {
        e->any4 = a.u.in.sin_addr.s_addr == htonl(INADDR_ANY);
    } else if (IN6_IS_ADDR_UNSPECIFIED(&a.u.in6.sin6_addr)) {
        e->any6 = true;
        e->any4 = net_sockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY) == 0;
    }
    return e->any4 || e->any6 ? 0 : net_dest_of(&a.u.sa, a.len, &e->at);
}

/* Forgets what is closed; the last of each name stays as long as there is room. */
static void remap_sweep(struct remap *m)
{
    size_t kept = 0;

    for (size_t i = 0; i < m->n; i++) {
        if (!m->v[i].gone && entry_is_held(&m->v[i]))
            m->v[kept++] = m->v[i];
    }
    m->n = kept;
}

/* For whoever watches the standard error of --stats while the command runs. */
static void remap_tell(struct remap *m, const struct policy *p, const struct remap_entry *e)
{
    if (p->report_ports && e->seen != e->real && m->lines++ < REMAP_LINES)
        dprintf(STDERR_FILENO, "sandlock: port: %s %u -> %u\n", e->proto == NET_TCP ? "tcp" : "udp",
                e->seen, e->real);
}

static int remap_note(struct remap *m, const struct policy *p, const struct remap_entry *fresh)
{
    if (!m->v)
        m->v = calloc(REMAP_MAX, sizeof(*m->v));
    if (!m->v)
        return -ENOMEM;
    if (fresh->seen != fresh->real)
        m->differs = true;
    for (size_t i = 0; i < m->n; i++) { /* this name's earlier socket, closed by now */
        struct remap_entry *e = &m->v[i];

        if (e->proto == fresh->proto && e->seen == fresh->seen && e->gone) {
            *e = *fresh;
            remap_tell(m, p, e);
            return 0;
        }
    }
    if (m->n == REMAP_MAX)
        remap_sweep(m);
    if (m->n == REMAP_MAX)
        return -ENOBUFS;
    m->v[m->n++] = *fresh;
    remap_tell(m, p, fresh);
    return 0;
}

/* A port that nobody has at this address, as the kernel would choose it for a socket that shares with nobody. */
static int free_port(int fd, const struct net_addr *at)
{
    _cleanup_close_ int probe_fd = socket(net_sockopt(fd, SOL_SOCKET, SO_DOMAIN),
                                          net_sockopt(fd, SOL_SOCKET, SO_TYPE) | SOCK_CLOEXEC,
                                          net_sockopt(fd, SOL_SOCKET, SO_PROTOCOL));
    struct net_addr a = *at;
    int rc;

    if (probe_fd < 0)
        return -errno;
    rc = bind_to(probe_fd, &a, 0);
    a.len = sizeof(a.u);
    if (rc == 0 && getsockname(probe_fd, &a.u.sa, &a.len))
        rc = -errno;
    return rc < 0 ? rc : net_addr_port(&a);
}

/* Any real port will do: taken outside, or not ours to take (below 1024). Bound by its number, since a
 * port that was left to the kernel goes when the socket is disconnected or stops to listen: then it may be
 * anybody's, while the socket, and with it the entry, is still there. */
static int bind_elsewhere(const struct policy *p, int fd, struct net_addr *a)
{
    int rc = -EADDRINUSE;

    if (!port_set_is_empty(&p->net_deny_bind))
        return net_bind_any_port(fd, a, p);
    for (int i = 0; i < ELSEWHERE_TRIES && rc == -EADDRINUSE; i++) {
        int port = free_port(fd, a);

        rc = port < 0 ? port : bind_to(fd, a, (uint16_t)port);
    }
    return rc;
}

/* The real port that a closed socket of this name had; 0: none. */
static uint16_t former_port(const struct remap *m, unsigned proto, uint16_t seen)
{
    for (size_t i = 0; i < m->n; i++) {
        if (m->v[i].proto == proto && m->v[i].seen == seen && m->v[i].gone)
            return m->v[i].real;
    }
    return 0;
}

static int bind_named(struct remap *m, const struct policy *p, unsigned proto, int fd,
                      struct net_addr *a, uint16_t seen)
{
    struct remap_entry *e = find_seen(m, proto, seen);
    uint16_t former;
    int rc;

    if (e) /* shared (SO_REUSEPORT, the other family), or in use as natively */
        return bind_to(fd, a, e->real);
    rc = bind_to(fd, a, seen);
    if (rc != -EADDRINUSE && rc != -EACCES)
        return rc;
    former = former_port(m, proto, seen);
    if (former && bind_to(fd, a, former) == 0)
        return 0;
    /* The real port of another name of ours is taken as well: elsewhere, too. */
    return bind_elsewhere(p, fd, a);
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
        struct remap_entry e = {.proto = (uint8_t)proto, .tid = r->tid};

        rc = entry_fill(&e, fd);
        /* "Any": the real number, unless something else is called that already. */
        for (uint16_t i = 0; rc == 0 && !seen; i++) {
            if (e.real + i > 1023 && !find_seen(m, proto, (uint16_t)(e.real + i)))
                seen = (uint16_t)(e.real + i);
        }
        e.seen = seen;
        if (rc == 0)
            rc = remap_note(m, p, &e);
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
    e = find_for(m, proto, a, false);
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
static bool translate_back(struct remap *m, unsigned proto, struct net_addr *a)
{
    const struct remap_entry *e;

    pthread_mutex_lock(&m->lock);
    e = find_for(m, proto, a, true);
    if (e)
        set_port(a, e->seen);
    pthread_mutex_unlock(&m->lock);
    return e;
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

static struct verdict tell_name(struct request *r, bool peer)
{
    struct remap *m = remap_of(r);
    int domain = 0;
    _cleanup_close_ int fd = m->differs ? net_socket_dup(r, &domain) : -1;
    struct net_addr a = {.len = sizeof(a.u)};

    if (fd < 0 || (domain != AF_INET && domain != AF_INET6) ||
        (peer ? getpeername(fd, &a.u.sa, &a.len) : getsockname(fd, &a.u.sa, &a.len)) ||
        (peer && !is_loopback(&a)) || !translate_back(m, net_socket_proto(fd), &a))
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

/* Is the same written already? */
static bool is_repeated(const struct remap *m, size_t at)
{
    for (size_t i = 0; i < at; i++) {
        if (m->v[i].proto == m->v[at].proto && m->v[i].seen == m->v[at].seen &&
            m->v[i].real == m->v[at].real)
            return true;
    }
    return false;
}

void net_remap_list(const struct supervisor *s, struct buf *out)
{
    struct remap *m = supervisor_state(s, &net_remap_feature);

    if (!m)
        return;
    pthread_mutex_lock(&m->lock);
    for (size_t i = 0; i < m->n; i++)
        if (!is_repeated(m, i))
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
