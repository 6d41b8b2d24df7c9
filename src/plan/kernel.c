/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What this kernel can do, by trying (U8). The cheap part makes about a dozen calls and no process;
 * the rest runs in short-lived children of the caller, because it changes the process that tries.
 */
#include "plan/kernel.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "base/util.h"
#include "sys/landlock.h"
#include "sys/raw_calls.h"
#include "sys/seccomp.h"

#define PROC_MAGIC 0x9fa0

/* A call made with impossible arguments: is there a kernel behind it, and are we let through? */
static bool is_there(int probe)
{
    return probe != -ENOSYS && probe != -EPERM;
}

static void probe_seccomp(struct kernel *k)
{
    const unsigned long listener = SECCOMP_FILTER_FLAG_NEW_LISTENER;

    k->seccomp_filter = sys_seccomp_flags_avail(0);
    k->notify =
        sys_seccomp_flags_avail(listener) && sys_seccomp_action_avail(SECCOMP_RET_USER_NOTIF) == 0;
    k->wait_killable =
        k->notify && sys_seccomp_flags_avail(listener | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    /* 5.14 lies before 5.19; only kernels between them need the real attempt of probe_listener. */
    k->addfd_send = k->wait_killable;
}

/* With a descriptor that does not exist: a filter that forbids the calls does so for any. */
static void probe_pidfd(struct kernel *k)
{
    k->pidfd_open = is_there(sys_pidfd_open(-1, 0));
    k->pidfd_getfd = is_there(sys_pidfd_getfd(-1, 0, 0));
}

static void probe_cheap(struct kernel *k)
{
    int abi = sys_landlock_abi();

    k->landlock_abi = abi > 0 ? abi : 0;
    k->landlock_errno = abi > 0 ? 0 : abi < 0 ? -abi : EOPNOTSUPP;
    probe_seccomp(k);
    probe_pidfd(k);
    k->close_range = is_there(sys_probe_close_range());
    k->openat2 = is_there(sys_probe_openat2());
    k->fchmodat2 = is_there(sys_probe_fchmodat2());
    k->setxattrat = is_there(sys_probe_setxattrat());
}

/* Runs fn in a child with default signals; true when it answered 0. */
static bool try_in_child(int (*fn)(void))
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(fn() == 0 ? 0 : 1);
    }
    if (pid < 0)
        return false;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return false;
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static int try_user_namespace(void)
{
    return unshare(CLONE_NEWUSER);
}

static int try_net_namespace(void)
{
    return unshare(CLONE_NEWUSER | CLONE_NEWNET);
}

/* Of a filter that allows everything; -1 where there is none. */
static int try_listener(void)
{
    struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
        return -1;
    return sys_seccomp_filter(&allow, 1, SECCOMP_FILTER_FLAG_NEW_LISTENER);
}

/* ADDFD with SEND for a notification that does not exist: ENOENT where the flag is known. */
static int try_addfd_send(void)
{
    struct seccomp_notif_addfd a = {.id = UINT64_MAX, .flags = SECCOMP_ADDFD_FLAG_SEND, .srcfd = 0};
    int fd = try_listener();

    if (fd < 0)
        return -1;
    return ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &a) < 0 && errno == ENOENT ? 0 : -1;
}

static int try_sync_wake_up(void)
{
    int fd = try_listener();

    if (fd < 0)
        return -1;
    return ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
}

static _Noreturn int trace_child(void *unused)
{
    (void)unused;
    raw_prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;)
        raw_ppoll(NULL, 0, NULL);
}

/* Reads and seizes a child of our own that waits to be killed. It shares our memory: a copy would
 * cost a large caller milliseconds. Its signals are blocked, so that no handler of the caller's runs
 * in it. */
static void probe_tracing(struct kernel *k)
{
    static _Alignas(16) char stack[16 * 1024];
    static const int mark = 1234;
    int seen = 0;
    struct iovec local = {&seen, sizeof(seen)}, remote = {(void *)(uintptr_t)&mark, sizeof(mark)};
    sigset_t all_signals, old;
    pid_t pid;

    sigfillset(&all_signals);
    pthread_sigmask(SIG_SETMASK, &all_signals, &old);
    pid = (pid_t)arch_clone(CLONE_VM, stack + sizeof(stack), trace_child, NULL, NULL, NULL);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (pid < 0)
        return;
    k->process_vm = process_vm_readv(pid, &local, 1, &remote, 1, 0) == sizeof(seen) && seen == mark;
    k->ptrace = ptrace(PTRACE_SEIZE, pid, 0, 0) == 0;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, __WALL) < 0 && errno == EINTR)
        ;
}

/* The real thing, for `sandlock check`: a copy of an own descriptor. */
static void probe_own_pidfd(struct kernel *k)
{
    _cleanup_close_ int fd = sys_pidfd_open(getpid(), 0);
    _cleanup_close_ int copy = fd >= 0 ? sys_pidfd_getfd(fd, fd, 0) : -1;

    k->pidfd_open = fd >= 0;
    k->pidfd_getfd = copy >= 0;
}

static struct kernel cheap, traced, all;

static void fill_cheap(void)
{
    probe_cheap(&cheap);
}

static pthread_once_t cheap_once = PTHREAD_ONCE_INIT;

const struct kernel *kernel_probe(void)
{
    pthread_once(&cheap_once, fill_cheap);
    return &cheap;
}

static void fill_traced(void)
{
    probe_tracing(&traced);
}

static pthread_once_t traced_once = PTHREAD_ONCE_INIT;

bool kernel_can_ptrace(void)
{
    pthread_once(&traced_once, fill_traced);
    return traced.ptrace;
}

bool kernel_can_getfd(void)
{
    struct kernel k = {0};

    probe_own_pidfd(&k);
    return k.pidfd_getfd;
}

static void fill_all(void)
{
    struct statfs fs;

    all = *kernel_probe();
    all.user_namespaces = try_in_child(try_user_namespace);
    all.net_namespaces = all.user_namespaces && try_in_child(try_net_namespace);
    if (all.notify) {
        all.addfd_send = try_in_child(try_addfd_send);
        all.sync_wake_up = try_in_child(try_sync_wake_up);
    }
    all.ptrace = kernel_can_ptrace();
    all.process_vm = traced.process_vm;
    probe_own_pidfd(&all);
    all.proc = statfs("/proc", &fs) == 0 && fs.f_type == PROC_MAGIC;
    /* The file exists exactly when the kernel was built with the 32-bit entry of x86. */
    all.ia32 = access("/proc/sys/abi/vsyscall32", F_OK) == 0;
}

const struct kernel *kernel_probe_all(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;

    pthread_once(&once, fill_all);
    return &all;
}
