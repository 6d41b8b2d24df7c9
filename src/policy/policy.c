/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy object: defaults, release, and the setters for files, environment and identity. The
 * caller's thread; the text is our own user's, so it may be wrong but is not an attack.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <string.h>

#include "policy/internal.h"

int policy_error_memory(const char *flag, struct error *err)
{
    return error_set(err, ERROR_SETUP, -ENOMEM, flag, "out of memory");
}

void policy_init(struct policy *p)
{
    *p = (struct policy){
        .stop_grace_ns = STOP_GRACE_DEFAULT_NS,
        .stop_signal = SIGTERM,
    };
}

static void grants_fini(struct fs_grants *g)
{
    for (size_t i = 0; i < g->n; i++)
        free(g->v[i].path);
    free(g->v);
    *g = (struct fs_grants){0};
}

void policy_fini(struct policy *p)
{
    grants_fini(&p->fs_read);
    grants_fini(&p->fs_write);
    strv_fini(&p->fs_deny);
    free(p->chroot);
    free(p->workdir);
    free(p->fs_storage);
    for (size_t i = 0; i < p->fs_mount.n; i++) {
        free(p->fs_mount.v[i].place);
        free(p->fs_mount.v[i].source);
    }
    free(p->fs_mount.v);
    port_set_fini(&p->net_connect);
    net_rules_fini(&p->net_allow);
    net_rules_fini(&p->net_deny);
    port_set_fini(&p->net_bind);
    port_set_fini(&p->net_deny_bind);
    strv_fini(&p->env);
    free(p->cwd);
    free(p->cpu_cores);
    free(p->gpu_devices);
    free(p->name);
    *p = (struct policy){0};
}

/* The absolute form of a path from the command line, or an error that names the flag. */
static int path_take(const char *flag, const char *path, char **ret, struct error *err)
{
    char *s;

    if (!*path)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, "the path is empty");
    s = path_absolute(path);
    if (!s && errno == ENOMEM)
        return policy_error_memory(flag, err);
    if (!s)
        return error_set(err, ERROR_POLICY, -errno, flag,
                         "the current directory has no path, so " SHOWN " cannot be made absolute",
                         path);
    if (strlen(s) >= PATH_MAX) {
        free(s);
        return error_set(err, ERROR_USAGE, -ENAMETOOLONG, flag, "the path is longer than %d bytes",
                         PATH_MAX - 1);
    }
    *ret = s;
    return 0;
}

static int grants_add(struct fs_grants *g, const char *flag, const char *path, bool optional,
                      struct error *err)
{
    _cleanup_free_ char *abs = NULL;
    int r = path_take(flag, path, &abs, err);

    if (r < 0)
        return r;
    /* Full at each power of two: doubles. */
    if ((g->n & (g->n - 1)) == 0) {
        struct fs_grant *v = reallocarray(g->v, g->n ? g->n * 2 : 1, sizeof(*v));

        if (!v)
            return policy_error_memory(flag, err);
        g->v = v;
    }
    g->v[g->n++] = (struct fs_grant){.path = STEAL_PTR(abs), .optional = optional};
    return 0;
}

int policy_add_fs_read(struct policy *p, const char *flag, const char *path, bool optional,
                       struct error *err)
{
    return grants_add(&p->fs_read, flag, path, optional, err);
}

int policy_add_fs_write(struct policy *p, const char *flag, const char *path, bool optional,
                        struct error *err)
{
    return grants_add(&p->fs_write, flag, path, optional, err);
}

int policy_add_fs_deny(struct policy *p, const char *flag, const char *path, struct error *err)
{
    char *abs;
    int r = path_take(flag, path, &abs, err);

    if (r < 0)
        return r;
    return strv_take(&p->fs_deny, abs) < 0 ? policy_error_memory(flag, err) : 0;
}

static int path_set(char **to, const char *flag, const char *dir, struct error *err)
{
    char *abs;
    int r = path_take(flag, dir, &abs, err);

    if (r < 0)
        return r;
    free(*to);
    *to = abs;
    return 0;
}

int policy_set_chroot(struct policy *p, const char *flag, const char *dir, struct error *err)
{
    return path_set(&p->chroot, flag, dir, err);
}

int policy_set_workdir(struct policy *p, const char *flag, const char *dir, struct error *err)
{
    return path_set(&p->workdir, flag, dir, err);
}

int policy_set_fs_storage(struct policy *p, const char *flag, const char *dir, struct error *err)
{
    return path_set(&p->fs_storage, flag, dir, err);
}

int policy_set_stage_action(enum stage_action *to, const char *flag, const char *word,
                            struct error *err)
{
    static const char *const words[] = {
        [STAGE_COMMIT] = "commit", [STAGE_ABORT] = "abort", [STAGE_KEEP] = "keep"};

    for (int i = STAGE_COMMIT; i <= STAGE_KEEP; i++) {
        if (strcmp(word, words[i]) == 0) {
            *to = (enum stage_action)i;
            return 0;
        }
    }
    return error_set(err, ERROR_USAGE, -EINVAL, flag,
                     SHOWN " is no action (accepted: commit, abort, keep)", word);
}

static int mount_check_place(const char *flag, const char *place, struct error *err)
{
    size_t n = strlen(place);

    if (strcmp(place, "/") == 0)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         "nothing can be mounted at /: the root is given by --chroot DIR");
    if (strstr(place, "/../") || (n >= 3 && strcmp(place + n - 3, "/..") == 0))
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         "\"..\" has no meaning in " SHOWN " (accepted: VIRTUAL:HOST[:ro], VIRTUAL "
                         "an absolute path inside)",
                         place);
    return 0;
}

