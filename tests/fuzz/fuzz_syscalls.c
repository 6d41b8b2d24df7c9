/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random system calls with random arguments from several threads, to be run INSIDE a sandbox: the
 * supervisor must neither crash nor hang nor grow. Workers are child processes that are replaced when
 * they die of what they do. Never run it outside: refuses unless a seccomp filter is there.
 *   fuzz_syscalls SECONDS SEED DIR      plays with files of DIR only; prints calls and restarts
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WORKERS 3
#define THREADS 4
#define NUMBERS 640
#define POOL 24

static struct shared {
    atomic_ulong calls, restarts;
    atomic_ulong answered; /* calls that did not fail */
} * shared;
static char pool[POOL][512];
static unsigned char *arena; /* readable, writable, then a hole */
static size_t page;
static double end;
static unsigned char skipped[NUMBERS];

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static uint64_t next(uint64_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 7;
    *seed ^= *seed << 17;
    return *seed;
}

static void fill_pool(const char *dir)
{
    static const char *const names[] = {"",          "/f",        "/denied",  "/denied/x", "/link",
                                        "/dir",      "/dir/../f", "/dir/./.", "/loop",     "/fifo",
                                        "/new",      "/dir/new",  "//f",      "/missing/", "/sock",
                                        "/deep/a/b", "/denied/.."};
    static const char *const fixed[] = {
        "/",         "",     "/proc/self/fd/3", "/proc/self/root", "/proc/self/cwd/f",
        "/dev/null", "/etc", "user.fuzz"};
    int n = 0;

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]) && n < POOL; i++)
        snprintf(pool[n++], sizeof(pool[0]), "%.400s%s", dir, names[i]);
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]) && n < POOL; i++)
        snprintf(pool[n++], sizeof(pool[0]), "%s", fixed[i]);
    if (chdir(dir) < 0)
        exit(3);
    mkdir("dir", 0700);
    mkfifo("fifo", 0600);
    close(open("f", O_CREAT | O_RDWR, 0600));
    if (symlink("f", "link") < 0 || symlink("loop", "loop") < 0)
        errno = 0;
}

/* Ends of our own process or of its output, waits without end, and output in itself. */
static void fill_skipped(void)
{
    static const long numbers[] = {
        SYS_exit, SYS_exit_group, SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigsuspend, SYS_wait4,
        SYS_waitid, SYS_setpgid, SYS_setsid, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo,
        SYS_pidfd_send_signal, SYS_reboot, SYS_sync, SYS_syncfs, SYS_rt_sigreturn, SYS_nanosleep,
        SYS_clock_nanosleep, SYS_futex, SYS_prlimit64, SYS_setrlimit, SYS_sched_setaffinity,
        SYS_setpriority, SYS_sched_setscheduler, SYS_fallocate, SYS_ftruncate, SYS_truncate,
        SYS_write, SYS_pwrite64, SYS_writev, SYS_pwritev, SYS_pwritev2, SYS_mlockall, SYS_brk,
        /* 128 a user, which other tests share; each worker has one. */
        SYS_inotify_init1, SYS_clone};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
        if (numbers[i] >= 0 && numbers[i] < NUMBERS)
            skipped[numbers[i]] = 1;
}

static uint64_t pointer(uint64_t *seed)
{
    uint64_t r = next(seed);

    switch (r % 12) {
    case 0: return 0;
    case 1: return (uint64_t)(uintptr_t)(arena + 4 * page);               /* the hole */
    case 2: return (uint64_t)(uintptr_t)(arena + 4 * page - r / 16 % 64); /* runs into it */
    case 3: return UINT64_C(0xffff800000000000) + r / 16 % 4096;
    case 4: return r;
    case 5: return (uint64_t)(uintptr_t)arena | (r & UINT64_C(0xff00000000000000));
    case 6: return (uint64_t)(uintptr_t)(arena + r / 16 % (4 * page));
    case 7: return (uint64_t)(uintptr_t)(arena + r / 16 % (4 * page)) & ~UINT64_C(7);
    default: return (uint64_t)(uintptr_t)pool[r / 16 % POOL];
    }
}

