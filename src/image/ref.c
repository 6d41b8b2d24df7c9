/* SPDX-License-Identifier: Apache-2.0 */
/*
 * References to images, and the two kinds that skopeo(1) brings: registries and the Docker daemon.
 * The reference is our user's.
 */
#include <errno.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>

#include "image/image.h"

#define ACCEPTED "docker://REF, docker-daemon:REF, oci:DIR[:TAG], oci-archive:FILE[:TAG]"

extern char **environ;

static const struct {
    const char *prefix;
    enum image_kind kind;
} schemes[] = {
    {"docker://", IMAGE_DOCKER},
    {"docker-daemon:", IMAGE_DOCKER_DAEMON},
    {"oci:", IMAGE_OCI},
    {"oci-archive:", IMAGE_OCI_ARCHIVE},
};

/* A tag has no slash: what follows the last colon of a path with more to come is part of a name. */
static int ref_split(const char *rest, struct image_ref *r)
{
    const char *colon = strrchr(rest, ':');

    if (!colon || strchr(colon, '/'))
        colon = rest + strlen(rest);
    r->path = strndup(rest, (size_t)(colon - rest));
    if (*colon && colon[1])
        r->tag = strdup(colon + 1);
    return r->path && (!*colon || !colon[1] || r->tag) ? 0 : -ENOMEM;
}

int image_ref_parse(const char *text, struct image_ref *ret, struct error *err)
{
    *ret = (struct image_ref){0};
    for (size_t i = 0; i < ARRAY_SIZE(schemes); i++) {
        const char *rest = text + strlen(schemes[i].prefix);
        int r = 0;

        if (strncmp(text, schemes[i].prefix, strlen(schemes[i].prefix)) != 0 || !*rest)
            continue;
        ret->kind = schemes[i].kind;
        if (ret->kind == IMAGE_DOCKER || ret->kind == IMAGE_DOCKER_DAEMON)
            ret->path = strdup(rest);
        else
            r = ref_split(rest, ret);
        if (r < 0 || !ret->path) {
            image_ref_fini(ret);
            return error_set(err, ERROR_SETUP, -ENOMEM, "image", "out of memory");
        }
        return 0;
    }
    return error_set(err, ERROR_USAGE, -EINVAL, "--image",
                     "\"%.100s\" is not an image (accepted: " ACCEPTED ")", text);
}

void image_ref_fini(struct image_ref *r)
{
    free(r->path);
    free(r->tag);
    *r = (struct image_ref){0};
}

static int run_skopeo(const char *from, const char *to, const char *machine, struct error *err)
{
    const char *argv[] = {
        "skopeo", "--override-os", "linux", "--override-arch", machine, "copy", "--quiet", from, to,
        NULL};
    posix_spawn_file_actions_t actions;
    int e, status = 0;
    pid_t pid;

    /* Our output is for the program that started us; skopeo's errors are for the person. */
    e = posix_spawn_file_actions_init(&actions);
    if (e == 0) {
        e = posix_spawn_file_actions_adddup2(&actions, 2, 1);
        if (e == 0)
            e = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv,
                             environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (e == ENOENT)
        return error_set(err, ERROR_SETUP, -e, "--image",
                         "%.100s needs the program skopeo, which is not installed (Debian: apt-get "
                         "install skopeo)",
                         from);
    if (e)
        return error_set(err, ERROR_SETUP, -e, "skopeo", "%s", error_text(e));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        return error_set(err, ERROR_SETUP, -EIO, "--image", "skopeo could not copy %.200s", from);
    return 0;
}

int image_fetch(const struct image_ref *r, const char *machine, const char *dir, struct error *err)
{
    const char *scheme = r->kind == IMAGE_DOCKER ? "docker://" : "docker-daemon:";
    _cleanup_free_ char *from = NULL;
    _cleanup_free_ char *to = NULL;

    if (asprintf(&from, "%s%s", scheme, r->path) < 0)
        from = NULL;
    if (asprintf(&to, "oci:%s", dir) < 0)
        to = NULL;
    if (!from || !to)
        return error_set(err, ERROR_SETUP, -ENOMEM, "image", "out of memory");
    return run_skopeo(from, to, machine, err);
}
