/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of the filter: policy and active features to a filter plan, denials first, then what is
 * notified, then allow (FP-01). Pure; caller's thread; input is our own policy.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "base/util.h"
#include "plan/internal.h"
#include "plan/plan.h"
#include "plan/rules.h"
#include "supervisor/supervisor.h"

#define ABI_RESOLVE_UNIX 9
_Static_assert(AF_INET == 2 && AF_INET6 == 10, "INET_MASK");

struct builder {
    const struct policy *policy;
    const struct kernel *kernel;
    const struct feature *const *features;
    size_t nfeatures;
    struct filter_plan *plan;
    int status; /* first failure; later additions are void */
};

static void keep(struct builder *b, int r)
{
    if (r < 0 && b->status == 0)
        b->status = r;
}

static void deny(struct builder *b, enum call_id id, int e)
{
    struct filter_clause c = {.ret = RULE_ERRNO((uint32_t)e)};

    keep(b, filter_add(b->plan, id, &c));
}

static void deny_rows(struct builder *b, const struct deny_rules *r)
{
    for (size_t i = 0; i < r->n; i++)
        keep(b, filter_add(b->plan, r->v[i].id, &r->v[i].clause));
}

/* Explain mode's own feature looks and lets the kernel go on: that is not mediation. */
static bool is_observer(const struct feature *f)
{
    return strcmp(f->name, "explain") == 0;
}

/* Does a feature take this operation: in some form, or whatever its arguments? */
static bool is_taken(const struct builder *b, enum call_op op, bool always)
{
    for (size_t i = 0; i < b->nfeatures; i++)
        for (size_t k = 0; k < b->features[i]->ncalls; k++) {
            const struct feature_call *c = &b->features[i]->calls[k];

            if (c->op == op && !is_observer(b->features[i]) && (!always || c->nwhen == 0))
                return true;
        }
    return false;
}

static bool is_handled(const struct builder *b, enum call_op op)
{
    return is_taken(b, op, true);
}

/* Are TCP ports confined at all? */
static bool binds_governed(const struct builder *b)
{
    return policy_bind_governed(b->policy) &&
           b->policy->protection[PROT_NET_TCP] != PROTECTION_DISABLED &&
           b->kernel->landlock_abi >= protection_info[PROT_NET_TCP].min_abi;
}

/* ---- denials ---- */

/* In a tree of the command's own no file has a handle (CR-06): programs know that answer and do without. */
static int deny_errno(const struct builder *b, enum call_id id)
{
    return id == CALL_name_to_handle_at && policy_has_view(b->policy) ? EOPNOTSUPP : EPERM;
}

/* Lists by name. personality is decided by its argument (rules.c). */
static void deny_group(struct builder *b, const char *name)
{
    const struct syscall_group *g = syscall_group_by_name(name);

    if (!g) {
        keep(b, -ENOENT);
        return;
    }
    for (const uint16_t *id = g->ids; *id != CALL_ID_COUNT; id++)
        if (*id != CALL_personality)
            deny(b, *id, deny_errno(b, *id));
}

static void deny_listed(struct builder *b)
{
    for (unsigned id = 0; id < CALL_ID_COUNT; id++)
        if (call_set_has(&b->policy->extra_deny, id))
            deny(b, id, EPERM);
    if (b->policy->no_supervisor) {
        deny_group(b, "no_supervisor");
        return;
    }
    deny_group(b, "default");
    if (!b->policy->allow_sysv_ipc)
        deny_group(b, "sysv_ipc");
}

/* FG-03: without a write grant nothing may change; with one the metadata feature asks which object
 * it is. Under --no-supervisor nobody can ask: then a write grant opens them (documented). */
static void deny_metadata(struct builder *b)
{
    struct filter_clause c = {.ret = RULE_ERRNO(EPERM)};
    bool writable = policy_has_write(b->policy);

    for (size_t i = 0; i < rules_meta_op_count; i++) {
        enum call_op op = rules_meta_ops[i];

        if (!writable || (!b->policy->no_supervisor && !is_handled(b, op)))
            keep(b, filter_add_op(b->plan, op, &c));
    }
}

