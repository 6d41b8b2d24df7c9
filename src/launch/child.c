/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The raw child: from clone to exec. Shares the caller's memory, so it makes raw system calls only,
 * allocates nothing, takes no lock and touches no libc state. Input is prepared by the parent.
 */
#include <errno.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>

#include "launch/internal.h"
#include "sys/raw_calls.h"

#ifndef CAP_LAST_CAP_MAX
#define CAP_LAST_CAP_MAX 63 /* _LINUX_CAPABILITY_VERSION_3 has 64 bits */
#endif

static int child_fail(const struct child_setup *c, enum launch_step step, long error)
{
    c->shared->step = step;
    c->shared->error = (int32_t)error;
    return (int)error;
}

static void child_publish(const struct child_setup *c, enum launch_state state)
{
    __atomic_store_n(&c->shared->state, state, __ATOMIC_RELEASE);
    raw_futex_wake(&c->shared->state, 1);
}

/* The caller's handlers must not run here, and must not survive a signal before exec. */
static void child_reset_signals(const struct child_setup *c)
{
    struct raw_sigaction dfl = {.handler = SIG_DFL};
    struct raw_sigaction ign = {.handler = SIG_IGN};

    for (int sig = 1; sig <= 64; sig++) {
        if (c->caught[0] >> (sig - 1) & 1)
            raw_sigaction(sig, &dfl);
    }
    if (c->sigchld_ignored)
        raw_sigaction(SIGCHLD, &ign); /* the anchor set it to the default */
}

static int child_process_group(const struct child_setup *c)
{
    long r;
    pid_t self;

    if (!c->parked)
        return 0;
    r = raw_setpgid(0, 0);
    if (r < 0)
        return child_fail(c, STEP_PROCESS_GROUP, r);
    self = (pid_t)raw_getpid();
    if (c->tty_fd >= 0)
        raw_ioctl(c->tty_fd, TIOCSPGRP, &self); /* all signals are blocked: no SIGTTOU */
    return 0;
}

static int child_attributes(const struct child_setup *c)
{
    long r;

    if (c->no_aslr) {
        r = raw_personality(0xffffffff);
        if (r >= 0)
            r = raw_personality((unsigned long)r | ADDR_NO_RANDOMIZE);
        if (r < 0)
            return child_fail(c, STEP_PERSONALITY, r);
    }
    if (c->cpus) {
        r = raw_sched_setaffinity(c->cpus_size, c->cpus);
        if (r < 0)
            return child_fail(c, STEP_AFFINITY, r);
    }
    if (c->no_thp) {
        r = raw_prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
        if (r < 0)
            return child_fail(c, STEP_HUGE_PAGES, r);
    }
    if (c->no_core) {
        struct rlimit none = {0, 0};

        r = raw_prlimit(RLIMIT_CORE, &none, NULL);
        if (r < 0)
            return child_fail(c, STEP_CORE_LIMIT, r);
    }
    return 0;
}

static long child_write_file(const char *path, const char *text)
{
    size_t n = 0;
    long fd, r;

    while (text[n])
        n++;
    fd = raw_openat(AT_FDCWD, path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return fd;
    r = raw_write((int)fd, text, n);
    raw_close((int)fd);
    return r < 0 ? r : 0;
}

static int child_maps_by_other(const struct child_setup *c)
{
    struct launch_maps *m = c->maps;

    m->pid = (int32_t)raw_getpid();
    __atomic_store_n(&m->turn, TURN_WRITE_MAPS, __ATOMIC_RELEASE);
    raw_futex_wake(&m->turn, 1);
    while (__atomic_load_n(&m->turn, __ATOMIC_ACQUIRE) == TURN_WRITE_MAPS)
        raw_futex_wait(&m->turn, TURN_WRITE_MAPS, NULL);
    return m->error < 0 ? child_fail(c, m->step, m->error) : 0;
}

/* UM-01: one user, one group, no setgroups. user_namespaces(7). */
static int child_user_namespace(const struct child_setup *c)
{
    long r;

    if (!c->user_namespace)
        return 0;
    r = raw_unshare(CLONE_NEWUSER);
    if (r < 0)
        return child_fail(c, STEP_USER_NAMESPACE, r);
    if (c->maps_outside)
        return child_maps_by_other(c);
    r = child_write_file("/proc/self/setgroups", "deny");
    if (r < 0 && r != -ENOENT)
        return child_fail(c, STEP_SETGROUPS, r);
    r = child_write_file("/proc/self/uid_map", c->maps->uid_map);
    if (r < 0)
        return child_fail(c, STEP_UID_MAP, r);
    r = child_write_file("/proc/self/gid_map", c->maps->gid_map);
    if (r < 0)
        return child_fail(c, STEP_GID_MAP, r);
    return 0;
}

/*
 * Nothing is kept: bounding set, ambient, inheritable, permitted. no_new_privs (set by the anchor)
 * keeps exec from adding to the permitted set even for uid 0 (cap_bprm_creds_from_file), so a
 * bounding set that we may not empty (no CAP_SETPCAP) is not a hole.
 */
static int child_capabilities(const struct child_setup *c)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}, {0}};
    long r;

    if (!c->drop_caps)
        return 0;
    for (int cap = 0; cap <= CAP_LAST_CAP_MAX; cap++) {
        r = raw_prctl(PR_CAPBSET_DROP, (unsigned long)cap, 0, 0, 0);
        if (r < 0)
            break; /* EINVAL: past the last one; EPERM: see above */
    }
    raw_prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
    r = raw_capset(&head, none);
    if (r < 0)
        return child_fail(c, STEP_CAPABILITIES, r);
    return 0;
}

