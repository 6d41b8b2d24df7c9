/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See keep.h. Receivers make and look up; a thread that runs while anything is kept gives back what is
 * not needed: a kept duplicate holds a connection open after the command has closed it.
 */
#include "net/keep.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#include "net/rules.h"

#define KEEP_MAX 1024
#define KEEP_TICK_MS 100    /* connections that have come about */
#define KEEP_SWEEP_TICKS 10 /* sockets that nobody holds: a walk over /proc */
#define DONE_MAX 64

struct keep_entry {
    int fd;
    uint64_t ino;
};

struct keep {
    pthread_mutex_t lock; /* leaf; held over calls that do not wait */
    pthread_cond_t wake;
    struct keep_entry v[KEEP_MAX];
    size_t n;
    uint64_t done[DONE_MAX]; /* connected and released: a second connect is told so */
    unsigned next_done;
    bool running, stop;
    bool sends; /* sendmsg needs connected sockets as well */
    pthread_t thread;
};

static struct keep *keep_of(const struct request *r)
{
    return supervisor_state(r->sup, &net_keep_feature);
}

/* The caller holds the lock; the last entry takes the place. */
static void keep_drop(struct keep *k, size_t i, bool connected)
{
    if (connected)
        k->done[k->next_done++ % DONE_MAX] = k->v[i].ino;
    util_close(k->v[i].fd);
    k->v[i] = k->v[--k->n];
}

static bool is_connected(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof(info), unix_len = sizeof(struct sockaddr_un);
    struct sockaddr_un un;

    if (net_sockopt(fd, SOL_SOCKET, SO_DOMAIN) == AF_UNIX)
        return getpeername(fd, (struct sockaddr *)&un, &unix_len) == 0;
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
           info.tcpi_state != TCP_CLOSE && info.tcpi_state != TCP_SYN_SENT &&
           info.tcpi_state != TCP_LISTEN; /* listen may be called again */
}

/* Sockets that reached the state after which nothing is mediated. */
static void drop_connected(struct keep *k)
{
    for (size_t i = k->sends ? 0 : k->n; i-- > 0;) {
        if (is_connected(k->v[i].fd))
            keep_drop(k, i, true);
    }
}

static void drop_unheld(struct keep *k)
{
    struct net_inodes own;

    if (net_own_inodes(&own) < 0)
        return;
    for (size_t i = k->n; i-- > 0;) {
        if (!net_inodes_have(&own, k->v[i].ino))
            keep_drop(k, i, false);
    }
    free(own.v);
}

static void *keep_main(void *arg)
{
    struct keep *k = arg;

    pthread_mutex_lock(&k->lock);
    for (unsigned tick = 1; !k->stop; tick++) {
        if (!k->n) {
            pthread_cond_wait(&k->wake, &k->lock);
            continue;
        }
        net_cond_wait_ms(&k->wake, &k->lock, KEEP_TICK_MS);
        drop_connected(k);
        if (tick % KEEP_SWEEP_TICKS == 0)
            drop_unheld(k);
    }
    pthread_mutex_unlock(&k->lock);
    return NULL;
}

static int keep_run(struct keep *k)
{
    int rc;

    if (k->running)
        return 0;
    rc = net_thread_create(&k->thread, keep_main, k);
    k->running = rc == 0;
    return rc;
}

/* Takes fd over. */
static int keep_add(struct keep *k, int fd)
{
    struct stat st;
    int rc = fstat(fd, &st) ? -errno : 0;

    pthread_mutex_lock(&k->lock);
    if (rc == 0)
        rc = keep_run(k);
    if (rc == 0 && k->n == KEEP_MAX) {
        drop_connected(k);
        drop_unheld(k);
    }
    if (rc == 0 && k->n == KEEP_MAX)
        rc = -ENFILE;
    if (rc == 0) {
        for (unsigned i = 0; i < DONE_MAX; i++) /* the number of a socket that is gone */
            k->done[i] = k->done[i] == st.st_ino ? 0 : k->done[i];
        k->v[k->n++] = (struct keep_entry){fd, st.st_ino};
        pthread_cond_signal(&k->wake);
    }
    pthread_mutex_unlock(&k->lock);
    if (rc < 0)
        util_close(fd);
    return rc;
}

static struct verdict keep_socket(struct request *r)
{
    int domain = call_int(&r->call, 0), type = call_int(&r->call, 1), fd, kept, rc;
    uint32_t cloexec = type & SOCK_CLOEXEC ? O_CLOEXEC : 0;

    /* The filter has refused the kinds that no rule allows. */
    if (domain != AF_INET && domain != AF_INET6 && domain != AF_UNIX)
        return verdict_pass();
    fd = socket(domain, type | SOCK_CLOEXEC, call_int(&r->call, 2));
    if (fd < 0)
        return verdict_errno(errno);
    kept = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    rc = kept < 0 ? -errno : keep_add(keep_of(r), kept);
    if (rc < 0) {
        util_close(fd);
        return verdict_errno(rc);
    }
    return verdict_inject(fd, cloexec);
}

