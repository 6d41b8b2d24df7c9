/* SPDX-License-Identifier: Apache-2.0 */
/* Names of the launch steps for messages, and the extra sentence that helps with the usual causes. */
#include "launch/internal.h"

#include <errno.h>

static const char *const step_names[LAUNCH_STEP_COUNT] = {
    [STEP_NONE] = "start",
    [STEP_ANCHOR] = "anchor process",
    [STEP_ANCHOR_LANDLOCK] = "anchor process",
    [STEP_CLONE] = "create process",
    [STEP_PROCESS_GROUP] = "process group",
    [STEP_PERSONALITY] = "personality",
    [STEP_AFFINITY] = "--cpu-cores",
    [STEP_HUGE_PAGES] = "--no-huge-pages",
    [STEP_CORE_LIMIT] = "--no-coredump",
    [STEP_USER_NAMESPACE] = "--user",
    [STEP_SETGROUPS] = "--user (setgroups)",
    [STEP_UID_MAP] = "--user (uid_map)",
    [STEP_GID_MAP] = "--user (gid_map)",
    [STEP_CWD] = "--cwd",
    [STEP_CAPABILITIES] = "drop capabilities",
    [STEP_NO_NEW_PRIVS] = "no_new_privs",
    [STEP_LANDLOCK] = "landlock_restrict_self",
    [STEP_SECCOMP] = "seccomp filter",
    [STEP_DESCRIPTORS] = "close descriptors",
    [STEP_STDIO] = "standard streams",
    [STEP_RLIMIT] = "--max-open-files, --rlimit",
    [STEP_EXEC] = "execute",
};

const char *launch_step_name(enum launch_step s)
{
    return s < LAUNCH_STEP_COUNT && step_names[s] ? step_names[s] : "launch";
}

int launch_step_error(enum launch_step step, int code, struct error *err)
{
    const char *hint = "";

    if (step == STEP_USER_NAMESPACE || step == STEP_UID_MAP || step == STEP_GID_MAP)
        hint = " (unprivileged user namespaces are refused here: sysctl user.max_user_namespaces, "
               "AppArmor's userns restriction, or a container's seccomp profile)";
    else if (step == STEP_SECCOMP && code == -EBUSY)
        hint = " (this process is already in a sandbox with a supervisor; use --no-supervisor for "
               "the outer or the inner one)";
    else if (step == STEP_LANDLOCK && code == -E2BIG)
        hint = " (too many nested Landlock domains)";
    return error_set(err, ERROR_SETUP, code, launch_step_name(step), "%s%s", error_text(code),
                     hint);
}
