/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The processor limit (RC-01, RC-02). One thread while a limit is set. An account is filled at the
 * allowed rate and charged with what the whole tree used, threads and ended processes included; when
 * it is empty the sandbox is held until it has something again. What was used too much stays a debt,
 * so the share is right over time however late a look comes.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "limits/internal.h"
#include "policy/policy.h"
#include "sys/process.h"
#include "sys/procfile.h"

#define CPU_SAVED_NS 80000000 /* what the account holds at most is the allowance of so long */
#define CPU_TURN_NS 20000000  /* and so long it is held at least: few stops are cheap stops */
#define CPU_LOOK_MIN 1000000
#define CPU_LOOK_HELD 3000000 /* for who slept when the others were stopped */
#define CPU_LOOK_IDLE 20000000
#define CPU_RELEASE_TRIES 1000
#define CPU_CARRY_NS 20000000 /* cutime is told in ticks of 10 ms: differences to even out later */

struct used {
    pid_t pid;
    int64_t own;      /* ns, all threads */
    int64_t children; /* ns, of those it has waited for */
    int64_t at_stop;  /* own, when the sandbox was stopped */
};
struct account {
    struct used *v;
    size_t n, cap;
};

struct cpu {
    struct limits *l;
    struct tree tree;
    struct account now, before;
    struct cpu_hold hold;
    int64_t tick_ns;
    int64_t carry; /* used by processes that ended, not yet seen in their parents' sums */
    int64_t tokens;
    uint64_t at;
    bool held;
    uint64_t held_since;
    uint64_t idle;
    long cores;
};

static int compare_used(const void *a, const void *b)
{
    const struct used *x = a, *y = b;

    return (x->pid > y->pid) - (x->pid < y->pid);
}

static int account_add(struct cpu *c, pid_t pid, bool own)
{
    struct account *a = &c->now;
    struct used *v = util_grow(a->v, a->n, &a->cap, sizeof(*v));
    struct sys_stat st;
    char path[32];

    if (!v)
        return -ENOMEM;
    a->v = v;
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    if (sys_read_stat(path, &st) < 0)
        return 0;
    a->v[a->n++] = (struct used){.pid = pid,
                                 .own = own ? limits_cpu_time(pid) : 0,
                                 .children = (int64_t)(st.cutime + st.cstime) * c->tick_ns};
    return 0;
}

/*
 * What was used since the last look. A process that ended was charged while it lived; its whole time
 * then appears among the times of its parent's children (or nowhere, when the parent ignores SIGCHLD).
 */
static int64_t account_charge(struct cpu *c, int64_t elapsed)
{
    int64_t own = 0, inherited = 0, ended = 0, taken;
    const struct account *b = &c->before;
    size_t k = 0;

    for (size_t i = 0; i < c->now.n; i++) {
        struct used *u = &c->now.v[i];

        for (; k < b->n && b->v[k].pid < u->pid; k++)
            ended += b->v[k].own + b->v[k].children;
        if (k < b->n && b->v[k].pid == u->pid) {
            u->at_stop = b->v[k].at_stop;
            own += MAX(u->own - b->v[k].own, 0);
            inherited += MAX(u->children - b->v[k].children, 0);
            k++;
        } else {
            own += MIN(u->own, elapsed * c->cores); /* or a look missed it */
        }
    }
    for (; k < b->n; k++)
        ended += b->v[k].own + b->v[k].children;
    ended += c->carry;
    taken = MIN(ended, inherited);
    c->carry = MIN(ended - taken, CPU_CARRY_NS);
    return own + inherited - taken;
}

static int64_t account_look(struct cpu *c, int64_t elapsed)
{
    struct account old = c->before;

    c->before = c->now;
    c->now = old;
    c->now.n = 0;
    if (tree_walk(&c->tree, c->l->anchor) < 0)
        return 0;
    for (size_t i = 0; i < c->tree.n; i++) {
        if (account_add(c, c->tree.v[i], true) < 0)
            return 0;
    }
    (void)account_add(c, c->l->anchor, false);
    qsort(c->now.v, c->now.n, sizeof(*c->now.v), compare_used);
    return account_charge(c, elapsed);
}

