/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The least a launcher can do, as the yardstick of sandlock's own: Landlock rules for reading the
 * given trees, and nothing else. Without -w the program becomes the command ("the same Landlock
 * rules alone"); with -w it starts it with vfork and waits ("a static launcher"). Trusted input.
 *
 *   confine [-w] [-s] DIR... -- COMMAND...   -s: also a filter that allows everything
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sys/landlock.h"
#include "sys/seccomp.h"

static int fail(const char *what)
{
    fprintf(stderr, "confine: %s: %s\n", what, strerror(errno));
    return 125;
}

static int confine(char **trees, int filter)
{
    /* Handles what sandlock handles on an ABI 7 kernel, so that the domain costs the same. */
    const struct uapi_landlock_ruleset attr = {
        .handled_access_fs = 0xffff, .handled_access_net = 3, .scoped = 3};
    const struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    int ruleset = sys_landlock_create(&attr);

    if (ruleset < 0)
        return ruleset;
    for (; strcmp(*trees, "--") != 0; trees++) {
        int fd = open(*trees, O_PATH | O_CLOEXEC);

        if (fd < 0 ||
            sys_landlock_add_path(ruleset,
                                  LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE |
                                      LANDLOCK_ACCESS_FS_READ_DIR,
                                  fd) < 0)
            return -errno;
        close(fd);
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || sys_landlock_restrict(ruleset, 0) < 0)
        return -errno;
    close(ruleset);
    return filter ? sys_seccomp_filter(&allow, 1, 0) : 0;
}

static _Noreturn void become(char **trees, int filter, char **command)
{
    if (confine(trees, filter) < 0)
        _exit(fail("confine"));
    execv(*command, command);
    _exit(fail(*command));
}

/* The parent's memory is the child's until exec: it only makes calls and returns nowhere. */
static pid_t start(char **trees, int filter, char **command)
{
    pid_t pid = vfork();

    if (pid == 0)
        become(trees, filter, command);
    return pid;
}

int main(int argc, char **argv)
{
    int wait_for = 0, filter = 0, end = 1, status = 0;
    char **trees;
    pid_t pid;

    for (; argv[end] && argv[end][0] == '-' && argv[end][1] != '-'; end++) {
        wait_for |= argv[end][1] == 'w';
        filter |= argv[end][1] == 's';
    }
    trees = argv + end;
    while (argv[end] && strcmp(argv[end], "--") != 0)
        end++;
    if (end + 1 >= argc) {
        fprintf(stderr, "usage: confine [-w] [-s] DIR... -- COMMAND...\n");
        return 2;
    }
    if (!wait_for)
        become(trees, filter, argv + end + 1);
    pid = start(trees, filter, argv + end + 1);
    if (pid < 0)
        return fail("vfork");
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
