/* SPDX-License-Identifier: Apache-2.0 */
/* The members of the sandbox, from procfs; see tree.h. */
#include "limits/tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "sys/fs.h"
#include "sys/procfile.h"
#include "sys/uapi.h"

#define TREE_LOOKS 8 /* times a parent is looked up again because it ended meanwhile */

void tree_fini(struct tree *t)
{
    free(t->v);
    *t = (struct tree){0};
}

int tree_add(struct tree *t, pid_t pid)
{
    pid_t *v = t->n >= TREE_MAX ? NULL : util_grow(t->v, t->n, &t->cap, sizeof(*v));

    if (!v)
        return -ENOMEM;
    t->v = v;
    t->v[t->n++] = pid;
    return 0;
}

bool tree_has(const struct tree *t, pid_t pid)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->v[i] == pid)
            return true;
    }
    return false;
}

static int tree_number(const char *s)
{
    int v = 0;

    if (*s < '1' || *s > '9')
        return -1;
    for (; *s >= '0' && *s <= '9'; s++)
        v = v * 10 + (*s - '0');
    return *s ? -1 : v;
}

int tree_each_number(const char *dir, int (*fn)(void *arg, int number), void *arg)
{
    _cleanup_close_ int fd = sys_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
    _Alignas(8) char buf[8192];
    ssize_t got;

    if (fd < 0)
        return fd;
    while ((got = sys_getdents64(fd, buf, sizeof(buf))) > 0) {
        for (ssize_t at = 0; at < got;) {
            const struct uapi_dirent *d = (const void *)(buf + at);
            int number = tree_number(d->name);
            int r = number > 0 ? fn(arg, number) : 0;

            if (r < 0)
                return r;
            at += d->len;
        }
    }
    return (int)got;
}

/* ---- by the lists of children ---- */

struct tree_parent {
    struct tree *t;
    pid_t pid;
};

static int walk_thread(void *arg, int tid)
{
    struct tree_parent *p = arg;
    char path[64];
    FILE *f;
    int child;
    int r = 0;

    snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)p->pid, tid);
    f = fopen(path, "re");
    if (!f) /* the thread ended; without CONFIG_PROC_CHILDREN the anchor has none either */
        return errno == ENOENT && p->t->n == 0 && tid == p->pid ? -ENOSYS : 0;
    while (r == 0 && fscanf(f, "%d", &child) == 1)
        r = tree_add(p->t, child);
    fclose(f);
    return r;
}

int tree_walk(struct tree *t, pid_t anchor)
{
    struct tree_parent p = {.t = t, .pid = anchor};
    char path[32];
    int r;

    t->n = 0;
    for (size_t i = 0;; i++) {
        snprintf(path, sizeof(path), "/proc/%d/task", (int)p.pid);
        r = tree_each_number(path, walk_thread, &p);
        if (r == -ENOSYS)
            return tree_scan(t, anchor);
        if (r == -ENOMEM)
            return r;
        if (i == t->n)
            return 0;
        p.pid = t->v[i];
    }
}

/* ---- by looking at everybody ---- */

enum tree_side { SIDE_UNKNOWN = 0, SIDE_OUT, SIDE_IN };
struct tree_row {
    pid_t pid, ppid;
    enum tree_side side;
};
struct tree_rows {
    struct tree_row *v;
    size_t n, cap;
};

/* 0: it is gone, or the kernel's own. */
static pid_t tree_parent_of(pid_t pid)
{
    struct sys_stat st;
    char path[32];

    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    return sys_read_stat(path, &st) < 0 ? 0 : st.ppid;
}

static int scan_row(void *arg, int pid)
{
    struct tree_rows *rows = arg;
    struct tree_row *v = util_grow(rows->v, rows->n, &rows->cap, sizeof(*v));

    if (!v)
        return -ENOMEM;
    rows->v = v;
    rows->v[rows->n++] = (struct tree_row){.pid = pid, .ppid = tree_parent_of(pid)};
    return 0;
}

static int compare_rows(const void *a, const void *b)
{
    const struct tree_row *x = a, *y = b;

    return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct tree_row *find_row(const struct tree_rows *rows, pid_t pid)
{
    struct tree_row key = {.pid = pid};

    return rows->n ? bsearch(&key, rows->v, rows->n, sizeof(key), compare_rows) : NULL;
}

/* A parent that is not in the list ended while we looked; the kernel then gave the child another. */
static void settle_parent(const struct tree_rows *rows, struct tree_row *row, pid_t anchor)
{
    for (int i = 0; i < TREE_LOOKS && row->ppid != 0 && row->ppid != anchor; i++) {
        if (find_row(rows, row->ppid))
            return;
        row->ppid = tree_parent_of(row->pid);
    }
    if (row->ppid == 0)
        row->side = SIDE_OUT;
    else
        row->side = SIDE_IN; /* the anchor's, or nobody can tell: counted */
}

static enum tree_side row_side(const struct tree_rows *rows, struct tree_row *row)
{
    enum tree_side side = SIDE_IN; /* a chain without end cannot be: count it */
    struct tree_row *at = row;

    for (size_t i = 0; at && i <= rows->n; i++) {
        if (at->side != SIDE_UNKNOWN) {
            side = at->side;
            break;
        }
        at = find_row(rows, at->ppid);
    }
    /* What was found out holds for everybody on the way. */
    for (at = row; at && at->side == SIDE_UNKNOWN; at = find_row(rows, at->ppid))
        at->side = side;
    return side;
}

int tree_scan(struct tree *t, pid_t anchor)
{
    struct tree_rows rows = {0};
    int r = tree_each_number("/proc", scan_row, &rows);

    t->n = 0;
    if (r == 0)
        util_sort(rows.v, rows.n, sizeof(*rows.v), compare_rows);
    for (size_t i = 0; r == 0 && i < rows.n; i++)
        settle_parent(&rows, &rows.v[i], anchor);
    for (size_t i = 0; r == 0 && i < rows.n; i++) {
        if (rows.v[i].pid != anchor && row_side(&rows, &rows.v[i]) == SIDE_IN)
            r = tree_add(t, rows.v[i].pid);
    }
    free(rows.v);
    return r;
}
