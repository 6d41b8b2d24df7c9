/* SPDX-License-Identifier: Apache-2.0 */
/*
 * exec in the command's own tree (CR-02). Receiver threads. Program, script interpreters and loader are
 * found and opened here; the caller then executes the descriptor by a call of its own, and its new stack
 * gets the names that the kernel did not know. Nothing of the caller's memory is changed.
 *
 * The caller's other threads may exchange descriptor or path before the kernel looks: what it can reach
 * then are programs at places of the host, and its Landlock domain lets it execute only what the policy
 * grants, wherever that is found.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include "base/strv.h"
#include "fs/behalf.h"
#include "fs/chroot.h"
#include "fs/fs.h"
#include "fs/staged.h"
#include "supervisor/exec_guard.h"

#define EXEC_CHECK 0x10000u /* AT_EXECVE_CHECK, 6.14 */
#define EXEC_HEAD 256       /* BINPRM_BUF_SIZE: what the kernel reads of a script */
#define EXEC_MAX_DEPTH 5    /* interpreters of interpreters, as the kernel */
#define EXEC_VDSO_MAX 16384

struct load {
    struct strv words; /* argv instead of the caller's argv[0]: of a script */
    int program_fd, loader_fd;
    struct program program;
    char execfn[PATH_MAX + 24]; /* AT_EXECFN */
    char comm[16];
};

static void load_fini(struct load *l)
{
    strv_fini(&l->words);
    util_close(l->program_fd);
    util_close(l->loader_fd);
}

/* ---- finding what to execute ---- */

/* Descriptor of a file that the caller may execute. Its permission is asked for on the object, and the
 * grants on the open: to read includes to execute. */
static int load_open(const struct request *r, const struct resolved *o)
{
    _cleanup_close_ int original_fd = view_program_of(r, &o->id);
    int e, fd = original_fd >= 0 ? original_fd : o->fd;
    struct resolved program = *o;

    if (S_ISLNK(o->id.mode))
        return -ELOOP;
    if (!S_ISREG(o->id.mode))
        return -EACCES;
    program.fd = fd; /* borrowed */
    program.staged = o->staged && fd == o->fd;
    e = staged_access(r, fd, X_OK, AT_EACCESS);
    if (e == 0)
        e = staged_reopen(r, &program, O_RDONLY | O_NONBLOCK, 0);
    return e != -ENODATA ? e : fd_reopen(fd, O_RDONLY | O_NONBLOCK, 0);
}

static int load_open_path(const struct request *r, const char *path)
{
    _cleanup_resolved_ struct resolved o = RESOLVED_INIT;
    int e = resolve_path(r, AT_FDCWD, path, WALK_FOLLOW, &o);

    if (e == 0)
        e = behalf_judge(r, &o, JUDGE_LOOK, path);
    e = e < 0 ? e : load_open(r, &o);
    if (e == -EACCES)
        request_explain(r, path, EACCES, "no read grant on the interpreter, or file permissions",
                        "add --fs-read");
    return e;
}

static bool script_is_space(char c)
{
    return c == ' ' || c == '\t';
}

/* First character in [at, last] that is no space; or that ends a word. NULL: none. */
static char *script_skip(char *at, const char *last, bool spaces)
{
    for (; at <= last; at++) {
        if (spaces ? !script_is_space(*at) : script_is_space(*at) || !*at)
            return at;
    }
    return NULL;
}

/* "#!interpreter argument", step by step as load_script() of the kernel does it: the line ends where its
 * buffer does, then the argument is cut off, but not the interpreter. 0, -ENOEXEC, or -EACCES for the
 * interpreter without a name, which is the working directory. */