/* FG-05: a named socket may be reached only under a write grant. Landlock sees to it from ABI 9 on
 * (but knows no denials inside a grant); otherwise connect must be mediated. Where nobody does, no
 * socket exists that could be pointed at a name. */
static void deny_unix(struct builder *b)
{
    static const struct arg_test is_unix = RULE_EQ(0, AF_UNIX);
    bool kernel = b->kernel->landlock_abi >= ABI_RESOLVE_UNIX && b->policy->fs_deny.n == 0 &&
                  !policy_net_mediated(b->policy) && !policy_has_view(b->policy);

    if (kernel)
        return;
    if (!is_handled(b, OP_CONNECT)) {
        struct filter_clause c = {{is_unix}, 1, RULE_ERRNO(EACCES)};

        keep(b, filter_add(b->plan, CALL_socket, &c));
    }
    /* Datagrams carry names in every send: somebody has to read each (of sendto, those that name
     * anybody). The kernel takes raw for datagram. Pairs too: they can send to any name, unless a
     * feature makes something else of them. */
    if (is_handled(b, OP_CONNECT) && is_handled(b, OP_SENDMSG) && is_handled(b, OP_SENDMMSG) &&
        is_taken(b, OP_SENDTO, false))
        return;
    for (uint64_t type = SOCK_DGRAM; type <= SOCK_RAW; type++) {
        struct filter_clause c = {
            {is_unix, RULE_MASKED(1, SOCKET_TYPE_MASK, type)}, 2, RULE_ERRNO(EACCES)};

        keep(b, filter_add(b->plan, CALL_socket, &c));
        if (!is_taken(b, OP_SOCKETPAIR, false))
            keep(b, filter_add(b->plan, CALL_socketpair, &c));
    }
}

/* NR-04: datagram sockets of the protocols that a rule names, nothing raw. */
static void deny_datagrams(struct builder *b)
{
    static const struct arg_test inet = RULE_MASKED(0, INET_MASK, AF_INET),
                                 other = RULE_NOT_MASKED(1, SOCKET_TYPE_MASK, SOCK_STREAM),
                                 datagram = RULE_MASKED(1, SOCKET_TYPE_MASK, SOCK_DGRAM);
    unsigned protos = policy_net_protos(b->policy);
    struct filter_clause c = {{inet, other}, 2, RULE_ERRNO(EACCES)};

    if (policy_net_mediated(b->policy))
        deny_rows(b, &rules_routed);
    if (!(protos & (NET_UDP | NET_ICMP))) {
        keep(b, filter_add(b->plan, CALL_socket, &c));
        return;
    }
    c.test[c.ntests++] = (struct arg_test)RULE_NOT_MASKED(1, SOCKET_TYPE_MASK, SOCK_DGRAM);
    keep(b, filter_add(b->plan, CALL_socket, &c));
    c = (struct filter_clause){{inet, datagram}, 2, RULE_ERRNO(EACCES)};
    if (protos & NET_UDP) {
        c.test[c.ntests++] = (struct arg_test)RULE_NE(2, 0);
        c.test[c.ntests++] = (struct arg_test)RULE_NE(2, IPPROTO_UDP);
    }
    if (protos & NET_ICMP) {
        c.test[c.ntests++] = (struct arg_test)RULE_NE(2, IPPROTO_ICMP);
        c.test[c.ntests++] = (struct arg_test)RULE_NE(2, IPPROTO_ICMPV6);
    }
    keep(b, filter_add(b->plan, CALL_socket, &c));
}

