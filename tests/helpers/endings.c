/* SPDX-License-Identifier: Apache-2.0 */
/*
 * endings WHAT ROUNDS DIRECTORY: starts a child ROUNDS times, kills it at a random moment of a call that a
 * supervisor may be busy with, and waits for it. WHAT: exec, thread-exec (by another thread than the first),
 * chdir, path (an O_PATH descriptor), many (all of them, in threads), spawn (a child that makes children).
 * "ended N" when every child could be waited for; "lost" and the state 3 when one could not.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NAP_NS 1000000
#define NAPS 120000     /* two minutes at least, and as many as a slow machine needs */
#define LONGEST_US 1500 /* until the kill, grows and shrinks with the rounds */

extern char **environ;
static char *dir, *self;

static void *do_exec(void *arg)
{
    (void)arg;
    execl(self, self, "end", (char *)NULL);
    _exit(4);
}

static void *do_chdir(void *arg)
{
    (void)arg;
    for (;;) {
        if (chdir(dir) < 0)
            _exit(5);
    }
}

static void *do_path(void *arg)
{
    (void)arg;
    for (;;) {
        int fd = open(dir, O_PATH);

        if (fd < 0 && errno != EMFILE)
            _exit(6);
        close(fd);
    }
}

static void *do_spawn(void *arg)
{
    char end[] = "end", *words[] = {self, end, NULL};
    pid_t pid;

    (void)arg;
    for (;;) {
        if (posix_spawn(&pid, self, NULL, NULL, words, environ) != 0)
            _exit(9);
        waitpid(pid, NULL, 0);
    }
}

static void threaded(void *(*fn)(void *))
{
    pthread_t t;

    if (pthread_create(&t, NULL, fn, NULL) != 0)
        _exit(7);
}

static void child(const char *what)
{
    if (strcmp(what, "exec") == 0)
        do_exec(NULL);
    else if (strcmp(what, "chdir") == 0)
        do_chdir(NULL);
    else if (strcmp(what, "path") == 0)
        do_path(NULL);
    else if (strcmp(what, "spawn") == 0)
        do_spawn(NULL);
    else if (strcmp(what, "thread-exec") == 0)
        threaded(do_exec);
    else if (strcmp(what, "many") == 0) {
        threaded(do_chdir);
        threaded(do_path);
        usleep((useconds_t)(random() % LONGEST_US) / 2);
        threaded(do_exec);
    } else {
        _exit(8);
    }
    for (;;)
        pause();
}

/* As waitpid(), but gives up some time. */
static int wait_for(pid_t pid)
{
    const struct timespec nap = {0, NAP_NS};

    for (int i = 0; i < NAPS; i++) {
        pid_t p = waitpid(pid, NULL, WNOHANG);

        if (p != 0)
            return p == pid ? 0 : -1;
        if (i > 0)
            nanosleep(&nap, NULL);
    }
    return -1;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "end") == 0)
        return 0;
    if (argc != 4)
        return 2;
    self = argv[0];
    dir = argv[3];
    for (int i = 0; i < atoi(argv[2]); i++) {
        pid_t pid;

        srandom((unsigned)i);
        pid = fork();
        if (pid == 0)
            child(argv[1]);
        usleep((useconds_t)(random() % LONGEST_US));
        kill(pid, SIGKILL);
        if (pid < 0 || wait_for(pid) < 0) {
            printf("lost %d\n", i);
            return 3;
        }
    }
    printf("ended %s\n", argv[2]);
    return 0;
}
