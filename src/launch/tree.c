/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding the descendants of the anchor in /proc when the kernel has no Landlock signal scopes
 * (ABI < 6). Runs in the anchor: raw calls, no allocation. /proc is the kernel's, its text trusted.
 */
#include <dirent.h>
#include <errno.h>

#include "launch/internal.h"
#include "sys/raw_calls.h"

static int32_t tree_parse(const char *s)
{
    int32_t v = 0;

    if (*s < '0' || *s > '9')
        return -1;
    for (; *s >= '0' && *s <= '9'; s++)
        v = v * 10 + (*s - '0');
    return v;
}

/* Parent of a process from /proc/PID/stat: the field behind the last ')' and the state. */
static int32_t tree_parent(int proc_fd, const char *name)
{
    char path[32], text[512];
    size_t i = 0;
    long n, fd;

    for (; i < 16 && name[i]; i++)
        path[i] = name[i];
    for (const char *t = "/stat"; *t; t++)
        path[i++] = *t;
    path[i] = '\0';
    fd = raw_openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = raw_read((int)fd, text, sizeof(text) - 1);
    raw_close((int)fd);
    if (n <= 0)
        return -1;
    text[n] = '\0';
    for (long k = n - 1; k >= 0; k--) {
        if (text[k] == ')')
            return k + 4 < n ? tree_parse(text + k + 4) : -1;
    }
    return -1;
}

static bool tree_has(const int32_t *pids, size_t n, int32_t pid)
{
    for (size_t i = 0; i < n; i++) {
        if (pids[i] == pid)
            return true;
    }
    return false;
}

/* One pass over /proc: adds processes whose parent is known. Returns the new count. */
static size_t tree_pass(int proc_fd, int32_t *pids, size_t n, size_t max)
{
    _Alignas(8) char buf[4096];
    long got;

    raw_rewind(proc_fd);
    while ((got = raw_getdents64(proc_fd, buf, sizeof(buf))) > 0) {
        for (long at = 0; at < got;) {
            const struct uapi_dirent *d = (const void *)(buf + at);
            int32_t pid = tree_parse(d->name);

            at += d->len;
            if (pid > 0 && n < max && !tree_has(pids, n, pid) &&
                tree_has(pids, n, tree_parent(proc_fd, d->name)))
                pids[n++] = pid;
        }
    }
    return n;
}

void anchor_signal_tree(int32_t *pids, size_t npids, int sig)
{
    long proc_fd = raw_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    size_t n = 1, before;

    if (proc_fd < 0 || npids == 0)
        return;
    pids[0] = (int32_t)raw_getpid();
    do {
        before = n;
        n = tree_pass((int)proc_fd, pids, n, npids);
        for (size_t i = before; i < n && sig == SIGKILL; i++)
            raw_kill(pids[i], SIGSTOP); /* no further children while we look */
    } while (n > before);
    for (size_t i = 1; i < n; i++)
        raw_kill(pids[i], sig);
    raw_close((int)proc_fd);
}
