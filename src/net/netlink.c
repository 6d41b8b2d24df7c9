/* SPDX-License-Identifier: Apache-2.0 */
/*
 * NL-01: AF_NETLINK sockets that show only `lo`. The child gets one end of a UNIX pair, our thread
 * answers on the other (README.md says why no real socket). Receivers handle socket, bind and
 * getsockname; the thread reads what the child writes. Everything it sends is hostile.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "net/net.h"
#include "net/nl.h"
#include "net/rules.h"

#define NL_SOCKETS_MAX 256

struct nl_socket {
    int fd;          /* our end; -1: free */
    uint64_t ino;    /* of the child's end, how its descriptor is recognised */
    uint32_t portid; /* 0 until bound */
    uint32_t groups;
};

struct netlink {
    pthread_mutex_t lock; /* leaf; held over non-blocking calls only */
    struct nl_socket sockets[NL_SOCKETS_MAX];
    pthread_t thread;
    bool ready;          /* sockets[] and ipv6 are set: most runs never ask */
    atomic_bool running; /* read without the lock: was anything handed out? */
    bool ipv6;
    int epoll_fd;
    int stop_fd;
    unsigned char request[NL_REQUEST_MAX]; /* the thread's alone */
};

static struct netlink *netlink_of(const struct request *r)
{
    return supervisor_state(r->sup, &net_netlink_feature);
}

static void send_answer(void *ctx, const void *msg, size_t len)
{
    const struct nl_socket *s = ctx;

    /* A child that does not read loses answers, as it would lose the kernel's. */
    (void)send(s->fd, msg, len, MSG_DONTWAIT | MSG_NOSIGNAL);
}

static bool portid_is_free(const struct netlink *n, uint32_t portid)
{
    for (size_t i = 0; i < NL_SOCKETS_MAX; i++)
        if (n->sockets[i].fd >= 0 && n->sockets[i].portid == portid)
            return false;
    return true;
}

/* As the kernel: the process' id for its first socket, else a number no process can have. */
static void netlink_autobind(const struct netlink *n, struct nl_socket *s, uint32_t wanted)
{
    uint32_t id = wanted;

    if (s->portid)
        return;
    for (uint32_t i = 0; !id || !portid_is_free(n, id); i++)
        id = 0xffffefffu - i;
    s->portid = id;
}

static void netlink_process(const struct netlink *n, struct nl_socket *s, const void *msg,
                            size_t len)
{
    struct nl_view view = {.ipv6 = n->ipv6};

    netlink_autobind(n, s, 0);
    view.portid = s->portid;
    nl_answer(&view, msg, len, send_answer, s);
}

/* Has nobody the other end any more? An event may be older than the socket that has its place now, and an
 * empty message reads as the end does. */
static bool netlink_is_over(const struct nl_socket *s)
{
    struct pollfd p = {.fd = s->fd};

    return poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR));
}

static void netlink_read(struct netlink *n, uint32_t index)
{
    struct nl_socket *s = &n->sockets[index];
    ssize_t len;

    pthread_mutex_lock(&n->lock);
    if (s->fd >= 0) {
        len = recv(s->fd, n->request, sizeof(n->request), MSG_DONTWAIT);
        if (len > 0)
            netlink_process(n, s, n->request, (size_t)len);
        else if (netlink_is_over(s))
            s->fd = util_close(s->fd);
    }
    pthread_mutex_unlock(&n->lock);
}

static void *netlink_thread(void *arg)
{
    struct netlink *n = arg;
    struct epoll_event e;

    for (;;) {
        if (epoll_wait(n->epoll_fd, &e, 1, -1) < 0)
            continue; /* EINTR */
        if (e.data.u32 == NL_SOCKETS_MAX)
            return NULL;
        netlink_read(n, e.data.u32);
    }
}

static void netlink_prepare(struct netlink *n)
{
    _cleanup_close_ int fd = -1;

    if (n->ready)
        return;
    for (size_t i = 0; i < NL_SOCKETS_MAX; i++)
        n->sockets[i].fd = -1;
    fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    n->ipv6 = fd >= 0;
    n->ready = true;
}

