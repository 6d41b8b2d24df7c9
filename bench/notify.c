/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least a notifying supervisor can do, as the yardstick of sandlock's own: every uname and socket
 * (or, with -o, every openat; with -s or -b, every stat) of the command is notified to one thread, which
 * only answers. With -o it opens the path on behalf and injects the descriptor, with -b it asks for the
 * attributes and writes them. It checks nothing: not a sandbox. Trusted input.
 *
 *   notify [-o|-s|-b] COMMAND...
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "arch/arch.h"
#include "sys/seccomp.h"

#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64) /* 6.6 */
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0) /* 6.6 */
#endif

#define STACK (64 * 1024)

static volatile int listener = -1;
static int behalf; /* the option, or 0 */
static char **command;
static _Alignas(16) char stack[STACK];

static int fail(const char *what)
{
    fprintf(stderr, "notify: %s: %s\n", what, strerror(errno));
    return 125;
}

/* Shares memory and descriptors with the supervisor until exec. */
static int child(void *arg)
{
    const struct arch *a = arch_native();
    uint32_t nr = arch_call_by_id(a, behalf == 'o' ? CALL_openat
                                     : behalf      ? CALL_newfstatat
                                                   : CALL_uname)
                      ->nr;
    uint32_t nr2 = behalf ? nr : arch_call_by_id(a, CALL_socket)->nr;
    /* The loader asks for the attributes of its descriptors with the same call: flags tell. */
    uint32_t last = behalf == 's' || behalf == 'b' ? offsetof(struct seccomp_data, args[3])
                                                   : offsetof(struct seccomp_data, arch);
    uint32_t same = last == offsetof(struct seccomp_data, arch) ? a->audit_arch : 0;
    const struct sock_filter prog[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr2, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, last),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, same, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    int fd;

    (void)arg;
    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    fd = sys_seccomp_filter(prog, sizeof(prog) / sizeof(prog[0]),
                            SECCOMP_FILTER_FLAG_NEW_LISTENER |
                                SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV);
    if (fd < 0)
        _exit(fail("seccomp"));
    listener = fd; /* a shared table: the same number in the supervisor */
    while (listener >= 0)
        sched_yield();
    execv(command[0], command);
    _exit(fail(command[0]));
}

static void answer(int fd, const struct seccomp_notif *n)
{
    struct seccomp_notif_resp resp = {.id = n->id};

    if (n->data.nr == arch_call_by_id(arch_native(), CALL_socket)->nr)
        resp.error = -EPROTONOSUPPORT;
    (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/* The path argument, when the notification is alive after it was read. */
static const char *read_path(int fd, const struct seccomp_notif *n)
{
    static char path[4096]; /* one thread */
    struct iovec to = {path, sizeof(path)}, from = {(void *)(uintptr_t)n->data.args[1], 256};

    /* Up to the end of the page: the string may be the last thing on it. */
    from.iov_len = 4096 - (n->data.args[1] & 4095);
    if (process_vm_readv((pid_t)n->pid, &to, 1, &from, 1, 0) < 0 ||
        ioctl(fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &n->id) < 0)
        return NULL;
    return path;
}

/* Read the path, validate, ask, write, answer: five calls. */
static void stat_on_behalf(int fd, const struct seccomp_notif *n)
{
    struct seccomp_notif_resp resp = {.id = n->id, .error = -EFAULT};
    const char *path = read_path(fd, n);
    struct stat st;
    struct iovec from = {&st, sizeof(st)}, to = {(void *)(uintptr_t)n->data.args[2], sizeof(st)};

    if (path && stat(path, &st) < 0)
        resp.error = -errno;
    else if (path && process_vm_writev((pid_t)n->pid, &from, 1, &to, 1, 0) == sizeof(st))
        resp.error = 0;
    (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

/* Read the path, validate, open, inject with the answer, close: five calls. */
static void open_on_behalf(int fd, const struct seccomp_notif *n)
{
    const char *path = read_path(fd, n);
    struct seccomp_notif_addfd add = {.id = n->id,
                                      .flags = SECCOMP_ADDFD_FLAG_SEND,
                                      .newfd_flags = (uint32_t)n->data.args[2] & O_CLOEXEC};
    struct seccomp_notif_resp resp = {.id = n->id};

    if (!path) {
        resp.error = -EFAULT;
    } else {
        int opened = open(path, (int)n->data.args[2] | O_CLOEXEC, (mode_t)n->data.args[3]);

        resp.error = opened < 0 ? -errno : 0;
        add.srcfd = (uint32_t)opened;
        if (opened >= 0 && ioctl(fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0) {
            close(opened);
            return;
        }
        if (opened >= 0)
            close(opened);
    }
    (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SEND, &resp);
}

static void *serve(void *arg)
{
    int fd = *(int *)arg;
    struct seccomp_notif n;

    for (;;) {
        memset(&n, 0, sizeof(n));
        if (ioctl(fd, SECCOMP_IOCTL_NOTIF_RECV, &n) < 0) {
            if (errno == EINTR)
                continue;
            return NULL;
        }
        if (behalf == 'o')
            open_on_behalf(fd, &n);
        else if (behalf == 'b')
            stat_on_behalf(fd, &n);
        else
            answer(fd, &n);
    }
}

int main(int argc, char **argv)
{
    pthread_t t;
    int status = 0;
    int fd;
    long pid;

    behalf = argc > 1 && argv[1][0] == '-' ? argv[1][1] : 0;
    command = argv + 1 + (behalf != 0);
    if (argc < 2 || !*command) {
        fprintf(stderr, "usage: notify [-o|-s|-b] COMMAND...\n");
        return 2;
    }
    pid = arch_clone(CLONE_VM | CLONE_FILES | SIGCHLD, stack + STACK, child, NULL, NULL, NULL);
    if (pid < 0)
        return fail("clone");
    while (listener < 0) {
        if (waitpid((pid_t)pid, &status, WNOHANG) == pid)
            return 125;
        sched_yield();
    }
    fd = fcntl(listener, F_DUPFD_CLOEXEC, 3);
    close(listener);
    (void)ioctl(fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP);
    if (pthread_create(&t, NULL, serve, &fd) != 0)
        return fail("thread");
    listener = -1;
    while (waitpid((pid_t)pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
