/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy to Landlock rulesets (see landlock.h). Caller's thread, before the child exists. Input:
 * the user's own grants; the paths may lie in directories that others can change, so each is opened
 * once with O_PATH and only that object is used (FG-09).
 */
#include "plan/landlock.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/util.h"
#include "fs/cow/layer.h"
#include "plan/gpu.h"
#include "sys/landlock.h"

/* Rights by the ABI that brought them (FG-08). */
#define FS_ABI_1 (LANDLOCK_ACCESS_FS_MAKE_SYM | (LANDLOCK_ACCESS_FS_MAKE_SYM - 1))
#define RIGHTS_TCP (LANDLOCK_ACCESS_NET_BIND_TCP | LANDLOCK_ACCESS_NET_CONNECT_TCP)
#define RIGHTS_UDP (LANDLOCK_ACCESS_NET_BIND_UDP | LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP)
#define ABI_UNIX 9
#define ABI_UDP 10

#define FS_READ \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
/* No device nodes: MAKE_CHAR and MAKE_BLOCK are handled and never granted. */
#define FS_WRITE                                                                                   \
    (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_REMOVE_DIR | \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG |  \
     LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_SYM |   \
     LANDLOCK_ACCESS_FS_REFER | LANDLOCK_ACCESS_FS_IOCTL_DEV | LANDLOCK_ACCESS_FS_RESOLVE_UNIX)
/* What the kernel accepts in a rule for something that is not a directory. */
#define FS_FILE                                                                                  \
    (LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_READ_FILE | \
     LANDLOCK_ACCESS_FS_TRUNCATE | LANDLOCK_ACCESS_FS_IOCTL_DEV | LANDLOCK_ACCESS_FS_RESOLVE_UNIX)

/* What each protection adds to the masks. */
static const struct landlock_masks protection_masks[PROTECTION_COUNT] = {
    [PROT_FS_REFER] = {.handled_fs = LANDLOCK_ACCESS_FS_REFER},
    [PROT_FS_TRUNCATE] = {.handled_fs = LANDLOCK_ACCESS_FS_TRUNCATE},
    [PROT_NET_TCP] = {.handled_net = RIGHTS_TCP},
    [PROT_FS_IOCTL_DEV] = {.handled_fs = LANDLOCK_ACCESS_FS_IOCTL_DEV},
    [PROT_SIGNAL_SCOPE] = {.scoped = LANDLOCK_SCOPE_SIGNAL},
    [PROT_ABSTRACT_UNIX_SOCKET_SCOPE] = {.scoped = LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET},
};

static int no_landlock(const struct kernel *k, struct error *err)
{
    if (k->landlock_errno == EOPNOTSUPP)
        return error_set(err, ERROR_SETUP, -EOPNOTSUPP, "landlock",
                         "Landlock is switched off at boot: add landlock to the kernel's lsm= list "
                         "(lsm=landlock,...); without it files cannot be confined");
    if (k->landlock_errno == EPERM)
        return error_set(err, ERROR_SETUP, -EPERM, "landlock",
                         "Landlock is forbidden here (an outer sandbox or container filters it); "
                         "without it files cannot be confined");
    return error_set(err, ERROR_SETUP, -ENOSYS, "landlock",
                     "this kernel has no Landlock (needs 5.13 or newer, built with it and "
                     "lsm=landlock,...); without it files cannot be confined");
}

/* A protection that the policy has no use for does not have to exist. */
static bool protection_needed(const struct policy *p, enum protection i)
{
    return i != PROT_NET_TCP || !p->net_connect.any || policy_bind_governed(p) ||
           (policy_net_mediated(p) & NET_TCP);
}

/* Names all that is missing at once, so that one attempt tells the whole story. */
static int missing(const struct policy *p, const struct kernel *k, struct error *err)
{
    char list[200] = "", flags[256] = "";
    size_t nl = 0, nf = 0;
    const char *first = NULL;

    for (int i = 0; i < PROTECTION_COUNT; i++) {
        const struct protection_info *info = &protection_info[i];

        if (p->protection[i] != PROTECTION_STRICT || k->landlock_abi >= info->min_abi ||
            !protection_needed(p, i))
            continue;
        if (nl < sizeof(list))
            nl += (size_t)snprintf(list + nl, sizeof(list) - nl, "%s%s (ABI %d)", first ? ", " : "",
                                   info->name, info->min_abi);
        if (nf < sizeof(flags))
            nf += (size_t)snprintf(flags + nf, sizeof(flags) - nf, " --allow-degraded %s",
                                   info->name);
        if (!first)
            first = info->name;
    }
    if (!first)
        return 0;
    return error_set(err, ERROR_SETUP, -EOPNOTSUPP, first,
                     "this kernel has Landlock ABI %d and lacks: %s; to run without:%s",
                     k->landlock_abi, list, flags);
}

