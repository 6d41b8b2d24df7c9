/* SPDX-License-Identifier: Apache-2.0 */
/* The limits of one run: threads started, stopped, asked. The caller's thread. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "limits/internal.h"
#include "plan/kernel.h"
#include "policy/policy.h"
#include "sys/process.h"
#include "sys/procfile.h"
#include "sys/raw_calls.h"
#include "sys/seccomp.h"

#define LIMITS_DEPTH 4096 /* parents looked at before a process counts as a stranger */

uint64_t limits_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

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
    uint64_t at = limits_now() + ns;
    struct timespec until = {(time_t)(at / 1000000000u), (long)(at % 1000000000u)};
    bool go;

    pthread_mutex_lock(&c->lock);
    while (!c->stop && pthread_cond_timedwait(&c->wake, &c->lock, &until) != ETIMEDOUT)
        ;
    go = !c->stop;
    pthread_mutex_unlock(&c->lock);
    return go;
}

/* Do its parents lead to the anchor? */
static bool is_member(pid_t pid, pid_t anchor)
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
    if (!is_member(pid, anchor))
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

const char *limits_backend(enum limit_kind kind, const struct policy *p)
{
    switch (kind) {
    case LIMIT_MEMORY:
        return "sampling (proportional set size), large mappings refused by the filter";
    case LIMIT_PROCESSES: return "notification of each creation, living ones counted at the limit";
    case LIMIT_CPU:
        return can_trace(p) ? "budget, held by ptrace stops"
                            : "budget, held by stop signals (visible to job control inside)";
    case LIMIT_KIND_COUNT: break;
    }
    return "none";
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

int limits_start(const struct policy *p, pid_t anchor, struct supervisor *sup, struct limits **ret,
                 struct error *err)
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
    l->cpu_signals = cpu && !can_trace(p);
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
    return l && l->cpu_signals;
}

void limits_stop(struct limits *l)
{
    if (!l)
        return;
    pthread_mutex_lock(&l->clock.lock);
    l->clock.stop = true;
    pthread_cond_broadcast(&l->clock.wake);
    pthread_mutex_unlock(&l->clock.lock);
    while (l->nthreads)
        pthread_join(l->thread[--l->nthreads], NULL);
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