static int script_parse(char head[EXEC_HEAD + 1], char **ret_interpreter, char **ret_argument)
{
    char *last = head + EXEC_HEAD - 1, *end = memchr(head, '\n', EXEC_HEAD), *at;

    if (!end) {
        at = script_skip(head + 2, last, true);
        if (!at || !script_skip(at, last, false))
            return -ENOEXEC;
        end = last;
    }
    while (script_is_space(end[-1]))
        end--;
    *end = '\0';
    *ret_interpreter = script_skip(head + 2, end, true);
    if (!*ret_interpreter || *ret_interpreter == end)
        return -ENOEXEC;
    *ret_argument = NULL;
    at = script_skip(*ret_interpreter, end, false);
    if (at && *at) {
        *ret_argument = script_skip(at, end, true);
        *at = '\0';
    }
    return **ret_interpreter ? 0 : -EACCES;
}

/* The new words go before the ones that are there; of the first script, before its own name. */
static int script_words(struct load *l, const char *interpreter, const char *argument)
{
    struct strv words = {0};
    int e = strv_add(&words, interpreter);

    if (e == 0 && argument)
        e = strv_add(&words, argument);
    if (e == 0 && l->words.n == 0)
        e = strv_add(&words, l->execfn);
    for (size_t i = 0; e == 0 && i < l->words.n; i++)
        e = strv_add(&words, l->words.v[i]);
    strv_fini(&l->words);
    l->words = words;
    return e;
}

/* Follows the chain of scripts to a program. */
static int load_scripts(const struct request *r, struct load *l, bool hidden_name)
{
    char head[EXEC_HEAD + 1], *interpreter, *argument;

    for (unsigned depth = 0;; depth++) {
        ssize_t n = pread(l->program_fd, head, EXEC_HEAD, 0);
        int e;

        if (n < 0)
            return -errno;
        memset(head + n, 0, sizeof(head) - (size_t)n);
        if (n < 2 || head[0] != '#' || head[1] != '!')
            return 0;
        if (depth == EXEC_MAX_DEPTH)
            return -ELOOP;
        if (hidden_name && depth == 0)
            return -ENOENT; /* the interpreter could not open it: closed by this very exec */
        e = script_parse(head, &interpreter, &argument);
        if (e == 0)
            e = script_words(l, interpreter, argument);
        if (e < 0)
            return e;
        util_close(l->program_fd);
        l->program_fd = load_open_path(r, interpreter);
        if (l->program_fd < 0)
            return l->program_fd;
    }
}

/* Does the kernel find the same loader by itself? So it is where only mounts change the tree. */
static bool loader_is_hosts(const struct load *l)
{
    _cleanup_close_ int fd = sys_open_path(AT_FDCWD, l->program.loader, 0);
    struct sys_ident here, there;

    return fd >= 0 && sys_identify(fd, &here) == 0 && sys_identify(l->loader_fd, &there) == 0 &&
           sys_ident_same(&here, &there);
}

static int load_loader(const struct request *r, struct load *l)
{
    struct program *loader;
    int e = program_read(l->program_fd, &l->program);

    if (e < 0 || !l->program.loader[0])
        return e;
    l->loader_fd = load_open_path(r, l->program.loader);
    if (l->loader_fd < 0)
        return l->loader_fd;
    loader = malloc(sizeof(*loader));
    e = loader ? program_read(l->loader_fd, loader) : -ENOMEM;
    free(loader);
    if (e < 0)
        return e == -ENOEXEC ? -ELIBBAD : e;
    if (loader_is_hosts(l))
        l->loader_fd = util_close(l->loader_fd);
    return 0;
}

static int caller_cloexec(const struct request *r, int fd)
{
    int flags = fd == AT_FDCWD ? 0 : request_fd_flags(r, fd);

    return flags > 0 && (flags & O_CLOEXEC);
}

/* The name by which the kernel would know the program, and whether an interpreter could use it. */
static void load_names(const struct request *r, const struct resolved *o, const char *path,
                       struct load *l, bool *ret_hidden)
{
    int dirfd = call_int(&r->call, 0);
    char place[PATH_MAX];
    const char *name = path;

