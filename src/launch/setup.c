/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prepares what child and anchor will read: memory with their stacks, the child's orders, its streams.
 * Runs in the launching thread before anything is cloned.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>

#include "launch/block.h"
#include "launch/exec_path.h"
#include "plan/root.h"
#include "sys/raw_calls.h"

#define ANCHOR_STACK (32 * 1024)
#define CHILD_STACK (64 * 1024)

struct launch_block *launch_block_new(void)
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
    b->child.cwd_fd = b->child.cgroup_fd = -1;
    return b;
}

void *launch_block_anchor_stack(struct launch_block *b)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);

    return (char *)b->map + page + ((ANCHOR_STACK + page - 1) & ~(page - 1));
}

void launch_block_free(struct launch_block *b)
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

static void setup_rlimits(struct child_setup *c, const struct policy *p)
{
    for (size_t i = 0; i < p->n_rlimits; i++)
        c->rlimits[c->nrlimits++] =
            (struct child_rlimit){.resource = p->rlimits[i].resource, .max = p->rlimits[i].max};
    /* Soft: the sampler moves it with what is left, and a process alone has all of it. */
    if (p->memory_enomem)
        c->rlimits[c->nrlimits++] =
            (struct child_rlimit){.resource = RLIMIT_DATA, .soft = true, .max = p->max_memory};
    if (p->max_open_files)
        c->rlimits[c->nrlimits++] =
            (struct child_rlimit){.resource = RLIMIT_NOFILE, .max = p->max_open_files};
}

int launch_setup_child(struct launch_block *b, const struct launch_spec *spec)
{
    const struct plan *plan = spec->plan;
    const struct policy *p = plan->policy;
    struct child_setup *c = &b->child;

    b->policy = p;
    b->root = plan->root;
    c->shared = &b->shared;
    c->tty_fd = -1;
    c->sigmask = spec->sigmask;
    c->cgroup_fd = spec->cgroup_fd;
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
    setup_rlimits(c, p);
    return setup_exec(b, spec);
}

int launch_fd_above_stdio(int fd)
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
    p[0] = launch_fd_above_stdio(p[0]);
    p[1] = launch_fd_above_stdio(p[1]);
    *ret_child = i == 0 ? p[0] : p[1];
    l->stdio_fd[i] = i == 0 ? p[1] : p[0];
    return p[0] < 0 || p[1] < 0 ? -EMFILE : 0;
}

int launch_setup_stdio(const struct launch_spec *spec, struct launch *l, int child_fd[3])
{
    for (int i = 0; i < 3; i++) {
        int r = 0;

        if (spec->stdio[i] == STDIO_PIPED) {
            r = stdio_pipe(i, l, &child_fd[i]);
        } else if (spec->stdio[i] == STDIO_NULL) {
            child_fd[i] = launch_fd_above_stdio(open("/dev/null", O_RDWR | O_CLOEXEC));
            r = child_fd[i] < 0 ? -errno : 0;
        } else {
            child_fd[i] = spec->closed_stdio & 1u << i ? -2 : -1;
        }
        if (r < 0)
            return r;
    }
    return 0;
}

int launch_setup_cwd(struct launch_block *b, const struct plan *plan, struct error *err)
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
