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
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>

#include "launch/environment.h"
#include "launch/exec_path.h"
#include "launch/internal.h"
#include "plan/root.h"
#include "sys/raw_calls.h"

#define ANCHOR_STACK (32 * 1024)
#define CHILD_STACK (64 * 1024)
#define TREE_PIDS 16384 /* members the fallback tree walk can hold */
#define CPU_WORDS (1024 / (8 * sizeof(unsigned long)))

struct launch_block {
    struct launch_shared shared;
    struct child_setup child;
    struct anchor_setup anchor;
    struct launch_maps maps;
    unsigned long cpus[CPU_WORDS];
    struct strv candidates;
    char **shell_argv;
    int32_t *pids;
    const char *file;
    const struct policy *policy;
    const struct root *root;
    void *map;
    size_t map_size;
    struct termios modes;
    bool have_modes;
};

/* One mapping: guard, anchor stack, guard, child stack, block. */
static struct launch_block *block_new(void)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t anchor = (ANCHOR_STACK + page - 1) & ~(page - 1);
    size_t child = (CHILD_STACK + page - 1) & ~(page - 1);
    size_t block = (sizeof(struct launch_block) + page - 1) & ~(page - 1);
    size_t size = page + anchor + page + child + block;
    char *p = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct launch_block *b;

    if (p == MAP_FAILED)
        return NULL;
    if (mprotect(p + page, anchor, PROT_READ | PROT_WRITE) < 0 ||
        mprotect(p + page + anchor + page, child + block, PROT_READ | PROT_WRITE) < 0) {
        munmap(p, size);
        return NULL;
    }
    b = (struct launch_block *)(void *)(p + page + anchor + page + child);
    b->map = p;
    b->map_size = size;
    b->anchor.child_stack_top = b;
    b->shared.listener_fd = -1;
    b->child.cwd_fd = -1;
    return b;
}

static void *block_anchor_stack(struct launch_block *b)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (char *)b->map + page + ((ANCHOR_STACK + page - 1) & ~(page - 1));
}

static void block_free(struct launch_block *b)
{
    if (!b)
        return;
    if (b->child.cwd_fd >= 0)
        util_close(b->child.cwd_fd);
    strv_fini(&b->candidates);
    free(b->shell_argv);
    free(b->pids);
    munmap(b->map, b->map_size);
}

static bool launch_has_caps(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct d[2] = {{0}, {0}};

    if (raw_capget(&head, d) < 0)
        return true; /* unknown: try to drop */
    return d[0].permitted | d[1].permitted | d[0].inheritable | d[1].inheritable;
}

/* A fresh process can only have inherited ignored signals, and those the command inherits as well. */
static void setup_signals(struct child_setup *c, bool own_process)
{
    for (int sig = own_process ? SIGCHLD : 1; sig <= (own_process ? SIGCHLD : 64); sig++) {
        struct raw_sigaction act = {0};

        if (raw_sigaction_get(sig, &act) < 0)
            continue;
        if (act.handler == SIG_IGN) {
            if (sig == SIGCHLD)
                c->sigchld_ignored = true;
        } else if (act.handler != SIG_DFL) {
            c->caught[0] |= (uint64_t)1 << (sig - 1);
        }
    }
}

static void setup_identity(struct launch_block *b, const struct launch_spec *spec)
{
    const struct policy *p = spec->plan->policy;
    struct child_setup *c = &b->child;

    c->maps = spec->maps ? spec->maps : &b->maps;
    c->maps_outside = spec->maps != NULL;
    if (!p->has_user || (p->uid == geteuid() && p->gid == getegid()))
        return;
    c->user_namespace = true;
    c->drop_caps = true;
    snprintf(c->maps->uid_map, sizeof(c->maps->uid_map), "%u %u 1", p->uid, geteuid());
    snprintf(c->maps->gid_map, sizeof(c->maps->gid_map), "%u %u 1", p->gid, getegid());
}

