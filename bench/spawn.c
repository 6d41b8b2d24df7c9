/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Wall time of short commands, in turns: A B C A B C ... The starter is small (vfork through
 * posix_spawn), so that it adds the same little to each. Trusted input, one thread.
 *
 *   spawn [-n ROUNDS] [-p AT_ONCE] ::: COMMAND... ::: COMMAND...   prints for each
 *                              the median and the minimum of the wall time in
 *                              µs, the same of the processor time of the whole tree, and the median
 *                              ratio to the first of both
 */
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_COMMANDS 8

extern char **environ;

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void fail(const char *what)
{
    fprintf(stderr, "spawn: %s\n", what);
    exit(1);
}

/* Processor time survives a loaded machine, wall time does not: both are told. */
struct sample {
    double wall, cpu; /* µs */
};

static double microseconds(const struct timeval *t)
{
    return (double)t->tv_sec * 1e6 + (double)t->tv_usec;
}

/* Starts at_once copies, waits for all of them. */
static struct sample run(char **argv, int at_once)
{
    struct sample s = {0};
    uint64_t start = now();

    for (int i = 0; i < at_once; i++) {
        pid_t pid;

        errno = posix_spawnp(&pid, argv[0], NULL, NULL, argv, environ);
        if (errno)
            fail(argv[0]);
    }
    for (int i = 0; i < at_once; i++) {
        struct rusage used;
        int status;

        if (wait3(&status, 0, &used) < 0 || status != 0) {
            fprintf(stderr, "spawn: %s: status %#x\n", argv[0], (unsigned)status);
            exit(1);
        }
        s.cpu += microseconds(&used.ru_utime) + microseconds(&used.ru_stime);
    }
    s.wall = (double)(now() - start) / 1000.0;
    return s;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Neighbours in time are compared: the load of the machine changes, and hits both. */
static double ratio_to(const double *first, const double *t, int rounds)
{
    double *r = calloc((size_t)rounds, sizeof(double));
    double median;

    for (int i = 0; i < rounds; i++)
        r[i] = first[i] > 0 ? t[i] / first[i] : 0;
    qsort(r, (size_t)rounds, sizeof(double), by_value);
    median = r[rounds / 2];
    free(r);
    return median;
}

static void sort(double *t, int n)
{
    qsort(t, (size_t)n, sizeof(double), by_value);
}

/* Sorts: the ratios need the order of the rounds and come first. */
static void report(int n, int rounds, double **wall, double **cpu)
{
    double ratio[MAX_COMMANDS][2];

    for (int c = 0; c < n; c++) {
        ratio[c][0] = ratio_to(wall[0], wall[c], rounds);
        ratio[c][1] = ratio_to(cpu[0], cpu[c], rounds);
    }
    for (int c = 0; c < n; c++) {
        sort(wall[c], rounds);
        sort(cpu[c], rounds);
        printf("%.1f %.1f %.1f %.1f %.3f %.3f\n", wall[c][rounds / 2], wall[c][0],
               cpu[c][rounds / 2], cpu[c][0], ratio[c][0], ratio[c][1]);
        free(wall[c]);
        free(cpu[c]);
    }
}

int main(int argc, char **argv)
{
    char **commands[MAX_COMMANDS];
    double *wall[MAX_COMMANDS], *cpu[MAX_COMMANDS];
    int n = 0, rounds = 200, at_once = 1, i = 1;

    for (; i + 1 < argc && strcmp(argv[i], ":::") != 0; i += 2) {
        if (strcmp(argv[i], "-n") == 0)
            rounds = atoi(argv[i + 1]);
        else if (strcmp(argv[i], "-p") == 0)
            at_once = atoi(argv[i + 1]);
        else
            fail("unknown option");
    }
    for (; i < argc; i++) {
        if (strcmp(argv[i], ":::") != 0)
            continue;
        argv[i] = NULL;
        if (n == MAX_COMMANDS || i + 1 == argc)
            fail("too many commands, or an empty one");
        wall[n] = calloc((size_t)rounds, sizeof(double));
        cpu[n] = calloc((size_t)rounds, sizeof(double));
        commands[n++] = argv + i + 1;
    }
    if (n == 0 || rounds < 1 || at_once < 1)
        fail("usage: spawn [-n ROUNDS] [-p AT_ONCE] ::: COMMAND... ::: COMMAND...");
    for (int c = 0; c < n; c++)
        run(commands[c], at_once); /* warm */
    for (int r = 0; r < rounds; r++) {
        for (int c = 0; c < n; c++) {
            struct sample s = run(commands[c], at_once);

            wall[c][r] = s.wall;
            cpu[c][r] = s.cpu;
        }
    }
    report(n, rounds, wall, cpu);
    return 0;
}
