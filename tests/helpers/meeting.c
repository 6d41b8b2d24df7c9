/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attacks on features that meet. Each prints one word first.
 *   chdir DIRECTORY: keeps, in a second thread, the descriptor by which the supervisor makes us change the
 *     directory, and lists it: "listed NAMES...", or "nothing".
 *   deep TREE: moves TREE/data below more directories than a path can name, and opens data/cfg/file for
 *     writing there: "written", or the error.
 *   memory DIRECTORY: fills the supervisor's descriptors with opens of FIFOs that wait, then takes memory:
 *     "holding", unless it was killed.
 *   maps DIRECTORY: makes /proc/self/maps long and opens it again and again: "read", all bytes, "held", those of the
 *     files that are open, "last", those of the last one.
 *   rewind DIRECTORY: begins to list it again and again, then lists it: "listed", the number of names, and waits.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
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

#define WAITING 70 /* opens: a reader costs the supervisor four descriptors, a writer one */
#define READERS 60
#define TAKEN_MB 256u
#define STEP_MB 16u

static void wait_for_ever(const char *fifo, int how)
{
    for (;;) {
        open(fifo, how);
        usleep(500);
    }
}

static int attack_memory(const char *dir)
{
    char fifo[2][4096];
    pid_t pid[WAITING], self = getpid();

    for (int i = 0; i < 2; i++) {
        snprintf(fifo[i], sizeof(fifo[i]), "%s/fifo%d", dir, i);
        if (mkfifo(fifo[i], 0600) < 0)
            return 3;
    }
    for (int i = 0; i < WAITING; i++) {
        pid[i] = fork();
        if (pid[i] == 0) {
            prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (getppid() == self)
                wait_for_ever(fifo[i >= READERS], i < READERS ? O_RDONLY : O_WRONLY);
            _exit(0);
        }
    }
    sleep(2);
    for (unsigned mb = 0; mb < TAKEN_MB; mb += STEP_MB) {
        char *p = malloc((size_t)STEP_MB << 20);

        if (p)
            memset(p, 1, (size_t)STEP_MB << 20);
        usleep(30000);
    }
    usleep(500000);
    puts("holding");
    fflush(stdout);
    for (int i = 0; i < WAITING; i++) {
        if (pid[i] > 0 && kill(pid[i], SIGKILL) == 0)
            waitpid(pid[i], NULL, 0);
    }
    return 0;
}

#define REWINDS 48

static int attack_rewind(const char *dir)
{
    char buf[4096];
    int fd = open(dir, O_RDONLY | O_DIRECTORY);
    long n, names = 0;

    for (int i = 0; i < REWINDS; i++) {
        if (lseek(fd, 0, SEEK_SET) != 0 || syscall(SYS_getdents64, fd, buf, sizeof(buf)) <= 0)
            return 3;
    }
    lseek(fd, 0, SEEK_SET);
    while ((n = syscall(SYS_getdents64, fd, buf, sizeof(buf))) > 0) {
        for (long at = 0; at < n; at += *(unsigned short *)(buf + at + 16))
            names++;
    }
    printf("listed %ld\n", names);
    fflush(stdout);
    pause();
    return 0;
}

#define MAPPED_DEEP 18 /* of names of 200 letters */
#define MAPPED 3000
#define MAPPED_OPENS 12

/* Maps a file with a long name, in pieces that the kernel cannot join. */
static int map_often(const char *dir)
{
    char name[201];
    int fd;

    memset(name, 'm', 200);
    name[200] = '\0';
    for (int i = chdir(dir) < 0 ? MAPPED_DEEP + 1 : 0; i < MAPPED_DEEP; i++) {
        if (mkdir(name, 0700) < 0 || chdir(name) < 0)
            return -1;
    }
    fd = open("file", O_RDWR | O_CREAT, 0600);
    for (int i = 0; i < MAPPED; i++) {
        if (mmap(NULL, 1, i % 2 ? PROT_READ : PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0) ==
            MAP_FAILED)
            return -1;
    }
    return 0;
}

static int attack_maps(const char *dir)
{
    static char buf[1 << 16];
    long n, all = 0, held = 0, last = 0;
    int fd[MAPPED_OPENS];
    struct stat st;

    if (map_often(dir) < 0)
        return 3;
    for (int i = 0; i < MAPPED_OPENS; i++) {
        mmap(NULL, 1, i % 2 ? PROT_READ : PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1,
             0); /* another text */
        fd[i] = open("/proc/self/maps", O_RDONLY);
        for (last = 0; (n = read(fd[i], buf, sizeof(buf))) > 0; last += n)
            all += n;
    }
    for (int i = 0; i < MAPPED_OPENS; i++)
        held += fstat(fd[i], &st) == 0 ? st.st_blocks * 512 : 1L << 40;
    printf("read %ld held %ld last %ld\n", all, held, last);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 3)
        return 2;
    if (strcmp(argv[1], "chdir") == 0)
        return attack_chdir(argv[2]);
    if (strcmp(argv[1], "maps") == 0)
        return attack_maps(argv[2]);
    if (strcmp(argv[1], "rewind") == 0)
        return attack_rewind(argv[2]);
    return strcmp(argv[1], "deep") == 0 ? attack_deep(argv[2]) : attack_memory(argv[2]);
}
