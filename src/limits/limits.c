/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of one run: threads started, stopped, asked. The caller's thread. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "limits/internal.h"
#include "plan/kernel.h"
#include "policy/policy.h"
#include "sys/process.h"
#include "sys/procfile.h"
#include "sys/raw_calls.h"
#include "sys/seccomp.h"

#define LIMITS_DEPTH 4096 /* parents looked at before a process counts as a stranger */

int64_t limits_cpu_time(pid_t pid)
{
    clockid_t id;
    struct timespec t;

    if (clock_getcpuclockid(pid, &id) != 0 || clock_gettime(id, &t) < 0)
        return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

bool limits_sleep(struct limits_clock *c, uint64_t ns)
{
    uint64_t at = util_now_ns() + ns;
    struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
    unsigned pokes;
    bool go;

    pthread_mutex_lock(&c->lock);
    pokes = c->pokes;
    while (!c->stop && pokes == c->pokes &&
           pthread_cond_timedwait(&c->wake, &c->lock, &until) != ETIMEDOUT)
        ;
    go = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return go;
}

bool limits_is_member(pid_t pid, pid_t anchor)
{
    struct sys_stat st;
    char path[32];

    for (int i = 0; i < LIMITS_DEPTH && pid > 1; i++) {
        snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
        if (sys_read_stat(path, &st) < 0)
            return false;
        pid = st.ppid;
        if (pid == anchor)
            return true;
    }
    return false;
}

/* Signals the process behind fd, or without one the number. Asked after the descriptor was opened: the
 * number may be somebody else's by now. */
static int signal_member(int fd, pid_t pid, pid_t anchor, int sig)
{
    if (!limits_is_member(pid, anchor))
        return -ESRCH;
    if (fd < 0)
        return kill(pid, sig) < 0 ? -errno : 0;
    return sys_pidfd_kill(fd, sig) < 0 ? -ESRCH : 0;
}

int limits_signal(pid_t pid, pid_t anchor, int sig)
{
    _cleanup_close_ int fd = sys_pidfd_open(pid, 0);

    return signal_member(fd, pid, anchor, sig);
}

int limits_kill(pid_t pid, pid_t anchor)
{
    _cleanup_close_ int fd = sys_pidfd_open(pid, 0);
    int r = signal_member(fd, pid, anchor, SIGKILL);

    if (r == 0 && fd >= 0)
        (void)sys_process_mrelease(fd);
    return r;
}

const char *limits_name(enum limit_kind kind)
{
    static const char *const name[] = {"memory", "processes", "cpu"};

    return name[kind];
}

/* A thread has one tracer, and a receiver that finds it taken would have to refuse the call. */
static bool can_trace(const struct policy *p)
{
    for (size_t i = 0; i < all_feature_count && p; i++) {
        const struct feature *f = all_features[i];

        if ((f->exec || f->traces) && f->wanted(p, kernel_probe()))
            return false;
    }
    return kernel_can_ptrace();
}

static const char cgroup_memory[] = "cgroup v2 (memory.max)", cgroup_cpu[] = "cgroup v2 (cpu.max)";

const char *limits_backend(enum limit_kind kind, const struct policy *p,
                           const struct limits_report *r)
{
    switch (kind) {
    case LIMIT_MEMORY:
        return r && r->memory_cgroup
                   ? cgroup_memory
                   : "sampling (proportional set size), large mappings refused by the filter";
    case LIMIT_PROCESSES: return "notification of each creation, living ones counted at the limit";
    case LIMIT_CPU:
        if (r && r->cpu_cgroup)
            return cgroup_cpu;
        return can_trace(p) ? "budget, held by ptrace stops"
                            : "budget, held by stop signals (visible to job control inside)";
    case LIMIT_KIND_COUNT: break;
    }
    return "none";
}

/* May a process of ours enter it? The way between two cgroups may be closed. */
static bool can_enter(const struct limits_cgroup *g)
{
    pid_t pid = fork();
    int status = -1;

    if (pid == 0)
        _exit(write(g->procs_fd, "0", 1) != 1);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

const char *limits_would_be(enum limit_kind kind)
{
    struct policy p;
    struct limits_cgroup *g;
    struct limits_report r = {0};

    policy_init(&p);
    p.max_memory = kind == LIMIT_MEMORY ? CGROUP_MEMORY_MIN : 0;
    p.max_cpu = kind == LIMIT_CPU ? 50 : 0;
    g = limits_cgroup_new(&p);
    if (g && can_enter(g)) {
        r.memory_cgroup = g->memory;
        r.cpu_cgroup = g->cpu;
    }
    limits_cgroup_free(g);
    policy_fini(&p);
    return limits_backend(kind, NULL, &r);
}

/* A descriptor table of the calling thread's own, empty: the command can make its supervisor fill the
 * shared one, and who then cannot open /proc sees no memory and no time used. Where that is refused
 * the shared one has to do. */
void limits_own_descriptors(void)
{
    (void)raw_close_range(0, ~0U, CLOSE_RANGE_UNSHARE);
}

/* Threads of ours take no signals: handlers and signalfd belong to the caller. */
static int limits_thread(struct limits *l, void *(*fn)(void *))
{
    sigset_t all, old;
    int r;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&l->thread[l->nthreads], NULL, fn, l);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    l->nthreads += r == 0;
    return -r;
}

int limits_start(const struct policy *p, pid_t anchor, struct supervisor *sup,
                 const struct limits_cgroup *cgroup, struct limits **ret, struct error *err)
{
    bool cpu = p->max_cpu != 0 && p->max_cpu < 100;
    pthread_condattr_t attr;
    struct limits *l;
    int r = 0;

    *ret = NULL;
    if (!p->max_memory && !cpu && !p->max_disk)
        return 0;
    l = calloc(1, sizeof(*l));
    if (!l)
        return error_set(err, ERROR_SETUP, -ENOMEM, "limits", "out of memory");
    l->policy = p;
    l->anchor = anchor;
    l->sup = sup;
    l->view = sup ? supervisor_state(sup, &limits_memory_feature) : NULL;
    l->cgroup = cgroup;
    atomic_init(&l->memory_cgroup, cgroup && cgroup->memory);
    atomic_init(&l->cpu_cgroup, cgroup && cgroup->cpu);
    l->cpu_signals = cpu && !can_trace(p);
    atomic_init(&l->max_memory, p->max_memory);
    atomic_init(&l->max_cpu, p->max_cpu);
    pthread_mutex_init(&l->clock.lock, NULL);
    pthread_mutex_init(&l->report_lock, NULL);
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&l->clock.wake, &attr);
    pthread_condattr_destroy(&attr);
    if (p->max_memory)
        r = limits_thread(l, memory_main);
    if (r == 0 && cpu)
        r = limits_thread(l, cpu_main);
    if (r == 0 && p->max_disk)
        r = limits_thread(l, disk_main);
    *ret = l; /* also after a failure: the caller stops and frees */
    return r < 0 ? error_set(err, ERROR_SETUP, r, "limits", "%s", error_text(r)) : 0;
}

