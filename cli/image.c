/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --image: has sandlock-image find, verify and unpack it, and makes the image's settings the run's
 * defaults. The main thread. The records are the helper's, but their values an image's: hostile
 * words, which become arguments and an environment as the image's own program would get them.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#include "base/buf.h"

#define IMAGE_PROGRAM "sandlock-image"
#define IMAGE_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
#define IMAGE_RECORDS_MAX (4u << 20)

extern char **environ;

/* Beside this executable (a build, an unpacked archive), else where it is installed. */
static int image_program(char path[PATH_MAX])
{
    ssize_t n = readlink("/proc/self/exe", path, PATH_MAX - sizeof(IMAGE_PROGRAM) - 1);
    char *slash;

    if (n > 0) {
        path[n] = '\0';
        slash = strrchr(path, '/');
        memcpy(slash ? slash + 1 : path, IMAGE_PROGRAM, sizeof(IMAGE_PROGRAM));
        if (access(path, X_OK) == 0)
            return 0;
    }
    memcpy(path, SANDLOCK_LIBEXEC "/" IMAGE_PROGRAM, sizeof(SANDLOCK_LIBEXEC "/" IMAGE_PROGRAM));
    return access(path, X_OK) < 0 ? -errno : 0;
}

/* All it prints, up to the bound. */
static int image_read(int fd, struct buf *out)
{
    char chunk[4096];
    ssize_t n;

    while ((n = read(fd, chunk, sizeof(chunk))) != 0) {
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -errno;
        if (out->len + (size_t)n > IMAGE_RECORDS_MAX)
            return -E2BIG;
        buf_add(out, chunk, (size_t)n);
    }
    return buf_error(out);
}

static int image_run(const char *program, const char *reference, struct buf *out, struct error *err)
{
    const char *argv[] = {IMAGE_PROGRAM, reference, NULL};
    posix_spawn_file_actions_t actions;
    int p[2], status = 0, e, r;
    pid_t pid;

    if (pipe2(p, O_CLOEXEC) < 0)
        return error_set(err, ERROR_SETUP, -errno, "--image", "%s", error_text(errno));
    e = posix_spawn_file_actions_init(&actions);
    if (e == 0) {
        e = posix_spawn_file_actions_adddup2(&actions, p[1], 1);
        if (e == 0)
            e = posix_spawn(&pid, program, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    util_close(p[1]);
    r = e ? -e : image_read(p[0], out);
    util_close(p[0]);
    if (e == 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
            ;
    }
    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "--image", "%s: %s", IMAGE_PROGRAM, error_text(r));
    if (!WIFEXITED(status) || WEXITSTATUS(status) > 2)
        return error_set(err, ERROR_SETUP, -ECHILD, "--image", "%s was killed", IMAGE_PROGRAM);
    /* It has said why. */
    return WEXITSTATUS(status)
               ? error_set(err, WEXITSTATUS(status) == 2 ? ERROR_USAGE : ERROR_SETUP, -EIO, NULL,
                           "%s", "")
               : 0;
}

static int image_record(struct cli_image *i, const char *key, const char *value)
{
    struct strv *list = strcmp(key, "entrypoint") == 0 ? &i->entrypoint
                        : strcmp(key, "cmd") == 0      ? &i->cmd
                        : strcmp(key, "env") == 0      ? &i->env
                                                       : NULL;
    char **word = strcmp(key, "root") == 0      ? &i->root
                  : strcmp(key, "workdir") == 0 ? &i->workdir
                  : strcmp(key, "user") == 0    ? &i->user
                  : strcmp(key, "home") == 0    ? &i->home
                                                : NULL;

    if (list)
        return strv_add(list, value);
    if (!word || *word)
        return 0;
    *word = strdup(value);
    return *word ? 0 : -ENOMEM;
}

static int image_records(struct cli_image *i, const struct buf *b)
{
    const char *p = b->data, *end = b->data + b->len;
    int r = 0;

    while (r == 0 && p < end) {
        const char *value = p + strlen(p) + 1;

        if (value >= end)
            return -EPROTO;
        r = image_record(i, p, value);
        p = value + strlen(value) + 1;
    }
    return r < 0 ? r : i->root ? 0 : -EPROTO;
}

int cli_image_get(struct cli_image *i, const char *reference, struct error *err)
{
    _cleanup_buf_ struct buf out = {0};
    char program[PATH_MAX];
    int r = image_program(program);

    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "--image",
                         "the program " IMAGE_PROGRAM " is missing: it is part of a complete "
                         "installation (from source: ./dev build)");
    r = image_run(program, reference, &out, err);
    if (r < 0)
        return r;
    /* Ends with the zero byte of the last value. */
    r = out.len && !out.data[out.len - 1] ? image_records(i, &out) : -EPROTO;
    for (size_t k = 0; r == 0 && k < i->entrypoint.n; k++)
        r = strv_add(&i->argv, i->entrypoint.v[k]);
    for (size_t k = 0; r == 0 && k < i->cmd.n; k++)
        r = strv_add(&i->argv, i->cmd.v[k]);
    return r < 0 ? error_set(err, ERROR_SETUP, r, "--image", "%s: %s", IMAGE_PROGRAM, error_text(r))
                 : 0;
}

