/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The terminal between the caller's job and the command's process group. Runs in the thread that
 * runs the sandbox.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

#include "launch/block.h"

/* The terminal is handed over at once when the command has it for itself. In a pipeline another
 * member of our job may want it: there the command gets it when it asks (launch_terminal_give). */
void launch_setup_terminal(const struct launch_spec *spec, struct launch *l)
{
    static const int order[] = {0, 2, 1};
    struct launch_block *b = l->block;
    bool pipeline = false;
    int from = -1;

    for (int i = 0; i < 3; i++) {
        struct stat st;

        if (spec->stdio[i] != STDIO_INHERIT)
            return;
        if (from < 0 && isatty(order[i]))
            from = order[i];
        if (i < 2 && fstat(i, &st) == 0 && (S_ISFIFO(st.st_mode) || S_ISSOCK(st.st_mode)))
            pipeline = true;
    }
    if (!spec->foreground || from < 0 || tcgetpgrp(from) < 0)
        return;
    l->tty_fd = fcntl(from, F_DUPFD_CLOEXEC, 3);
    if (l->tty_fd < 0 || tcgetpgrp(from) != getpgrp())
        return; /* started in the background: perhaps `fg` later */
    b->have_modes = tcgetattr(l->tty_fd, &b->modes) == 0;
    b->child.tty_fd = pipeline ? -1 : from;
}

/* tcsetpgrp from a background group raises SIGTTOU unless blocked (tcsetpgrp(3)). */
static void terminal_set_group(int tty_fd, pid_t group)
{
    sigset_t ttou, old;

    sigemptyset(&ttou);
    sigaddset(&ttou, SIGTTOU);
    sigprocmask(SIG_BLOCK, &ttou, &old);
    (void)tcsetpgrp(tty_fd, group);
    sigprocmask(SIG_SETMASK, &old, NULL);
}

bool launch_terminal_take(struct launch *l)
{
    if (l->tty_fd < 0 || tcgetpgrp(l->tty_fd) != l->pid)
        return false;
    terminal_set_group(l->tty_fd, getpgrp());
    return true;
}

bool launch_terminal_give(struct launch *l)
{
    if (l->tty_fd < 0 || tcgetpgrp(l->tty_fd) != getpgrp())
        return false;
    if (!l->block->have_modes)
        l->block->have_modes = tcgetattr(l->tty_fd, &l->block->modes) == 0;
    terminal_set_group(l->tty_fd, l->pid);
    return true;
}
