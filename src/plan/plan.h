/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From a policy and the kernel's abilities to kernel objects: the Landlock ruleset(s), the filter
 * program, the set of active features. Made in the caller before the child exists (L-02).
 */
#pragma once

#include "plan/filter.h"
#include "plan/kernel.h"
#include "policy/policy.h"

struct feature;
struct root;

#define PLAN_MAX_FEATURES 32

struct plan {
    const struct policy *policy;
    const struct kernel *kernel;
    struct filter_plan filter; /* what is installed */
    struct filter_plan quiet;  /* explain mode: what it would be without (else zeroed) */
    struct filter_prog prog;
    const struct feature *features[PLAN_MAX_FEATURES]; /* active ones */
    size_t nfeatures;
    struct root *root; /* the tree the command sees, NULL: the host's */
    bool notify;       /* the filter has NOTIFY verdicts: a listener is needed */
    bool behalf;       /* files are opened on behalf: receivers live in the domain too */
    bool writes_proc;  /* ... and that domain may write below /proc */
    int anchor_fd;     /* scope-only ruleset for the anchor (signal scope), or -1 */
    int ruleset_fd;    /* the policy's ruleset, or -1 when Landlock is disabled altogether */
    int nested_fd;     /* second, narrower ruleset for the command under `behalf`, or -1 */
    uint64_t handled_fs, handled_net, scoped; /* what Landlock decides by its rules */
};

/* Fills *ret or reports which field or protection failed. plan_fini accepts a zeroed plan. */
int plan_build(const struct policy *policy, const struct kernel *kernel, struct plan *ret,
               struct error *err);
/* The same for a run that goes on with a layer that another one left (NULL: as above). It stays the
 * caller's, and outlives the plan. */
struct cow_layer;
int plan_build_on(const struct policy *policy, const struct kernel *kernel, struct cow_layer *layer,
                  struct plan *ret, struct error *err);
void plan_fini(struct plan *p);

/* The features that the policy needs, in dispatch order; each is asked once. Their number or -errno. */
int plan_features(const struct policy *policy, const struct kernel *kernel,
                  const struct feature *ret[PLAN_MAX_FEATURES], struct error *err);

/* Under policy->explain most refusals are notified so that they can be reported: what the filter
 * would have said by itself. SECCOMP_RET_ERRNO: answer that errno and report; anything else: go on
 * with the handlers. Without explain mode it never says ERRNO for a call that was notified. */
uint32_t plan_denied_ret(const struct plan *p, const struct seccomp_data *d);

/* The sixth argument, which execveat(2) does not have, by which the filter knows an exec that the
 * supervisor makes a task do: drawn once, so that no program has it there by chance. It is no secret and
 * gives nothing by itself: it passes while the supervisor traces that very call. */
uint64_t plan_exec_mark(void);

/* seccomp part alone, without explain mode's changes, for any machine: tests, --print-filter. */
int plan_filter(const struct policy *policy, const struct kernel *kernel, const struct arch *a,
                const struct feature *const *features, size_t nfeatures, struct filter_plan *ret,
                struct error *err);