/* ---- into the policy ---- */

/* Images come without device nodes; these do what everybody expects. */
static int image_devices(struct policy *p, struct error *err)
{
    static const char *const devices[] = {"/dev/null",   "/dev/zero",    "/dev/full",
                                          "/dev/random", "/dev/urandom", "/dev/tty"};
    char spec[64];
    int r = 0;

    for (size_t i = 0; r == 0 && i < ARRAY_SIZE(devices); i++) {
        if (access(devices[i], F_OK) < 0 || policy_has_mount(p, devices[i]) ||
            policy_has_mount(p, "/dev"))
            continue;
        snprintf(spec, sizeof(spec), "%s:%s", devices[i], devices[i]);
        r = policy_add_fs_mount(p, "--image", spec, err);
    }
    return r;
}

/* The user's own assignments come later and win. */
static int image_environment(const struct cli_image *i, struct policy *p, struct error *err)
{
    struct strv own = p->env;
    int r = 0;

    p->env = (struct strv){0};
    /* What images rely on to be there: the caller's own would name places of the host. */
    r = policy_add_env(p, "--image", IMAGE_PATH, err);
    if (r == 0 && i->home && strlen(i->home) < PATH_MAX) {
        char home[PATH_MAX + 8];

        snprintf(home, sizeof(home), "HOME=%s", i->home);
        r = policy_add_env(p, "--image", home, err);
    }
    for (size_t k = 0; r == 0 && k < i->env.n; k++)
        r = policy_add_env(p, "--image", i->env.v[k], err);
    for (size_t k = 0; r == 0 && k < own.n; k++)
        r = policy_add_env(p, "--env", own.v[k], err);
    strv_fini(&own);
    return r;
}

int cli_image_apply(const struct cli_image *i, struct policy *p, struct error *err)
{
    int r;

    if (p->chroot)
        return error_set(err, ERROR_POLICY, -EINVAL, "--image",
                         "contradicts --chroot: the image is the root");
    if (p->fs_write.n)
        return error_set(err, ERROR_POLICY, -EINVAL, "--fs-write",
                         "an image is shared between runs and never written to (accepted: "
                         "--fs-mount PLACE:DIR for what shall be writable, --workdir / for changes "
                         "that end with the run)");
    r = policy_set_chroot(p, "--image", i->root, err);
    p->chroot_shared = true;
    if (r == 0 && !p->fs_read.n)
        r = policy_add_fs_read(p, "--image", "/", false, err);
    if (r == 0)
        r = image_devices(p, err);
    if (r == 0)
        r = image_environment(i, p, err);
    if (r == 0 && i->workdir && !p->cwd)
        r = policy_set_cwd(p, "--image", i->workdir, err);
    if (r == 0 && i->user && !p->has_user)
        r = policy_set_user(p, "--image", i->user, err);
    return r;
}

void cli_image_fini(struct cli_image *i)
{
    free(i->root);
    free(i->workdir);
    free(i->user);
    free(i->home);
    strv_fini(&i->entrypoint);
    strv_fini(&i->cmd);
    strv_fini(&i->env);
    strv_fini(&i->argv);
}
