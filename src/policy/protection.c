/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Landlock's protections beyond the base: names, the kernel each needs, and whether the user waived
 * it. The caller's thread; our own user's text.
 */
#include <errno.h>
#include <string.h>

#include "policy/internal.h"
#include "policy/suggest.h"

const struct protection_info protection_info[PROTECTION_COUNT] = {
    [PROT_FS_REFER] = {"fs-refer", 2, "renaming and linking across directories is checked"},
    [PROT_FS_TRUNCATE] = {"fs-truncate", 3, "truncating a file needs a write grant"},
    [PROT_NET_TCP] = {"net-tcp", 4, "TCP ports are closed unless granted"},
    [PROT_FS_IOCTL_DEV] = {"fs-ioctl-dev", 5, "device control needs a write grant"},
    [PROT_SIGNAL_SCOPE] = {"signal-scope", 6, "signals reach only processes of the sandbox"},
    [PROT_ABSTRACT_UNIX_SOCKET_SCOPE] = {"abstract-unix-socket-scope", 6,
                                         "abstract UNIX sockets outside are unreachable"},
};

#define PROTECTION_FORMS                                                     \
    "accepted: fs-refer, fs-truncate, net-tcp, fs-ioctl-dev, signal-scope, " \
    "abstract-unix-socket-scope"

int protection_by_name(const char *name)
{
    for (int i = 0; i < PROTECTION_COUNT; i++) {
        if (strcmp(protection_info[i].name, name) == 0)
            return i;
    }
    return -ENOENT;
}

int policy_set_protection(struct policy *p, const char *flag, const char *name,
                          enum protection_mode mode, struct error *err)
{
    int i = protection_by_name(name);

    if (i < 0) {
        struct suggestion s = {.word = name};

        for (int k = 0; k < PROTECTION_COUNT; k++)
            suggest_offer(&s, protection_info[k].name);
        if (s.best)
            return error_set(err, ERROR_USAGE, -EINVAL, flag,
                             SHOWN " is not a protection; did you mean " SHOWN "?", name, s.best);
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not a protection (" PROTECTION_FORMS ")", name);
    }
    /* The kernel denies all cross-directory renames when the right is not handled at all. */
    if (i == PROT_FS_REFER && mode == PROTECTION_DISABLED)
        return error_set(err, ERROR_POLICY, -EINVAL, flag,
                         "fs-refer cannot be disabled: the kernel then refuses every move between "
                         "directories; use --allow-degraded fs-refer on a kernel without it");
    if (p->protection[i] != PROTECTION_STRICT && p->protection[i] != mode)
        return error_set(err, ERROR_POLICY, -EINVAL, flag,
                         "%s is given both to --allow-degraded and to --disable", name);
    p->protection[i] = mode;
    return 0;
}
