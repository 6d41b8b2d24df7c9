/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which sockets are the sandbox's own: found in the descriptors of its processes. Receiver threads in
 * the command's outer Landlock domain, which lets them look at members and at nobody else; the numbers
 * come from the kernel. Costs a walk over /proc: for answers that are asked for rarely.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "net/rules.h"

static int inodes_add(struct net_inodes *s, uint64_t ino)
{
    if ((s->n & (s->n - 1)) == 0) {
        uint64_t *v = reallocarray(s->v, s->n ? s->n * 2 : 1, sizeof(*v));

        if (!v)
            return -ENOMEM;
        s->v = v;
    }
    s->v[s->n++] = ino;
    return 0;
}

/* The sockets of one process; silently none of those that we may not look at. */
static int inodes_of_process(struct net_inodes *s, const char *pid)
{
    char path[32], link[64];
    struct dirent *e;
    DIR *d;
    int rc = 0;

    snprintf(path, sizeof(path), "/proc/%.16s/fd", pid);
    d = opendir(path);
    if (!d)
        return 0;
    while (rc == 0 && (e = readdir(d))) {
        unsigned long long ino;
        ssize_t n = readlinkat(dirfd(d), e->d_name, link, sizeof(link) - 1);

        if (n < 0 && (errno == EACCES || errno == EPERM))
            break;
        if (n <= 0)
            continue;
        link[n] = '\0';
        if (sscanf(link, "socket:[%llu]", &ino) == 1)
            rc = inodes_add(s, ino);
    }
    closedir(d);
    return rc;
}

static int inode_compare(const void *a, const void *b)
{
    const uint64_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

int net_own_inodes(struct net_inodes *ret)
{
    DIR *d = opendir("/proc");
    struct dirent *e;
    char self[16];
    int rc = 0;

    *ret = (struct net_inodes){0};
    if (!d)
        return -errno;
    snprintf(self, sizeof(self), "%d", (int)getpid());
    while (rc == 0 && (e = readdir(d))) {
        /* We hold duplicates ourselves, and what belongs to nobody inside. */
        if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && strcmp(e->d_name, self) != 0)
            rc = inodes_of_process(ret, e->d_name);
    }
    closedir(d);
    if (rc < 0) {
        free(ret->v);
        *ret = (struct net_inodes){0};
        return rc;
    }
    util_sort(ret->v, ret->n, sizeof(*ret->v), inode_compare);
    return 0;
}

bool net_process_has_inode(pid_t tid, uint64_t ino)
{
    struct net_inodes s = {0};
    char pid[16];
    bool found = false;

    snprintf(pid, sizeof(pid), "%d", (int)tid);
    (void)inodes_of_process(&s, pid);
    for (size_t i = 0; i < s.n && !found; i++)
        found = s.v[i] == ino;
    free(s.v);
    return found;
}

bool net_inodes_have(const struct net_inodes *s, uint64_t ino)
{
    return s->n && bsearch(&ino, s->v, s->n, sizeof(*s->v), inode_compare);
}