/* NB-01: listen on a socket without a port takes a free one, past Landlock's bind hook. */
static void deny_listen(struct builder *b)
{
    static const struct filter_clause inet = {
        {RULE_MASKED(0, ~8u, AF_INET)}, 1, RULE_ERRNO(EACCES)};

    if (!binds_governed(b) || is_handled(b, OP_LISTEN))
        return;
    if (!b->policy->no_supervisor) {
        deny(b, CALL_listen, EACCES);
    } else if (port_set_is_empty(&b->policy->net_bind)) {
        /* Nobody looks at the socket: refuse TCP where no port is granted at all (so that UNIX
         * sockets may listen), else listening. With bind grants listening must work. */
        if (port_set_is_empty(&b->policy->net_connect))
            keep(b, filter_add(b->plan, CALL_socket, &inet));
        else
            deny(b, CALL_listen, EACCES);
    }
}

/* Design rule 4: while a closed feature is active, a path it does not see is a path it cannot
 * guard. Addresses need little more: sockets that could use one unseen are refused above, but a
 * pair's socket still binds, and could make a name beneath a denied directory. */
static void deny_unseen(struct builder *b)
{
    bool closed = false;

    for (size_t i = 0; i < b->nfeatures; i++)
        closed |= b->features[i]->closed;
    for (size_t i = 0; i < b->plan->arch->ncalls && closed; i++) {
        const struct call_info *c = &b->plan->arch->calls[i];

        if ((c->classes & CLASS_PATH) && (c->op == OP_NONE || !is_handled(b, c->op)))
            deny(b, c->id, EPERM);
    }
    if ((b->policy->fs_deny.n > 0 || policy_has_view(b->policy)) && !is_handled(b, OP_BIND))
        deny(b, CALL_bind, EPERM);
}

/* RM-01: one private writable mapping that could never be filled is refused as RLIMIT_DATA would,
 * without asking anybody. Reservations (PROT_NONE, MAP_NORESERVE) pass (RM-03). */
static void deny_huge_mapping(struct builder *b)
{
    struct filter_clause c = {
        .test = {{.arg = 1, .cmp = CMP_GE, .wide = true, .value = b->policy->max_memory},
                 RULE_ANY(2, PROT_WRITE),
                 RULE_MASKED(3, MAP_ANONYMOUS | MAP_PRIVATE | MAP_NORESERVE,
                             MAP_ANONYMOUS | MAP_PRIVATE)},
        .ntests = 3,
        .ret = RULE_ERRNO(ENOMEM)};

    if (b->policy->max_memory && !b->policy->no_supervisor)
        keep(b, filter_add(b->plan, CALL_mmap, &c));
}

/* ---- notifications ---- */

static bool has_allow(const struct feature_call *c)
{
    for (size_t i = 0; i < c->nwhen; i++)
        if (c->when[i].ret == SECCOMP_RET_ALLOW)
            return true;
    return false;
}

/* Does the call have the arguments that a clause tests, in the roles they have in `model`? */
static bool has_arguments(const struct call_info *c, const struct call_info *model,
                          const struct filter_clause *when)
{
    for (unsigned t = 0; t < when->ntests; t++)
        if (c->role[when->test[t].arg] != model->role[when->test[t].arg] ||
            c->role[when->test[t].arg] == ARG_NONE)
            return false;
    return true;
}

/* The first member that has the arguments of all clauses: those of the others are compared with it. */
static const struct call_info *model_member(const struct builder *b, const struct feature_call *c)
{
    for (size_t i = 0; i < b->plan->arch->ncalls; i++) {
        const struct call_info *m = &b->plan->arch->calls[i];
        bool all = m->op == c->op;

        for (size_t k = 0; k < c->nwhen && all; k++)
            all = has_arguments(m, m, &c->when[k]);
        if (all)
            return m;
    }
    return NULL;
}

/* Clauses name argument positions, so all members of the operation must agree on them. A clause that
 * lets something pass is not given to members without its arguments (fork has no flags): they are
 * notified. */
