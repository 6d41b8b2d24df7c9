/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Programs that do one thing that limits could make dearer: `busy alloc|map|fork|spawn N`. The runner
 * compares them bare, in a sandbox, and in a sandbox with the limit.
 */
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
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

int main(int argc, char **argv)
{
    unsigned long n = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

    if (argc < 3)
        return 2;
    if (strcmp(argv[1], "alloc") == 0)
        alloc(n);
    else if (strcmp(argv[1], "map") == 0)
        map(n);
    else
        start(n, strcmp(argv[1], "spawn") == 0);
    return 0;
}
