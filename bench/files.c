/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Many names in one directory, one thing done to each, timed from inside: what a layer costs. Started
 * bare and under `sandlock run --workdir`. Trusted input; on stdout nanoseconds for each name.
 *
 *   files WHAT DIR N [WRITERS]    relative names in DIR: `fNNN`, which `fill` makes; `names` makes them as
 *                                 links to a few files, `back` undoes `rename`
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define STREAM_BLOCKS 65536 /* 256 MiB through one descriptor */

static void check(int ok, const char *what)
{
    if (!ok) {
        fprintf(stderr, "files: %s: %s\n", what, strerror(errno));
        exit(1);
    }
}

/* ---- what the runner prepares ---- */

static void each_fill(unsigned i)
{
    char name[32];
    int fd;

    snprintf(name, sizeof(name), "f%u", i);
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    check(fd >= 0 && write(fd, "x", 1) == 1 && close(fd) == 0, name);
}

#define LINKS 30000 /* a file: ext4 allows 65,000 */

static void each_name(unsigned i)
{
    char name[32], first[32];

    if (i % LINKS == 0) {
        each_fill(i);
        return;
    }
    snprintf(name, sizeof(name), "f%u", i);
    snprintf(first, sizeof(first), "f%u", i - i % LINKS);
    check(link(first, name) == 0, name);
}

static void move(const char *from, const char *to, unsigned i)
{
    char name[32], new_name[32];

    snprintf(name, sizeof(name), "%s%u", from, i);
    snprintf(new_name, sizeof(new_name), "%s%u", to, i);
    check(rename(name, new_name) == 0, name);
}

static void each_back(unsigned i)
{
    move("r", "f", i);
}

/* ---- what is measured ---- */

static void each_create(unsigned i)
{
    char name[32];
    int fd;

    snprintf(name, sizeof(name), "new%u", i);
    fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0666);
    check(fd >= 0 && write(fd, name, sizeof(name)) == sizeof(name) && close(fd) == 0, name);
}

static void each_rename(unsigned i)
{
    move("f", "r", i);
}

static void each_rename_new(unsigned i)
{
    move("new", "r", i);
}

static void each_mkdir(unsigned i)
{
    char name[32];

    snprintf(name, sizeof(name), "d%u", i);
    check(mkdir(name, 0777) == 0, name);
}

static void each_unlink(unsigned i)
{
    char name[32];

    snprintf(name, sizeof(name), "f%u", i);
    check(unlink(name) == 0, name);
}

/* The first write to a file of lower. */
static void each_change(unsigned i)
{
    char name[32];
    int fd;

    snprintf(name, sizeof(name), "f%u", i);
    fd = open(name, O_WRONLY);
    check(fd >= 0 && pwrite(fd, "x", 1, 0) == 1 && close(fd) == 0, name);
}

static void each_list(unsigned i)
{
    DIR *d = opendir(".");

    (void)i;
    check(d != NULL, "opendir");
    while (readdir(d))
        ;
    closedir(d);
}

/* Once through an open file: the kernel alone serves it. */
static void each_stream(unsigned i)
{
    static char block[BLOCK];
    int fd = open("stream", O_RDWR | O_CREAT, 0666);

    (void)i;
    check(fd >= 0, "stream");
    for (unsigned k = 0; k < STREAM_BLOCKS; k++)
        check(pwrite(fd, block, BLOCK, (off_t)k % 1024 * BLOCK) == BLOCK, "write");
    for (unsigned k = 0; k < STREAM_BLOCKS; k++)
        check(pread(fd, block, BLOCK, (off_t)k % 1024 * BLOCK) == BLOCK, "read");
    close(fd);
}

static const struct thing {
    const char *name;
    void (*each)(unsigned i);
    void (*before)(unsigned i);
    int once;
} things[] = {
    {"fill", each_fill, NULL, 0},     {"names", each_name, NULL, 0},
    {"back", each_back, NULL, 0},     {"create", each_create, NULL, 0},
    {"rename", each_rename, NULL, 0}, {"rename-new", each_rename_new, each_create, 0},
    {"mkdir", each_mkdir, NULL, 0},   {"unlink", each_unlink, NULL, 0},
    {"change", each_change, NULL, 0}, {"list", each_list, each_create, 1},
    {"stream", each_stream, NULL, 1},
};

static uint64_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Each writer has its own part of the numbers. */
static void run(const struct thing *t, unsigned n, unsigned writers)
{
    for (unsigned w = 0; w < writers; w++) {
        if (writers > 1 && fork() != 0)
            continue;
        for (unsigned i = w; i < (t->once ? 1 : n); i += writers)
            t->each(i);
        if (writers > 1)
            _exit(0);
    }
    for (int status; writers > 1 && wait(&status) > 0;)
        check(status == 0, "writer");
}

int main(int argc, char **argv)
{
    unsigned n = argc > 3 ? (unsigned)strtoul(argv[3], NULL, 10) : 0;
    unsigned writers = argc > 4 ? (unsigned)strtoul(argv[4], NULL, 10) : 1;
    const struct thing *t = things;
    uint64_t start;

    while (n && t < things + sizeof(things) / sizeof(things[0]) && strcmp(argv[1], t->name) != 0)
        t++;
    if (!n || !writers || t == things + sizeof(things) / sizeof(things[0])) {
        fprintf(stderr, "usage: files WHAT DIR N [WRITERS]\n");
        return 2;
    }
    check(chdir(argv[2]) == 0, argv[2]);
    for (unsigned i = 0; t->before && i < (t->once ? 1 : n); i++)
        t->before(i);
    start = now();
    run(t, n, writers);
    printf("%.1f\n", (double)(now() - start) / n);
    return 0;
}
