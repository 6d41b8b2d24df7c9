/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Feature "fs-deny" (FG-04): paths that stay closed inside a grant. Set up in the caller; the
 * handlers run in receivers, see behalf.h.
 */
#include "fs/deny.h"

#include "fs/behalf.h"
#include "fs/fs.h"
#include "policy/policy.h"

static bool deny_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->fs_deny.n > 0;
}

static int deny_start(struct supervisor *s, void **ret_state, struct error *err)
{
    struct deny *d;
    int e;

    e = deny_new(&supervisor_policy(s)->fs_deny, &d, err);
    if (e < 0)
        return e;
    *ret_state = d;
    return 0;
}

static void deny_stop(void *state)
{
    deny_free(state);
}

static const struct feature_call deny_calls[] = {BEHALF_CALLS};

const struct feature fs_deny_feature = {
    .name = "fs-deny",
    .wanted = deny_wanted,
    .calls = deny_calls,
    .ncalls = sizeof(deny_calls) / sizeof(deny_calls[0]),
    .closed = true,
    .behalf = true,
    .start = deny_start,
    .stop = deny_stop,
    .exec = fs_deny_exec,
};