int landlock_masks(const struct policy *p, const struct kernel *k, struct landlock_masks *ret,
                   struct error *err)
{
    struct landlock_masks m = {.handled_fs = FS_ABI_1};
    int r;

    if (k->landlock_abi < 1)
        return no_landlock(k, err);
    r = missing(p, k, err);
    if (r < 0)
        return r;
    for (int i = 0; i < PROTECTION_COUNT; i++) {
        if (p->protection[i] == PROTECTION_DISABLED || k->landlock_abi < protection_info[i].min_abi)
            continue;
        m.handled_fs |= protection_masks[i].handled_fs;
        m.handled_net |= protection_masks[i].handled_net;
        m.scoped |= protection_masks[i].scoped;
    }
    if (policy_net_mediated(p) & NET_TCP)
        m.mediated_net |= LANDLOCK_ACCESS_NET_CONNECT_TCP & m.handled_net;
    else if (p->net_connect.any)
        m.handled_net &= ~LANDLOCK_ACCESS_NET_CONNECT_TCP;
    if (policy_bind_mediated(p))
        m.mediated_net |= LANDLOCK_ACCESS_NET_BIND_TCP & m.handled_net;
    else if (!policy_bind_governed(p))
        m.handled_net &= ~LANDLOCK_ACCESS_NET_BIND_TCP;
    /* Not protections one can waive: where the kernel has them they cost nothing. */
    if (k->landlock_abi >= ABI_UNIX)
        m.handled_fs |= LANDLOCK_ACCESS_FS_RESOLVE_UNIX;
    if (k->landlock_abi >= ABI_UDP && !(policy_net_protos(p) & NET_UDP))
        m.handled_net |= RIGHTS_UDP;
    *ret = m;
    return 0;
}

uint64_t landlock_read_rights(const struct landlock_masks *m, bool is_dir)
{
    return FS_READ & m->handled_fs & (is_dir ? UINT64_MAX : FS_FILE);
}

uint64_t landlock_write_rights(const struct landlock_masks *m, bool is_dir)
{
    return (FS_READ | FS_WRITE) & m->handled_fs & (is_dir ? UINT64_MAX : FS_FILE);
}

/* One rule for what the descriptor is. */
static int add_object(int ruleset_fd, const struct landlock_masks *m, int fd, bool write)
{
    struct stat st;
    uint64_t rights;
    bool is_dir;

    if (fstat(fd, &st) < 0)
        return -errno;
    is_dir = S_ISDIR(st.st_mode);
    rights = write ? landlock_write_rights(m, is_dir) : landlock_read_rights(m, is_dir);
    /* A terminal that may be read must also answer isatty(); the grant names this very node. */
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
        rights |= LANDLOCK_ACCESS_FS_IOCTL_DEV & m->handled_fs;
    return sys_landlock_add_path(ruleset_fd, rights, fd);
}

/* O_PATH: a FIFO does not block, nothing is read (FG-01). */
static int add_path(int ruleset_fd, const struct landlock_masks *m, const char *path, bool write)
{
    _cleanup_close_ int fd = open(path, O_PATH | O_CLOEXEC);

    return fd < 0 ? -errno : add_object(ruleset_fd, m, fd, write);
}

struct add_grants {
    int ruleset_fd;
    const struct landlock_masks *m;
    bool mediated;
};

/* Where every file is opened on behalf, the command itself may only execute what is granted: the
 * kernel asks for that also by descriptor (FG-07). Writable descriptors come from the supervisor. */
static int add_grant(const struct root_grant *g, void *arg, struct error *err)
{
    const struct add_grants *a = arg;
    int r;

    if (a->mediated && sys_fs_magic(g->fd) == PROC_SUPER_MAGIC)
        return 0;
    r = add_object(a->ruleset_fd, a->m, g->fd, g->write && !a->mediated);
    if (r == -EBADFD)
        return error_set(err, ERROR_POLICY, r, g->flag, "%s: not an object of a file system",
                         g->path);
    return r < 0 ? error_set(err, ERROR_POLICY, r, g->flag, "%s: %s", g->path, error_text(r)) : 0;
}

