/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile to a supervisor that opens and executes on behalf: threads change what a call names while
 * it is decided. Files of DIR: `plain` (begins with 'p') and `guard` (begins with 'G', denied);
 * programs `pprog` (exits 0) and `gprog` (exits 77, denied). `flip` in DIR is made here.
 *   fs_race text DIR SECONDS     the path in memory flips while it is read
 *   fs_race link DIR SECONDS     a symbolic link flips
 *   fs_race tree DIR SECONDS     a directory `t` is exchanged with one that links to DIR/guard
 *   fs_race exec DIR SECONDS     text, for programs
 *   fs_race execlink DIR SECONDS link, for programs
 *   fs_race cwd DIR SECONDS      text, for directories `gd` and `bd`: chdir, then `file` in it
 *   fs_race fds DIR SECONDS      the same without a flip, while descriptors are exchanged for bd's
 *   fs_race up DIR SECONDS       DIR/x/a/b/../../plain, while the caller moves DIR/x/a
 * Prints "allowed N refused M" and exits 0; exits 9 when denied content was seen or ran.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define READERS 3
#define EXCHANGE 2

static char good[PATH_MAX], bad[PATH_MAX], path[PATH_MAX], other[PATH_MAX];
static char *volatile name; /* what the readers use */
static size_t flip_at;      /* first byte in which good and bad differ */
static atomic_bool stop;
static atomic_long allowed, refused;
static void (*flip_once)(void);

static void flip_text(void)
{
    size_t n = strlen(good) - flip_at;

    memcpy(path + flip_at, bad + flip_at, n);
    __asm__ volatile("" ::: "memory"); /* both must happen */
    memcpy(path + flip_at, good + flip_at, n);
    __asm__ volatile("" ::: "memory");
}

static void flip_link(void)
{
    if (symlink(bad, other) == 0)
        rename(other, path);
    if (symlink(good, other) == 0)
        rename(other, path);
}

static void flip_exchange(void)
{
    syscall(SYS_renameat2, AT_FDCWD, path, AT_FDCWD, other, EXCHANGE);
}

static void *flipper(void *arg)
{
    while (!atomic_load(&stop))
        flip_once();
    return arg;
}

static void found(const char *how)
{
    printf("seen by %s\n", how);
    fflush(stdout);
    _exit(9);
}

static void *reader(void *arg)
{
    char c = 0;
    long turn = (long)arg;

    for (; !atomic_load(&stop); turn++) {
        int fd = turn % 3 ? open(name, O_RDONLY | O_NOCTTY)
                          : open(name, O_RDWR | (turn % 2 ? O_CREAT : O_APPEND), 0600);

        if (fd < 0) {
            atomic_fetch_add(&refused, 1);
            continue;
        }
        if (read(fd, &c, 1) == 1 && c == 'G')
            found("open");
        close(fd);
        atomic_fetch_add(&allowed, 1);
    }
    return NULL;
}

static void *runner(void *arg)
{
    char *argv[] = {(char *)"prog", NULL};
    int status;

    (void)arg;
    while (!atomic_load(&stop)) {
        pid_t pid = vfork();

        if (pid == 0) {
            execve(name, argv, NULL);
            _exit(66);
        }
        if (pid < 0 || waitpid(pid, &status, 0) < 0)
            continue;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            found("exec");
        atomic_fetch_add(WIFEXITED(status) && WEXITSTATUS(status) == 0 ? &allowed : &refused, 1);
    }
    return NULL;
}

/* chdir and O_PATH: what comes of them is used by name. */
static void *walker(void *arg)
{
    char c = 0;

    for (long turn = (long)arg; !atomic_load(&stop); turn++) {
        int dir = turn % 2 ? AT_FDCWD : open(name, O_PATH | O_DIRECTORY);
        int fd = turn % 2 && chdir(name) < 0 ? -1 : openat(dir, "file", O_RDONLY);

        if (fd < 0)
            atomic_fetch_add(&refused, 1);
        else if (read(fd, &c, 1) == 1 && c == 'G')
            found("directory");
        else
            atomic_fetch_add(&allowed, 1);
        if (fd >= 0)
            close(fd);
        if (dir >= 0)
            close(dir);
    }
    return NULL;
}

/* Numbers that a supervisor might use for a moment. */
static void flip_fds(void)
{
    static int number = 3;

    if (number == 3)
        close(239);
    dup2(0, number);
    number = number == 12 ? 240 : number == 250 ? 3 : number + 1;
    close(number);
}

static void flip_nothing(void)
{
    usleep(1000);
}

static void join(char *out, const char *dir, const char *leaf)
{
    if (snprintf(out, PATH_MAX, "%s/%s", dir, leaf) >= PATH_MAX)
        exit(2);
}

static void prepare_tree(const char *dir)
{
    char inner[PATH_MAX + 16];

    join(path, dir, "t");
    join(other, dir, "u");
    mkdir(path, 0700);
    mkdir(other, 0700);
    snprintf(inner, sizeof(inner), "%s/file", path);
    if (symlink(good, inner) < 0 && errno != EEXIST)
        exit(3);
    snprintf(inner, sizeof(inner), "%s/file", other);
    if (symlink(bad, inner) < 0 && errno != EEXIST)
        exit(3);
    flip_once = flip_exchange;
    snprintf(inner, sizeof(inner), "%s/file", path);
    name = strdup(inner);
}

static void prepare(const char *mode, const char *dir)
{
    int exec = strncmp(mode, "exec", 4) == 0;

    join(good, dir, exec ? "pprog" : "plain");
    join(bad, dir, exec ? "gprog" : "guard");
    flip_at = strlen(dir) + 1;
    name = path;
    if (strcmp(mode, "cwd") == 0 || strcmp(mode, "fds") == 0) {
        join(good, dir, "gd");
        join(bad, dir, "bd");
        strcpy(path, good);
        flip_once = *mode == 'c' ? flip_text : flip_fds;
    } else if (strcmp(mode, "up") == 0) {
        join(path, dir, "x/a/b/../../plain");
        flip_once = flip_nothing;
    } else if (strcmp(mode, "tree") == 0) {
        prepare_tree(dir);
    } else if (strstr(mode, "link")) {
        join(path, dir, "flip");
        join(other, dir, "flip2");
        flip_once = flip_link;
        flip_once();
    } else {
        strcpy(path, good);
        flip_once = flip_text;
    }
}

int main(int argc, char **argv)
{
    pthread_t id;

    if (argc != 4)
        return 2;
    prepare(argv[1], argv[2]);
    pthread_create(&id, NULL, flipper, NULL);
    for (long i = 0; i < READERS; i++)
        pthread_create(&id, NULL,
                       !strncmp(argv[1], "exec", 4)                         ? runner
                       : !strcmp(argv[1], "cwd") || !strcmp(argv[1], "fds") ? walker
                                                                            : reader,
                       (void *)i);
    for (double left = atof(argv[3]); left > 0; left -= 0.1)
        usleep(100000);
    atomic_store(&stop, 1);
    usleep(300000);
    printf("allowed %ld refused %ld\n", atomic_load(&allowed), atomic_load(&refused));
    fflush(stdout);
    _exit(0);
}
