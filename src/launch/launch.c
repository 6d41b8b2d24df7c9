/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The parent's side of the launch: prepares everything, clones the anchor with shared memory, waits
 * on futexes for "parked" and "exec done". Runs in the caller's thread (or in the first receiver
 * when files are opened on behalf). No copy of the caller's memory is ever made, so the cost does
 * not grow with it.
 */
#include "launch/launch.h"

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "launch/block.h"
#include "launch/exec_path.h"
#include "sys/raw_calls.h"

#define TREE_PIDS 16384 /* members the fallback tree walk can hold */

/* Waits until *word is no longer while_value, or the anchor is dead (somebody killed it). */
static void wait_word(uint32_t *word, uint32_t while_value, pid_t anchor)
{
    const struct timespec look = {0, 200 * 1000 * 1000};

    while (__atomic_load_n(word, __ATOMIC_ACQUIRE) == while_value) {
        siginfo_t info = {0};

        if (raw_futex_wait(word, while_value, &look) != -ETIMEDOUT)
            continue;
        if (waitid(P_PID, (id_t)anchor, &info, WEXITED | WNOHANG | WNOWAIT | __WALL) < 0 ||
            info.si_pid == anchor)
            return;
    }
}

/* clone with every signal blocked: no handler of the caller runs on the new stacks. */
static long clone_anchor(struct launch_block *b)
{
    uint64_t all = ~(uint64_t)0;
    uint64_t old;
    long r;

    raw_sigprocmask(SIG_SETMASK, &all, &old);
    /* Exit signal 0: the caller's SIGCHLD handler and wait(-1) never see the anchor. */
    r = arch_clone(CLONE_VM | CLONE_FILES, launch_block_anchor_stack(b), anchor_main, &b->anchor,
                   NULL, NULL);
    raw_sigprocmask(SIG_SETMASK, &old, NULL);
    return r;
}

/* The file the error is about. A directory of PATH that the user may not search refuses as a file
 * without permission does: the one that can be seen is meant. */
static const char *exec_refused(const struct launch_block *b)
{
    size_t tried = (size_t)b->shared.exec_tried;

    for (size_t i = 0; b->shared.error == -EACCES && i < b->candidates.n; i++) {
        if (exec_path_exists(b->root, b->candidates.v[i]))
            return b->candidates.v[i];
    }
    return tried < b->candidates.n ? b->candidates.v[tried] : NULL;
}

static int launch_failed(struct launch *l, struct error *err)
{
    const struct launch_shared *s = &l->block->shared;
    const struct launch_block *b = l->block;

    if (s->step == STEP_EXEC) {
        return exec_path_explain(b->root, b->file, exec_refused(b), s->error, err);
    }
    if (s->step == STEP_CWD)
        return error_set(err, ERROR_POLICY, s->error, "--cwd", "%.200s: %s", b->policy->cwd,
                         error_text(s->error));
    if (s->step == STEP_NONE)
        return error_set(err, ERROR_SETUP, -ECHILD, "start",
                         "the command was killed before it ran");
    return launch_step_error(s->step, s->error, err);
}

/* The kernel clears the word when the child leaves this address space: exec, or exit. */
static void launch_wait_exec(const struct launch *l)
{
    if (l->pid > 0)
        wait_word(&l->block->shared.child_tid, (uint32_t)l->pid, l->anchor_pid);
}

static int launch_anchor(const struct launch_spec *spec, struct launch *l, struct error *err)
{
    struct launch_block *b = l->block;
    int pair[2];
    long r;

    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return error_set(err, ERROR_SETUP, -errno, "socketpair", "%s", error_text(errno));
    l->channel_fd = launch_fd_above_stdio(pair[0]);
    pair[1] = launch_fd_above_stdio(pair[1]);
    b->anchor.shared = &b->shared;
    b->anchor.child = &b->child;
    b->anchor.channel_fd = pair[1];
    b->anchor.parent = (int32_t)getpid();
    b->anchor.ruleset_fd = spec->plan->anchor_fd;
    if (b->anchor.ruleset_fd < 0) {
        b->pids = calloc(TREE_PIDS, sizeof(*b->pids));
        b->anchor.pids = b->pids;
        b->anchor.npids = b->pids ? TREE_PIDS : 0;
    }
    b->child.parked = true;
    b->shared.go = spec->at_once ? LAUNCH_GO : LAUNCH_WAIT;
    r = l->channel_fd < 0 || pair[1] < 0 ? -EMFILE : clone_anchor(b);
    if (r < 0) {
        util_close(pair[1]);
        return error_set(err, ERROR_SETUP, (int)r, "clone", "%s", error_text((int)r));
    }
    l->anchor_pid = (pid_t)r;
    if (!spec->at_once)
        wait_word(&b->shared.state, LAUNCH_STARTING, l->anchor_pid);
    /* The child may be parked first; closing earlier would close the anchor's end as well. */
    wait_word(&b->shared.detached, 0, l->anchor_pid);
    util_close(pair[1]);
    l->pid = __atomic_load_n(&b->shared.child_pid, __ATOMIC_ACQUIRE);
    if (spec->at_once)
        launch_wait_exec(l);
    l->listener_fd = b->shared.listener_fd;
    l->in_cgroup = b->shared.in_cgroup;
    if (b->shared.state != LAUNCH_PARKED || l->pid <= 1)
        return launch_failed(l, err);
    return 0;
}