    *ret_hidden = false;
    if (path[0] == '/' || dirfd == AT_FDCWD) {
        snprintf(l->execfn, sizeof(l->execfn), "%s", path);
    } else {
        snprintf(l->execfn, sizeof(l->execfn), "/dev/fd/%d%s%s", dirfd, *path ? "/" : "", path);
        *ret_hidden = caller_cloexec(r, dirfd);
    }
    if (!*path && fd_location(o->fd, place, sizeof(place)) > 0)
        name = place;
    name = strrchr(name, '/') ? strrchr(name, '/') + 1 : name;
    snprintf(l->comm, sizeof(l->comm), "%.15s", name);
}

static int load_find(const struct request *r, const struct resolved *o, const char *path,
                     struct load *l)
{
    bool hidden;
    int e;

    load_names(r, o, path, l, &hidden);
    l->program_fd = load_open(r, o);
    if (l->program_fd < 0)
        return l->program_fd;
    e = load_scripts(r, l, hidden);
    return e < 0 ? e : load_loader(r, l);
}

/* ---- executing it ---- */

/* What to hand over: the program, or a copy of it that looks for its loader at that number. */
static int load_prepare(const struct request *r, struct load *l, int *ret_number)
{
    const struct chroot *c = supervisor_state(r->sup, &fs_chroot_feature);
    int fd;

    *ret_number = -1;
    if (l->loader_fd < 0)
        return 0;
    *ret_number = trace_number(r);
    if (*ret_number < 0)
        return *ret_number;
    fd = programs_copy(c->programs, l->program_fd, &l->program, (unsigned)*ret_number, l->comm);
    if (fd < 0)
        return fd;
    util_close(l->program_fd);
    l->program_fd = fd;
    return 0;
}

/* A call instruction in the new image. */
static uint64_t image_call(const struct trace *t, const struct image *image)
{
    static _Atomic uint64_t offset; /* plus one; 0: not looked for yet. The same in every process */
    _cleanup_free_ uint8_t *buf = NULL;
    const uint8_t *found;
    uint64_t at = offset;
    ssize_t n;

    if (!image->vdso)
        return 0;
    if (at)
        return image->vdso + at - 1;
    buf = malloc(EXEC_VDSO_MAX);
    struct iovec local = {buf, EXEC_VDSO_MAX};
    struct iovec remote = {(void *)(uintptr_t)image->vdso, EXEC_VDSO_MAX};
    n = buf ? process_vm_readv(t->pid, &local, 1, &remote, 1, 0) : -1;
    found = n > 0 ? memmem(buf, (size_t)n, arch_syscall_insn, arch_syscall_insn_len) : NULL;
    if (!found)
        return 0;
    offset = (uint64_t)(found - buf) + 1;
    return image->vdso + offset - 1;
}

static void image_kill(const struct trace *t)
{
    int status;

    kill(t->pid, SIGKILL);
    while (waitpid(t->pid, &status, __WALL | __WNOTHREAD) >= 0) {
        if (!WIFSTOPPED(status))
            return;
    }
}

/* The process is stopped in its new image: names, then go. */
static void image_start(struct trace *t, const struct load *l)
{
    const char *slash = strrchr(l->execfn, '/');
    struct image image;
    int64_t ignored;
    uint64_t insn;

    if (chroot_stack(t, &l->words, l->execfn, &image) < 0) {
        image_kill(t);
        return;
    }
    insn = image_call(t, &image);
    if (insn && trace_leave_exec(t, insn) < 0)
        return;
    if (insn &&
        trace_call(t, CALL_prctl,
                   (uint64_t[6]){PR_SET_NAME,
                                 image.execfn + (slash ? (uint64_t)(slash - l->execfn) + 1 : 0)},
                   &ignored) < 0)
        return;
    /* The hooks see the stack that the program will have. Not a byte of it has run. */
    if (arch_regs_set(t->pid, &t->regs) < 0 || exec_guard_hooks(t->r, t->pid) != 0) {
        image_kill(t);
        return;
    }
    trace_end_exec(t);
}

static void exec_failed(struct trace *t, const int given[2], int64_t result)
{
    int64_t ignored;

    for (int i = 0; i < 2; i++) {
        if (given[i] >= 0 &&
            trace_call(t, CALL_close, (uint64_t[6]){(uint64_t)given[i]}, &ignored) < 0)
            return;
    }
    trace_end(t, result);
}

