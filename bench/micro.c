/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cost of single system calls, measured from inside: the runner starts this program bare, under the
 * same Landlock rules alone and under sandlock, and compares. Trusted input, one thread.
 *
 *   micro DIR [NAME]...   DIR holds `file` and `link`; results on stderr: NAME NANOSECONDS
 *
 * Standard input and output may be the two ends of a TCP connection: nothing else is inherited by a
 * sandboxed command, and the default policy does not let it make one.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <pthread.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Chunks shorter than a time slice, and not the median of them: on a busy machine many chunks hold
 * somebody else's work. */
#define CHUNKS 41
#define CHUNK_NS 300000u
#define CHUNK_TOLD (CHUNKS / 10)

extern char **environ;

static char file[4096], link_name[4096], nothing[4096], missing[4096];
static int file_fd, pair_fd[2];
static char *page;

static void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "micro: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

static void do_stat(void)
{
    struct stat st;

    check(stat(file, &st) == 0, "stat");
}

static void do_stat_missing(void)
{
    struct stat st;

    check(stat(missing, &st) < 0 && errno == ENOENT, "stat of nothing");
}

static void do_access(void)
{
    check(access(file, R_OK) == 0, "access");
}

static void do_readlink(void)
{
    char buf[256];

    check(readlink(link_name, buf, sizeof(buf)) > 0, "readlink");
}

static void do_read(void)
{
    char buf[64];

    check(pread(file_fd, buf, sizeof(buf), 0) > 0, "read");
}

static void do_dup(void)
{
    int fd = dup(file_fd);

    check(fd >= 0 && close(fd) == 0, "dup");
}

static void do_pipe(void)
{
    int p[2];

    check(pipe(p) == 0, "pipe");
    close(p[0]);
    close(p[1]);
}

static void do_mmap(void)
{
    void *p = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    check(p != MAP_FAILED && munmap(p, 16384) == 0, "mmap");
}

static void do_brk(void)
{
    check(sbrk(65536) != (void *)-1 && sbrk(-65536) != (void *)-1, "brk");
}

static void do_mprotect(void)
{
    check(mprotect(page, 4096, PROT_READ) == 0 && mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0,
          "mprotect");
}

static void do_fork(void)
{
    pid_t pid = fork();

    if (pid == 0)
        _exit(0);
    check(pid > 0 && waitpid(pid, NULL, 0) == pid, "fork");
}

static void *thread(void *arg)
{
    return arg;
}

static void do_thread(void)
{
    pthread_t t;

    errno = pthread_create(&t, NULL, thread, NULL);
    check(errno == 0, "thread");
    pthread_join(t, NULL);
}

static void do_exec(void)
{
    char *argv[] = {(char *)(uintptr_t) "/bin/true", NULL};
    pid_t pid;
    int status;

    errno = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    check(errno == 0 && waitpid(pid, &status, 0) == pid && status == 0, "exec");
}

static void exchange(int a, int b, const char *what)
{
    char c[64] = "x";

    check(send(a, c, sizeof(c), 0) == sizeof(c) && read(b, c, sizeof(c)) > 0, what);
}

static void exchange_msg(int a, int b, const char *what)
{
    char c[64] = "x";
    struct iovec v = {c, sizeof(c)};
    struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1};

    check(sendmsg(a, &m, 0) == sizeof(c) && read(b, c, sizeof(c)) > 0, what);
}

static void do_unix_send(void)
{
    exchange(pair_fd[0], pair_fd[1], "send");
}

static void do_unix_sendmsg(void)
{
    exchange_msg(pair_fd[0], pair_fd[1], "sendmsg");
}

static void do_tcp_send(void)
{
    exchange(0, 1, "tcp send");
}

static void do_tcp_sendmsg(void)
{
    exchange_msg(0, 1, "tcp sendmsg");
}

static void do_open(void)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);

    check(fd >= 0 && close(fd) == 0, "open");
}

static void do_getppid(void)
{
    getppid();
}

/* Mediated under --name, answered by the floor program otherwise: not part of the default run. */
static void do_clock(void)
{
    struct timespec t;

    check(clock_gettime(CLOCK_REALTIME, &t) == 0, "clock_gettime");
}

static void do_day(void)
{
    struct timeval t;

    check(gettimeofday(&t, NULL) == 0, "gettimeofday");
}

