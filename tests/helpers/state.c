/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what a program inherits, one "KEY VALUE..." a line: descriptors, signals, limits, identity,
 * capabilities, address of its own code. Needs no file. Single thread, trusts its caller.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

static void descriptors(void)
{
    struct rlimit limit;
    unsigned long n = 4096;

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur > n && limit.rlim_cur < 1u << 20)
        n = limit.rlim_cur;
    printf("fds");
    for (unsigned long i = 0; i < n; i++) {
        if (fcntl((int)i, F_GETFD) >= 0)
            printf(" %lu", i);
    }
    putchar('\n');
    printf("nofile %llu %llu\n", (unsigned long long)limit.rlim_cur,
           (unsigned long long)limit.rlim_max);
}

static void signals(void)
{
    struct sigaction action;
    sigset_t mask;

    printf("ignored");
    for (int i = 1; i <= 64; i++) {
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler == SIG_IGN)
            printf(" %d", i);
    }
    printf("\ncaught");
    for (int i = 1; i <= 64; i++) {
        if (sigaction(i, NULL, &action) == 0 && action.sa_handler != SIG_IGN &&
            action.sa_handler != SIG_DFL)
            printf(" %d", i);
    }
    printf("\nblocked");
    sigprocmask(SIG_BLOCK, NULL, &mask);
    for (int i = 1; i <= 64; i++) {
        if (sigismember(&mask, i) == 1)
            printf(" %d", i);
    }
    putchar('\n');
}

static void identity(void)
{
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2] = {{0}};
    struct utsname name;
    int bounding = 0;

    syscall(SYS_capget, &header, caps);
    for (int i = 0; i < 64; i++)
        bounding += prctl(PR_CAPBSET_READ, i, 0, 0, 0) == 1;
    printf("caps %x%08x %x%08x %x%08x\n", caps[1].effective, caps[0].effective, caps[1].permitted,
           caps[0].permitted, caps[1].inheritable, caps[0].inheritable);
    printf("bounding %d\n", bounding);
    printf("ids %d %d %d %d\n", (int)getuid(), (int)geteuid(), (int)getgid(), (int)getegid());
    printf("nnp %d\n", prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0));
    printf("seccomp %d\n", prctl(PR_GET_SECCOMP, 0, 0, 0, 0));
    uname(&name);
    printf("uname %s %s %s\n", name.sysname, name.nodename, name.machine);
}

int main(int argc, char **argv)
{
    struct rlimit core = {0};
    cpu_set_t cpus;
    char dir[4096];
    mode_t mask = umask(0);

    umask(mask);
    descriptors();
    signals();
    identity();
    errno = 0;
    printf("nice %d\n", getpriority(PRIO_PROCESS, 0));
    printf("umask %03o\n", (unsigned)mask);
    getrlimit(RLIMIT_CORE, &core);
    printf("core %llu\n", (unsigned long long)core.rlim_max);
    printf("thp-disabled %d\n", prctl(PR_GET_THP_DISABLE, 0, 0, 0, 0));
    printf("personality %x\n", (unsigned)personality(0xffffffff));
    printf("dumpable %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
    if (sched_getaffinity(0, sizeof(cpus), &cpus) == 0) {
        printf("cpus");
        for (int i = 0; i < CPU_SETSIZE; i++) {
            if (CPU_ISSET(i, &cpus))
                printf(" %d", i);
        }
        putchar('\n');
    }
    printf("group-leader %d\n", getpgrp() == getpid());
    printf("cwd %s\n", getcwd(dir, sizeof(dir)) ? dir : "?");
    printf("heap %p\nstack %p\n", malloc(1), (void *)&cpus);
    for (int i = 0; i < argc; i++)
        printf("arg %s\n", argv[i]);
    return 0;
}
