/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The wall clock by every way to it, and every wait that ends at a moment of it. Static, no file needed.
 *
 *   clocks read                  one "WAY NANOSECONDS" a line: libc, vDSO and raw system calls
 *   clocks wait NAME [MS]        waits until now + MS (300) by the clock; NAME RESULT ELAPSED_MS kept|changed
 *   clocks signal NAME           the same for 20 s, with a signal after 100 ms: NAME ERRNO ELAPSED_MS
 *   clocks errors                calls that fail, one "WHAT ERRNO untouched|written" a line
 *   clocks exec N COMMAND...     executes COMMAND (N: in a child by 0 fork, 1 vfork, 2 posix_spawn, 3 from a
 *                                thread)
 */
#include <errno.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif
#ifndef SYS_futex_wait
#define SYS_futex_wait 455
#endif
#define SECOND 1000000000LL

extern char **environ;

static int64_t as_ns(struct timespec t)
{
    return t.tv_sec * SECOND + t.tv_nsec;
}

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;

    return clock_gettime(id, &t) ? -1 : as_ns(t);
}

static int64_t raw_ns(clockid_t id)
{
    struct timespec t;

    return syscall(SYS_clock_gettime, id, &t) ? -1 : as_ns(t);
}

static void *read_all(void *prefix)
{
    const char *p = prefix;
    struct timeval tv;

    printf("%slibc-realtime %lld\n", p, (long long)clock_ns(CLOCK_REALTIME));
    printf("%slibc-coarse %lld\n", p, (long long)clock_ns(CLOCK_REALTIME_COARSE));
    printf("%slibc-tai %lld\n", p, (long long)clock_ns(CLOCK_TAI));
    printf("%slibc-alarm %lld\n", p, (long long)clock_ns(CLOCK_REALTIME_ALARM));
    printf("%sraw-realtime %lld\n", p, (long long)raw_ns(CLOCK_REALTIME));
    printf("%sraw-coarse %lld\n", p, (long long)raw_ns(CLOCK_REALTIME_COARSE));
    printf("%sraw-tai %lld\n", p, (long long)raw_ns(CLOCK_TAI));
    printf("%sraw-alarm %lld\n", p, (long long)raw_ns(CLOCK_REALTIME_ALARM));
    gettimeofday(&tv, NULL);
    printf("%slibc-gettimeofday %lld\n", p, tv.tv_sec * SECOND + tv.tv_usec * 1000LL);
    syscall(SYS_gettimeofday, &tv, NULL);
    printf("%sraw-gettimeofday %lld\n", p, tv.tv_sec * SECOND + tv.tv_usec * 1000LL);
    printf("%slibc-time %lld\n", p, (long long)time(NULL) * SECOND);
#ifdef SYS_time
    printf("%sraw-time %lld\n", p, (long long)syscall(SYS_time, NULL) * SECOND);
#endif
    printf("%smonotonic %lld\n", p, (long long)clock_ns(CLOCK_MONOTONIC));
    printf("%sboottime %lld\n", p, (long long)raw_ns(CLOCK_BOOTTIME));
    return NULL;
}

/* ---- waits ---- */

static struct timespec deadline(clockid_t id, int64_t ms)
{
    int64_t ns = clock_ns(id) + ms * 1000000;

    return (struct timespec){ns / SECOND, ns % SECOND};
}

static long wait_nanosleep(struct timespec *t)
{
    return syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, t, NULL);
}

static long wait_tai(struct timespec *t)
{
    return syscall(SYS_clock_nanosleep, CLOCK_TAI, TIMER_ABSTIME, t, NULL);
}

static long wait_futex(struct timespec *t)
{
    static uint32_t word;

    return syscall(SYS_futex, &word, FUTEX_WAIT_BITSET_PRIVATE | FUTEX_CLOCK_REALTIME, 0, t, NULL,
                   FUTEX_BITSET_MATCH_ANY);
}

static uint32_t pi_word;

static void *pi_owner(void *arg)
{
    syscall(SYS_futex, &pi_word, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0);
    pause();
    return arg;
}

static long wait_lock_pi(struct timespec *t)
{
    static pthread_t thread;

    if (!thread) {
        pthread_create(&thread, NULL, pi_owner, NULL);
        while (!__atomic_load_n(&pi_word, __ATOMIC_SEQ_CST))
            usleep(1000);
    }
    return syscall(SYS_futex, &pi_word, FUTEX_LOCK_PI_PRIVATE, 0, t, NULL, 0);
}

