/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does starting a sandbox cost more in a process that holds much memory? Starts sandboxes through
 * the library's own entry points with 10 MB held and with 2 GB, in turns. Trusted input, main thread.
 *
 *   hold ROUNDS DIR... -- COMMAND...   prints the first decile of each in µs: SMALL LARGE
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "api/sandbox.h"

#define SMALL ((size_t)10 << 20)
#define LARGE ((size_t)2 << 30)
#define BLOCK 50 /* starts before the size changes: the first ones find cold caches */

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static void fail(const char *what, const struct error *err)
{
    fprintf(stderr, "hold: %s: %s\n", what, err ? err->message : "");
    exit(1);
}

static double start_one(const struct policy *p, char **argv)
{
    const struct sandbox_options o = {.argv = (const char *const *)argv, .explain_fd = -1};
    struct run_result result;
    struct error err = {0};
    struct sandbox *s;
    uint64_t start = now();

    if (sandbox_create(p, &o, &s, &err) < 0 || sandbox_start(s, &err) < 0 ||
        sandbox_wait(s, 0, &result, &err) < 0)
        fail("start", &err);
    sandbox_free(s);
    if (result.code != 0)
        fail("the command failed", NULL);
    run_result_fini(&result);
    return (double)(now() - start) / 1000.0;
}

/* Every page written, small pages, as in a program that has data. */
static void measure(size_t held, const struct policy *p, char **argv, double *ret)
{
    char *m = mmap(NULL, held, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (m == MAP_FAILED)
        fail("out of memory", NULL);
    madvise(m, held, MADV_NOHUGEPAGE);
    for (size_t i = 0; i < held; i += 4096)
        m[i] = 1;
    start_one(p, argv); /* warm */
    for (int i = 0; i < BLOCK; i++)
        ret[i] = start_one(p, argv);
    munmap(m, held);
}

int main(int argc, char **argv)
{
    int rounds = argc > 1 ? atoi(argv[1]) : 0, i = 2;
    struct policy p;
    struct error err = {0};
    double *t[2];

    policy_init(&p);
    for (; i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (policy_add_fs_read(&p, "-r", argv[i], false, &err) < 0)
            fail(argv[i], &err);
    }
    if (rounds < 1 || i + 1 >= argc) {
        fprintf(stderr, "usage: hold ROUNDS DIR... -- COMMAND...\n");
        return 2;
    }
    if (policy_validate(&p, &err) < 0)
        fail("policy", &err);
    for (int k = 0; k < 2; k++)
        t[k] = calloc((size_t)rounds, BLOCK * sizeof(double));
    for (int r = 0; r < rounds; r++) {
        measure(SMALL, &p, argv + i + 1, t[0] + (size_t)r * BLOCK);
        measure(LARGE, &p, argv + i + 1, t[1] + (size_t)r * BLOCK);
    }
    for (int k = 0; k < 2; k++) {
        qsort(t[k], (size_t)rounds * BLOCK, sizeof(double), by_value);
        printf("%.1f%c", t[k][rounds * BLOCK / 10], k ? '\n' : ' ');
        free(t[k]);
    }
    policy_fini(&p);
    return 0;
}
