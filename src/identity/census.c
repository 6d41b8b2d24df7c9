/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One pass over /proc for the parents, one over the threads of the members. The text is the kernel's but
 * for the names of the processes, which end with the last ')'.
 */
#include "identity/census.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "sys/fs.h"

#define CENSUS_PROCESSES (1u << 20) /* of the host; more: no answer */
#define CENSUS_DEPTH 4096u

bool census_parse(const char *text, struct census_stat *ret)
{
    const char *p = strrchr(text, ')');
    unsigned long utime, stime;
    long cutime, cstime;
    int n;

    if (!p)
        return false;
    /* proc_pid_stat(5): state ppid pgrp session tty tpgid flags minflt cminflt majflt cmajflt, then the
     * four times, priority, nice, num_threads. */
    n = sscanf(p + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu %ld %ld %*d %*d %u",
               &ret->state, &ret->ppid, &utime, &stime, &cutime, &cstime, &ret->threads);
    ret->ticks = (uint64_t)utime + stime;
    ret->child_ticks = (uint64_t)cutime + (uint64_t)cstime;
    return n == 7;
}

static bool census_read(int dir_fd, const char *name, struct census_stat *ret)
{
    char path[300], text[1024];
    int fd;
    ssize_t n;

    snprintf(path, sizeof(path), "%s/stat", name);
    fd = sys_openat(dir_fd, path, O_RDONLY | O_CLOEXEC, 0);
    if (fd < 0)
        return false;
    n = read(fd, text, sizeof(text) - 1);
    util_close(fd);
    if (n <= 0)
        return false;
    text[n] = '\0';
    return census_parse(text, ret);
}

struct census_entry {
    pid_t pid, ppid;
    bool member;
    unsigned threads;
    uint64_t ticks;
};

struct census_list {
    size_t n, cap;
    struct census_entry *v; /* in the order of /proc: by number */
};

static struct census_entry *census_find(const struct census_list *l, pid_t pid)
{
    size_t lo = 0, hi = l->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (l->v[mid].pid == pid)
            return &l->v[mid];
        if (l->v[mid].pid < pid)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static int census_add(struct census_list *l, pid_t pid, const struct census_stat *st)
{
    struct census_entry *v;

    if (l->n == CENSUS_PROCESSES)
        return -EOVERFLOW;
    v = util_grow(l->v, l->n, &l->cap, sizeof(*v));
    if (!v)
        return -ENOMEM;
    l->v = v;
    l->v[l->n++] = (struct census_entry){
        .pid = pid,
        .ppid = st->ppid,
        .threads = st->threads,
        .ticks = st->ticks + st->child_ticks,
    };
    return 0;
}

/* Numbers as names of /proc or of a task directory; 0 for other names. */
static pid_t census_number(const char *name)
{
    long n = 0;

    for (; *name >= '0' && *name <= '9' && n < 100000000; name++)
        n = n * 10 + (*name - '0');
    return *name ? 0 : (pid_t)n;
}

static DIR *census_dir(int fd)
{
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d && fd >= 0)
        util_close(fd);
    return d;
}

static int census_all(int proc_fd, struct census_list *l)
{
    DIR *d = census_dir(sys_openat(proc_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0));
    struct dirent *e;
    int r = 0;

    if (!d)
        return -EIO;
    while (r == 0 && (e = readdir(d))) {
        pid_t pid = census_number(e->d_name);
        struct census_stat st;

        if (pid > 0 && census_read(proc_fd, e->d_name, &st))
            r = census_add(l, pid, &st);
    }
    closedir(d);
    return r;
}

static bool census_descends(const struct census_list *l, const struct census_entry *e, pid_t top)
{
    for (unsigned i = 0; e && i < CENSUS_DEPTH; i++) {
        if (e->ppid == top)
            return true;
        e = census_find(l, e->ppid);
    }
    return false;
}

/* The caller waits for our answer; without us it would run. */
static bool census_runs(const struct request *r, pid_t tid, char state)
{
    return tid == r->tid || state == 'R' || state == 'D';
}

static void census_threads(const struct request *r, int proc_fd, pid_t pid, unsigned *budget,
                           struct census *c)
{
    char path[32];
    int task_fd;
    DIR *d;
    struct dirent *e;

    snprintf(path, sizeof(path), "%d/task", (int)pid);
    task_fd = sys_openat(proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    d = census_dir(task_fd);
    if (!d)
        return;
    while (*budget > 0 && (e = readdir(d))) {
        pid_t tid = census_number(e->d_name);
        struct census_stat st;

        if (tid <= 0)
            continue;
        (*budget)--;
        c->running += census_read(dirfd(d), e->d_name, &st) && census_runs(r, tid, st.state);
    }
    closedir(d);
}

int census_take(const struct request *r, struct census *ret)
{
    _cleanup_close_ int proc_fd =
        sys_openat(AT_FDCWD, "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    struct census_list l = {0};
    pid_t anchor = supervisor_anchor(r->sup);
    struct census_stat st;
    unsigned budget = CENSUS_THREADS;
    char name[16];
    int e;

    *ret = (struct census){0};
    if (proc_fd < 0)
        return proc_fd;
    snprintf(name, sizeof(name), "%d", (int)anchor);
    if (census_read(proc_fd, name, &st))
        ret->ticks = st.child_ticks; /* of what it reaped */
    e = census_all(proc_fd, &l);
    for (size_t i = 0; e == 0 && i < l.n; i++) {
        if (!census_descends(&l, &l.v[i], anchor))
            continue;
        ret->processes++;
        ret->threads += l.v[i].threads;
        ret->ticks += l.v[i].ticks;
        ret->last = MAX(ret->last, l.v[i].pid);
        census_threads(r, proc_fd, l.v[i].pid, &budget, ret);
    }
    free(l.v);
    return e;
}
