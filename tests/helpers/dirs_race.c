/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads one open directory from four processes at once and prints every name somebody got.
 *   dirs_race DIR         each entry is printed once, when positions are shared as they should be
 *   dirs_race DIR ROUNDS  a thread of each process seeks about meanwhile, ROUNDS calls each; prints "done"
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

struct record {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};

static int dir_fd;
static volatile int stop;

static void *seek_about(void *arg)
{
    for (unsigned i = 0; !stop; i++)
        lseek(dir_fd, i * 7919 % 1000, SEEK_SET);
    return arg;
}

static void print_names(const char *buf, long n)
{
    char line[4096];

    for (long at = 0; at < n;) {
        const struct record *r = (const void *)(buf + at);
        int len = snprintf(line, sizeof(line), "%s\n", r->name);

        if (write(STDOUT_FILENO, line, (size_t)len) != len)
            _exit(2);
        at += r->len;
    }
}

static void reader(int rounds)
{
    static char buf[256] __attribute__((aligned(8)));
    pthread_t thread;
    long n = 1;

    if (rounds)
        pthread_create(&thread, NULL, seek_about, NULL);
    for (int i = 0; rounds ? i < rounds : n > 0; i++) {
        n = syscall(SYS_getdents64, dir_fd, buf, sizeof(buf));
        if (n < 0)
            _exit(3);
        if (!rounds)
            print_names(buf, n);
    }
    stop = 1;
    if (rounds)
        pthread_join(thread, NULL);
    _exit(0);
}

int main(int argc, char **argv)
{
    int rounds = argc > 2 ? atoi(argv[2]) : 0, status, bad = 0;

    dir_fd = open(argv[1], O_RDONLY | O_DIRECTORY);
    if (dir_fd < 0)
        return 4;
    for (int i = 0; i < 4; i++) {
        if (fork() == 0)
            reader(rounds);
    }
    while (wait(&status) > 0)
        bad |= status;
    if (rounds && !bad)
        puts("done");
    return bad ? 1 : 0;
}