bool limits_hold_by_signal(const struct limits *l)
{
    return l && l->cpu_signals && !atomic_load(&l->cpu_cgroup);
}

int limits_restrict(struct limits *l, const struct supervisor *sup,
                    const struct limits_restriction *to)
{
    int r;

    if ((to->memory || to->cpu) && !l)
        return -EOPNOTSUPP;
    if ((to->memory && !l->policy->max_memory) ||
        (to->cpu && (!l->policy->max_cpu || l->policy->max_cpu >= 100)))
        return -EOPNOTSUPP;
    if ((to->memory && to->memory > atomic_load(&l->max_memory)) ||
        (to->cpu && to->cpu > atomic_load(&l->max_cpu)))
        return -EINVAL;
    r = to->processes ? limits_processes_restrict(sup, to->processes) : 0;
    if (r < 0 || !l)
        return r;
    /* The kernel's first; what it does not take the threads see, and hold themselves. */
    if (to->memory && l->cgroup && l->cgroup->memory)
        (void)limits_cgroup_set_memory(l->cgroup, to->memory);
    if (to->cpu && l->cgroup && l->cgroup->cpu)
        (void)limits_cgroup_set_cpu(l->cgroup, to->cpu);
    if (to->memory)
        atomic_store(&l->max_memory, to->memory);
    if (to->memory && l->view)
        atomic_store(&l->view->memory_max, to->memory);
    if (to->cpu)
        atomic_store(&l->max_cpu, to->cpu);
    pthread_mutex_lock(&l->clock.lock);
    l->clock.pokes++;
    pthread_cond_broadcast(&l->clock.wake);
    pthread_mutex_unlock(&l->clock.lock);
    return 0;
}