static int netlink_run(struct netlink *n)
{
    struct epoll_event e = {.events = EPOLLIN, .data.u32 = NL_SOCKETS_MAX};
    int rc;

    if (n->running)
        return 0;
    netlink_prepare(n);
    if (n->epoll_fd < 0)
        n->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    if (n->stop_fd < 0)
        n->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (n->epoll_fd < 0 || n->stop_fd < 0)
        return -errno;
    if (epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, n->stop_fd, &e) && errno != EEXIST)
        return -errno;
    rc = net_thread_create(&n->thread, netlink_thread, n);
    n->running = rc == 0;
    return rc;
}

/*
 * Gives our end an address that reads as the kernel's to whoever looks at the bytes of a received
 * sender: twelve bytes long, nl_pid zero. It is an abstract name of nine bytes; those that nobody
 * reads (half of the padding, the groups) make it unique.
 */
static int netlink_name_end(int fd)
{
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    unsigned char salt[5];

    for (int i = 0; i < 16; i++) {
        if (getrandom(salt, sizeof(salt), 0) != sizeof(salt))
            return -EIO;
        un.sun_path[1] = (char)salt[0];
        memcpy(un.sun_path + 6, salt + 1, 4);
        if (!bind(fd, (struct sockaddr *)&un, sizeof(struct sockaddr_nl)))
            return 0;
        if (errno != EADDRINUSE)
            return -errno;
    }
    return -EADDRINUSE;
}

/* Forgets those that nobody has any more: the thread may be far behind who opens and closes. */
static void netlink_collect(struct netlink *n)
{
    for (size_t i = 0; i < NL_SOCKETS_MAX; i++) {
        if (netlink_is_over(&n->sockets[i]))
            n->sockets[i].fd = util_close(n->sockets[i].fd);
    }
}

static uint32_t netlink_free(const struct netlink *n)
{
    uint32_t i = 0;

    while (i < NL_SOCKETS_MAX && n->sockets[i].fd >= 0)
        i++;
    return i;
}

/* Registers our end; the caller holds the lock. */
static int netlink_add(struct netlink *n, int fd, uint64_t ino)
{
    struct epoll_event e = {.events = EPOLLIN};
    uint32_t i = netlink_free(n);

    if (i == NL_SOCKETS_MAX) {
        netlink_collect(n);
        i = netlink_free(n);
    }
    if (i == NL_SOCKETS_MAX)
        return -ENOBUFS;
    e.data.u32 = i;
    if (epoll_ctl(n->epoll_fd, EPOLL_CTL_ADD, fd, &e))
        return -errno;
    n->sockets[i] = (struct nl_socket){.fd = fd, .ino = ino};
    return 0;
}

static struct verdict netlink_socket(struct request *r)
{
    struct netlink *n = netlink_of(r);
    int type = call_int(&r->call, 1), flags = type & ~0xf, sv[2], rc;
    struct stat st;

    if (call_int(&r->call, 0) != AF_NETLINK)
        return verdict_pass();
    if (flags & ~(SOCK_CLOEXEC | SOCK_NONBLOCK))
        return verdict_errno(EINVAL);
    if ((type & 0xf) != SOCK_RAW && (type & 0xf) != SOCK_DGRAM)
        return verdict_errno(ESOCKTNOSUPPORT);
    if (call_int(&r->call, 2) != NETLINK_ROUTE) {
        request_explain(r, "netlink socket", EPROTONOSUPPORT, "only NETLINK_ROUTE is shown", NULL);
        return verdict_errno(EPROTONOSUPPORT);
    }
    /* Both ends stay blocking as the child asked; ours is only ever used with MSG_DONTWAIT. */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | (flags & SOCK_NONBLOCK), 0, sv))
        return verdict_errno(errno);
    rc = fstat(sv[0], &st) ? -errno : netlink_name_end(sv[1]);
    if (rc == 0) {
        pthread_mutex_lock(&n->lock);
        rc = netlink_run(n);
        if (rc == 0)
            rc = netlink_add(n, sv[1], st.st_ino);
        pthread_mutex_unlock(&n->lock);
    }
    if (rc < 0) {
        util_close(sv[0]);
        util_close(sv[1]);
        return verdict_errno(rc);
    }
    return verdict_inject(sv[0], flags & SOCK_CLOEXEC ? O_CLOEXEC : 0);
}