int launch_create(const struct launch_spec *spec, struct launch *ret, struct error *err)
{
    struct launch l = {.channel_fd = -1, .listener_fd = -1, .stdio_fd = {-1, -1, -1}, .tty_fd = -1};
    int child_fd[3] = {-1, -1, -1};
    int r;

    l.block = launch_block_new();
    if (!l.block)
        return error_set(err, ERROR_SETUP, -ENOMEM, "memory", "%s", error_text(ENOMEM));
    r = launch_setup_child(l.block, spec);
    if (r == 0)
        r = launch_setup_stdio(spec, &l, child_fd);
    if (r < 0) {
        error_set(err, ERROR_SETUP, r, "standard streams", "%s", error_text(r));
    } else if ((r = launch_setup_cwd(l.block, spec->plan, err)) == 0) {
        memcpy(l.block->child.stdio, child_fd, sizeof(child_fd));
        launch_setup_terminal(spec, &l);
        r = launch_anchor(spec, &l, err);
    }
    for (int i = 0; i < 3; i++) {
        if (child_fd[i] >= 0 && r < 0)
            util_close(child_fd[i]);
        else if (child_fd[i] >= 0)
            l.block->child.stdio[i] = child_fd[i]; /* closed by launch_start, when copied */
    }
    if (r < 0) {
        launch_fini(&l);
        return r;
    }
    *ret = l;
    return 0;
}

int launch_start(struct launch *l, struct error *err)
{
    struct launch_shared *s = &l->block->shared;

    __atomic_store_n(&s->go, LAUNCH_GO, __ATOMIC_RELEASE);
    raw_futex_wake(&s->go, 1);
    launch_wait_exec(l);
    for (int i = 0; i < 3; i++) {
        if (l->block->child.stdio[i] >= 0) {
            util_close(l->block->child.stdio[i]);
            l->block->child.stdio[i] = -1;
        }
    }
    return s->step ? launch_failed(l, err) : 0;
}

int launch_signal_group(const struct launch *l, int sig)
{
    /* kill(0) and kill(-1) mean something else entirely. */
    if (l->pid <= 1)
        return -ESRCH;
    return kill(-l->pid, sig) < 0 ? -errno : 0;
}

int launch_command(struct launch *l, enum anchor_command c, int sig)
{
    unsigned char m[2] = {(unsigned char)c, (unsigned char)sig};

    if (l->channel_fd < 0)
        return -ESRCH;
    return send(l->channel_fd, m, sizeof(m), MSG_NOSIGNAL) < 0 ? -errno : 0;
}

void launch_end(struct launch *l)
{
    int status;

    if (!l->block || l->anchor_pid <= 0)
        return;
    launch_command(l, ANCHOR_KILL, 0);
    __atomic_store_n(&l->block->shared.go, LAUNCH_ABORT, __ATOMIC_RELEASE);
    raw_futex_wake(&l->block->shared.go, 1);
    while (waitpid(l->anchor_pid, &status, __WALL) < 0 && errno == EINTR)
        ;
    l->anchor_pid = 0;
}

void launch_leave(struct launch *l)
{
    if (!l->block)
        return;
    launch_end(l);
    if (l->tty_fd >= 0) {
        (void)launch_terminal_take(l);
        if (l->abnormal && l->block->have_modes && tcgetpgrp(l->tty_fd) == getpgrp())
            (void)tcsetattr(l->tty_fd, TCSADRAIN, &l->block->modes);
        l->tty_fd = util_close(l->tty_fd);
    }
}

void launch_fini(struct launch *l)
{
    if (!l->block)
        return;
    launch_leave(l);
    for (int i = 0; i < 3; i++)
        l->stdio_fd[i] = util_close(l->stdio_fd[i]);
    l->channel_fd = util_close(l->channel_fd);
    l->listener_fd = util_close(l->listener_fd);
    launch_block_free(l->block);
    l->block = NULL;
}

int launch_exec_self(const struct launch_spec *spec, struct error *err)
{
    struct launch l = {.tty_fd = -1};
    int r;

    l.block = launch_block_new();
    if (!l.block)
        return error_set(err, ERROR_SETUP, -ENOMEM, "memory", "%s", error_text(ENOMEM));
    r = launch_setup_child(l.block, spec);
    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "memory", "%s", error_text(r));
    for (int i = 0; i < 3; i++)
        l.block->child.stdio[i] = -1;
    l.block->child.caught[0] = 0;
    l.block->child.sigchld_ignored = false;
    child_run(&l.block->child);
    r = launch_failed(&l, err);
    launch_block_free(l.block);
    return r;
}