static long wait_futex2(struct timespec *t)
{
    static uint32_t word;

    return syscall(SYS_futex_wait, &word, 0UL, ~0UL >> 32, 2 | 128, t, CLOCK_REALTIME);
}

static long wait_waitv(struct timespec *t)
{
    static uint32_t word;
    struct {
        uint64_t val, uaddr;
        uint32_t flags, reserved;
    } v = {0, (uint64_t)(uintptr_t)&word, 2 | 128, 0};

    return syscall(SYS_futex_waitv, &v, 1, 0, t, CLOCK_REALTIME);
}

static struct itimerspec timer_value;

static long wait_timer_on(clockid_t id, struct timespec *t)
{
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN};
    struct timespec long_time = {30, 0};
    sigset_t set;
    int timer;

    sigemptyset(&set);
    sigaddset(&set, SIGRTMIN);
    sigprocmask(SIG_BLOCK, &set, NULL);
    /* Two more, so that the right one has to be found. */
    syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &timer);
    syscall(SYS_timer_create, id, &event, &timer);
    timer_value.it_value = *t;
    if (syscall(SYS_timer_settime, timer, TIMER_ABSTIME, &timer_value, NULL))
        return -1;
    if (memcmp(&timer_value.it_value, t, sizeof(*t)) != 0)
        t->tv_sec = 0; /* says "changed" */
    return sigtimedwait(&set, NULL, &long_time) == SIGRTMIN ? 0 : -1;
}

static long wait_timer(struct timespec *t)
{
    return wait_timer_on(CLOCK_REALTIME, t);
}

static long wait_timer_tai(struct timespec *t)
{
    return wait_timer_on(CLOCK_TAI, t);
}

/* Control: MONOTONIC deadlines are nobody's business. */
static long wait_timer_monotonic(struct timespec *t)
{
    *t = deadline(CLOCK_MONOTONIC, 300);
    return wait_timer_on(CLOCK_MONOTONIC, t);
}

static long wait_timerfd(struct timespec *t)
{
    int fd = timerfd_create(CLOCK_REALTIME, 0);
    uint64_t n;

    timer_value.it_value = *t;
    if (timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer_value, NULL))
        return -1;
    if (memcmp(&timer_value.it_value, t, sizeof(*t)) != 0)
        t->tv_sec = 0;
    return read(fd, &n, sizeof(n)) == sizeof(n) ? 0 : -1;
}

static long wait_mq(struct timespec *t)
{
    struct {
        long flags, maxmsg, msgsize, cur, reserved[4];
    } attr = {.maxmsg = 1, .msgsize = 8};
    static char big[65536];
    char name[32];
    long fd;

    snprintf(name, sizeof(name), "sl-clocks-%d", (int)getpid());
    fd = syscall(SYS_mq_open, name, 0100 | 02, 0600, &attr);
    if (fd >= 0)
        syscall(SYS_mq_unlink, name);
    else if (syscall(SYS_mq_getsetattr, 0, NULL, &attr) == 0)
        fd = 0; /* inherited: Landlock opens none inside */
    else
        return -1;
    errno = 0;
    return syscall(SYS_mq_timedreceive, fd, big, sizeof(big), NULL, t);
}

static long wait_cond(struct timespec *t)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;

    pthread_mutex_lock(&mutex);
    errno = pthread_cond_timedwait(&cond, &mutex, t);
    pthread_mutex_unlock(&mutex);
    return errno ? -1 : 0;
}

/* Control: a relative wait. */
static long wait_relative(struct timespec *t)
{
    struct timespec r = {0, 300000000};

    (void)t;
    return nanosleep(&r, NULL);
}

static const struct {
    const char *name;
    long (*fn)(struct timespec *t);
} waits[] = {
    {"nanosleep", wait_nanosleep},
    {"nanosleep-tai", wait_tai},
    {"futex", wait_futex},
    {"lock-pi", wait_lock_pi},
    {"futex2", wait_futex2},
    {"waitv", wait_waitv},
    {"timer", wait_timer},
    {"timer-tai", wait_timer_tai},
    {"timerfd", wait_timerfd},
    {"mq", wait_mq},
    {"cond", wait_cond},
    {"relative", wait_relative},
    {"timer-monotonic", wait_timer_monotonic},
};