/* The entry behind the child's descriptor, locked; NULL (unlocked) when it is something else. */
static struct nl_socket *netlink_lock_entry(const struct request *r)
{
    struct netlink *n = netlink_of(r);
    _cleanup_close_ int fd = -1;
    struct stat st;

    if (!n->running) /* nothing was handed out: the common case costs no look */
        return NULL;
    fd = request_fd_path(r, call_int(&r->call, 0));
    if (fd < 0 || fstat(fd, &st) || !S_ISSOCK(st.st_mode))
        return NULL;
    pthread_mutex_lock(&n->lock);
    for (size_t i = 0; i < NL_SOCKETS_MAX; i++)
        if (n->sockets[i].fd >= 0 && n->sockets[i].ino == st.st_ino)
            return &n->sockets[i];
    pthread_mutex_unlock(&n->lock);
    return NULL;
}

static void netlink_unlock(const struct request *r)
{
    pthread_mutex_unlock(&netlink_of(r)->lock);
}

static struct verdict netlink_bind(struct request *r)
{
    const struct policy *p = supervisor_policy(r->sup);
    const struct netlink *n = netlink_of(r);
    struct sockaddr_nl nl = {0};
    struct nl_socket *s;
    pid_t tgid = 0;
    mode_t mask;
    int rc;

    /* Outside the lock: both may have to wait for the child's memory. */
    rc = request_read(r, call_addr(&r->call, 1), &nl, sizeof(nl));
    (void)request_status(r, &tgid, &mask);
    s = netlink_lock_entry(r);
    if (!s) {
        if (p->explain || net_unix_bind_feature.wanted(p, supervisor_kernel(r->sup)) ||
            net_bind_rules_feature.wanted(p, supervisor_kernel(r->sup)))
            return verdict_pass();
        return verdict_continue("only bind calls of twelve bytes come here and no other feature "
                                "judges bind: Landlock checks what the kernel then does");
    }
    if (rc == 0 && nl.nl_family != AF_NETLINK)
        rc = -EINVAL;
    if (rc == 0 && s->portid && nl.nl_pid != s->portid && nl.nl_pid)
        rc = -EINVAL;
    if (rc == 0 && nl.nl_pid && !s->portid && !portid_is_free(n, nl.nl_pid))
        rc = -EADDRINUSE;
    if (rc == 0) {
        if (nl.nl_pid)
            s->portid = nl.nl_pid;
        netlink_autobind(n, s, (uint32_t)tgid);
        s->groups = nl.nl_groups; /* no event ever happens in this network */
    }
    netlink_unlock(r);
    return verdict_result(rc);
}

static struct verdict netlink_getsockname(struct request *r)
{
    struct sockaddr_nl nl = {.nl_family = AF_NETLINK};
    struct nl_socket *s = netlink_lock_entry(r);
    int len = 0, full = sizeof(nl), rc;

    if (!s && supervisor_policy(r->sup)->port_remap)
        return verdict_pass();
    if (!s)
        return verdict_continue("returns the caller's own socket's name and takes no input");
    nl.nl_pid = s->portid;
    nl.nl_groups = s->groups;
    netlink_unlock(r);
    rc = request_read(r, call_addr(&r->call, 2), &len, sizeof(len));
    if (rc == 0 && len < 0)
        rc = -EINVAL;
    if (rc == 0 && len > 0)
        rc = request_write(r, call_addr(&r->call, 1), &nl, (size_t)MIN(len, full));
    if (rc == 0)
        rc = request_write(r, call_addr(&r->call, 2), &full, sizeof(full));
    return verdict_result(rc);
}

#define SHORT_REQUEST 20 /* a netlink header and a struct rtgenmsg, aligned */

/*
 * musl's getifaddrs sends and then reads without waiting, which the kernel's synchronous netlink
 * allows. Its request has this length, no flags and no destination: answered before send returns.
 */
static struct verdict netlink_sendto(struct request *r)
{
    unsigned char msg[SHORT_REQUEST] __attribute__((aligned(8)));
    struct netlink *n = netlink_of(r);
    struct nl_socket *s;
    int rc;