static uint64_t argument(uint64_t *seed)
{
    static const uint64_t words[] = {
        0,     1,       2,        3,      4,          5,          7,     8,       16,
        24,    64,      88,       256,    4096,       0x100,      0x200, 0x400,   0x1000,
        0x800, 0x80000, 0x410000, 0x8000, 0x10000000, 0x7fffffff, 65536, 1u << 31};
    uint64_t r = next(seed);

    switch (r % 8) {
    case 0: return words[r / 8 % (sizeof(words) / sizeof(words[0]))];
    case 1: return (uint64_t)(int64_t)-100; /* AT_FDCWD */
    case 2: return 3 + r / 8 % 12;          /* descriptors */
    case 3: return r / 8 % 16 ? r / 8 % 64 : (uint64_t)-1;
    case 4: return r;
    default: return pointer(seed);
    }
}

static void refill(uint64_t *seed)
{
    for (int i = 0; i < 32; i++) {
        uint64_t v = argument(seed);

        memcpy(arena + (next(seed) % (4 * page - 8) & ~UINT64_C(7)), &v, sizeof(v));
    }
}

/* Calls that some feature of a policy takes, with what fits: d directory, p path, o open flags, m mode,
 * b buffer, v descriptor, n number, 0 nothing. */
static const struct liked {
    long nr;
    const char *shape;
} liked[] = {{SYS_openat, "dpom"},
             {SYS_openat, "dpom"},
             {SYS_openat2, "dpbn"},
             {SYS_newfstatat, "dpbn"},
             {SYS_statx, "dpnnb"},
             {SYS_faccessat, "dpn"},
             {SYS_faccessat2, "dpnn"},
             {SYS_readlinkat, "dpbn"},
             {SYS_unlinkat, "dpn"},
             {SYS_mkdirat, "dpm"},
             {SYS_mknodat, "dpm0"},
             {SYS_symlinkat, "pdp"},
             {SYS_linkat, "dpdpn"},
             {SYS_renameat2, "dpdpn"},
             {SYS_fchmodat, "dpm"},
             {SYS_fchmod, "vm"},
             {SYS_fchownat, "dpnnn"},
             {SYS_fchown, "vnn"},
             {SYS_utimensat, "dpbn"},
             {SYS_utimensat, "v0b0"},
             {SYS_setxattr, "ppbn0"},
             {SYS_fsetxattr, "vpbn0"},
             {SYS_removexattr, "pp"},
             {SYS_getxattr, "ppbn"},
             {SYS_listxattr, "pbn"},
             {SYS_statfs, "pb"},
             {SYS_chdir, "p"},

             {SYS_inotify_add_watch, "vpn"},
             {SYS_execve, "pb0"},
             {SYS_execveat, "dpb0n"},
             {SYS_socket, "nn0"},
             {SYS_socketpair, "nn0b"},
             {SYS_connect, "vbn"},
             {SYS_bind, "vbn"},
             {SYS_listen, "vn"},
             {SYS_sendmsg, "vbn"},
             {SYS_sendto, "vbnnbn"},
             {SYS_getsockname, "vbb"},
             {SYS_ioctl, "vnb"},
             {SYS_dup3, "vvo"},
             {SYS_close, "v"},
             {SYS_uname, "b"},
             {SYS_getdents64, "vbn"},
             {SYS_fcntl, "vnn"},
             {SYS_pipe2, "b0"},
             {SYS_read, "vbn"},
             {SYS_fchdir, "v"},
             {SYS_name_to_handle_at, "dpbbn"}};

static uint64_t shaped(char kind, uint64_t *seed)
{
    static const uint64_t flags[] = {
        O_RDONLY,          O_WRONLY,           O_RDWR,           O_PATH,
        O_CREAT | O_RDWR,  O_DIRECTORY,        O_CREAT | O_EXCL, O_NOFOLLOW,
        O_RDWR | O_APPEND, O_TMPFILE | O_RDWR, O_NONBLOCK,       O_CLOEXEC,
        O_TRUNC | O_RDWR,  O_RDONLY | O_DIRECT};
    uint64_t r = next(seed);

    switch (kind) {
    case 'd': return r % 3 ? (uint64_t)(int64_t)AT_FDCWD : 3 + r / 4 % 12;
    case 'p': return (uint64_t)(uintptr_t)pool[r % POOL];
    case 'o': return flags[r % (sizeof(flags) / sizeof(flags[0]))];
    case 'm': return (r % 4 ? 0 : S_IFIFO) | (r / 4 & 07777);
    case 'b': return (uint64_t)(uintptr_t)(arena + r % (2 * page));
    case 'v': return 3 + r % 12;
    case 'n': return r % 8 ? r / 8 % 32 : 1u << (r / 8 % 20);
    default: return 0;
    }
}