static bool positions_agree(const struct builder *b, const struct feature_call *c)
{
    const struct call_info *model = model_member(b, c);

    for (size_t i = 0; i < b->plan->arch->ncalls; i++) {
        const struct call_info *m = &b->plan->arch->calls[i];

        for (size_t k = 0; k < c->nwhen && m->op == c->op; k++)
            if (c->when[k].ret != SECCOMP_RET_ALLOW &&
                (!model || !has_arguments(m, model, &c->when[k])))
                return false;
    }
    return true;
}

static void add_clause(struct builder *b, const struct feature_call *c,
                       const struct filter_clause *when)
{
    const struct call_info *model = model_member(b, c);

    if (when->ret != SECCOMP_RET_ALLOW) {
        keep(b, filter_add_op(b->plan, c->op, when));
        return;
    }
    for (size_t i = 0; i < b->plan->arch->ncalls && model; i++) {
        const struct call_info *m = &b->plan->arch->calls[i];

        if (m->op == c->op && has_arguments(m, model, when))
            keep(b, filter_add(b->plan, m->id, when));
    }
}

/* Adds one feature's clauses of the wanted action; none at all means: always notify. */
static void add_clauses(struct builder *b, const struct feature_call *c, uint32_t action)
{
    static const struct filter_clause always = {.ret = SECCOMP_RET_USER_NOTIF};

    if (c->nwhen == 0 && action == SECCOMP_RET_USER_NOTIF)
        keep(b, filter_add_op(b->plan, c->op, &always));
    for (size_t i = 0; i < c->nwhen; i++)
        if (action == UINT32_MAX || (c->when[i].ret & SECCOMP_RET_ACTION_FULL) == action)
            add_clause(b, c, &c->when[i]);
}

static int check_feature_call(const struct builder *b, const struct feature *f,
                              const struct feature_call *c, struct error *err)
{
    for (size_t i = 0; i < c->nwhen; i++) {
        uint32_t action = c->when[i].ret & SECCOMP_RET_ACTION_FULL;

        if (action != SECCOMP_RET_USER_NOTIF && c->when[i].ret != SECCOMP_RET_ALLOW &&
            action != SECCOMP_RET_ERRNO)
            return error_set(err, ERROR_SETUP, -EINVAL, f->name, "clause with verdict 0x%x on %s",
                             c->when[i].ret, call_op_name(c->op));
    }
    if (!positions_agree(b, c))
        return error_set(err, ERROR_SETUP, -EINVAL, f->name,
                         "tests an argument that the calls of %s do not share",
                         call_op_name(c->op));
    return 0;
}

/* True when this is the last registration of its operation that lets some forms pass. */
static bool is_last_allower(const struct builder *b, const struct feature_call *c)
{
    const struct feature_call *last = NULL;

    for (size_t i = 0; i < b->nfeatures; i++)
        for (size_t k = 0; k < b->features[i]->ncalls; k++)
            if (b->features[i]->calls[k].op == c->op && has_allow(&b->features[i]->calls[k]))
                last = &b->features[i]->calls[k];
    return last == c;
}

/*
 * A form that one feature lets pass may still be another's to see, so the lists of an operation
 * cannot simply be joined. Order: refusals of all; notifications of all but the last list that
 * lets something pass; then that list. Lists whose "let pass" is dropped are notified too often,
 * never too seldom. (pass 0: refusals, 1: notifications, 2: the last list.)
 */
static void add_features(struct builder *b, unsigned pass, struct error *err)
{
    for (size_t i = 0; i < b->nfeatures; i++) {
        const struct feature *f = b->features[i];

        for (size_t k = 0; k < f->ncalls; k++) {
            const struct feature_call *c = &f->calls[k];
            bool last = has_allow(c) && is_last_allower(b, c);

            if (pass == 0) {
                keep(b, check_feature_call(b, f, c, err));
                add_clauses(b, c, SECCOMP_RET_ERRNO);
            } else if (pass == 1 && !last) {
                add_clauses(b, c, SECCOMP_RET_USER_NOTIF);
            } else if (pass == 2 && last) {
                add_clauses(b, c, UINT32_MAX);
            }
        }
    }
}

