/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Learns what the supervisor writes into the sixth argument of its own execveat calls, by filters of the
 * program's own, and executes a path of the host with it. For tests of --chroot: usage TRIGGER PROGRAM
 * ARGUMENTS... Prints the mark as hex, then becomes PROGRAM or prints why not.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SAID 0x400 /* above every errno of the kernel's own */

/* Refuses execveat with a sixth argument, with one of its bytes as the errno. */
static int leak_install(unsigned byte)
{
    unsigned low = offsetof(struct seccomp_data, args[5]), word = low + byte / 4 * 4;
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_execveat, 0, 8),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, low + 4), /* both halves: none is zero, in practice */
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 6, 0),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, word),
        BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, byte % 4 * 8),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, 0xff),
        BPF_STMT(BPF_ALU | BPF_OR | BPF_K, SECCOMP_RET_ERRNO | SAID),
        BPF_STMT(BPF_RET | BPF_A, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW), /* never reached */
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog prog = {sizeof(code) / sizeof(code[0]), code};

    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog);
}

/* The byte, or -1: nothing was learned. */
static int leak_byte(const char *trigger, unsigned byte)
{
    char *argv[] = {(char *)(uintptr_t)trigger, NULL}, *envp[] = {NULL};
    int fd[2], value = -1;
    pid_t pid;

    if (pipe(fd) < 0)
        return -1;
    pid = fork();
    if (pid == 0) {
        if (leak_install(byte) < 0)
            _exit(1);
        execve(trigger, argv, envp);
        value = errno >= SAID ? errno - SAID : -1;
        (void)!write(fd[1], &value, sizeof(value));
        _exit(0);
    }
    close(fd[1]);
    if (read(fd[0], &value, sizeof(value)) != sizeof(value))
        value = -1;
    close(fd[0]);
    waitpid(pid, NULL, 0);
    return value;
}

int main(int argc, char **argv)
{
    uint64_t mark = 0;

    if (argc < 3)
        return 2;
    for (unsigned i = 0; i < 8; i++) {
        int b = leak_byte(argv[1], i);

        if (b < 0) {
            printf("mark: not learned\n");
            return 3;
        }
        mark |= (uint64_t)b << (8 * i);
    }
    printf("mark: learned\n");
    fflush(stdout);
    syscall(SYS_execveat, AT_FDCWD, argv[2], argv + 2, environ, 0, mark);
    printf("exec: %s\n", strerrorname_np(errno));
    return 4;
}