static int child_confine(const struct child_setup *c)
{
    long r = raw_prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

    if (r < 0)
        return child_fail(c, STEP_NO_NEW_PRIVS, r);
    if (c->ruleset_fd >= 0) {
        r = raw_landlock_restrict_self(c->ruleset_fd, 0);
        if (r < 0)
            return child_fail(c, STEP_LANDLOCK, r);
    }
    r = raw_seccomp_filter(c->filter_flags, &c->filter);
    if (r < 0)
        return child_fail(c, STEP_SECCOMP, r);
    if (c->filter_flags & SECCOMP_FILTER_FLAG_NEW_LISTENER)
        c->shared->listener_fd = (int32_t)r;
    return 0;
}

/* L-04: no instruction of the workload before the supervisor says so. */
static bool child_park(const struct child_setup *c)
{
    uint32_t go;

    if (!c->parked)
        return true;
    child_publish(c, LAUNCH_PARKED);
    while ((go = __atomic_load_n(&c->shared->go, __ATOMIC_ACQUIRE)) == LAUNCH_WAIT) {
        long r = raw_futex_wait(&c->shared->go, LAUNCH_WAIT, NULL);

        if (r < 0 && r != -EAGAIN && r != -EINTR)
            return false;
    }
    return go == LAUNCH_GO;
}

/*
 * A private descriptor table, the standard streams in place, nothing above 2 (L-05). Until here the
 * table was the caller's. The first close_range copies only what lies below `keep`.
 */
static int child_descriptors(const struct child_setup *c)
{
    int keep = 3;
    long r;

    for (int i = 0; i < 3; i++)
        keep = c->stdio[i] >= keep ? c->stdio[i] + 1 : keep;
    r = raw_close_range((unsigned)keep, ~0U, c->parked ? CLOSE_RANGE_UNSHARE : 0);
    if (r < 0)
        return child_fail(c, STEP_DESCRIPTORS, r);
    for (int i = 0; i < 3; i++) {
        if (c->stdio[i] == -2) {
            raw_close(i);
        } else if (c->stdio[i] >= 3) {
            r = raw_dup3(c->stdio[i], i, 0);
            if (r < 0) {
                raw_close(i); /* IO-04: never our stream */
                return child_fail(c, STEP_STDIO, r);
            }
        }
    }
    if (keep > 3) {
        r = raw_close_range(3, ~0U, 0);
        if (r < 0)
            return child_fail(c, STEP_DESCRIPTORS, r);
    }
    return 0;
}

static int child_rlimits(const struct child_setup *c)
{
    for (unsigned i = 0; i < c->nrlimits; i++) {
        const struct child_rlimit *l = &c->rlimits[i];
        struct rlimit cur;
        long r = raw_prlimit(l->resource, NULL, &cur);

        if (r == 0) {
            if (!l->soft && cur.rlim_max > l->max)
                cur.rlim_max = l->max;
            if (cur.rlim_cur > l->max)
                cur.rlim_cur = l->max;
            r = raw_prlimit(l->resource, &cur, NULL);
        }
        if (r < 0)
            return child_fail(c, STEP_RLIMIT, r);
    }
    return 0;
}

/* The order of execvp(3): ENOENT and ENOTDIR go on, EACCES is remembered, ENOEXEC goes to sh. */
static void child_exec(const struct child_setup *c)
{
    long error = -ENOENT;

    for (int i = 0; c->candidates[i]; i++) {
        long r = raw_execve(c->candidates[i], c->argv, c->envp);

        if (r == -ENOEXEC) {
            c->shell_argv[1] = c->candidates[i];
            raw_execve("/bin/sh", c->shell_argv, c->envp);
        }
        if (r == -ENOENT || r == -ENOTDIR)
            continue;
        error = r;
        c->shared->exec_tried = i;
        if (r != -EACCES)
            break;
    }
    child_fail(c, STEP_EXEC, error);
}

/* Before anything that the command could use is there. cgroups(7): "0" is who writes. */
static void child_cgroup(const struct child_setup *c)
{
    if (c->cgroup_fd >= 0)
        c->shared->in_cgroup = raw_write(c->cgroup_fd, "0", 1) == 1;
}

void child_run(const struct child_setup *c)
{
    child_reset_signals(c);
    child_cgroup(c);
    if (child_process_group(c) < 0 || child_attributes(c) < 0 || child_user_namespace(c) < 0)
        return;
    if (c->cwd || c->cwd_fd >= 0) {
        long r = c->cwd_fd >= 0 ? raw_fchdir(c->cwd_fd) : raw_chdir(c->cwd);

        if (r < 0) {
            child_fail(c, STEP_CWD, r);
            return;
        }
    }
    if (child_capabilities(c) < 0)
        return;
    /* After the last change of credentials, which would clear it (prctl(2)). */
    if (c->parked) {
        raw_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        if (raw_getppid() != c->shared->anchor_pid)
            return;
    }
    if (child_confine(c) < 0 || !child_park(c) || child_descriptors(c) < 0 || child_rlimits(c) < 0)
        return;
    raw_sigprocmask(SIG_SETMASK, &c->sigmask, NULL);
    child_exec(c);
}
