/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls that a supervisor makes the caller repeat in another form (chdir, O_PATH, exec), while signals
 * arrive and the process is stopped and continued, or from several threads at once.
 *   call_storm signals N MICROSECONDS    call_storm threads N
 * A call that is notified begins again with each signal that comes before the supervisor took it, so the
 * time between signals must be longer than that takes on this machine.
 * The directories are /etc and /tmp. Prints "fine" and exits 0, or says what was wrong and exits 1.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t signals;
static int count;
static long interval;

static void on_signal(int sig)
{
    (void)sig;
    signals++;
}

static void wrong(const char *what)
{
    printf("%s: %s\n", what, strerror(errno));
    fflush(stdout);
    _exit(1);
}

static void look(const char *dir)
{
    struct stat here, there;
    int fd = open(dir, O_PATH | O_CLOEXEC);

    if (fd < 0)
        wrong("open");
    if (fstat(fd, &here) < 0 || stat(dir, &there) < 0 || here.st_ino != there.st_ino)
        wrong("another directory");
    if (close(fd) < 0)
        wrong("close");
}

static void enter(const char *dir)
{
    char name[64];

    if (chdir(dir) < 0)
        wrong("chdir");
    if (!getcwd(name, sizeof(name)) || strcmp(name, dir) != 0)
        wrong("getcwd");
}

static void run(void)
{
    char *argv[] = {(char *)"call_storm", (char *)"nothing", NULL};
    int status;
    pid_t pid = vfork();

    if (pid == 0) {
        execv("/call_storm", argv);
        _exit(9);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
        wrong("exec");
}

static void *thread(void *arg)
{
    for (int i = 0; i < count; i++) {
        look((long)arg % 2 ? "/etc" : "/tmp");
        if (i % 16 == 0)
            run();
    }
    return NULL;
}

static void stopper(pid_t of)
{
    if (fork() != 0)
        return;
    for (int i = 0; i < count / 4 && kill(of, SIGSTOP) == 0; i++) {
        usleep((useconds_t)interval);
        kill(of, SIGCONT);
        usleep((useconds_t)interval * 2);
    }
    kill(of, SIGCONT);
    _exit(0);
}

int main(int argc, char **argv)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    struct itimerval often = {{0, 0}, {0, 0}}, never = {{0, 0}, {0, 0}};
    pthread_t id[4];

    if (argc < 3)
        return argc == 2 && strcmp(argv[1], "nothing") == 0 ? 0 : 2;
    count = atoi(argv[2]);
    interval = argc > 3 ? atol(argv[3]) : 1000;
    often.it_value.tv_usec = often.it_interval.tv_usec = interval;
    if (strcmp(argv[1], "threads") == 0) {
        for (long i = 0; i < 4; i++)
            pthread_create(&id[i], NULL, thread, (void *)i);
        for (int i = 0; i < 4; i++)
            pthread_join(id[i], NULL);
    } else {
        sigaction(SIGALRM, &act, NULL);
        stopper(getpid());
        setitimer(ITIMER_REAL, &often, NULL);
        for (int i = 0; i < count; i++) {
            enter(i % 2 ? "/etc" : "/tmp");
            look("/etc");
            if (i % 16 == 0)
                run();
        }
        setitimer(ITIMER_REAL, &never, NULL);
        if (!signals)
            wrong("no signal came");
    }
    if (dup(0) != 3)
        wrong("a descriptor is left");
    puts("fine");
    return 0;
}