static int child_ino(const struct request *r, int fd, uint64_t *ret)
{
    _cleanup_close_ int path_fd = request_fd_path(r, fd);
    struct stat st;

    if (path_fd < 0)
        return path_fd;
    if (fstat(path_fd, &st))
        return -errno;
    if (!S_ISSOCK(st.st_mode))
        return -ENOTSOCK;
    *ret = st.st_ino;
    return 0;
}

void net_kept_connected(const struct request *r, int fd)
{
    struct keep *k = keep_of(r);
    struct stat st;

    if (!k || k->sends || fstat(fd, &st))
        return;
    pthread_mutex_lock(&k->lock);
    for (size_t i = k->n; i-- > 0;) {
        if (k->v[i].ino == st.st_ino && is_connected(fd)) /* an address may have been dissolved */
            keep_drop(k, i, true);
    }
    pthread_mutex_unlock(&k->lock);
}

int net_kept_dup(const struct request *r, int fd)
{
    struct keep *k = keep_of(r);
    uint64_t ino = 0;
    int rc = child_ino(r, fd, &ino), found = -EACCES;

    if (rc < 0 || !k)
        return rc < 0 ? rc : -EACCES;
    pthread_mutex_lock(&k->lock);
    for (size_t i = 0; i < k->n; i++) {
        if (k->v[i].ino == ino) {
            found = fcntl(k->v[i].fd, F_DUPFD_CLOEXEC, 3);
            found = found < 0 ? -errno : found;
        }
    }
    for (unsigned i = 0; found == -EACCES && i < DONE_MAX; i++) {
        if (k->done[i] == ino)
            found = -EISCONN;
    }
    pthread_mutex_unlock(&k->lock);
    return found;
}

/* ---- the feature ---- */

static bool keep_unix_wanted(const struct policy *p, const struct kernel *k)
{
    return !k->pidfd_getfd && net_unix_mode(p, k) == NET_UNIX_OPEN;
}

static bool keep_wanted(const struct policy *p, const struct kernel *k)
{
    if (p->no_supervisor || k->pidfd_getfd)
        return false;
    if (net_unix_mode(p, k) == NET_UNIX_OPEN) /* every connect is on behalf */
        return true;
    /* listen is looked at wherever binds are (listen.c), for whoever may bind. */
    return policy_net_mediated(p) || policy_bind_mediated(p) ||
           (net_bind_is_governed(p, k) && !port_set_is_empty(&p->net_bind));
}

static int keep_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct keep *k = calloc(1, sizeof(*k));

    if (!k)
        return error_set(err, ERROR_SETUP, -ENOMEM, "sockets", "out of memory");
    pthread_mutex_init(&k->lock, NULL);
    pthread_cond_init(&k->wake, NULL);
    k->sends = net_sends_feature.wanted(supervisor_policy(s), supervisor_kernel(s));
    *ret_state = k;
    return 0;
}

static void keep_stop(void *state)
{
    struct keep *k = state;

    pthread_mutex_lock(&k->lock);
    k->stop = true;
    pthread_cond_signal(&k->wake);
    pthread_mutex_unlock(&k->lock);
    if (k->running)
        pthread_join(k->thread, NULL);
    while (k->n)
        util_close(k->v[--k->n].fd);
    pthread_cond_destroy(&k->wake);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

static const struct filter_clause socket_clauses[] = {
    /* AF_INET and AF_INET6 differ in this bit alone. */
    {.test = {{.arg = 0, .cmp = CMP_EQ, .mask = ~8u, .value = AF_INET}},
     .ntests = 1,
     .ret = SECCOMP_RET_USER_NOTIF},
};

static const struct feature_call keep_calls[] = {
    {OP_SOCKET, keep_socket, socket_clauses, ARRAY_SIZE(socket_clauses)},
};

/* Datagrams name their destination in every send, which would have to be made on the kept duplicate: a
 * pair has none, and descriptors are passed over pairs. So there are streams alone (unix.c). */
static const struct filter_clause unix_clauses[] = {
    {.test = {NET_UNIX_SOCKET, NET_TYPE_IS(SOCK_STREAM)},
     .ntests = 2,
     .ret = SECCOMP_RET_USER_NOTIF},
    {.test = {NET_UNIX_SOCKET, NET_TYPE_IS(SOCK_SEQPACKET)},
     .ntests = 2,
     .ret = SECCOMP_RET_USER_NOTIF},
};
static const struct feature_call keep_unix_calls[] = {
    {OP_SOCKET, keep_socket, unix_clauses, ARRAY_SIZE(unix_clauses)},
};

/* Its sockets are kept by the feature below. */
const struct feature net_keep_unix_feature = {
    .name = "kept-unix-sockets",
    .wanted = keep_unix_wanted,
    .calls = keep_unix_calls,
    .ncalls = ARRAY_SIZE(keep_unix_calls),
};

const struct feature net_keep_feature = {
    .name = "kept-sockets",
    .wanted = keep_wanted,
    .calls = keep_calls,
    .ncalls = ARRAY_SIZE(keep_calls),
    .start = keep_start,
    .stop = keep_stop,
};
