/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What limits are tested with: `limits WHAT NUMBER`. Uses memory in one of several ways and says "used";
 * creates processes in one of several ways and says how many; uses processor time and says how much.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1024 * 1024UL)

static void say(const char *s)
{
    printf("%s\n", s);
    fflush(stdout);
}

static void fail(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    exit(3);
}

static void *map(size_t n, int flags, int fd)
{
    void *p = mmap(NULL, n, PROT_READ | PROT_WRITE, flags, fd, 0);

    if (p == MAP_FAILED)
        fail("mmap");
    return p;
}

/* In pieces: no single mapping is large. */
static void use_anonymous(unsigned long mib)
{
    for (unsigned long i = 0; i < mib; i += 4)
        memset(map(4 * MIB, MAP_PRIVATE | MAP_ANONYMOUS, -1), 1, 4 * MIB);
}

static void use_memfd(unsigned long mib, int mapped)
{
    static char chunk[MIB];
    int fd = (int)syscall(SYS_memfd_create, "test", 0);

    memset(chunk, 1, sizeof(chunk));
    if (fd < 0 || ftruncate(fd, (off_t)(mib * MIB)) < 0)
        fail("memfd");
    if (mapped)
        memset(map(mib * MIB, MAP_SHARED, fd), 1, mib * MIB);
    for (unsigned long i = 0; i < mib && !mapped; i++) {
        if (write(fd, chunk, sizeof(chunk)) < 0)
            fail("write");
    }
}

static void use_file(unsigned long mib, const char *path)
{
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        fail(path);
    memset(map(mib * MIB, MAP_PRIVATE, fd), 1, mib * MIB);
}

/* In many small files, each closed at once. */
static void use_closed(unsigned long mib, const char *path)
{
    static char chunk[MIB];

    memset(chunk, 1, sizeof(chunk));
    for (unsigned long i = 0; i < mib; i++) {
        int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);

        if (fd < 0 || write(fd, chunk, sizeof(chunk)) < 0)
            fail(path);
        close(fd);
    }
}

/* Eight children dirty what they inherited. */
static void use_forked(unsigned long mib)
{
    size_t each = mib * MIB / 8;
    char *p = map(each, MAP_PRIVATE | MAP_ANONYMOUS, -1);
    int pipe_fd[2], status, killed = 0;
    char c;

    memset(p, 1, each);
    if (pipe(pipe_fd) < 0)
        fail("pipe");
    for (int i = 0; i < 8; i++) {
        pid_t pid = fork();

        if (pid == 0) {
            memset(p, 2, each);
            if (write(pipe_fd[1], "x", 1) == 1)
                sleep(2);
            _exit(0);
        }
    }
    close(pipe_fd[1]);
    while (read(pipe_fd[0], &c, 1) == 1)
        ;
    while (wait(&status) > 0)
        killed += WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
    printf("killed %d\n", killed);
}

static void reserve(unsigned long mib)
{
    char *p = mmap(NULL, mib * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (p == MAP_FAILED || mprotect(p, 8 * MIB, PROT_READ | PROT_WRITE) < 0)
        fail("reserve");
    memset(p, 1, 8 * MIB);
    p = mmap(NULL, mib * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
             -1, 0);
    if (p == MAP_FAILED)
        fail("writable reserve");
    memset(p, 1, MIB);
}

static void *nap(void *arg)
{
    volatile char page[4096];

    page[0] = 1;
    usleep(200000);
    return page[0] ? arg : NULL;
}

/* What a Java virtual machine does at its start: heap, metadata and code are reservations of gigabytes;
 * pieces are committed in place, others by mprotect, and given back; forty threads with stacks. */
static void use_runtime(void)
{
    const int reserved = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    const size_t sizes[] = {16384 * MIB, 1024 * MIB, 240 * MIB};
    pthread_attr_t attr;
    pthread_t t[40];

    for (int i = 0; i < 3; i++) {
        char *p = mmap(NULL, sizes[i], PROT_NONE, reserved, -1, 0);

        if (p == MAP_FAILED)
            fail("reserve");
        if (mmap(p, 2 * MIB, PROT_READ | PROT_WRITE, reserved | MAP_FIXED, -1, 0) != p ||
            mprotect(p + 4 * MIB, MIB, PROT_READ | PROT_WRITE) < 0)
            fail("commit");
        memset(p, 1, MIB);
        memset(p + 4 * MIB, 1, MIB);
        if (mmap(p, 2 * MIB, PROT_NONE, reserved | MAP_FIXED, -1, 0) != p ||
            madvise(p + 4 * MIB, MIB, MADV_DONTNEED) < 0)
            fail("uncommit");
    }
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, MIB);
    for (int i = 0; i < 40; i++) {
        if (pthread_create(&t[i], &attr, nap, NULL) != 0)
            fail("thread");
    }
    for (int i = 0; i < 40; i++)
        pthread_join(t[i], NULL);
}

