/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a receiver does: take a notification, run its handlers, answer. Several threads of one sandbox
 * share the listener; who of them waits when is decided here. Notifications are hostile.
 */
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>

#include "supervisor/exec_guard.h"
#include "supervisor/internal.h"
#include "sys/raw_calls.h"
#include "sys/seccomp.h"

static struct verdict dispatch_run(struct request *r)
{
    const struct dispatch *d = &r->sup->dispatch[r->call.op];
    /* First: under --explain what the filter refuses arrives here and must not be performed. */
    struct verdict v = explain_filter_denied(r);

    for (size_t i = 0; i < d->n && v.kind == VERDICT_PASS; i++)
        v = d->handler[i](r);
    return v;
}

/* Calls that the table knows and this kernel does not: what is done on behalf must not make a
 * difference to programs that ask for the newest call first. */
static bool call_is_missing(const struct supervisor *s, const struct call *c)
{
    const struct kernel *k = s->plan->kernel;

    switch (c->info->id) {
    case CALL_fchmodat2: return !k->fchmodat2;
    case CALL_setxattrat:
    case CALL_getxattrat:
    case CALL_listxattrat:
    case CALL_removexattrat: return !k->setxattrat;
    case CALL_file_getattr:
    case CALL_file_setattr:
        return sys_probe_file_getattr() == -ENOSYS; /* rare enough to ask each time */
    default: return false;
    }
}

static void receiver_handle(struct supervisor *s, const struct seccomp_notif *n)
{
    struct request r = {.sup = s, .id = n->id, .tid = (pid_t)n->pid, .data = &n->data};
    struct verdict v;

    atomic_fetch_add_explicit(&s->notifications, 1, memory_order_relaxed);
    if (arch_decode(s->arch, &n->data, &r.call) < 0 || call_is_missing(s, &r.call)) {
        supervisor_answer(&r, verdict_errno(ENOSYS));
        return;
    }
    atomic_fetch_add_explicit(&s->by_op[r.call.op], 1, memory_order_relaxed);
    v = dispatch_run(&r);
    if (r.call.op == OP_EXEC)
        v = exec_guard_run(&r, v);
    supervisor_answer(&r, v);
}

/* Nobody uses the filter any more. */
static bool listener_is_dead(const struct supervisor *s)
{
    struct pollfd p = {.fd = s->listener_fd, .events = POLLIN};

    return poll(&p, 1, 0) < 0 || (p.revents & (POLLHUP | POLLERR | POLLNVAL));
}

static int receiver_take(const struct supervisor *s, struct seccomp_notif *n)
{
    memset(n, 0, sizeof(*n)); /* the kernel insists */
    return ioctl(s->listener_fd, SECCOMP_IOCTL_NOTIF_RECV, n) < 0 ? -errno : 0;
}

/* Before 6.6 RECV may sleep for ever once the tasks are gone: poll first, one receiver at a time. */
static int receiver_take_polled(struct supervisor *s, struct seccomp_notif *n)
{
    struct pollfd p[2] = {{.fd = s->listener_fd, .events = POLLIN},
                          {.fd = s->stop_fd, .events = POLLIN}};
    int r = -EAGAIN;

    if (poll(p, 2, -1) < 0 && errno != EINTR)
        return -EIO;
    if (p[1].revents)
        return -ESHUTDOWN;
    pthread_mutex_lock(&s->recv_lock);
    p[0].revents = 0;
    if (poll(p, 1, 0) == 1 && (p[0].revents & POLLIN))
        r = receiver_take(s, n);
    else if (p[0].revents)
        r = -ESHUTDOWN;
    pthread_mutex_unlock(&s->recv_lock);
    return r;
}

static bool is_stopping(const struct supervisor *s)
{
    return atomic_load_explicit(&s->stopping, memory_order_relaxed);
}

/* Is it over, after RECV failed with r? */
static bool receiver_is_done(const struct supervisor *s, int r)
{
    return r == -ESHUTDOWN || (r != -EINTR && r != -EAGAIN && listener_is_dead(s));
}

/* Every receiver alike: what old kernels get. */
static void serve_equally(struct supervisor *s)
{
    struct seccomp_notif n;

    while (!is_stopping(s)) {
        int r = receiver_take_polled(s, &n);

        if (r == 0)
            receiver_handle(s, &n);
        else if (receiver_is_done(s, r))
            return;
    }
}

