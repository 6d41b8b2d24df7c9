/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy and kernel to a plan: which features are active, the filter, the Landlock rulesets.
 * Caller's thread, before the child exists, so that whatever can fail does it there (L-02).
 */
#include "plan/plan.h"

#include <errno.h>
#include <string.h>

#include "base/util.h"
#include "plan/internal.h"
#include "plan/landlock.h"
#include "supervisor/supervisor.h"

void plan_fini(struct plan *p)
{
    /* A zeroed plan was never built; a built one names its policy and holds -1 or descriptors. */
    if (p->policy) {
        if (p->anchor_fd >= 0)
            util_close(p->anchor_fd);
        if (p->ruleset_fd >= 0)
            util_close(p->ruleset_fd);
        if (p->nested_fd >= 0)
            util_close(p->nested_fd);
    }
    root_free(p->root);
    filter_prog_fini(&p->prog);
    filter_plan_fini(&p->filter);
    filter_plan_fini(&p->quiet);
    *p = (struct plan){.anchor_fd = -1, .ruleset_fd = -1, .nested_fd = -1};
}

static bool feature_is_wanted(const bool *wanted, size_t i)
{
    if (wanted[i] || !all_features[i]->follows)
        return wanted[i];
    for (size_t k = 0; k < all_feature_count; k++) {
        if (all_features[k] == all_features[i]->follows)
            return wanted[k];
    }
    return false;
}

int plan_features(const struct policy *p, const struct kernel *k,
                  const struct feature *ret[PLAN_MAX_FEATURES], struct error *err)
{
    _cleanup_free_ bool *wanted = NULL;
    int n = 0;

    if (p->no_supervisor)
        return 0;
    wanted = calloc(all_feature_count, sizeof(*wanted));
    if (!wanted)
        return error_set(err, ERROR_SETUP, -ENOMEM, "features", "%s", error_text(ENOMEM));
    for (size_t i = 0; i < all_feature_count; i++)
        wanted[i] = all_features[i]->wanted && all_features[i]->wanted(p, k);
    for (size_t i = 0; i < all_feature_count; i++) {
        if (!feature_is_wanted(wanted, i))
            continue;
        if (n >= PLAN_MAX_FEATURES)
            return error_set(err, ERROR_SETUP, -E2BIG, all_features[i]->name,
                             "more than %d features", PLAN_MAX_FEATURES);
        ret[n++] = all_features[i];
    }
    return n;
}

static int select_features(struct plan *p, struct error *err)
{
    int n = plan_features(p->policy, p->kernel, p->features, err);

    if (n < 0)
        return n;
    p->nfeatures = (size_t)n;
    for (size_t i = 0; i < p->nfeatures; i++) {
        p->behalf |= p->features[i]->behalf;
        p->writes_proc |= p->features[i]->writes_proc;
    }
    return 0;
}

static int build_filter(struct plan *p, struct error *err)
{
    const struct kernel *k = p->kernel;
    int r;

    if (!k->seccomp_filter)
        return error_set(err, ERROR_SETUP, -ENOSYS, "seccomp",
                         "system call filters are not available here (kernel without "
                         "CONFIG_SECCOMP_FILTER, or an outer sandbox forbids them)");
    r = plan_filter(p->policy, k, arch_native(), p->features, p->nfeatures, &p->filter, err);
    if (r < 0)
        return r;
    if (p->policy->explain) {
        p->quiet = p->filter;
        p->filter = (struct filter_plan){0};
        r = plan_filter_told(&p->quiet, &p->filter);
        if (r < 0)
            return error_set(err, ERROR_SETUP, r, "filter", "%s", error_text(r));
    }
    p->notify = filter_has_action(&p->filter, SECCOMP_RET_USER_NOTIF);
    if (p->notify && !k->notify)
        return error_set(err, ERROR_SETUP, -ENOSYS, "seccomp",
                         "this policy needs system call notification (Linux 5.0 or newer, not "
                         "forbidden by an outer sandbox)");
    return filter_compile(&p->filter, &p->prog, err);
}

static int build_storage_rules(struct plan *p, const struct landlock_masks *m, struct error *err)
{
    int r = landlock_add_storage(p->ruleset_fd, m, p->root->layer, true);

    if (r == 0)
        r = landlock_add_storage(p->nested_fd, m, p->root->layer, false);
    return r < 0 ? error_set(err, ERROR_SETUP, r, "--workdir", "%s", error_text(r)) : 0;
}

static int build_rulesets(struct plan *p, const struct landlock_masks *m, struct error *err)
{
    struct landlock_masks outer = *m;
    int r;

    /* What the receivers do for the command is not Landlock's to decide on their threads. */
    if (p->behalf)
        outer.handled_net &= ~m->mediated_net;
    p->handled_fs = m->handled_fs;
    p->handled_net = m->handled_net & ~m->mediated_net;
    p->scoped = m->scoped;
    r = landlock_ruleset(p->policy, &outer, p->root, false, err);
    if (r < 0)
        return r;
    p->ruleset_fd = r;
    /* Its scope would hold for the command too: disabled means disabled, the anchor then finds the
     * members in /proc. */
    if (!p->policy->no_supervisor &&
        p->policy->protection[PROT_SIGNAL_SCOPE] != PROTECTION_DISABLED)
        p->anchor_fd = landlock_anchor_ruleset(p->kernel);
    if (!p->behalf)
        return 0;
    /* Receivers share the first domain and read the command's /proc entries; the command itself
     * gets the policy alone, as a second domain beneath: it cannot signal or trace them. */
    r = landlock_ruleset(p->policy, m, p->root, p->root != NULL, err);
    if (r < 0)
        return r;
    p->nested_fd = r;
    r = landlock_add_proc(p->ruleset_fd, m, p->writes_proc);
    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "/proc", "mediating files needs /proc: %s",
                         error_text(r));
    return p->root && p->root->layer ? build_storage_rules(p, m, err) : 0;
}

int plan_build_on(const struct policy *policy, const struct kernel *kernel, struct cow_layer *layer,
                  struct plan *ret, struct error *err)
{
    struct plan p = {
        .policy = policy, .kernel = kernel, .anchor_fd = -1, .ruleset_fd = -1, .nested_fd = -1};
    struct landlock_masks m;
    int r = landlock_masks(policy, kernel, &m, err);

    if (r == 0)
        r = root_new(policy, &p.root, err);
    if (r == 0)
        r = select_features(&p, err);
    if (r == 0 && p.root && p.root->workdir)
        r = layer ? root_stage_on(p.root, policy, layer, err) : root_stage(p.root, policy, err);
    if (r == 0)
        r = build_filter(&p, err);
    if (r == 0)
        r = build_rulesets(&p, &m, err);
    if (r < 0) {
        plan_fini(&p);
        return r;
    }
    *ret = p;
    return 0;
}

int plan_build(const struct policy *policy, const struct kernel *kernel, struct plan *ret,
               struct error *err)
{
    return plan_build_on(policy, kernel, NULL, ret, err);
}

uint32_t plan_denied_ret(const struct plan *p, const struct seccomp_data *d)
{
    return filter_eval(p->quiet.entries ? &p->quiet : &p->filter, d);
}