static void do_raw_clock(void)
{
    struct timespec t;

    check(syscall(SYS_clock_gettime, CLOCK_REALTIME, &t) == 0, "clock_gettime");
}

static void do_getrandom(void)
{
    char b[16];

    check(syscall(SYS_getrandom, b, sizeof(b), 0) == sizeof(b), "getrandom");
}

static void do_until(void)
{
    struct timespec t = {1, 0}; /* long past */

    errno = clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, NULL);
    check(errno == 0, "clock_nanosleep");
}

static void do_exec_static(void)
{
    char *argv[] = {nothing, NULL};
    pid_t pid;
    int status;

    errno = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    check(errno == 0 && waitpid(pid, &status, 0) == pid && status == 0, nothing);
}

static void do_uname(void)
{
    struct utsname u;

    check(uname(&u) == 0, "uname");
}

/* Refused without a look at memory: a mediated call that is only answered. */
static void do_netlink(void)
{
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);

    if (fd >= 0)
        close(fd);
}

static const struct test {
    const char *name;
    void (*run)(void);
    int optional; /* only when named */
} tests[] = {
    {"getppid", do_getppid, 0},
    {"stat", do_stat, 0},
    {"access", do_access, 0},
    {"readlink", do_readlink, 0},
    {"read", do_read, 0},
    {"dup+close", do_dup, 0},
    {"pipe", do_pipe, 0},
    {"mmap+munmap", do_mmap, 0},
    {"brk", do_brk, 0},
    {"mprotect", do_mprotect, 0},
    {"fork+wait", do_fork, 0},
    {"thread create+join", do_thread, 0},
    {"spawn+exec", do_exec, 0},
    {"unix send", do_unix_send, 0},
    {"unix sendmsg", do_unix_sendmsg, 0},
    {"tcp send", do_tcp_send, 0},
    {"tcp sendmsg", do_tcp_sendmsg, 0},
    {"open+close", do_open, 0},
    {"stat, missing", do_stat_missing, 1},
    {"clock_gettime", do_clock, 1},
    {"gettimeofday", do_day, 1},
    {"clock_gettime, system call", do_raw_clock, 1},
    {"wait for a moment that has passed", do_until, 1},
    {"getrandom", do_getrandom, 1},
    {"spawn+exec, static", do_exec_static, 1},
    {"uname", do_uname, 1},
    {"netlink socket", do_netlink, 1},
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t timed(void (*run)(void), unsigned n)
{
    uint64_t start = now();

    for (unsigned i = 0; i < n; i++)
        run();
    return now() - start;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void measure(const struct test *t)
{
    double each[CHUNKS];
    unsigned n = 1;
    uint64_t ns;

    while ((ns = timed(t->run, n)) < CHUNK_NS / 4 && n < 1u << 20)
        n *= 2;
    n = (unsigned)((double)n * CHUNK_NS / (double)(ns ? ns : 1)) + 1;
    for (int i = 0; i < CHUNKS; i++)
        each[i] = (double)timed(t->run, n) / n;
    qsort(each, CHUNKS, sizeof(each[0]), by_value);
    fprintf(stderr, "%s\t%.1f\n", t->name, each[CHUNK_TOLD]);
}

static int is_wanted(const struct test *t, int argc, char **argv)
{
    int type;
    socklen_t len = sizeof(type);

    if (strncmp(t->name, "tcp", 3) == 0 && getsockopt(0, SOL_SOCKET, SO_TYPE, &type, &len) < 0)
        return 0;
    if (argc < 3)
        return !t->optional;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], t->name) == 0)
            return 1;
    }
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: micro DIR [NAME]...\n");
        return 2;
    }
    snprintf(file, sizeof(file), "%s/file", argv[1]);
    snprintf(link_name, sizeof(link_name), "%s/link", argv[1]);
    snprintf(nothing, sizeof(nothing), "%s/nothing", argv[1]);
    snprintf(missing, sizeof(missing), "%s/missing", argv[1]);
    file_fd = open(file, O_RDONLY | O_CLOEXEC);
    check(file_fd >= 0, file);
    check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair_fd) == 0, "socketpair");
    page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    check(page != MAP_FAILED, "mmap");
    *page = 1;
    for (size_t i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
        if (is_wanted(&tests[i], argc, argv))
            measure(&tests[i]);
    }
    return 0;
}