/* Until it is refused: how much one could have, and whether life goes on. */
static void use_until_refused(unsigned long mib)
{
    unsigned long got = 0;
    char *p;

    while (got < mib && (p = malloc(MIB))) {
        memset(p, 1, MIB);
        got++;
        usleep(1000);
    }
    printf("had %lu\n", got);
}

static int use_memory(const char *what, unsigned long mib, const char *path)
{
    if (strcmp(what, "anonymous") == 0)
        use_anonymous(mib);
    else if (strcmp(what, "memfd-map") == 0)
        use_memfd(mib, 1);
    else if (strcmp(what, "memfd-write") == 0)
        use_memfd(mib, 0);
    else if (strcmp(what, "file") == 0)
        use_file(mib, path);
    else if (strcmp(what, "runtime") == 0)
        use_runtime();
    else if (strcmp(what, "until-refused") == 0)
        use_until_refused(mib);
    else if (strcmp(what, "closed") == 0)
        use_closed(mib, path);
    else if (strcmp(what, "forked") == 0)
        use_forked(mib);
    else if (strcmp(what, "reserve") == 0)
        reserve(mib);
    else if (strcmp(what, "shared") == 0)
        memset(map(mib * MIB, MAP_SHARED | MAP_ANONYMOUS, -1), 1, mib * MIB);
    else
        return 0;
    usleep(400000);
    say("used");
    return 1;
}

/* ---- processes ---- */

static long create(const char *how)
{
#ifdef SYS_fork
    if (strcmp(how, "fork") == 0)
        return syscall(SYS_fork);
#endif
    if (strcmp(how, "clone3") == 0) {
        unsigned long long args[11] = {[4] = SIGCHLD};

        return syscall(SYS_clone3, args, sizeof(args));
    }
    /* A bit of CLONE_THREAD above the flags the kernel reads must not help. */
    return syscall(SYS_clone, (unsigned long)SIGCHLD | 0x1000000000000UL, 0, 0, 0, 0);
}

/* How many of `n` children can be alive at once. `bogus` calls wait for nonsense in between. */
static void crowd(const char *how, unsigned long n, int bogus)
{
    unsigned long made = 0;
    int pipe_fd[2];
    char c;

    if (pipe(pipe_fd) < 0)
        fail("pipe");
    for (unsigned long i = 0; i < n; i++) {
        long pid = create(how);

        if (pid == 0) {
            close(pipe_fd[1]);
            _exit(read(pipe_fd[0], &c, 1) < 0); /* until the parent ends */
        }
        made += pid > 0;
        if (bogus) {
            waitpid(999999, NULL, 0);
            waitpid(-1, NULL, WNOHANG);
            waitid(P_PID, 999998, NULL, WEXITED | WNOHANG);
        }
    }
    printf("alive %lu\n", made);
    close(pipe_fd[1]);
    while (wait(NULL) > 0)
        ;
}