    if (r->call.args[4]) /* the sending feature's to judge */
        return verdict_pass();
    if (!n->running || r->call.args[2] != SHORT_REQUEST || call_int(&r->call, 3))
        return verdict_continue("no destination: data on a socket that is connected already");
    rc = request_read(r, call_addr(&r->call, 1), msg, sizeof(msg));
    s = netlink_lock_entry(r);
    if (!s)
        return verdict_continue("no destination: data on a socket that is connected already");
    if (rc == 0)
        netlink_process(n, s, msg, sizeof(msg));
    netlink_unlock(r);
    return rc ? verdict_errno(rc) : verdict_value(SHORT_REQUEST);
}

static int netlink_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct netlink *n = calloc(1, sizeof(*n));

    (void)s;
    if (!n)
        return error_set(err, ERROR_SETUP, -ENOMEM, "netlink", "out of memory");
    pthread_mutex_init(&n->lock, NULL);
    n->epoll_fd = n->stop_fd = -1;
    *ret_state = n;
    return 0;
}

static void netlink_stop(void *state)
{
    struct netlink *n = state;
    uint64_t one = 1;

    if (!n)
        return;
    if (n->running && write(n->stop_fd, &one, sizeof(one)) == sizeof(one))
        pthread_join(n->thread, NULL);
    for (size_t i = 0; n->ready && i < NL_SOCKETS_MAX; i++)
        util_closep(&n->sockets[i].fd);
    util_closep(&n->epoll_fd);
    util_closep(&n->stop_fd);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

static bool netlink_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return !p->no_supervisor;
}

#define WORD_IS(n, v)                                        \
    {                                                        \
        .arg = (n), .cmp = CMP_EQ, .mask = ~0u, .value = (v) \
    }
#define WIDE_IS(n, v)                                                        \
    {                                                                        \
        .arg = (n), .cmp = CMP_EQ, .wide = true, .mask = ~0ull, .value = (v) \
    }

static const struct filter_clause socket_clauses[] = {
    {.test = {WORD_IS(0, AF_NETLINK)}, .ntests = 1, .ret = SECCOMP_RET_USER_NOTIF},
};
/* Internet addresses are longer: only netlink's and nine-byte UNIX names have this length. */
static const struct filter_clause bind_clauses[] = {
    {.test = {WORD_IS(2, sizeof(struct sockaddr_nl))}, .ntests = 1, .ret = SECCOMP_RET_USER_NOTIF},
};
static const struct filter_clause sendto_clauses[] = {
    {.test = {WIDE_IS(2, SHORT_REQUEST), WORD_IS(3, 0), WIDE_IS(4, 0)},
     .ntests = 3,
     .ret = SECCOMP_RET_USER_NOTIF},
};

/* Commands 0x8910 to 0x897f on sockets: interfaces. The filter refuses those around them. */
static const struct filter_clause ioctl_clauses[] = {
    {.test = {{.arg = 1, .cmp = CMP_EQ, .mask = 0xffffff80u, .value = 0x8900},
              {.arg = 1, .cmp = CMP_ANYSET, .mask = 0x70}},
     .ntests = 2,
     .ret = SECCOMP_RET_USER_NOTIF},
};

static const struct feature_call netlink_calls[] = {
    {OP_SOCKET, netlink_socket, socket_clauses, ARRAY_SIZE(socket_clauses)},
    {OP_BIND, netlink_bind, bind_clauses, ARRAY_SIZE(bind_clauses)},
    {OP_GETSOCKNAME, netlink_getsockname, NULL, 0},
    {OP_SENDTO, netlink_sendto, sendto_clauses, ARRAY_SIZE(sendto_clauses)},
    {OP_IOCTL, net_ifreq, ioctl_clauses, ARRAY_SIZE(ioctl_clauses)},
};

const struct feature net_netlink_feature = {
    .name = "netlink",
    .wanted = netlink_wanted,
    .calls = netlink_calls,
    .ncalls = ARRAY_SIZE(netlink_calls),
    .start = netlink_start,
    .stop = netlink_stop,
};