/* ---- execs made by the supervisor ---- */

uint64_t plan_exec_mark(void)
{
    static _Atomic uint64_t mark;
    uint64_t none = 0, drawn;

    if (!mark) {
        while (getrandom(&drawn, sizeof(drawn), 0) != sizeof(drawn) || !drawn)
            ;
        atomic_compare_exchange_strong(&mark, &none, drawn);
    }
    return mark;
}

/* The mark is no secret: the command can have filters of its own, whose errno may be any byte of it.
 * SECCOMP_RET_TRACE lets the call pass where a tracer asked for the event, which is us, for the moment
 * of the exec; without one it is ENOSYS. */
static void trace_marked_exec(struct builder *b)
{
    struct filter_clause c = {
        {{.arg = 5, .cmp = CMP_EQ, .wide = true, .value = plan_exec_mark()}}, 1, SECCOMP_RET_TRACE};

    if (policy_has_view(b->policy) && !b->policy->no_supervisor)
        keep(b, filter_add(b->plan, CALL_execveat, &c));
}

/* ---- the plan ---- */

static void add_all(struct builder *b, struct error *err)
{
    deny_listed(b);
    if (!b->policy->no_supervisor)
        deny_rows(b, &rules_supervised);
    deny_rows(b, &rules_always);
    deny_metadata(b);
    deny_unix(b);
    deny_datagrams(b);
    deny_listen(b);
    deny_unseen(b);
    trace_marked_exec(b);
    deny_huge_mapping(b);
    for (unsigned pass = 0; pass < 3; pass++)
        add_features(b, pass, err);
    if (!b->policy->no_supervisor)
        deny_rows(b, &rules_supervised_last);
    deny_rows(b, &rules_last);
}

int plan_filter(const struct policy *policy, const struct kernel *kernel, const struct arch *a,
                const struct feature *const *features, size_t nfeatures, struct filter_plan *ret,
                struct error *err)
{
    struct filter_plan plan;
    struct builder b = {.policy = policy,
                        .kernel = kernel,
                        .features = features,
                        .nfeatures = policy->no_supervisor ? 0 : nfeatures,
                        .plan = &plan};
    int r = filter_plan_init(&plan, a);

    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "filter", "out of memory");
    if (err)
        *err = (struct error){0};
    add_all(&b, err);
    if (b.status < 0) {
        filter_plan_fini(&plan);
        if (err && err->kind == ERROR_NONE)
            error_set(err, ERROR_SETUP, b.status, "filter", "cannot build the filter: %s",
                      error_text(b.status));
        return b.status;
    }
    *ret = plan;
    return 0;
}

/* ---- explain mode ---- */

/* ENOSYS is an answer that libc asks for in loops (clone3 at each thread), and explains nothing. */
static uint32_t told(uint32_t ret)
{
    if ((ret & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ERRNO || (ret & SECCOMP_RET_DATA) == ENOSYS)
        return ret;
    return SECCOMP_RET_USER_NOTIF;
}

int plan_filter_told(const struct filter_plan *quiet, struct filter_plan *ret)
{
    struct filter_plan plan;
    int r = filter_plan_init(&plan, quiet->arch);

    for (size_t i = 0; r == 0 && i < quiet->arch->ncalls; i++) {
        const struct filter_entry *e = &quiet->entries[i];

        plan.entries[i].otherwise = told(e->otherwise);
        for (unsigned k = 0; r == 0 && k < e->nclauses; k++) {
            struct filter_clause c = e->clauses[k];

            c.ret = told(c.ret);
            r = filter_add(&plan, quiet->arch->calls[i].id, &c);
        }
    }
    if (r < 0) {
        filter_plan_fini(&plan);
        return r;
    }
    *ret = plan;
    return 0;
}