/* One after the other; how they are reaped makes no difference. */
static void sequence(unsigned long n, const char *reap)
{
    unsigned long made = 0;

    if (strcmp(reap, "ignored") == 0)
        signal(SIGCHLD, SIG_IGN);
    for (unsigned long i = 0; i < n; i++) {
        pid_t pid = fork();

        if (pid == 0)
            _exit(0);
        if (pid < 0)
            break;
        made++;
        if (strcmp(reap, "nohang") == 0) {
            while (waitpid(-1, NULL, WNOHANG) == 0)
                ;
        } else {
            while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
    }
    printf("made %lu\n", made);
}

static void *idle(void *arg)
{
    sleep(1);
    return arg;
}

static void threads(unsigned long n)
{
    pthread_t t[256];
    unsigned long made = 0;

    for (; made < n && made < 256; made++) {
        if (pthread_create(&t[made], NULL, idle, NULL) != 0)
            break;
    }
    printf("threads %lu\n", made);
    for (unsigned long i = 0; i < made; i++)
        pthread_join(t[i], NULL);
}

/* ---- processor ---- */

static double seconds(clockid_t id)
{
    struct timespec t;

    clock_gettime(id, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static double burn_until;

static void *burn(void *arg)
{
    while (seconds(CLOCK_MONOTONIC) < burn_until)
        ;
    return arg;
}

static void burn_all(unsigned long n, double duration)
{
    pthread_t t[64];

    double begin = seconds(CLOCK_MONOTONIC);

    burn_until = begin + duration;
    for (unsigned long i = 1; i < n && i < 64; i++)
        pthread_create(&t[i], NULL, burn, NULL);
    burn(NULL);
    for (unsigned long i = 1; i < n && i < 64; i++)
        pthread_join(t[i], NULL);
    printf("cpu %.3f wall %.3f\n", seconds(CLOCK_PROCESS_CPUTIME_ID),
           seconds(CLOCK_MONOTONIC) - begin);
}

static volatile sig_atomic_t continued;

static void on_signal(int sig)
{
    (void)sig;
    continued++;
}

/* A parent that looks for stopped children while one burns: it must not see any. */
static void watch_stops(double duration)
{
    struct sigaction act = {.sa_handler = on_signal};
    int status, stops = 0;
    pid_t pid;

    pid = fork();
    if (pid == 0) {
        sigaction(SIGCONT, &act, NULL);
        burn_until = seconds(CLOCK_MONOTONIC) + duration;
        burn(NULL);
        _exit(continued != 0);
    }
    sigaction(SIGCHLD, &act, NULL);
    for (;;) {
        pid_t p = waitpid(pid, &status, WUNTRACED | WCONTINUED);

        if (p < 0 && errno == EINTR)
            continue;
        if (p < 0 || WIFEXITED(status) || WIFSIGNALED(status))
            break;
        stops++;
    }
    printf("stops %d continued %d signals %d\n", stops, WEXITSTATUS(status), (int)continued);
}

/* Who stopped itself stays stopped; says whether its clock moved meanwhile. */
static void paused(void)
{
    double before, after;
    int status;
    pid_t pid = fork();
    clockid_t id;
    struct timespec t;

    if (pid == 0) {
        burn_until = 1e18;
        burn(NULL);
        _exit(0);
    }
    usleep(300000);
    kill(pid, SIGSTOP);
    waitpid(pid, &status, WUNTRACED);
    clock_getcpuclockid(pid, &id);
    clock_gettime(id, &t);
    before = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    burn_until = seconds(CLOCK_MONOTONIC) + 1;
    burn(NULL);
    clock_gettime(id, &t);
    after = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    kill(pid, SIGKILL);
    waitpid(pid, &status, 0);
    printf("moved %s\n", after - before > 0.005 ? "yes" : "no");
}

static int use_processor(const char *what, const char *a, const char *b)
{
    if (strcmp(what, "burn") == 0 || strcmp(what, "burn-setsid") == 0) {
        if (strcmp(what, "burn-setsid") == 0) {
            pid_t pid = fork();

            if (pid > 0)
                return waitpid(pid, NULL, 0) > 0;
            setsid();
        }
        burn_all(strtoul(a, NULL, 10), b ? atof(b) : 1);
    } else if (strcmp(what, "watch") == 0) {
        watch_stops(atof(a));
    } else if (strcmp(what, "paused") == 0) {
        paused();
    } else {
        return 0;
    }
    return 1;
}

static void show(void)
{
    cpu_set_t set;
    struct sysinfo s;
    unsigned cpu = 0;

    if (sched_getaffinity(0, sizeof(set), &set) < 0 || sysinfo(&s) < 0)
        fail("show");
    syscall(SYS_getcpu, &cpu, NULL, NULL);
    printf("cpus %d first %d getcpu %u ram %lu swap %lu\n", CPU_COUNT(&set),
           CPU_ISSET(0, &set) != 0, cpu, s.totalram * s.mem_unit, s.totalswap);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;
    const char *more = argc > 3 ? argv[3] : NULL;

    setvbuf(stdout, NULL, _IOLBF, 0);
    if (strcmp(what, "show") == 0)
        show();
    else if (strcmp(what, "crowd") == 0)
        crowd(more ? more : "clone", n, argc > 4);
    else if (strcmp(what, "sequence") == 0)
        sequence(n, more ? more : "wait");
    else if (strcmp(what, "threads") == 0)
        threads(n);
    else if (!use_memory(what, n, more) && !use_processor(what, argc > 2 ? argv[2] : "1", more))
        return 2;
    return 0;
}
