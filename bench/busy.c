/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that do one thing that limits could make dearer: `busy alloc|map|fork|spawn N`. The runner
 * compares them bare, in a sandbox, and in a sandbox with the limit. `busy stat N FILE` asks for
 * attributes in N processes at once and prints how often they did in a tenth of a second each: the best of ten.
 * `busy hog N PAUSE` fills memory, a MiB each PAUSE microseconds, and prints the time when it has N MiB.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void alloc(unsigned long n)
{
    static void *slot[256];
    unsigned seed = 1;

    for (unsigned long i = 0; i < n; i++) {
        size_t size;

        seed = seed * 1103515245u + 12345u;
        size = 16u << (seed >> 16) % 12;
        free(slot[i % 256]);
        slot[i % 256] = malloc(size);
        memset(slot[i % 256], 1, size);
    }
}

static void map(unsigned long n)
{
    for (unsigned long i = 0; i < n; i++) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

        if (p == MAP_FAILED)
            exit(1);
        memset(p, 1, 65536);
        munmap(p, 1 << 20);
    }
}

static void start(unsigned long n, int with_exec)
{
    char name[] = "true";
    char *const argv[] = {name, NULL};

    for (unsigned long i = 0; i < n; i++) {
        pid_t pid;

        if (with_exec) {
            if (posix_spawn(&pid, "/bin/true", NULL, NULL, argv, NULL) != 0)
                exit(1);
        } else {
            pid = fork();
            if (pid == 0)
                _exit(0);
        }
        if (pid < 0 || waitpid(pid, NULL, 0) < 0)
            exit(1);
    }
}

static unsigned long stats_of(const char *file, double seconds)
{
    struct timespec t;
    struct stat st;
    unsigned long n = 0;
    double start, now;

    clock_gettime(CLOCK_MONOTONIC, &t);
    start = now = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    while (now - start < seconds) {
        for (int i = 0; i < 100; i++) {
            if (stat(file, &st) != 0)
                _exit(1);
        }
        n += 100;
        clock_gettime(CLOCK_MONOTONIC, &t);
        now = (double)t.tv_sec + (double)t.tv_nsec / 1e9;
    }
    return n;
}

/* Rounds begin together: a byte for each process. */
static void look(unsigned long n, const char *file)
{
    int begin[2], told[2];
    unsigned long best = 0;

    if (n > 64 || pipe(begin) < 0 || pipe(told) < 0)
        exit(1);
    for (unsigned long i = 0; i < n; i++) {
        char c;

        if (fork() != 0)
            continue;
        close(begin[1]);
        while (read(begin[0], &c, 1) == 1) {
            unsigned long done = stats_of(file, 0.1);

            if (write(told[1], &done, sizeof(done)) != sizeof(done))
                _exit(1);
        }
        _exit(0);
    }
    for (int round = 0; round < 10; round++) {
        unsigned long sum = 0, done;

        if (write(begin[1], "................................................................",
                  n) != (ssize_t)n)
            exit(1);
        for (unsigned long i = 0; i < n; i++) {
            if (read(told[0], &done, sizeof(done)) != sizeof(done))
                exit(1);
            sum += done;
        }
        best = sum > best ? sum : best;
    }
    printf("%lu\n", best);
}

/* Never ends by itself, unless memory is refused: 3, or somebody forgot the limit: 4. */
static void hog(unsigned long limit, useconds_t pause)
{
    for (unsigned long i = 1; i <= 8 * limit; i++) {
        char *p = mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        struct timespec t;

        if (p == MAP_FAILED)
            exit(3);
        memset(p, 1, 1 << 20);
        if (i == limit) {
            clock_gettime(CLOCK_MONOTONIC, &t);
            dprintf(STDOUT_FILENO, "%lld.%09ld\n", (long long)t.tv_sec, t.tv_nsec);
        }
        if (pause)
            usleep(pause);
    }
    exit(4);
}

int main(int argc, char **argv)
{
    unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "alloc") == 0)
        alloc(n);
    else if (strcmp(argv[1], "map") == 0)
        map(n);
    else if (strcmp(argv[1], "stat") == 0 && argc > 3)
        look(n, argv[3]);
    else if (strcmp(argv[1], "hog") == 0 && argc > 3)
        hog(n, (useconds_t)strtoul(argv[3], NULL, 10));
    else
        start(n, strcmp(argv[1], "spawn") == 0);
    return 0;
}