/* ---- holding ---- */

struct hold_of {
    struct cpu *c;
    pid_t pid;
    bool all;
};

static int hold_thread(void *arg, int tid)
{
    struct hold_of *of = arg;
    struct sys_stat st;
    char path[48];

    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)of->pid, tid);
    /* Who sleeps uses nothing, and its call is not disturbed. Who is stopped already stays so. */
    if (sys_read_stat(path, &st) == 0 && (st.state == 'R' || (of->all && st.state == 'S')))
        cpu_hold_thread(&of->c->hold, of->pid, tid);
    return 0;
}

/* Called again while the sandbox is held: for threads that wake up. A process that goes on using time
 * is held with its sleeping threads too, so that nobody hides by napping when we look. */
static void hold_all(struct cpu *c, bool first)
{
    for (size_t i = 0; i < c->now.n; i++) {
        struct used *u = &c->now.v[i];
        struct hold_of of = {.c = c, .pid = u->pid};
        char path[32];

        if (u->pid == c->l->anchor)
            continue;
        of.all = !first && u->own > u->at_stop;
        u->at_stop = u->own;
        snprintf(path, sizeof(path), "/proc/%d/task", (int)u->pid);
        (void)tree_each_number(path, hold_thread, &of);
    }
    cpu_hold_collect();
}

static void report_held(struct cpu *c)
{
    pthread_mutex_lock(&c->l->report_lock);
    c->l->report.cpu_stopped_ns += util_now_ns() - c->held_since;
    pthread_mutex_unlock(&c->l->report_lock);
}

/* One look; the time until the next. */
static uint64_t cpu_turn(struct cpu *c)
{
    int64_t percent = atomic_load(&c->l->max_cpu);
    int64_t turn = CPU_TURN_NS * percent / 100;
    uint64_t now = util_now_ns();
    int64_t elapsed = (int64_t)(now - c->at);
    int64_t spent = account_look(c, elapsed);

    c->tokens += elapsed * percent / 100;
    c->tokens = MIN(c->tokens, CPU_SAVED_NS * percent / 100) - spent;
    c->at = now;
    if (c->held && c->tokens >= turn) {
        c->held = !cpu_hold_release(&c->hold, &c->tree);
        report_held(c);
        c->held_since = now;
    } else if (c->tokens < 0) {
        if (!c->held)
            c->held_since = now;
        hold_all(c, !c->held);
        c->held = true;
    } else {
        cpu_hold_collect();
    }
    if (c->held)
        return (uint64_t)MIN(MAX((turn - c->tokens) * 100 / percent, CPU_LOOK_MIN), CPU_LOOK_HELD);
    c->idle = spent > 0 ? CPU_LOOK_MIN : MIN(2 * c->idle, CPU_LOOK_IDLE);
    return (uint64_t)MAX(MAX(c->tokens / c->cores, (int64_t)c->idle), CPU_LOOK_MIN);
}

void *cpu_main(void *arg)
{
    struct cpu c = {.l = arg, .idle = CPU_LOOK_MIN};
    uint64_t pause = CPU_LOOK_MIN;

    (void)sys_thread_slice(LIMITS_SLICE_NS);
    limits_own_descriptors();
    c.hold.signals = c.l->cpu_signals;
    c.hold.anchor = c.l->anchor;
    c.tick_ns = 1000000000 / sysconf(_SC_CLK_TCK);
    c.cores = MAX(sysconf(_SC_NPROCESSORS_ONLN), 1);
    if (!limits_wait_cpu(c.l))
        return NULL;
    c.at = util_now_ns();
    while (limits_sleep(&c.l->clock, pause))
        pause = cpu_turn(&c);
    if (c.held)
        report_held(&c);
    for (int i = 0; i < CPU_RELEASE_TRIES && !cpu_hold_release(&c.hold, &c.tree); i++)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    cpu_hold_fini(&c.hold);
    tree_fini(&c.tree);
    free(c.now.v);
    free(c.before.v);
    return NULL;
}
