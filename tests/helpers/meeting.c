/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attacks on features that meet. Each prints one word first.
 *   chdir DIRECTORY: keeps, in a second thread, the descriptor by which the supervisor makes us change the
 *     directory, and lists it: "listed NAMES...", or "nothing".
 *   deep TREE: moves TREE/data below more directories than a path can name, and opens data/cfg/file for
 *     writing there: "written", or the error.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define CHDIRS 300
#define DEEP 22 /* of names of 200 letters */

static atomic_int kept = -1;
static atomic_int over;

static void *keep(void *arg)
{
    (void)arg;
    while (!over && kept < 0) {
        for (int i = 3; i < 6 && kept < 0; i++) {
            int fd = fcntl(i, F_DUPFD, 100);
            struct stat st;

            if (fd < 0)
                continue;
            if (!(fcntl(fd, F_GETFL) & O_PATH) && fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
                kept = fd;
            else
                close(fd);
        }
    }
    return NULL;
}

static int attack_chdir(const char *dir)
{
    char buf[4096];
    pthread_t t;
    long n;

    if (pthread_create(&t, NULL, keep, NULL) != 0)
        return 3;
    for (int i = 0; i < CHDIRS && kept < 0; i++) {
        if (chdir(dir) < 0)
            break;
    }
    over = 1;
    pthread_join(t, NULL);
    n = kept < 0 ? -1 : syscall(SYS_getdents64, (int)kept, buf, sizeof(buf));
    printf(n > 0 ? "listed" : "nothing");
    for (long at = 0; at < n; at += *(unsigned short *)(buf + at + 16))
        printf(" %s", buf + at + 19);
    puts("");
    return 0;
}

static int attack_deep(const char *tree)
{
    int tree_fd = open(tree, O_RDONLY | O_DIRECTORY), at = dup(tree_fd), fd;
    char name[201];

    memset(name, 'd', 200);
    name[200] = '\0';
    for (int i = 0; i < DEEP; i++) {
        if (mkdirat(at, name, 0700) < 0 || (fd = openat(at, name, O_RDONLY | O_DIRECTORY)) < 0)
            return 3;
        close(at);
        at = fd;
    }
    if (renameat(tree_fd, "data", at, "data") < 0)
        return 4;
    fd = openat(at, "data/cfg/file", O_WRONLY);
    puts(fd < 0 ? strerrorname_np(errno) : write(fd, "changed", 7) == 7 ? "written" : "opened");
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    return strcmp(argv[1], "chdir") == 0 ? attack_chdir(argv[2]) : attack_deep(argv[2]);
}