static struct verdict exec_perform(const struct request *r, const struct load *l, int number,
                                   uint64_t empty)
{
    int given[2] = {-1, -1}, e;
    struct trace t;
    int64_t result;

    e = trace_hold(r, &t);
    if (e < 0)
        return e == -ESRCH ? verdict_gone() : verdict_errno(e);
    /* The one whose number is fixed goes first: the other takes any that is free. */
    if (number >= 0)
        given[1] = e = request_addfd_at(r, l->loader_fd, number, O_CLOEXEC);
    if (e >= 0)
        given[0] = e = request_addfd(r, l->program_fd, O_CLOEXEC);
    if (trace_stop(&t, e < 0 ? e : -EACCES) < 0)
        return verdict_gone();
    if (e < 0) {
        exec_failed(&t, given, e == -EBADF ? -EMFILE : e);
        return verdict_gone();
    }
    e = trace_exec(&t,
                   (uint64_t[6]){(uint64_t)given[0], empty, r->call.args[2], r->call.args[3],
                                 AT_EMPTY_PATH, plan_exec_mark()},
                   &result);
    if (e > 0)
        image_start(&t, l);
    else if (e == 0)
        exec_failed(&t, given, result);
    return verdict_gone();
}

/* What was found is executed. */
static struct verdict exec_found(const struct request *r, const char *path, struct load *l)
{
    child_addr empty = call_addr(&r->call, 1);
    int number, e;

    if (call_u32(&r->call, 4) & EXEC_CHECK)
        return verdict_value(0);
    if (!empty.addr)
        return verdict_errno(EFAULT);
    e = load_prepare(r, l, &number);
    if (e < 0)
        return verdict_errno(e);
    if (!request_alive(r))
        return verdict_gone();
    /* The path's own end is an empty path. */
    return exec_perform(r, l, number, empty.addr + strlen(path));
}

/* A lease on one of the files (fcntl(2), F_SETLEASE): the kernel's exec waits until its holder has let it
 * go. A worker looks again and again, as for opens. */
struct exec_later {
    struct resolved program;
    char path[PATH_MAX];
};

static void exec_later_free(struct exec_later *l)
{
    if (l)
        resolved_fini(&l->program);
    free(l);
}

static struct verdict exec_wait(const struct request *r, void *arg)
{
    struct exec_later *later = arg;
    struct verdict v = verdict_gone();
    long nap = 0;
    int e = -EAGAIN;

    while (e == -EAGAIN && behalf_nap(r, &nap)) {
        _cleanup_(load_fini) struct load l = {.program_fd = -1, .loader_fd = -1};

        e = load_find(r, &later->program, later->path, &l);
        if (e != -EAGAIN)
            v = e < 0 ? verdict_errno(e) : exec_found(r, later->path, &l);
    }
    exec_later_free(later);
    return v;
}

static struct verdict exec_later(const struct request *r, const struct resolved *program,
                                 const char *path)
{
    struct exec_later *l = malloc(sizeof(*l));
    struct verdict v;

    if (!l)
        return verdict_errno(ENOMEM);
    l->program = (struct resolved)RESOLVED_INIT;
    l->program.id = program->id;
    l->program.staged = program->staged;
    l->program.in_upper = program->in_upper;
    l->program.fd = fcntl(program->fd, F_DUPFD_CLOEXEC, 3);
    snprintf(l->path, sizeof(l->path), "%s", path);
    v = l->program.fd < 0 ? verdict_errno(errno) : request_defer(r, exec_wait, l);
    if (v.kind != VERDICT_LATER)
        exec_later_free(l);
    return v;
}

struct verdict view_exec(struct request *r, const struct resolved *program, const char *path)
{
    _cleanup_(load_fini) struct load l = {.program_fd = -1, .loader_fd = -1};
    int e = load_find(r, program, path, &l);

    if (e == -EAGAIN)
        return exec_later(r, program, path);
    return e < 0 ? verdict_errno(e) : exec_found(r, path, &l);
}