static void wait_one(size_t i, int64_t ms)
{
    int tai = strstr(waits[i].name, "tai") != NULL;
    struct timespec t = deadline(tai ? CLOCK_TAI : CLOCK_REALTIME, ms), before = t;
    int64_t start = clock_ns(CLOCK_MONOTONIC);
    long r;

    errno = 0;
    r = waits[i].fn(&t);
    printf("%s %s %lld %s\n", waits[i].name, r < 0 || errno ? strerrorname_np(errno) : "0",
           (long long)((clock_ns(CLOCK_MONOTONIC) - start) / 1000000),
           strstr(waits[i].name, "monotonic") || memcmp(&t, &before, sizeof(t)) == 0 ? "kept"
                                                                                     : "changed");
}

static void on_signal(int sig)
{
    (void)sig;
}

static void wait_signal(size_t i)
{
    struct sigaction act = {.sa_handler = on_signal};
    struct itimerval after = {.it_value.tv_usec = 100000};

    sigaction(SIGALRM, &act, NULL);
    setitimer(ITIMER_REAL, &after, NULL);
    wait_one(i, 20000);
}

/* ---- errors ---- */

static void told(const char *what, long r, const void *buf, size_t n)
{
    const unsigned char *p = buf;
    int written = 0;

    for (size_t i = 0; i < n; i++)
        written |= p[i] != 0x55;
    printf("%s %s %s\n", what, r < 0 ? strerrorname_np(errno) : "0",
           written ? "written" : "untouched");
}

static void errors(void)
{
    struct timespec t;
    void *bad = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    struct timespec invalid = {1, SECOND};
    struct timeval *volatile nothing = NULL;

    memset(&t, 0x55, sizeof(t));
    told("unknown-clock", clock_gettime(99, &t), &t, sizeof(t));
    told("raw-unknown-clock", syscall(SYS_clock_gettime, 99, &t), &t, sizeof(t));
    told("raw-null", syscall(SYS_clock_gettime, CLOCK_REALTIME, NULL), &t, 0);
    told("raw-readonly", syscall(SYS_clock_gettime, CLOCK_REALTIME, bad), &t, 0);
    told("raw-unmapped", syscall(SYS_clock_gettime, CLOCK_TAI, 8), &t, 0);
    told("raw-day-readonly", syscall(SYS_gettimeofday, bad, NULL), &t, 0);
    told("raw-day-null", syscall(SYS_gettimeofday, NULL, NULL), &t, 0);
    told("day-null", gettimeofday(nothing, NULL), &t, 0);
    told("sleep-null", syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, NULL, NULL), &t,
         0);
    told("sleep-invalid",
         syscall(SYS_clock_nanosleep, CLOCK_REALTIME, TIMER_ABSTIME, &invalid, NULL), &t, 0);
    told("settime", syscall(SYS_clock_settime, CLOCK_REALTIME, &invalid), &t, 0);
    told("settimeofday", settimeofday(&(struct timeval){1, 1}, NULL), &t, 0);
    told("adjtimex", syscall(SYS_adjtimex, bad), &t, 0);
    told("clock_adjtime", syscall(SYS_clock_adjtime, CLOCK_REALTIME, bad), &t, 0);
#ifdef SYS_time
    told("raw-time-readonly", syscall(SYS_time, bad), &t, 0);
#endif
}

/* ---- exec ---- */

static void *exec_thread(void *argv)
{
    execv(*(char **)argv, argv);
    _exit(127);
}

static int exec_by(int how, char **argv)
{
    pthread_t t;
    int status;
    pid_t pid = -1;

    if (how == 3) {
        pthread_create(&t, NULL, exec_thread, argv);
        pause();
    }
    if (how == 2) {
        errno = posix_spawn(&pid, argv[0], NULL, NULL, argv, environ);
    } else {
        pid = how == 1 ? vfork() : fork();
        if (pid == 0)
            exec_thread(argv);
    }
    waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

int main(int argc, char **argv)
{
    const char *mode = argc > 1 ? argv[1] : "";
    pthread_t t;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(mode, "read") == 0) {
        read_all((char *)(uintptr_t) "");
        pthread_create(&t, NULL, read_all, (char *)(uintptr_t) "thread-");
        pthread_join(t, NULL);
    } else if (strcmp(mode, "errors") == 0) {
        errors();
    } else if (strcmp(mode, "exec") == 0 && argc > 3) {
        return exec_by(atoi(argv[2]), argv + 3);
    } else {
        for (size_t i = 0; argc > 2 && i < sizeof(waits) / sizeof(waits[0]); i++) {
            if (strcmp(argv[2], waits[i].name) != 0 && strcmp(argv[2], "all") != 0)
                continue;
            if (strcmp(mode, "signal") == 0)
                wait_signal(i);
            else
                wait_one(i, argc > 3 ? atoi(argv[3]) : 300);
        }
    }
    return 0;
}
