/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names to addresses, once, before the command exists. getaddrinfo runs in a process of its own: it
 * reads what the network sends, may hang, and must not leave anything in the caller. What it reports
 * is bounded and checked.
 */
#include "net/names.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/buf.h"
#include "net/net.h"
#include "policy/internal.h"

#define NAMES_MAX 4096
#define RESOLVE_SECONDS 30

void net_pins_fini(struct net_pins *p)
{
    for (size_t i = 0; i < p->n; i++)
        free(p->v[i].v);
    free(p->v);
    *p = (struct net_pins){0};
}

const struct net_pin *net_pins_find(const struct net_pins *p, const char *name)
{
    for (size_t i = 0; i < p->n; i++) {
        if (strcmp(p->v[i].name, name) == 0)
            return &p->v[i];
    }
    return NULL;
}

static int pins_collect(const struct policy *p, struct net_pins *ret)
{
    ret->v = calloc(p->net_allow.n, sizeof(*ret->v));
    if (!ret->v)
        return -ENOMEM;
    for (size_t i = 0; i < p->net_allow.n; i++) {
        const struct net_rule *r = &p->net_allow.v[i];

        if (r->target != NET_TARGET_NAME || net_pins_find(ret, r->name))
            continue;
        if (ret->n == NAMES_MAX)
            return -E2BIG;
        ret->v[ret->n++] = (struct net_pin){.name = r->name};
    }
    return 0;
}

/* ---- the helper ---- */

static bool helper_send(int fd, const struct net_names_record *rec)
{
    return write(fd, rec, sizeof(*rec)) == sizeof(*rec); /* below PIPE_BUF: whole or not */
}

static bool helper_name(int fd, uint32_t index, const char *name)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    struct net_names_record rec = {.index = index};
    unsigned n = 0;

    rec.error = getaddrinfo(name, NULL, &hints, &list);
    for (const struct addrinfo *i = list; i && rec.error == 0 && n < NET_PIN_ADDRESSES;
         i = i->ai_next) {
        struct net_dest d;

        if (net_dest_of(i->ai_addr, i->ai_addrlen, &d) < 0)
            continue;
        rec.v6 = d.v6;
        memcpy(rec.addr, d.addr, sizeof(rec.addr));
        n++;
        if (!helper_send(fd, &rec))
            return false;
    }
    if (rec.error == 0 && n == 0)
        rec.error = EAI_NONAME;
    rec.last = 1;
    return helper_send(fd, &rec);
}

bool net_names_report(int fd, const struct net_pins *pins)
{
    for (uint32_t i = 0; i < pins->n; i++) {
        if (!helper_name(fd, i, pins->v[i].name))
            return false;
    }
    return true;
}

static _Noreturn void helper_main(int fd, const struct net_pins *pins)
{
    sigset_t none;

    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    signal(SIGPIPE, SIG_DFL);
    (void)net_names_report(fd, pins);
    _exit(0);
}

/* ---- our side ---- */

int net_pin_add(struct net_pin *pin, const struct net_names_record *rec)
{
    struct net_dest *v, d = {.v6 = rec->v6 != 0};

    memcpy(d.addr, rec->addr, sizeof(d.addr));
    for (size_t i = 0; i < pin->n; i++) {
        if (pin->v[i].v6 == d.v6 && memcmp(pin->v[i].addr, d.addr, 16) == 0)
            return 0;
    }
    if (pin->n == NET_PIN_ADDRESSES)
        return 0;
    v = reallocarray(pin->v, pin->n + 1, sizeof(*v));
    if (!v)
        return -ENOMEM;
    pin->v = v;
    pin->v[pin->n++] = d;
    return 0;
}

/* One whole record before the deadline: 0, -ETIMEDOUT, -EIO when the helper has died. */
static int record_read(int fd, int64_t deadline, struct net_names_record *ret)
{
    size_t got = 0;

    while (got < sizeof(*ret)) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int64_t left = deadline - util_now_ms();
        ssize_t n;

        if (left <= 0)
            return -ETIMEDOUT;
        if (poll(&p, 1, (int)left) <= 0)
            continue;
        n = read(fd, (char *)ret + got, sizeof(*ret) - got);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return -EIO;
        got += (size_t)n;
    }
    return 0;
}

static int resolve_error(const char *name, int code, const char *why, struct error *err)
{
    return error_set(err, ERROR_POLICY, code, "--net-allow", "cannot resolve " SHOWN ": %s", name,
                     why);
}

static int pins_receive(int fd, struct net_pins *pins, struct error *err)
{
    int64_t deadline = util_now_ms() + RESOLVE_SECONDS * 1000;
    struct net_names_record rec;

    for (size_t done = 0; done < pins->n;) {
        int e = record_read(fd, deadline, &rec);

        if (e == -ETIMEDOUT)
            return resolve_error(pins->v[done].name, e, "no answer in time", err);
        if (e < 0 || rec.index != done)
            return resolve_error(pins->v[done].name, -EIO, "the resolver ended", err);
        if (rec.error)
            return resolve_error(pins->v[done].name, -EHOSTUNREACH, gai_strerror(rec.error), err);
        if (!rec.last && net_pin_add(&pins->v[done], &rec) < 0)
            return policy_error_memory("--net-allow", err);
        done += rec.last;
    }
    return 0;
}

static int pins_resolve(struct net_pins *pins, struct error *err)
{
    int pipe_fd[2], e;
    pid_t pid;

    if (pipe2(pipe_fd, O_CLOEXEC) < 0)
        return error_set(err, ERROR_SETUP, -errno, "--net-allow", "%s", error_text(errno));
    pid = fork();
    if (pid == 0)
        helper_main(pipe_fd[1], pins);
    util_close(pipe_fd[1]);
    e = pid < 0 ? error_set(err, ERROR_SETUP, -errno, "--net-allow",
                            "cannot start the resolver: %s", error_text(errno))
                : pins_receive(pipe_fd[0], pins, err);
    util_close(pipe_fd[0]);
    if (pid > 0) {
        kill(pid, SIGKILL);
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    return e;
}

int net_names_resolve(const struct policy *p, struct net_pins *ret, struct error *err)
{
    int e;

    if (!policy_net_has_names(p))
        return 0;
    e = pins_collect(p, ret);
    if (e == -E2BIG)
        return error_set(err, ERROR_POLICY, e, "--net-allow", "more than %d names", NAMES_MAX);
    if (e < 0)
        return policy_error_memory("--net-allow", err);
    return pins_resolve(ret, err);
}

/* ---- what the command sees ---- */

void net_names_hosts(const struct net_pins *p, const char *own, struct buf *out)
{
    char text[INET6_ADDRSTRLEN];

    if (!net_pins_find(p, "localhost"))
        buf_adds(out, "127.0.0.1\tlocalhost\n");
    buf_adds(out, "::1\tip6-localhost ip6-loopback\n");
    if (own && *own && !net_pins_find(p, own))
        buf_addf(out, "127.0.0.1\t%s\n", own);
    for (size_t i = 0; i < p->n; i++) {
        for (size_t k = 0; k < p->v[i].n; k++) {
            const struct net_dest *d = &p->v[i].v[k];

            inet_ntop(d->v6 ? AF_INET6 : AF_INET, d->addr, text, sizeof(text));
            buf_addf(out, "%s\t%s\n", text, p->v[i].name);
        }
    }
}