static int setup_exec(struct launch_block *b, const struct launch_spec *spec)
{
    struct child_setup *c = &b->child;
    size_t argc = 0;
    int r;

    while (spec->argv[argc])
        argc++;
    b->shell_argv = calloc(argc + 2, sizeof(*b->shell_argv));
    if (!b->shell_argv)
        return -ENOMEM;
    b->shell_argv[0] = (char *)(uintptr_t) "sh";
    for (size_t i = 1; i < argc; i++)
        b->shell_argv[i + 1] = (char *)(uintptr_t)spec->argv[i];
    r = exec_path_candidates(spec->argv[0], spec->envp, &b->candidates);
    if (r < 0)
        return r;
    b->file = spec->argv[0];
    c->candidates = b->candidates.v;
    c->argv = (char *const *)(uintptr_t)spec->argv;
    c->shell_argv = b->shell_argv;
    c->envp = spec->envp;
    return 0;
}

static int setup_child(struct launch_block *b, const struct launch_spec *spec)
{
    const struct plan *plan = spec->plan;
    const struct policy *p = plan->policy;
    struct child_setup *c = &b->child;

    b->policy = p;
    b->root = plan->root;
    c->shared = &b->shared;
    c->tty_fd = -1;
    c->sigmask = spec->sigmask;
    setup_signals(c, spec->own_process);
    c->no_aslr = p->no_randomize_memory;
    c->no_thp = p->no_huge_pages;
    c->no_core = p->no_coredump;
    for (size_t i = 0; i < p->n_cpu_cores; i++) {
        size_t bits = 8 * sizeof(unsigned long);

        if (p->cpu_cores[i] < CPU_WORDS * bits)
            b->cpus[p->cpu_cores[i] / bits] |= 1UL << (p->cpu_cores[i] % bits);
    }
    c->cpus = p->n_cpu_cores ? b->cpus : NULL;
    c->cpus_size = sizeof(b->cpus);
    c->drop_caps = launch_has_caps();
    setup_identity(b, spec);
    c->cwd = p->cwd;
    c->ruleset_fd = plan->behalf ? plan->nested_fd : plan->ruleset_fd;
    c->filter.len = (unsigned short)plan->prog.len;
    c->filter.filter = plan->prog.insns;
    if (plan->notify)
        c->filter_flags =
            SECCOMP_FILTER_FLAG_NEW_LISTENER |
            (plan->kernel->wait_killable ? SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV : 0);
    c->open_files = p->max_open_files;
    return setup_exec(b, spec);
}

/* In a tree of the command's own --cwd is a path inside; without it another root begins at its top. */
static int setup_cwd(struct launch_block *b, const struct plan *plan, struct error *err)
{
    const struct policy *p = plan->policy;
    const char *dir = p->cwd ? p->cwd : "/";

    if (!plan->root || !(p->cwd || p->chroot))
        return 0;
    b->child.cwd_fd = root_open(plan->root, dir, O_DIRECTORY);
    return b->child.cwd_fd >= 0 ? 0
                                : error_set(err, ERROR_POLICY, b->child.cwd_fd, "--cwd", "%s: %s",
                                            dir, error_text(b->child.cwd_fd));
}

/* A descriptor of ours must not sit on 0, 1 or 2: the child would lose it to its own streams. */
static int fd_above_stdio(int fd)
{
    int moved;

    if (fd < 0 || fd > 2)
        return fd;
    moved = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    util_close(fd);
    return moved < 0 ? -errno : moved;
}

static int stdio_pipe(int i, struct launch *l, int *ret_child)
{
    int p[2];

    if (pipe2(p, O_CLOEXEC) < 0)
        return -errno;
    p[0] = fd_above_stdio(p[0]);
    p[1] = fd_above_stdio(p[1]);
    *ret_child = i == 0 ? p[0] : p[1];
    l->stdio_fd[i] = i == 0 ? p[1] : p[0];
    return p[0] < 0 || p[1] < 0 ? -EMFILE : 0;
}