/* Two in three are liked, most of them well formed. False: not this one. */
static int choose(uint64_t *seed, long *ret_nr, uint64_t a[6])
{
    uint64_t r = next(seed);
    const char *shape = "";

    if (r % 3) {
        const struct liked *l = &liked[r / 4 % (sizeof(liked) / sizeof(liked[0]))];

        *ret_nr = l->nr;
        shape = l->shape;
    } else {
        *ret_nr = (long)(r / 4 % NUMBERS);
        if (skipped[*ret_nr])
            return 0;
    }
    for (size_t i = 0; i < 6; i++)
        a[i] = i < strlen(shape) && next(seed) % 8 ? shaped(shape[i], seed) : argument(seed);
    /* Otherwise soon nothing is left to play with. */
    return !(*ret_nr == SYS_close && a[0] < 3) && !(*ret_nr == SYS_dup3 && a[1] < 3);
}

static void on_tick(int sig)
{
    (void)sig;
}

/* Interrupts whatever this thread waits in, also mediated calls. */
static void start_ticks(void)
{
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGUSR1};
    struct itimerspec every = {{0, 20000000}, {0, 20000000}};
    timer_t timer;

    event._sigev_un._tid = (int)syscall(SYS_gettid);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) == 0)
        timer_settime(timer, 0, &every, NULL);
}

static void *thread(void *arg)
{
    uint64_t seed = (uint64_t)(uintptr_t)arg * UINT64_C(0x9e3779b97f4a7c15) + 1;
    unsigned n = 0, left = 8;
    pid_t self = getpid();

    start_ticks();
    while (now() < end) {
        long nr, r;
        uint64_t a[6];

        if (n++ % 16 == 0)
            refill(&seed);
        if (!choose(&seed, &nr, a))
            continue;
        atomic_fetch_add(&shared->calls, 1);
        r = syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]);
        if (r != -1)
            atomic_fetch_add(&shared->answered, 1);
        /* A child of a random fork lives for some calls. */
        if (r == 0 && getpid() != self && left-- == 0)
            _exit(0);
    }
    return NULL;
}

static void worker(uint64_t seed)
{
    struct rlimit files = {64, 64}, memory = {1u << 30, 1u << 30}, size = {1u << 20, 1u << 20};
    struct rlimit none = {0, 0};
    struct sigaction tick = {.sa_handler = on_tick};
    pthread_t id;

    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setrlimit(RLIMIT_NOFILE, &files);
    setrlimit(RLIMIT_AS, &memory);
    setrlimit(RLIMIT_FSIZE, &size);
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    syscall(SYS_inotify_init1, 0);
    sigaction(SIGUSR1, &tick, NULL);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&id, NULL, thread, (void *)(uintptr_t)(seed + (uint64_t)i));
    while (now() < end)
        usleep(50000);
    _exit(0);
}

/* Keeps the workers coming; each lives a second, for it loses its descriptors and memory. */
static void supervise(uint64_t seed)
{
    static pid_t pids[WORKERS];
    static double born[WORKERS];
    pid_t gone;

    for (int i = 0; i < WORKERS; i++) {
        if (pids[i] > 0 && now() - born[i] > 1)
            kill(pids[i], SIGKILL);
        if (pids[i] > 0)
            continue;
        pids[i] = fork();
        born[i] = now();
        if (pids[i] == 0)
            worker(seed * 1000003 + atomic_fetch_add(&shared->restarts, 1) * THREADS);
    }
    usleep(2000);
    while ((gone = waitpid(-1, NULL, WNOHANG)) > 0) {
        for (int i = 0; i < WORKERS; i++)
            pids[i] = pids[i] == gone ? 0 : pids[i];
    }
}

int main(int argc, char **argv)
{
    uint64_t seed = argc == 4 ? strtoull(argv[2], NULL, 10) : 0;

    if (argc != 4 || prctl(PR_GET_SECCOMP) != 2)
        return 2;
    end = now() + atof(argv[1]);
    page = (size_t)sysconf(_SC_PAGESIZE);
    shared = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    arena = mmap(NULL, 5 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || arena == MAP_FAILED || mprotect(arena + 4 * page, page, PROT_NONE))
        return 3;
    fill_pool(argv[3]);
    fill_skipped();
    while (now() < end)
        supervise(seed);
    printf("calls %lu answered %lu workers %lu\n", atomic_load(&shared->calls),
           atomic_load(&shared->answered), atomic_load(&shared->restarts));
    fflush(stdout);
    return 0;
}
