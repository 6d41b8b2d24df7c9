/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Makes processes that are hard to end. The last argument may be any word: tests find survivors by
 * it. Every form ends by itself after two minutes, whatever goes wrong with the test.
 *   procs daemons N FILE [WORD]   N daemons (setsid, double fork), all signals ignored, each appends
 *                                 a byte to FILE; the parent prints "ready" and exits 0
 *   procs bomb MAX [WORD]         every process forks as fast as it can; never more than MAX together
 *   procs deep N [WORD]           a chain of N processes in sessions of their own, then waits
 *   procs threads N [WORD]        N threads that spin in system calls
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIFETIME 120

static void ignore_signals(void)
{
    for (int i = 1; i < 32; i++) {
        if (i != SIGALRM && i != SIGCHLD && i != SIGSEGV && i != SIGBUS && i != SIGSYS)
            signal(i, SIG_IGN);
    }
}

static void daemon_body(const char *file)
{
    int fd = open(file, O_WRONLY | O_APPEND | O_CREAT, 0600);

    alarm(LIFETIME);
    ignore_signals();
    if (fd < 0 || write(fd, "x", 1) != 1)
        _exit(3);
    for (;;)
        pause();
}

static int daemons(int n, const char *file)
{
    for (int i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            setsid();
            pid = fork();
            if (pid == 0) {
                setsid();
                daemon_body(file);
            }
            _exit(pid < 0);
        }
        if (pid < 0 || waitpid(pid, NULL, 0) < 0)
            return 1;
    }
    puts("ready");
    return 0;
}

/* The count keeps a failing test from taking the machine with it. */
static int bomb(int max)
{
    pid_t first = getpid();
    atomic_int *count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

    if (count == MAP_FAILED)
        return 1;
    atomic_store(count, 1);
    signal(SIGCHLD, SIG_IGN);
    ignore_signals();
    alarm(LIFETIME);
    for (int rounds = 0;; rounds++) {
        if (atomic_fetch_add(count, 1) >= max) {
            atomic_fetch_sub(count, 1);
            /* Some die, so that there are always new ones. */
            if (getpid() != first && rounds % 64 == 63 && atomic_load(count) > max / 2) {
                atomic_fetch_sub(count, 1);
                _exit(0);
            }
            usleep(1000);
            continue;
        }
        pid_t pid = fork();

        if (pid < 0)
            atomic_fetch_sub(count, 1);
        else if (pid == 0) {
            alarm(LIFETIME);
            if (rounds % 3 == 0)
                setsid();
        }
    }
}

static int deep(int n)
{
    alarm(LIFETIME);
    while (n-- > 0) {
        pid_t pid = fork();

        if (pid < 0)
            return 1;
        if (pid > 0)
            break;
        alarm(LIFETIME);
        setsid();
        ignore_signals();
    }
    if (n < 0)
        puts("ready");
    fflush(stdout);
    for (;;)
        pause();
}

static void *spin(void *arg)
{
    for (;;) {
        if (access("/", F_OK) < 0 && errno == EBADF)
            return arg;
    }
}

static int threads(int n)
{
    pthread_t id;

    alarm(LIFETIME);
    for (int i = 0; i < n; i++) {
        if (pthread_create(&id, NULL, spin, NULL) != 0)
            return 1;
    }
    puts("ready");
    fflush(stdout);
    spin(NULL);
    return 1;
}

int main(int argc, char **argv)
{
    if (argc >= 4 && strcmp(argv[1], "daemons") == 0)
        return daemons(atoi(argv[2]), argv[3]);
    if (argc >= 3 && strcmp(argv[1], "bomb") == 0)
        return bomb(atoi(argv[2]));
    if (argc >= 3 && strcmp(argv[1], "deep") == 0)
        return deep(atoi(argv[2]));
    if (argc >= 3 && strcmp(argv[1], "threads") == 0)
        return threads(atoi(argv[2]));
    return 2;
}