int policy_add_fs_mount(struct policy *p, const char *flag, const char *spec, struct error *err)
{
    const char *colon = strchr(spec, ':');
    _cleanup_free_ char *place = NULL;
    char host[PATH_MAX + 4];
    struct fs_mount m = {0}, *v;
    size_t n;
    int r;

    if (spec[0] != '/' || !colon || !colon[1])
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is no mount (accepted: VIRTUAL:HOST[:ro], VIRTUAL an absolute "
                               "path inside)",
                         spec);
    place = strndup(spec, (size_t)(colon - spec));
    v = realloc(p->fs_mount.v, (p->fs_mount.n + 1) * sizeof(*v));
    if (v)
        p->fs_mount.v = v;
    if (!place || !v)
        return policy_error_memory(flag, err);
    path_squeeze(place);
    r = mount_check_place(flag, place, err);
    if (r < 0)
        return r;
    n = strlen(colon + 1);
    if (n >= sizeof(host))
        return error_set(err, ERROR_USAGE, -ENAMETOOLONG, flag, "the path is longer than %d bytes",
                         PATH_MAX - 1);
    memcpy(host, colon + 1, n + 1);
    m.read_only = n > 3 && strcmp(host + n - 3, ":ro") == 0;
    if (m.read_only)
        host[n - 3] = '\0';
    for (size_t i = 0; i < p->fs_mount.n; i++) {
        if (strcmp(v[i].place, place) == 0)
            return error_set(err, ERROR_USAGE, -EEXIST, flag, SHOWN " is mounted twice", place);
    }
    r = path_take(flag, host, &m.source, err);
    if (r < 0)
        return r;
    m.place = STEAL_PTR(place);
    v[p->fs_mount.n++] = m;
    return 0;
}

bool policy_has_mount(const struct policy *p, const char *place)
{
    for (size_t i = 0; i < p->fs_mount.n; i++) {
        if (strcmp(p->fs_mount.v[i].place, place) == 0)
            return true;
    }
    return false;
}

bool policy_has_view(const struct policy *p)
{
    return p->chroot || p->fs_mount.n > 0 || p->workdir;
}

bool policy_has_write(const struct policy *p)
{
    for (size_t i = 0; i < p->fs_mount.n; i++) {
        if (!p->fs_mount.v[i].read_only)
            return true;
    }
    return p->fs_write.n > 0 || p->workdir;
}

int policy_set_cwd(struct policy *p, const char *flag, const char *dir, struct error *err)
{
    return path_set(&p->cwd, flag, dir, err);
}

int policy_add_env(struct policy *p, const char *flag, const char *assignment, struct error *err)
{
    const char *eq = strchr(assignment, '=');
    size_t key;

    if (!eq || eq == assignment)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, SHOWN " is not of the form KEY=VALUE",
                         assignment);
    /* The last assignment of a name wins: a program that reads the first one must agree. */
    key = (size_t)(eq - assignment) + 1;
    for (size_t i = 0; i < p->env.n; i++) {
        if (strncmp(p->env.v[i], assignment, key) == 0) {
            char *copy = strdup(assignment);

            if (!copy)
                return policy_error_memory(flag, err);
            free(p->env.v[i]);
            p->env.v[i] = copy;
            return 0;
        }
    }
    return strv_add(&p->env, assignment) < 0 ? policy_error_memory(flag, err) : 0;
}

int policy_set_user(struct policy *p, const char *flag, const char *uid_gid, struct error *err)
{
    const char *colon = strchr(uid_gid, ':');
    char uid_text[16] = "";
    uint32_t uid;
    uint32_t gid;

    if (!colon)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " names only one of user and group (accepted: UID:GID, numbers)",
                         uid_gid);
    if ((size_t)(colon - uid_gid) < sizeof(uid_text))
        memcpy(uid_text, uid_gid, (size_t)(colon - uid_gid));
    /* The all-ones id means "no change" to the kernel: it is nobody's. */
    if (parse_u32(uid_text, &uid) < 0 || parse_u32(colon + 1, &gid) < 0 || uid == UINT32_MAX ||
        gid == UINT32_MAX)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not UID:GID (numbers from 0 to 4294967294)", uid_gid);
    p->has_user = true;
    p->uid = uid;
    p->gid = gid;
    return 0;
}

/* NM-01. Other bytes, UTF-8 included, pass. */
static const char *name_problem(const char *name)
{
    if (!*name)
        return "is empty";
    if (strnlen(name, NAME_LEN_MAX + 1) > NAME_LEN_MAX)
        return "is longer than 64 bytes";
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return "is not a name";
    for (const unsigned char *c = (const unsigned char *)name; *c; c++) {
        if (*c == '/')
            return "contains a slash";
        if (*c == ' ' || (*c >= '\t' && *c <= '\r'))
            return "contains white space";
        if (*c < 0x20 || *c == 0x7f)
            return "contains a control character";
    }
    return NULL;
}

int policy_set_name(struct policy *p, const char *flag, const char *name, struct error *err)
{
    const char *problem = name_problem(name);
    char *copy;

    if (problem)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " %s (accepted: 1 to 64 bytes without slash, white space or control "
                               "characters)",
                         name, problem);
    copy = strdup(name);
    if (!copy)
        return policy_error_memory(flag, err);
    free(p->name);
    p->name = copy;
    return 0;
}
