/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "max-processes" (RP-01 to RP-03). Receiver threads. Each creation of a process is notified
 * (threads are not: CLONE_THREAD is told apart in the filter; clone3 does not exist there) and counted
 * before it happens; nobody watches exits. The count is therefore never too low, and when it reaches
 * the limit the living are counted.
 *
 * Proof that the limit holds: between two countings the number only grows, by one before each
 * creation. A counting adds to the processes it finds every creation that was granted and may not have
 * happened yet, and it happens under the lock under which creations are granted.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "arch/arch.h"
#include "determinism/determinism.h"
#include "limits/internal.h"
#include "limits/tree.h"
#include "policy/policy.h"
#include "sys/procfile.h"

#define SETTLE_TRIES 10 /* milliseconds a fork waits for others that are about to happen */

struct processes {
    struct supervisor *sup;
    pthread_mutex_t lock;
    uint32_t max;
    uint32_t count; /* upper bound of the living, the command included */
    uint32_t peak;
    uint64_t refused;
    pid_t *granted; /* callers since the last counting; the latest grant is the last entry */
    size_t ngranted, cap;
};

/*
 * Has the thread left the call in which it was granted a process? Blocked in another call or gone:
 * yes. Running: nobody can tell from outside. In a creating call: that one, or a later one that waits
 * for its turn here.
 */
static bool processes_settled(pid_t tid)
{
    char path[48], text[256];
    const struct call_info *c;
    char *end;
    ssize_t n;
    long nr;

    snprintf(path, sizeof(path), "/proc/%d/syscall", (int)tid);
    n = sys_read_file(path, text, sizeof(text));
    if (n < 0)
        return n == -ENOENT || n == -ESRCH;
    nr = strtol(text, &end, 10);
    if (end == text)
        return false; /* "running" */
    c = nr >= 0 ? arch_call(arch_native(), (uint32_t)nr) : NULL;
    return !c || c->op != OP_SPAWN;
}

/* Keeps one entry for each caller whose grant may be outstanding. */
static void processes_settle(struct processes *p)
{
    size_t n = 0;

    for (size_t i = 0; i < p->ngranted; i++) {
        bool later = false;

        /* A thread has one call at a time: asking again ended the one before. */
        for (size_t k = i + 1; k < p->ngranted && !later; k++)
            later = p->granted[k] == p->granted[i];
        if (!later && !processes_settled(p->granted[i]))
            p->granted[n++] = p->granted[i];
    }
    p->ngranted = n;
}

static int processes_recount(struct processes *p)
{
    struct tree t = {0};
    int r;

    processes_settle(p); /* first: what has happened before the scan is found by it */
    r = tree_scan(&t, supervisor_anchor(p->sup));
    if (r == 0)
        p->count = (uint32_t)(t.n + p->ngranted);
    tree_fini(&t);
    return r;
}

static bool processes_make_room(struct processes *p, pid_t caller)
{
    const struct timespec moment = {.tv_nsec = 1000000};

    /* The caller is here: what it was granted before has happened. */
    for (size_t i = 0; i < p->ngranted;) {
        if (p->granted[i] == caller)
            p->granted[i] = p->granted[--p->ngranted];
        else
            i++;
    }
    for (int i = 0; i < SETTLE_TRIES; i++) {
        if (processes_recount(p) < 0)
            return false;
        if (p->count < p->max)
            return true;
        if (p->ngranted == 0)
            return false;
        nanosleep(&moment, NULL);
    }
    return false;
}

static bool processes_remember(struct processes *p, pid_t caller)
{
    pid_t *v = util_grow(p->granted, p->ngranted, &p->cap, sizeof(*v));

    if (!v)
        return false;
    p->granted = v;
    p->granted[p->ngranted++] = caller;
    return true;
}

static bool processes_grant(struct processes *p, pid_t caller)
{
    bool ok;

    pthread_mutex_lock(&p->lock);
    ok = (p->count < p->max || processes_make_room(p, caller)) && processes_remember(p, caller);
    p->count += ok;
    if (ok) /* a counting may find those that a lower limit came too late for */
        p->peak = MAX(p->peak, MIN(p->count, p->max));
    p->refused += !ok;
    pthread_mutex_unlock(&p->lock);
    return ok;
}

static struct verdict processes_spawn(struct request *r)
{
    struct processes *p = supervisor_state(r->sup, &limits_processes_feature);

    if (!processes_grant(p, r->tid)) {
        request_explain(r, "process", EAGAIN, "--max-processes", "raise --max-processes");
        return verdict_errno(EAGAIN);
    }
    if (supervisor_state(r->sup, &determinism_random_feature))
        return verdict_pass(); /* who watches it, and lets it go on */
    return verdict_continue("counted already, whatever the call does; flags are in registers");
}

int limits_processes_restrict(const struct supervisor *sup, uint32_t max)
{
    struct processes *p = sup ? supervisor_state(sup, &limits_processes_feature) : NULL;
    int r = 0;

    if (!p)
        return -EOPNOTSUPP;
    pthread_mutex_lock(&p->lock);
    if (max > p->max)
        r = -EINVAL;
    else
        p->max = max;
    pthread_mutex_unlock(&p->lock);
    return r;
}

void limits_processes_report(const struct supervisor *sup, struct limits_report *ret)
{
    struct processes *p = sup ? supervisor_state(sup, &limits_processes_feature) : NULL;

    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    ret->processes_peak = p->peak;
    ret->processes_refused = p->refused;
    pthread_mutex_unlock(&p->lock);
}

static bool processes_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->max_processes != 0;
}

static int processes_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct processes *p = calloc(1, sizeof(*p));

    if (!p)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--max-processes", "out of memory");
    p->sup = s;
    p->max = supervisor_policy(s)->max_processes;
    p->count = p->peak = 1; /* the command */
    pthread_mutex_init(&p->lock, NULL);
    *ret_state = p;
    return 0;
}

static void processes_stop(void *state)
{
    struct processes *p = state;

    if (!p)
        return;
    pthread_mutex_destroy(&p->lock);
    free(p->granted);
    free(p);
}

static const struct filter_clause spawn_when[] = {
    {{{.arg = 0, .cmp = CMP_ANYSET, .mask = CLONE_THREAD}}, 1, SECCOMP_RET_ALLOW},
    {.ret = SECCOMP_RET_USER_NOTIF},
};
static const struct feature_call processes_calls[] = {
    {OP_SPAWN, processes_spawn, spawn_when, ARRAY_SIZE(spawn_when)},
};

const struct feature limits_processes_feature = {
    .name = "max-processes",
    .wanted = processes_wanted,
    .calls = processes_calls,
    .ncalls = ARRAY_SIZE(processes_calls),
    .start = processes_start,
    .stop = processes_stop,
};