/*
 * Receivers that wait together take turns, which moves each call's two partners between the cores: a
 * round trip of 4.5 µs becomes one of 7. So one leads, and the others look every millisecond, as long
 * as anything happens at all, whether it hangs in one call or leaves others waiting.
 */
enum { RELIEF_PARKED = 0, RELIEF_WATCHING = 1 };
#define RELIEF_TICK_NS 1000000
#define RELIEF_BURST_NS 10000000u /* once needed, so long */
#define RELIEF_IDLE_TICKS 16      /* without a notification: park, which costs nothing */

void supervisor_wake_relief(struct supervisor *s)
{
    __atomic_store_n(&s->relief, RELIEF_WATCHING, __ATOMIC_SEQ_CST);
    raw_futex_wake(&s->relief, SUPERVISOR_MAX_RECEIVERS);
}

static void serve_as_leader(struct supervisor *s)
{
    struct seccomp_notif n;

    while (!is_stopping(s)) {
        int r = receiver_take(s, &n);

        if (r < 0 && receiver_is_done(s, r))
            return;
        if (r < 0)
            continue;
        /* In this order, and the other one in relief_park(): one of the two sees the other. */
        atomic_fetch_add(&s->lead_serial, 1);
        if (__atomic_load_n(&s->relief, __ATOMIC_SEQ_CST) == RELIEF_PARKED)
            supervisor_wake_relief(s);
        receiver_handle(s, &n);
        atomic_fetch_add(&s->lead_serial, 1);
    }
}

static void relief_park(struct supervisor *s, unsigned seen)
{
    __atomic_store_n(&s->relief, RELIEF_PARKED, __ATOMIC_SEQ_CST);
    if (atomic_load(&s->lead_serial) != seen) {
        supervisor_wake_relief(s);
        return;
    }
    while (!is_stopping(s) && __atomic_load_n(&s->relief, __ATOMIC_SEQ_CST) == RELIEF_PARKED)
        raw_futex_wait(&s->relief, RELIEF_PARKED, NULL);
}

/* Is it still in the call it was in when the serial was read? */
static bool leader_is_at(const struct supervisor *s, unsigned seen)
{
    return (seen & 1) && atomic_load(&s->lead_serial) == seen;
}

/* Serves for a while, and as long as the leader hangs in the call it hung in. False: it is over. */
static bool relief_serve(struct supervisor *s, unsigned seen)
{
    uint64_t until = util_now_ns() + RELIEF_BURST_NS;
    struct seccomp_notif n;

    do {
        int r = receiver_take(s, &n);

        if (r == 0)
            receiver_handle(s, &n);
        else if (receiver_is_done(s, r))
            return false;
    } while (!is_stopping(s) && (util_now_ns() < until || leader_is_at(s, seen)));
    return true;
}

static bool listener_has_more(const struct supervisor *s)
{
    struct pollfd p = {.fd = s->listener_fd, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

static void serve_as_relief(struct supervisor *s)
{
    const struct timespec tick = {0, RELIEF_TICK_NS};
    unsigned seen = 0; /* as before the first notification: parks unless there was one */
    unsigned idle = RELIEF_IDLE_TICKS;

    while (!is_stopping(s)) {
        unsigned before = seen;

        if (idle >= RELIEF_IDLE_TICKS) {
            relief_park(s, seen);
            idle = 0;
        }
        raw_futex_wait(&s->relief, RELIEF_WATCHING, &tick);
        seen = atomic_load(&s->lead_serial);
        idle = seen == before ? idle + 1 : 0;
        /* Others wait only where the leader is busy with somebody else's call. */
        if ((seen & 1) && (seen == before || (listener_has_more(s) && leader_is_at(s, seen)))) {
            if (!relief_serve(s, seen))
                return;
            idle = 0;
        }
    }
}

void supervisor_serve(struct supervisor *s)
{
    memory_serves(true);
    if (!s->blocking_recv)
        serve_equally(s);
    else if (!atomic_exchange(&s->led, true))
        serve_as_leader(s);
    else
        serve_as_relief(s);
    memory_serves(false);
}
