/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A thread with a descriptor table and a working directory of its own (clone without CLONE_FILES and
 * CLONE_FS) lists and opens: what it gets must be its own, not the leader's.
 *   thread_view LEADER_DIR THREAD_DIR NAME...
 * Prints the thread's listing of THREAD_DIR, "--", then for each NAME, opened relative to its working
 * directory THREAD_DIR, "open" or the errno.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

struct record {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};

static char **names;
static const char *thread_dir;
static volatile int thread_fd = -2, leader_ready, done;
static char text[1 << 16];
static size_t used;

static void say(const char *word)
{
    size_t n = strlen(word);

    if (used + n + 1 < sizeof(text)) {
        memcpy(text + used, word, n);
        text[used + n] = '\n';
        used += n + 1;
    }
}

/* No C library state but errno, which the waiting leader does not use. */
static int thread_main(void *arg)
{
    static char buf[32768] __attribute__((aligned(8)));
    char number[16];
    long n;

    (void)arg;
    thread_fd = openat(AT_FDCWD, thread_dir, O_RDONLY | O_DIRECTORY);
    while (!leader_ready)
        sched_yield();
    if (chdir(thread_dir) != 0)
        say("chdir failed");
    while ((n = syscall(SYS_getdents64, thread_fd, buf, sizeof(buf))) > 0) {
        for (long at = 0; at < n;) {
            const struct record *r = (const void *)(buf + at);

            say(r->name);
            at += r->len;
        }
    }
    if (n < 0)
        say("getdents failed");
    say("--");
    for (char **p = names; *p; p++) {
        int fd = openat(AT_FDCWD, *p, O_RDONLY);

        snprintf(number, sizeof(number), "%d", errno);
        say(fd >= 0 ? "open" : number);
    }
    done = 1;
    syscall(SYS_exit, 0);
    return 0;
}

int main(int argc, char **argv)
{
    static char stack[1 << 17] __attribute__((aligned(16)));
    int fd;

    if (argc < 3)
        return 2;
    thread_dir = argv[2];
    names = argv + 3;
    if (clone(thread_main, stack + sizeof(stack), CLONE_VM | CLONE_SIGHAND | CLONE_THREAD, NULL) <
        0) {
        perror("clone");
        return 3;
    }
    while (thread_fd == -2)
        sched_yield();
    fd = open(argv[1], O_RDONLY | O_DIRECTORY);
    if (fd != thread_fd || chdir(argv[1]) != 0)
        return 4;
    leader_ready = 1;
    while (!done)
        sched_yield();
    return write(STDOUT_FILENO, text, used) == (ssize_t)used ? 0 : 5;
}