static int setup_stdio(const struct launch_spec *spec, struct launch *l, int child_fd[3])
{
    for (int i = 0; i < 3; i++) {
        int r = 0;

        if (spec->stdio[i] == STDIO_PIPED) {
            r = stdio_pipe(i, l, &child_fd[i]);
        } else if (spec->stdio[i] == STDIO_NULL) {
            child_fd[i] = fd_above_stdio(open("/dev/null", O_RDWR | O_CLOEXEC));
            r = child_fd[i] < 0 ? -errno : 0;
        } else {
            child_fd[i] = spec->closed_stdio & 1u << i ? -2 : -1;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

/* The terminal is handed over at once when the command has it for itself. In a pipeline another
 * member of our job may want it: there the command gets it when it asks (launch_terminal_give). */
static void setup_terminal(const struct launch_spec *spec, struct launch *l)
{
    static const int order[] = {0, 2, 1};
    struct launch_block *b = l->block;
    bool pipeline = false;
    int from = -1;

    for (int i = 0; i < 3; i++) {
        struct stat st;

        if (spec->stdio[i] != STDIO_INHERIT)
            return;
        if (from < 0 && isatty(order[i]))
            from = order[i];
        if (i < 2 && fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
            pipeline = true;
    }
    if (!spec->foreground || from < 0 || tcgetpgrp(from) < 0)
        return;
    l->tty_fd = fcntl(from, F_DUPFD_CLOEXEC, 3);
    if (l->tty_fd < 0 || tcgetpgrp(from) != getpgrp())
        return; /* started in the background: perhaps `fg` later */
    b->have_modes = tcgetattr(l->tty_fd, &b->modes) == 0;
    b->child.tty_fd = pipeline ? -1 : from;
}

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
    r = arch_clone(CLONE_VM | CLONE_FILES, block_anchor_stack(b), anchor_main, &b->anchor, NULL,
                   NULL);
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
    l->channel_fd = fd_above_stdio(pair[0]);
    pair[1] = fd_above_stdio(pair[1]);
    b->anchor.shared = &b->shared;
    b->anchor.child = &b->child;
    b->anchor.channel_fd = pair[1];
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
    if (b->shared.state != LAUNCH_PARKED || l->pid <= 1)
        return launch_failed(l, err);
    return 0;
}

int launch_create(const struct launch_spec *spec, struct launch *ret, struct error *err)
{
    struct launch l = {.channel_fd = -1, .listener_fd = -1, .stdio_fd = {-1, -1, -1}, .tty_fd = -1};
    int child_fd[3] = {-1, -1, -1};
    int r;

    l.block = block_new();
    if (!l.block)
        return error_set(err, ERROR_SETUP, -ENOMEM, "memory", "%s", error_text(ENOMEM));
    r = setup_child(l.block, spec);
    if (r == 0)
        r = setup_stdio(spec, &l, child_fd);
    if (r < 0) {
        error_set(err, ERROR_SETUP, r, "standard streams", "%s", error_text(r));
    } else if ((r = setup_cwd(l.block, spec->plan, err)) == 0) {
        memcpy(l.block->child.stdio, child_fd, sizeof(child_fd));
        setup_terminal(spec, &l);
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

/* tcsetpgrp from a background group raises SIGTTOU unless blocked (tcsetpgrp(3)). */
static void terminal_set_group(int tty_fd, pid_t group)
{
    sigset_t ttou, old;

    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    sigprocmask(SIG_BLOCK, &ttou, &old);
    (void)tcsetpgrp(tty_fd, group);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

bool launch_terminal_take(struct launch *l)
{
    if (l->tty_fd < 0 || tcgetpgrp(l->tty_fd) != l->pid)
        return false;
    terminal_set_group(l->tty_fd, getpgrp());
    return true;
}

bool launch_terminal_give(struct launch *l)
{
    if (l->tty_fd < 0 || tcgetpgrp(l->tty_fd) != getpgrp())
        return false;
    if (!l->block->have_modes)
        l->block->have_modes = tcgetattr(l->tty_fd, &l->block->modes) == 0;
    terminal_set_group(l->tty_fd, l->pid);
    return true;
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
    block_free(l->block);
    l->block = NULL;
}

int launch_exec_self(const struct launch_spec *spec, struct error *err)
{
    struct launch l = {.tty_fd = -1};
    int r;

    l.block = block_new();
    if (!l.block)
        return error_set(err, ERROR_SETUP, -ENOMEM, "memory", "%s", error_text(ENOMEM));
    r = setup_child(l.block, spec);
    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "memory", "%s", error_text(r));
    for (int i = 0; i < 3; i++)
        l.block->child.stdio[i] = -1;
    l.block->child.caught[0] = 0;
    l.block->child.sigchld_ignored = false;
    child_run(&l.block->child);
    r = launch_failed(&l, err);
    block_free(l.block);
    return r;
}
