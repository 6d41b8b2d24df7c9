/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Candidates of the PATH search and the diagnosis of a failed exec. The diagnosis looks at the file
 * after the fact, only to choose a sentence: no decision depends on it.
 */
#include "launch/exec_path.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "launch/environment.h"
#include "plan/root.h"

#define REACH_MAX 32
#define DEFAULT_PATH "/usr/local/bin:/usr/bin:/bin"

int exec_path_candidates(const char *file, char *const *envp, struct strv *ret)
{
    const char *path = environment_get(envp, "PATH");

    if (strchr(file, '/'))
        return strv_add(ret, file);
    if (!path)
        path = DEFAULT_PATH;
    for (;;) {
        size_t n = strcspn(path, ":");
        char *s = NULL;
        int r;

        /* An empty element is the working directory (POSIX 8.3). */
        if (n == 0 ? asprintf(&s, "./%s", file) < 0
                   : asprintf(&s, "%.*s/%s", (int)n, path, file) < 0)
            return -ENOMEM;
        r = strv_take(ret, s);
        if (r < 0)
            return r;
        if (path[n] == '\0')
            return 0;
        path += n + 1;
    }
}

/* A path by which we reach what the command calls `path`. */
static const char *exec_reach(const struct root *root, const char *path, int *ret_fd,
                              char buf[REACH_MAX])
{
    *ret_fd = -1;
    if (!root)
        return path;
    *ret_fd = root_open(root, path, 0);
    snprintf(buf, REACH_MAX, "/proc/self/fd/%d", *ret_fd);
    return buf;
}

/* Interpreter named in a script's first line or an ELF file's PT_INTERP; "" when there is none. */
static void exec_interpreter(const char *path, char *out, size_t size)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    char head[4096];
    ssize_t n;
    const char *at;

    out[0] = '\0';
    n = fd < 0 ? -1 : read(fd, head, sizeof(head) - 1);
    if (n < 4)
        return;
    head[n] = '\0';
    if (head[0] == '#' && head[1] == '!') {
        at = head + 2 + strspn(head + 2, " \t");
        snprintf(out, size, "%.*s", (int)strcspn(at, " \t\n"), at);
        return;
    }
    /* Good enough for a message: dynamic loaders are named ld-*.so* or ld.so. */
    at = memmem(head, (size_t)n, "/ld", 3);
    while (at && at > head && at[-1] != '\0')
        at--;
    if (at && memcmp(head, "\177ELF", 4) == 0 && at[0] == '/')
        snprintf(out, size, "%.*s", (int)strnlen(at, 200), at);
}

static int exec_explain_missing(const char *file, const char *tried, char *const interp,
                                struct error *err)
{
    struct stat st;

    if (tried && stat(tried, &st) == 0) {
        if (interp[0])
            return error_set(err, ERROR_NOTFOUND, -ENOENT, file,
                             "its interpreter %s does not exist", interp);
        return error_set(err, ERROR_NOTFOUND, -ENOENT, file, "%s", error_text(ENOENT));
    }
    return error_set(err, ERROR_NOTFOUND, -ENOENT, file,
                     strchr(file, '/') ? "no such file" : "command not found");
}

bool exec_path_exists(const struct root *root, const char *path)
{
    _cleanup_close_ int fd = -1;
    char buf[REACH_MAX];
    struct stat st;

    return stat(exec_reach(root, path, &fd, buf), &st) == 0 && !S_ISDIR(st.st_mode);
}

int exec_path_explain(const struct root *root, const char *file, const char *name, int code,
                      struct error *err)
{
    char interp[256] = "", real[PATH_MAX], buf[REACH_MAX];
    _cleanup_close_ int fd = -1;
    const char *tried = name ? exec_reach(root, name, &fd, buf) : NULL;
    struct stat st;

    if (tried)
        exec_interpreter(tried, interp, sizeof(interp));
    if (code == -ENOENT || code == -ENOTDIR)
        return exec_explain_missing(file, tried, interp, err);
    if (code == -EACCES && tried && stat(tried, &st) == 0) {
        if (S_ISDIR(st.st_mode))
            return error_set(err, ERROR_NOEXEC, code, file, "is a directory");
        if (!S_ISREG(st.st_mode) || access(tried, X_OK) < 0)
            return error_set(err, ERROR_NOEXEC, code, file, "not executable (mode %04o)",
                             st.st_mode & 07777u);
        if (root || !realpath(tried, real))
            snprintf(real, sizeof(real), "%s", name);
        if (interp[0])
            return error_set(err, ERROR_NOEXEC, code, file,
                             "no grant covers %s or its interpreter %s; add -r for the trees that "
                             "hold them",
                             real, interp);
        return error_set(err, ERROR_NOEXEC, code, file,
                         "no grant covers %s; add -r for the tree that holds it", real);
    }
    /* Only a directory of PATH was closed, as for everybody who has root's PATH. */
    if (code == -EACCES && !strchr(file, '/'))
        return error_set(err, ERROR_NOTFOUND, code, file, "command not found");
    return error_set(err, ERROR_NOEXEC, code, file, "cannot execute: %s", error_text(code));
}