/* What the kernel counted. */
static void report_cgroup(struct limits *l)
{
    struct limits_report *r = &l->report;
    int64_t v;

    if (!l->cgroup)
        return;
    r->memory_cgroup = atomic_load(&l->memory_cgroup);
    r->cpu_cgroup = atomic_load(&l->cpu_cgroup);
    if (l->cgroup->memory && (v = limits_cgroup_read(l->cgroup, "memory.peak", NULL)) > 0)
        r->memory_peak = MAX(r->memory_peak, (uint64_t)v); /* 5.19; else as the thread saw it */
    if (l->cgroup->memory && (v = limits_cgroup_read(l->cgroup, "memory.events", "oom_kill")) > 0)
        r->memory_kills += (uint64_t)v;
    if (l->cgroup->cpu && (v = limits_cgroup_read(l->cgroup, "cpu.stat", "throttled_usec")) > 0)
        r->cpu_stopped_ns += (uint64_t)v * 1000;
}

/* One look at what the kernel holds. */
static void look_at_memory(struct limits *l)
{
    int64_t now = limits_cgroup_read(l->cgroup, "memory.current", NULL);
    int64_t anon = limits_cgroup_read(l->cgroup, "memory.stat", "anon");
    int64_t shmem = limits_cgroup_read(l->cgroup, "memory.stat", "shmem");

    pthread_mutex_lock(&l->report_lock);
    l->report.memory_peak = MAX(l->report.memory_peak, (uint64_t)MAX(now, 0));
    pthread_mutex_unlock(&l->report_lock);
    if (l->view) /* caches are not what programs ask for */
        atomic_store(&l->view->memory_used, (uint64_t)(MAX(anon, 0) + MAX(shmem, 0)));
}

bool limits_wait_memory(struct limits *l)
{
    while (atomic_load(&l->memory_cgroup)) {
        if (!limits_cgroup_holds_memory(l->cgroup, atomic_load(&l->max_memory)))
            atomic_store(&l->memory_cgroup, false);
        else
            look_at_memory(l);
        if (!limits_sleep(&l->clock, LIMITS_LOOK_NS))
            return false;
    }
    return true;
}

bool limits_wait_cpu(struct limits *l)
{
    while (atomic_load(&l->cpu_cgroup)) {
        if (!limits_cgroup_holds_cpu(l->cgroup, atomic_load(&l->max_cpu)))
            atomic_store(&l->cpu_cgroup, false);
        if (!limits_sleep(&l->clock, LIMITS_LOOK_NS))
            return false;
    }
    return true;
}

void limits_stop(struct limits *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->clock.lock);
    l->clock.stop = true;
    pthread_cond_broadcast(&l->clock.wake);
    pthread_mutex_unlock(&l->clock.lock);
    while (l->nthreads) {
        pthread_join(l->thread[--l->nthreads], NULL);
        if (l->nthreads == 0)
            report_cgroup(l);
    }
}

void limits_report(const struct limits *l, const struct supervisor *sup, struct limits_report *ret)
{
    *ret = (struct limits_report){0};
    if (l) {
        pthread_mutex_t *lock = (pthread_mutex_t *)(uintptr_t)&l->report_lock;

        pthread_mutex_lock(lock);
        *ret = l->report;
        pthread_mutex_unlock(lock);
    }
    limits_processes_report(sup, ret);
    limits_disk_report(sup, ret);
}

void limits_free(struct limits *l)
{
    if (!l)
        return;
    limits_stop(l);
    pthread_cond_destroy(&l->clock.wake);
    pthread_mutex_destroy(&l->clock.lock);
    pthread_mutex_destroy(&l->report_lock);
    free(l);
}
