/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Thin wrappers of the Landlock calls, see landlock.h. Called in the launching thread. No input
 * of the sandboxed command comes near them.
 */
#include "sys/landlock.h"

#include <errno.h>
#include <unistd.h>

static int result(long r)
{
    return r < 0 ? -errno : (int)r;
}

int sys_landlock_abi(void)
{
    return result(syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION));
}

int sys_landlock_create(const struct uapi_landlock_ruleset *attr)
{
    /* Older kernels take the longer structure as long as what they do not know is zero. */
    return result(syscall(SYS_landlock_create_ruleset, attr, sizeof(*attr), 0));
}

int sys_landlock_add_path(int ruleset_fd, uint64_t access, int parent_fd)
{
    struct landlock_path_beneath_attr a = {.allowed_access = access, .parent_fd = parent_fd};

    return result(syscall(SYS_landlock_add_rule, ruleset_fd, LANDLOCK_RULE_PATH_BENEATH, &a, 0));
}

int sys_landlock_add_port(int ruleset_fd, uint64_t access, uint16_t port)
{
    struct uapi_landlock_port a = {.allowed_access = access, .port = port};

    return result(syscall(SYS_landlock_add_rule, ruleset_fd, UAPI_LANDLOCK_RULE_NET_PORT, &a, 0));
}

int sys_landlock_restrict(int ruleset_fd, uint32_t flags)
{
    return result(syscall(SYS_landlock_restrict_self, ruleset_fd, flags));
}
