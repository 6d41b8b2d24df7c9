/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Building the set of denied objects from the user's paths. Runs in the caller before the child
 * exists.
 */
#include "fs/deny_set.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "policy/policy.h"

#define DENY_MAX 1024

int deny_open_dir(struct deny_entry *e, const char *path, size_t *ret_off)
{
    char buf[PATH_MAX];
    size_t end = strlen(path);

    if (end >= sizeof(buf))
        return -ENAMETOOLONG;
    for (;;) {
        while (end > 0 && path[end - 1] != '/')
            end--;
        memcpy(buf, path, end);
        buf[end] = '\0';
        e->dir_fd = sys_open_path(AT_FDCWD, end ? buf : "/", O_DIRECTORY);
        if (e->dir_fd >= 0) {
            *ret_off = end;
            return sys_identify(e->dir_fd, &e->dir);
        }
        if (e->dir_fd != -ENOENT || end <= 1)
            return e->dir_fd;
        end--; /* the slash: one component less */
    }
}

static int deny_open_object(struct deny_entry *e, const char *path)
{
    int r;

    e->link_fd = sys_open_path(AT_FDCWD, path, O_NOFOLLOW);
    if (e->link_fd == -ENOENT)
        return 0;
    if (e->link_fd < 0)
        return e->link_fd;
    r = sys_identify(e->link_fd, &e->link);
    if (r < 0 || !S_ISLNK(e->link.mode)) {
        e->obj_fd = steal_fd(&e->link_fd);
        e->id = e->link;
        return r;
    }
    e->obj_fd = sys_open_path(AT_FDCWD, path, 0);
    if (e->obj_fd == -ENOENT)
        return 0; /* a dangling link: the link itself is denied, and its target's place below */
    return e->obj_fd < 0 ? e->obj_fd : sys_identify(e->obj_fd, &e->id);
}

static int deny_entry_init(struct deny_entry *e, const char *given)
{
    char *path = e->path = strdup(given);
    size_t off = 0;
    int r;

    if (!path)
        return -ENOMEM;
    path_squeeze(path);
    r = deny_open_object(e, path);
    if (r < 0)
        return r;
    r = deny_open_dir(e, path, &off);
    if (r < 0)
        return r;
    /* "/a/..": the object is known, a name for its place is not needed. Below a directory that
     * does not exist ".." has no meaning yet. */
    if (strstr(path + off, "..") &&
        (strcmp(path + off, "..") == 0 || strstr(path + off, "../") || strstr(path + off, "/..")))
        return strcmp(path + off, "..") == 0 ? (e->rest = strdup("")) ? 0 : -ENOMEM : -EINVAL;
    e->rest = strdup(path + off);
    return e->rest ? 0 : -ENOMEM;
}

/* The place of an entry's target when it was given through a link: an entry of its own. */
static int deny_entry_target(struct deny_entry *e, const struct deny_entry *of)
{
    char path[PATH_MAX];
    ssize_t n;

    if (of->obj_fd < 0)
        return 0;
    n = fd_location(of->obj_fd, path, sizeof(path));
    if (n < 0)
        return (int)n;
    return path[0] == '/' ? deny_entry_init(e, path) : 0;
}

static void deny_entry_fini(struct deny_entry *e)
{
    util_close(e->obj_fd);
    util_close(e->link_fd);
    util_close(e->dir_fd);
    free(e->path);
    free(e->rest);
    free(e->place[0]);
    free(e->place[1]);
}

void deny_free(struct deny *d)
{
    if (!d)
        return;
    for (size_t i = 0; i < d->n; i++)
        deny_entry_fini(&d->v[i]);
    pthread_rwlock_destroy(&d->lock);
    pthread_mutex_destroy(&d->rename_lock);
    free(d);
}

int deny_new(const struct strv *paths, struct deny **ret, struct error *err)
{
    struct deny *d;
    int r;

    if (paths->n > DENY_MAX)
        return error_set(err, ERROR_POLICY, -E2BIG, "--fs-deny", "more than %d paths", DENY_MAX);
    d = calloc(1, sizeof(*d) + 2 * paths->n * sizeof(d->v[0]));
    if (!d)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--fs-deny", "out of memory");
    pthread_rwlock_init(&d->lock, NULL);
    pthread_mutex_init(&d->rename_lock, NULL);
    for (size_t i = 0; i < paths->n; i++) {
        struct deny_entry *e = &d->v[d->n++];

        e->obj_fd = e->link_fd = e->dir_fd = -1;
        r = deny_entry_init(e, paths->v[i]);
        if (r == 0 && e->link_fd >= 0 && S_ISLNK(e->link.mode)) {
            struct deny_entry *t = &d->v[d->n++];

            t->obj_fd = t->link_fd = t->dir_fd = -1;
            r = deny_entry_target(t, e);
        }
        if (r < 0) {
            deny_free(d);
            return error_set(err, ERROR_SETUP, r, "--fs-deny", "%s: %s", paths->v[i],
                             error_text(r));
        }
    }
    *ret = d;
    return 0;
}
