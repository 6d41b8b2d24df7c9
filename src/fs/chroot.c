/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "fs-chroot": --chroot and --fs-mount (spec filesystem.md §3). Paths are resolved by walk.c in
 * the command's tree and handled by behalf*.c like everybody's; here is what only such a tree needs:
 * the working directory, which the kernel keeps, and its name. Receiver threads.
 */
#include "fs/chroot.h"

#include <errno.h>
#include <string.h>

#include "fs/behalf.h"
#include "fs/fs.h"
#include "plan/root.h"
#include "policy/policy.h"

/* ---- working directory ---- */

/* Gives the caller a descriptor. -ESRCH: over, the notification is answered. Otherwise it is stopped
 * behind its call, and the result is the number or -errno. */
static int chroot_give(const struct request *r, int fd, struct trace *t)
{
    int given = request_addfd(r, fd, O_CLOEXEC);

    return trace_stop(t, given < 0 ? given : -EACCES) < 0 ? -ESRCH : given;
}

static int chroot_give_path(const struct request *r, int fd, bool cloexec, struct trace *t)
{
    int offered = trace_offer(r, fd);

    if (trace_stop(t, offered < 0 ? offered : -EACCES) < 0)
        return -ESRCH;
    return offered < 0 ? offered : trace_receive(t, offered, cloexec);
}

struct verdict view_open_path(const struct request *r, int fd, uint64_t flags)
{
    _cleanup_close_ int again_fd = -1;
    struct trace t;
    int e;

    if (flags & O_DIRECTORY) { /* which F_GETFL shows */
        again_fd = fd_reopen(fd, O_PATH | O_DIRECTORY, 0);
        fd = again_fd < 0 ? fd : again_fd;
    }
    e = trace_hold(r, &t);
    if (e < 0)
        return e == -ESRCH ? verdict_gone() : verdict_errno(e);
    e = chroot_give_path(r, fd, flags & O_CLOEXEC, &t);
    if (e != -ESRCH)
        trace_end(&t, e);
    return verdict_gone();
}

/*
 * The kernel's own working directory is the real one, so that it is inherited, shared by CLONE_FS and
 * shown in /proc as ever. The caller makes the change itself, by descriptor: fchdir can only lead to a
 * directory that it was given. It asks for the right to search, as chdir does.
 */
struct verdict view_chdir(struct request *r, const struct resolved *dir)
{
    /* The receivers may read all of /proc, and what the caller is given its other threads can keep. */
    _cleanup_close_ int read_fd = dir->on_proc ? -1 : fd_reopen(dir->fd, O_RDONLY | O_DIRECTORY, 0);
    int64_t result, ignored;
    struct trace t;
    int given, e = trace_hold(r, &t);

    if (e < 0)
        return e == -ESRCH ? verdict_gone() : verdict_errno(e);
    /* To stand in a directory needs no right to read it; with the right it is quicker. */
    given = read_fd >= 0 ? chroot_give(r, read_fd, &t) : chroot_give_path(r, dir->fd, true, &t);
    if (given == -ESRCH)
        return verdict_gone();
    result = given;
    if (given >= 0 && (trace_call(&t, CALL_fchdir, (uint64_t[6]){(uint64_t)given}, &result) < 0 ||
                       trace_call(&t, CALL_close, (uint64_t[6]){(uint64_t)given}, &ignored) < 0))
        return verdict_gone();
    trace_end(&t, result);
    return verdict_gone();
}

static struct verdict chroot_getcwd(struct request *r)
{
    const struct root *root = supervisor_plan(r->sup)->root;
    char name[PATH_MAX] = "(unreachable)/";
    _cleanup_close_ int fd = request_fd_path(r, AT_FDCWD);
    struct sys_ident id;
    ssize_t n;
    int e;

    if (fd < 0)
        return verdict_errno(fd == -1 ? EIO : fd);
    e = sys_identify(fd, &id);
    if (e < 0)
        return verdict_errno(e);
    if (id.nlink == 0 && !root_mount_top(root, &id))
        return verdict_errno(ENOENT);
    n = view_name(root, fd, name, sizeof(name));
    if (n < 0 && n != -ENOENT)
        return verdict_errno((int)n);
    n = (ssize_t)strlen(name) + 1;
    if ((uint64_t)n > r->call.args[1])
        return verdict_errno(ERANGE);
    e = request_write(r, call_addr(&r->call, 0), name, (size_t)n);
    return e < 0 ? verdict_errno(e) : verdict_value(n);
}

/* ---- the feature ---- */

static bool chroot_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return policy_has_view(p);
}

static void chroot_stop(void *state)
{
    struct chroot *c = state;

    if (!c)
        return;
    programs_free(c->programs);
    free(c);
}

static int chroot_start(struct supervisor *s, void **ret_state, struct error *err)
{
    const struct policy *p = supervisor_policy(s);
    const char *flag = p->chroot ? "--chroot" : p->workdir ? "--workdir" : "--fs-mount";
    struct chroot *c;

    if (!supervisor_kernel(s)->wait_killable)
        return error_set(err, ERROR_SETUP, -ENOSYS, flag, "needs Linux 5.19 or newer");
    if (!kernel_can_ptrace())
        return error_set(err, ERROR_SETUP, -EPERM, flag,
                         "ptrace of own children is refused here (Yama, a container's profile, an "
                         "outer sandlock that runs without --no-supervisor); it is needed to start "
                         "programs of another root");
    c = calloc(1, sizeof(*c));
    if (c)
        c->programs = programs_new();
    if (!c || !c->programs) {
        free(c);
        return error_set(err, ERROR_SETUP, -ENOMEM, flag, "out of memory");
    }
    *ret_state = c;
    return 0;
}

static const struct feature_call chroot_calls[] = {
    BEHALF_CALLS,
    {OP_GETCWD, chroot_getcwd, NULL, 0},
};

const struct feature fs_chroot_feature = {
    .name = "fs-chroot",
    .traces = true,
    .wanted = chroot_wanted,
    .calls = chroot_calls,
    .ncalls = ARRAY_SIZE(chroot_calls),
    .closed = true,
    .behalf = true,
    .start = chroot_start,
    .stop = chroot_stop,
};

int view_program_of(const struct request *r, const struct sys_ident *id)
{
    const struct chroot *c = supervisor_state(r->sup, &fs_chroot_feature);

    return c ? programs_original(c->programs, id) : -ENODATA;
}
