/* SPDX-License-Identifier: Apache-2.0 */
/*
 * See match.h. One table a protocol, verdict and family; an entry is a masked address with its ports;
 * entries with equal keys are joined, so the cost depends on the prefix lengths that occur. Pure.
 */
#include "net/match.h"

#include <errno.h>
#include <string.h>

#include "policy/internal.h"

#define PROTOS 3 /* bits of enum net_proto */
#define PREFIXES 129

struct match_entry {
    uint8_t prefix;
    uint8_t addr[16];
    struct port_set ports;
};
struct match_table {
    struct match_entry *v;
    size_t n;
    /* After sealing: the groups of equal prefix lengths, longest first. */
    struct match_group {
        uint32_t first, n;
        uint8_t prefix;
    } * groups;
    size_t ngroups;
};
struct net_match {
    /* [protocol][denial][IPv6] */
    struct match_table tables[PROTOS][2][2];
    bool allow_by_default;
};

int net_dest_of(const struct sockaddr *sa, socklen_t len, struct net_dest *ret)
{
    static const uint8_t unspecified[16] = {0};
    const struct sockaddr_in6 *in6 = (const void *)sa;
    const struct sockaddr_in *in = (const void *)sa;

    *ret = (struct net_dest){0};
    if (len < sizeof(sa->sa_family))
        return -EINVAL;
    if (sa->sa_family == AF_INET && len >= sizeof(*in)) {
        memcpy(ret->addr, &in->sin_addr, 4);
        ret->port = ntohs(in->sin_port);
    } else if (sa->sa_family == AF_INET6 && len >= offsetof(struct sockaddr_in6, sin6_scope_id)) {
        ret->port = ntohs(in6->sin6_port);
        memcpy(ret->addr, &in6->sin6_addr, 16);
        ret->v6 = !net_rule_canonical(in6->sin6_addr.s6_addr, ret->addr);
        if (!ret->v6)
            memset(ret->addr + 4, 0, 12);
    } else {
        return -EINVAL;
    }
    if (memcmp(ret->addr, unspecified, sizeof(unspecified)) == 0) {
        if (ret->v6)
            ret->addr[15] = 1;
        else
            memcpy(ret->addr, &(struct in_addr){htonl(INADDR_LOOPBACK)}, 4);
    }
    return 0;
}

struct net_match *net_match_new(void)
{
    return calloc(1, sizeof(struct net_match));
}

static void table_fini(struct match_table *t)
{
    for (size_t i = 0; i < t->n; i++)
        port_set_fini(&t->v[i].ports);
    free(t->v);
    free(t->groups);
}

void net_match_free(struct net_match *m)
{
    if (!m)
        return;
    for (unsigned i = 0; i < PROTOS; i++)
        for (unsigned k = 0; k < 4; k++)
            table_fini(&m->tables[i][k / 2][k % 2]);
    free(m);
}

static int ports_join(struct port_set *to, const struct port_set *from)
{
    struct port_range *v;

    to->any |= from->any;
    if (!from->n)
        return 0;
    v = reallocarray(to->ranges, to->n + from->n, sizeof(*v));
    if (!v)
        return -ENOMEM;
    memcpy(v + to->n, from->ranges, from->n * sizeof(*v));
    to->ranges = v;
    to->n += from->n;
    return 0;
}

static int table_add(struct match_table *t, const uint8_t *addr, size_t size, unsigned prefix,
                     const struct port_set *ports)
{
    struct match_entry *e;

    if ((t->n & (t->n - 1)) == 0) {
        e = reallocarray(t->v, t->n ? t->n * 2 : 1, sizeof(*e));
        if (!e)
            return -ENOMEM;
        t->v = e;
    }
    e = &t->v[t->n++];
    *e = (struct match_entry){.prefix = (uint8_t)prefix};
    memcpy(e->addr, addr, size);
    return ports_join(&e->ports, ports);
}

static int match_add_proto(struct match_table family[2], const struct net_rule *r,
                           const struct net_dest *resolved)
{
    int e = 0;

    switch (r->target) {
    case NET_TARGET_V4: return table_add(&family[0], r->addr, 4, r->prefix, &r->ports);
    case NET_TARGET_V6: return table_add(&family[1], r->addr, 16, r->prefix, &r->ports);
    case NET_TARGET_NAME:
        if (!resolved)
            return -EINVAL;
        return table_add(&family[resolved->v6], resolved->addr, resolved->v6 ? 16 : 4,
                         resolved->v6 ? 128 : 32, &r->ports);
    case NET_TARGET_ANY:
    default:
        for (unsigned v6 = 0; v6 < 2 && e == 0; v6++)
            e = table_add(&family[v6], r->addr, 16, 0, &r->ports);
        return e;
    }
}