static int add_gpu(int ruleset_fd, const struct landlock_masks *m, const struct policy *p,
                   struct error *err)
{
    struct strv nodes = {0};
    int r = gpu_nodes(p, "/dev", &nodes, err);

    for (size_t i = 0; r == 0 && i < nodes.n; i++) {
        r = add_path(ruleset_fd, m, nodes.v[i], true);
        if (r < 0)
            error_set(err, ERROR_SETUP, r, "--gpu", "%s: %s", nodes.v[i], error_text(r));
    }
    strv_fini(&nodes);
    return r;
}

static int add_ports(int ruleset_fd, uint64_t right, const struct port_set *s, const char *flag,
                     struct error *err)
{
    for (size_t i = 0; i < s->n; i++) {
        for (uint32_t port = s->ranges[i].lo; port <= s->ranges[i].hi; port++) {
            int r = sys_landlock_add_port(ruleset_fd, right, (uint16_t)port);

            if (r < 0)
                return error_set(err, ERROR_SETUP, r, flag, "port %u: %s", port, error_text(r));
        }
    }
    return 0;
}

int landlock_ruleset(const struct policy *p, const struct landlock_masks *m,
                     const struct root *root, bool mediated, struct error *err)
{
    struct uapi_landlock_ruleset attr = {m->handled_fs, m->handled_net, m->scoped};
    _cleanup_close_ int fd = sys_landlock_create(&attr);
    uint64_t by_rule = m->handled_net & ~m->mediated_net;
    struct add_grants grants = {.ruleset_fd = fd, .m = m, .mediated = mediated};
    int r;

    if (fd < 0)
        return error_set(err, ERROR_SETUP, fd, "landlock", "cannot create a ruleset: %s",
                         error_text(fd));
    r = root_each_grant(root, p, add_grant, &grants, err);
    if (r == 0)
        r = add_gpu(fd, m, p, err);
    if (r == 0 && (by_rule & LANDLOCK_ACCESS_NET_CONNECT_TCP))
        r = add_ports(fd, LANDLOCK_ACCESS_NET_CONNECT_TCP, &p->net_connect, "--net-allow", err);
    if (r == 0 && (by_rule & LANDLOCK_ACCESS_NET_BIND_TCP))
        r = add_ports(fd, LANDLOCK_ACCESS_NET_BIND_TCP, &p->net_bind, "--net-allow-bind", err);
    return r < 0 ? r : steal_fd(&fd);
}

int landlock_add_proc(int ruleset_fd, const struct landlock_masks *m, bool write)
{
    _cleanup_close_ int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    uint64_t rights = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR;

    if (write)
        rights |= LANDLOCK_ACCESS_FS_WRITE_FILE;
    if (fd < 0)
        return -errno;
    return sys_landlock_add_path(ruleset_fd, rights & m->handled_fs, fd);
}

int landlock_add_storage(int ruleset_fd, const struct landlock_masks *m,
                         const struct cow_layer *layer, bool write)
{
    uint64_t rights = write ? landlock_write_rights(m, true) : landlock_read_rights(m, true);

    return sys_landlock_add_path(ruleset_fd, rights,
                                 write ? cow_storage_fd(layer) : cow_objects_fd(layer));
}

int landlock_anchor_ruleset(const struct kernel *k)
{
    /* A domain that says nothing about REFER refuses every move between directories to everybody
     * inside it (landlock(7)): the right is handled, and given everywhere. */
    struct uapi_landlock_ruleset attr = {.handled_access_fs = LANDLOCK_ACCESS_FS_REFER,
                                         .scoped = LANDLOCK_SCOPE_SIGNAL};
    _cleanup_close_ int root = -1;
    int fd;

    if (k->landlock_abi < protection_info[PROT_SIGNAL_SCOPE].min_abi)
        return -1;
    root = open("/", O_PATH | O_CLOEXEC);
    fd = root < 0 ? -1 : sys_landlock_create(&attr);
    if (fd >= 0 && sys_landlock_add_path(fd, LANDLOCK_ACCESS_FS_REFER, root) < 0)
        fd = util_close(fd);
    return fd < 0 ? -1 : fd;
}
