/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --dns-refresh: a process outside of the sandbox resolves the names at an interval, a thread of ours
 * takes the addresses over. Those that a name had before stay allowed: programs keep them as well. A
 * name that cannot be resolved for a while keeps what it has.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

#include "net/rules.h"
#include "sys/raw_calls.h"

struct net_refresh {
    struct net_rules_state *rules;
    const struct policy *policy;
    pid_t pid; /* the resolving process */
    int fd;    /* what it reports */
    int stop_fd;
    bool running;
    pthread_t thread;
};

/* ---- the process ---- */

/* Holds nothing of the caller's but the pipe; ends when nobody reads it any more. */
static _Noreturn void refresh_process(int fd, const struct net_pins *pins, uint64_t interval_ns)
{
    struct pollfd p = {.events = 0};
    int wait_ms = (int)MIN(interval_ns / 1000000, (uint64_t)INT_MAX);
    sigset_t none;

    sigemptyset(&none);
    pthread_sigmask(SIG_SETMASK, &none, NULL);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_IGN); /* a terminal's: the run ends by itself, and then so do we */
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTSTP, SIG_IGN);
    if (dup2(fd, 3) != 3)
        _exit(1);
    raw_close_range(4, UINT_MAX, 0);
    raw_close_range(0, 2, 0);
    p.fd = 3;
    for (;;) {
        if (poll(&p, 1, wait_ms) != 0 || !net_names_report(3, pins))
            _exit(0); /* POLLERR: the reader is gone */
    }
}

/* ---- our side ---- */

int net_pins_renew(struct net_pins *fresh, const struct net_pins *old)
{
    for (size_t i = 0; i < fresh->n && i < old->n; i++) {
        for (size_t k = 0; k < old->v[i].n; k++) {
            struct net_names_record rec = {.v6 = old->v[i].v[k].v6};

            memcpy(rec.addr, old->v[i].v[k].addr, sizeof(rec.addr));
            if (net_pin_add(&fresh->v[i], &rec) < 0)
                return -ENOMEM;
        }
    }
    return 0;
}

static void refresh_apply(struct net_refresh *f, struct net_pins *fresh)
{
    struct net_rules_state *s = f->rules;
    struct net_match *match = NULL, *old_match;
    struct net_pins old_pins;

    /* This thread alone writes: reading without the lock is fine here. */
    if (net_pins_renew(fresh, &s->pins) == 0)
        match = net_rules_match(f->policy, fresh);
    if (!match)
        return;
    pthread_rwlock_wrlock(&s->lock);
    old_match = s->match;
    old_pins = s->pins;
    s->match = match;
    s->pins = *fresh;
    pthread_rwlock_unlock(&s->lock);
    *fresh = (struct net_pins){0};
    net_match_free(old_match);
    net_pins_fini(&old_pins);
}

/* Empty pins for the same names in the same order. */
static int pins_blank(struct net_pins *ret, const struct net_pins *like)
{
    ret->v = calloc(like->n, sizeof(*ret->v));
    if (!ret->v)
        return -ENOMEM;
    ret->n = like->n;
    for (size_t i = 0; i < like->n; i++)
        ret->v[i].name = like->v[i].name;
    return 0;
}

/* One record; false at the end. Records are written whole (they are shorter than PIPE_BUF). */
static bool refresh_read(const struct net_refresh *f, struct net_names_record *ret)
{
    struct pollfd p[2] = {{.fd = f->fd, .events = POLLIN}, {.fd = f->stop_fd, .events = POLLIN}};

    while (poll(p, 2, -1) < 0)
        ;
    return !p[1].revents && read(f->fd, ret, sizeof(*ret)) == (ssize_t)sizeof(*ret);
}

static void *refresh_main(void *arg)
{
    struct net_refresh *f = arg;
    struct net_pins fresh = {0};
    struct net_names_record rec;

    while (refresh_read(f, &rec)) {
        if (!fresh.v && pins_blank(&fresh, &f->rules->pins) < 0)
            break;
        if (rec.index >= fresh.n)
            break;
        if (!rec.error && !rec.last)
            (void)net_pin_add(&fresh.v[rec.index], &rec);
        if (rec.last && rec.index == fresh.n - 1) {
            refresh_apply(f, &fresh);
            net_pins_fini(&fresh);
        }
    }
    net_pins_fini(&fresh);
    return NULL;
}

static int refresh_thread(struct net_refresh *f)
{
    int e;

    e = net_thread_create(&f->thread, refresh_main, f);
    f->running = e == 0;
    return e;
}

static int refresh_fork(struct net_refresh *f)
{
    int pipe_fd[2], e;

    f->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (f->stop_fd < 0 || pipe2(pipe_fd, O_CLOEXEC) < 0)
        return -errno;
    f->fd = pipe_fd[0];
    f->pid = fork();
    if (f->pid == 0)
        refresh_process(pipe_fd[1], &f->rules->pins, f->policy->dns_refresh_ns);
    e = f->pid < 0 ? -errno : 0;
    util_close(pipe_fd[1]);
    return e;
}

int net_refresh_start(struct net_rules_state *s, const struct policy *p, struct error *err)
{
    struct net_refresh *f = calloc(1, sizeof(*f));
    int e = -ENOMEM;

    if (f) {
        *f = (struct net_refresh){.rules = s, .policy = p, .fd = -1, .stop_fd = -1};
        s->refresh = f; /* net_refresh_stop() frees it, also half made */
        e = refresh_fork(f);
    }
    if (e == 0)
        e = refresh_thread(f);
    return e < 0 ? error_set(err, ERROR_SETUP, e, "--dns-refresh", "%s", error_text(e)) : 0;
}

void net_refresh_stop(struct net_refresh *f)
{
    uint64_t one = 1;

    if (!f)
        return;
    if (f->running && write(f->stop_fd, &one, sizeof(one)) == sizeof(one))
        pthread_join(f->thread, NULL);
    util_closep(&f->fd);
    util_closep(&f->stop_fd);
    if (f->pid > 0) {
        kill(f->pid, SIGKILL);
        while (waitpid(f->pid, NULL, 0) < 0 && errno == EINTR)
            ;
    }
    free(f);
}