int net_match_add(struct net_match *m, const struct net_rule *rule, bool deny,
                  const struct net_dest *resolved)
{
    int e = 0;

    for (unsigned i = 0; i < PROTOS && e == 0; i++) {
        if (rule->protos & 1u << i)
            e = match_add_proto(m->tables[i][deny], rule, resolved);
    }
    return e;
}

int net_match_add_policy(struct net_match *m, const struct policy *p)
{
    /* The kernel's part of the TCP rules: asked here as well where connections are looked at. */
    const struct net_rule tcp = {.protos = NET_TCP, .ports = p->net_connect};
    int e = port_set_is_empty(&p->net_connect) ? 0 : net_match_add(m, &tcp, false, NULL);

    m->allow_by_default = policy_net_allows_by_default(p);
    for (size_t i = 0; i < p->net_allow.n && e == 0; i++) {
        if (p->net_allow.v[i].target != NET_TARGET_NAME)
            e = net_match_add(m, &p->net_allow.v[i], false, NULL);
    }
    for (size_t i = 0; i < p->net_deny.n && e == 0; i++)
        e = net_match_add(m, &p->net_deny.v[i], true, NULL);
    return e;
}

static int entry_compare(const void *a, const void *b)
{
    const struct match_entry *x = a, *y = b;

    if (x->prefix != y->prefix)
        return x->prefix > y->prefix ? -1 : 1;
    return memcmp(x->addr, y->addr, sizeof(x->addr));
}

static int table_join(struct match_table *t)
{
    size_t n = 0;
    int e = 0;

    for (size_t i = 1; i < t->n; i++) {
        if (entry_compare(&t->v[n], &t->v[i]) == 0) {
            if (e == 0)
                e = ports_join(&t->v[n].ports, &t->v[i].ports);
            port_set_fini(&t->v[i].ports);
        } else if (++n != i) {
            t->v[n] = t->v[i];
        }
    }
    if (t->n)
        t->n = n + 1;
    return e;
}

static int table_seal(struct match_table *t)
{
    int e;

    if (!t->n)
        return 0;
    qsort(t->v, t->n, sizeof(*t->v), entry_compare);
    e = table_join(t);
    t->groups = calloc(MIN(t->n, (size_t)PREFIXES), sizeof(*t->groups));
    if (!t->groups)
        return -ENOMEM;
    for (size_t i = 0; i < t->n; i++) {
        port_set_normalise(&t->v[i].ports);
        if (i == 0 || t->v[i].prefix != t->v[i - 1].prefix)
            t->groups[t->ngroups++] =
                (struct match_group){.first = (uint32_t)i, .prefix = t->v[i].prefix};
        t->groups[t->ngroups - 1].n++;
    }
    return e;
}

int net_match_seal(struct net_match *m)
{
    int e = 0;

    for (unsigned i = 0; i < PROTOS && e == 0; i++)
        for (unsigned k = 0; k < 4 && e == 0; k++)
            e = table_seal(&m->tables[i][k / 2][k % 2]);
    return e;
}

/* Ranges are sorted and disjoint. */
static bool ports_have(const struct port_set *s, uint16_t port)
{
    size_t lo = 0, hi = s->n;

    if (s->any)
        return true;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (port > s->ranges[mid].hi)
            lo = mid + 1;
        else if (port < s->ranges[mid].lo)
            hi = mid;
        else
            return true;
    }
    return false;
}

static const struct match_entry *group_find(const struct match_entry *v, size_t n,
                                            const uint8_t key[16])
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        int c = memcmp(key, v[mid].addr, 16);

        if (c == 0)
            return &v[mid];
        if (c > 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return NULL;
}

static bool table_covers(const struct match_table *t, const struct net_dest *d, bool icmp)
{
    for (size_t i = 0; i < t->ngroups; i++) {
        const struct match_group *g = &t->groups[i];
        const struct match_entry *e;
        uint8_t key[16];

        for (unsigned k = 0; k < 16; k++) {
            unsigned bits = g->prefix > k * 8 ? MIN(g->prefix - k * 8, 8u) : 0;

            key[k] = d->addr[k] & (uint8_t)(0xff00u >> bits);
        }
        e = group_find(t->v + g->first, g->n, key);
        if (e && (icmp || ports_have(&e->ports, d->port)))
            return true;
    }
    return false;
}

enum net_answer net_match_ask(const struct net_match *m, unsigned proto, const struct net_dest *d)
{
    bool icmp = proto == NET_ICMP;
    unsigned i = proto == NET_TCP ? 0 : proto == NET_UDP ? 1 : 2;

    if (!icmp && !d->port)
        return NET_NO_RULE;
    if (table_covers(&m->tables[i][1][d->v6], d, icmp))
        return NET_DENIED;
    /* Nothing but denials: the rest may leave, except by ICMP, which is always named. */
    if (m->allow_by_default && !icmp)
        return NET_ALLOWED;
    return table_covers(&m->tables[i][0][d->v6], d, icmp) ? NET_ALLOWED : NET_NO_RULE;
}
