/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy to Landlock ruleset. Rule sources are opened once with O_PATH before the child exists
 * (FG-09); masks are intersected with what the kernel handles and what the object is (FG-01).
 */
#pragma once

#include "plan/kernel.h"
#include "plan/root.h"
#include "policy/policy.h"

struct landlock_masks {
    uint64_t handled_fs, handled_net, scoped;
    /* Net rights that the supervisor exercises for the command, which itself has none of them: handled
     * without any rule in its inner domain, not handled in the outer one. */
    uint64_t mediated_net;
};
/* What a policy asks this kernel to handle; error when a strict protection is missing. */
int landlock_masks(const struct policy *p, const struct kernel *k, struct landlock_masks *ret,
                   struct error *err);
/* A ruleset fd (O_CLOEXEC) with all grants of the policy, or a negative errno with *err. `mediated`: for
 * a command whose files are all opened on behalf, so that none of its rights is to write. */
int landlock_ruleset(const struct policy *p, const struct landlock_masks *m,
                     const struct root *root, bool mediated, struct error *err);
/* Adds read access to /proc for the receivers (under `behalf` they share the domain). */
int landlock_add_proc(int ruleset_fd, const struct landlock_masks *m, bool write);
/* The storage of a copy-on-write layer: for the receivers, who write there; or for the command, which
 * may execute by descriptor what was staged. */
int landlock_add_storage(int ruleset_fd, const struct landlock_masks *m,
                         const struct cow_layer *layer, bool write);
/* Ruleset that only scopes signals: the anchor's. -1 when the kernel has no scopes (ABI < 6). */
int landlock_anchor_ruleset(const struct kernel *k);

/* Rights of FG-01, by kind of object: masked for files. */
uint64_t landlock_read_rights(const struct landlock_masks *m, bool is_dir);
uint64_t landlock_write_rights(const struct landlock_masks *m, bool is_dir);
