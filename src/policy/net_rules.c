/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The grammar of network rules and what a set of them asks for (NR-01, NP-01). Pure; the caller's
 * thread and the fuzzers; the text may be anything.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "policy/internal.h"

#define RULE_FORMS                                                                               \
    "accepted: [tcp://|udp://|icmp://]TARGET[:PORTS]; TARGET is a host name, an IPv4 or [IPv6] " \
    "address, a network such as 10.0.0.0/8, or * or nothing for all"
#define TARGET_MAX 300 /* a name has 253 bytes */

void net_rules_fini(struct net_rules *r)
{
    for (size_t i = 0; i < r->n; i++) {
        free(r->v[i].name);
        port_set_fini(&r->v[i].ports);
    }
    free(r->v);
    *r = (struct net_rules){0};
}

static void rule_fini(struct net_rule *r)
{
    free(r->name);
    port_set_fini(&r->ports);
}

static int rules_take(struct net_rules *set, struct net_rule *r, const char *flag,
                      struct error *err)
{
    /* Full at each power of two: doubles. */
    if ((set->n & (set->n - 1)) == 0) {
        struct net_rule *v = reallocarray(set->v, set->n ? set->n * 2 : 1, sizeof(*v));

        if (!v) {
            rule_fini(r);
            return policy_error_memory(flag, err);
        }
        set->v = v;
    }
    set->v[set->n++] = *r;
    return 0;
}

static int rule_error(struct error *err, const char *flag, const char *spec, const char *what)
{
    return error_set(err, ERROR_USAGE, -EINVAL, flag, SHOWN " %s (" RULE_FORMS ")", spec, what);
}

/* "tcp://x" and the like: the protocols and the rest. */
static int parse_scheme(const char *flag, const char *spec, const char **ret_rest,
                        struct error *err)
{
    static const struct {
        const char *prefix;
        int protos;
    } known[] = {{"tcp://", NET_TCP}, {"udp://", NET_UDP}, {"icmp://", NET_ICMP}};

    *ret_rest = spec;
    if (!strstr(spec, "://"))
        return NET_TCP | NET_UDP;
    for (size_t i = 0; i < ARRAY_SIZE(known); i++) {
        size_t n = strlen(known[i].prefix);

        if (strncmp(spec, known[i].prefix, n) == 0) {
            *ret_rest = spec + n;
            return known[i].protos;
        }
    }
    return rule_error(err, flag, spec, "names an unknown protocol");
}

/* Address forms that lead to an IPv4 host are IPv4 (NR-02): mapped, compatible, NAT64. */
static bool v6_is_v4(const uint8_t a[16], unsigned prefix)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, compatible[12] = {0},
                         nat64[12] = {0, 0x64, 0xff, 0x9b};

    if (prefix < 96)
        return false;
    if (memcmp(a, mapped, 12) == 0 || memcmp(a, nat64, 12) == 0)
        return true;
    /* :: and ::1 are themselves. */
    return memcmp(a, compatible, 12) == 0 && (a[12] || a[13] || a[14] || a[15] > 1) &&
           prefix == 128;
}

bool net_rule_canonical(const uint8_t v6[16], uint8_t v4[4])
{
    if (!v6_is_v4(v6, 128))
        return false;
    memcpy(v4, v6 + 12, 4);
    return true;
}

static void mask_address(uint8_t *addr, size_t size, unsigned prefix)
{
    for (size_t i = 0; i < size; i++) {
        unsigned bits = prefix > i * 8 ? MIN(prefix - (unsigned)i * 8, 8u) : 0;

        addr[i] &= (uint8_t)(0xff00u >> bits);
    }
}

/* "10.0.0.0/8", "::1": -ENOENT when it is no literal at all. */
static int parse_literal(const char *flag, const char *spec, const char *text, struct net_rule *r,
                         struct error *err)
{
    char addr[INET6_ADDRSTRLEN + 1] = "";
    const char *slash = strchr(text, '/');
    size_t len = slash ? (size_t)(slash - text) : strlen(text);
    uint32_t prefix = 0;
    unsigned most;

    if (strchr(text, '%'))
        return rule_error(err, flag, spec, "has a scope, which rules cannot name");
    if (len < sizeof(addr))
        memcpy(addr, text, len);
    if (inet_pton(AF_INET, addr, r->addr) == 1)
        r->target = NET_TARGET_V4;
    else if (inet_pton(AF_INET6, addr, r->addr) == 1)
        r->target = NET_TARGET_V6;
    else if (strchr(text, ':'))
        return rule_error(err, flag, spec, "is not an IPv6 address");
    else if (slash)
        return rule_error(err, flag, spec, "has a prefix length without an address");
    else
        return -ENOENT;
    most = r->target == NET_TARGET_V4 ? 32 : 128;
    prefix = most;
    if (slash && (parse_u32(slash + 1, &prefix) < 0 || prefix > most))
        return rule_error(err, flag, spec,
                          most == 32 ? "has a prefix length beyond 32"
                                     : "has a prefix length beyond 128");
    r->prefix = (uint8_t)prefix;
    if (r->target == NET_TARGET_V6 && v6_is_v4(r->addr, prefix)) {
        memmove(r->addr, r->addr + 12, 4);
        memset(r->addr + 4, 0, 12);
        r->target = NET_TARGET_V4;
        r->prefix = (uint8_t)(prefix - 96);
    }
    mask_address(r->addr, r->target == NET_TARGET_V4 ? 4 : 16, r->prefix);
    return 0;
}

/* RFC 1123 and underscores. Names of digits and dots alone are failed addresses. */
static const char *name_problem(const char *s)
{
    size_t label = 0;
    bool numeric = true;

    if (strlen(s) > 253)
        return "has a name longer than 253 bytes";
    if (strchr(s, '*'))
        return "is neither a host nor *: names are matched literally, without wildcards";
    for (const char *p = s;; p++) {
        if (*p == '.' || !*p) {
            if (label == 0 || label > 63)
                return "has a name with an empty or over-long part";
            if (!*p)
                return numeric ? "is not an IPv4 address" : NULL;
            label = 0;
            continue;
        }
        if (!strchr("0123456789abcdefghijklmnopqrstuvwxyz-_", *p))
            return "is neither a host nor a port rule";
        if (*p == '-' && (label == 0 || !p[1] || p[1] == '.'))
            return "has a name part that begins or ends with a hyphen";
        numeric &= *p >= '0' && *p <= '9';
        label++;
    }
}

static int parse_name(const char *flag, const char *spec, char *text, struct net_rule *r,
                      struct error *err)
{
    size_t n = strlen(text);
    const char *problem;

    if (n > 1 && text[n - 1] == '.')
        text[n - 1] = '\0';
    for (char *p = text; *p; p++)
        *p = *p >= 'A' && *p <= 'Z' ? (char)(*p - 'A' + 'a') : *p;
    problem = name_problem(text);
    if (problem)
        return rule_error(err, flag, spec, problem);
    r->target = NET_TARGET_NAME;
    r->name = strdup(text);
    return r->name ? 0 : policy_error_memory(flag, err);
}

/*
 * An IPv6 address without brackets takes the whole rule: -EINVAL where its end can be read as ports as
 * well ("::1:80"). Whichever were taken silently, the other would have been meant by somebody.
 */
static int check_ambiguous(const char *flag, const char *spec, const char *text, struct error *err)
{
    char addr[INET6_ADDRSTRLEN + 1] = "";
    const char *ports = strrchr(text, ':') + 1;
    size_t len = (size_t)(ports - 1 - text), bare = MIN(len, strcspn(text, "/"));
    struct in6_addr any;

    if (!*ports || strspn(ports, "0123456789,-*") != strlen(ports) || bare >= sizeof(addr))
        return 0;
    memcpy(addr, text, bare);
    if (inet_pton(AF_INET6, addr, &any) != 1)
        return 0;
    if (strchr(text, '/') || inet_pton(AF_INET6, text, &any) != 1)
        return error_set(err, ERROR_USAGE, -EINVAL, flag, SHOWN " lacks brackets: use [%.*s]:%.40s",
                         spec, (int)len, text, ports);
    return error_set(err, ERROR_USAGE, -EINVAL, flag,
                     SHOWN " is ambiguous: use [%.*s]:%.40s for the port, [%.60s] for the address",
                     spec, (int)len, text, ports, text);
}

/*
 * Splits at the colon before the ports. Brackets hold an IPv6 address, with the prefix length inside
 * or behind; an IPv6 address without brackets takes the whole rule.
 */
static int split_target(const char *flag, const char *spec, const char *text,
                        char target[TARGET_MAX], const char **ret_ports, struct error *err)
{
    const char *close = *text == '[' ? strchr(text, ']') : NULL, *colon = strrchr(text, ':');
    size_t len = strlen(text);

    if (*text == '[' && !close)
        return rule_error(err, flag, spec, "has an unfinished [address]");
    if (close) {
        size_t tail = strcspn(close + 1, ":");

        if (tail && close[1] != '/')
            return rule_error(err, flag, spec, "has an unfinished [address]");
        colon = close[1 + tail] ? close + 1 + tail : NULL;
        if (len >= TARGET_MAX)
            return rule_error(err, flag, spec, "is too long");
        memcpy(target, text + 1, (size_t)(close - text - 1));
        memcpy(target + (close - text - 1), close + 1, tail);
        target[(size_t)(close - text - 1) + tail] = '\0';
        if (!strchr(target, ':'))
            return rule_error(err, flag, spec, "has something else than IPv6 in brackets");
    } else {
        if (colon && strchr(text, ':') != colon) {
            int e = check_ambiguous(flag, spec, text, err);

            if (e < 0)
                return e;
            colon = NULL;
        }
        len = colon ? (size_t)(colon - text) : len;
        if (len >= TARGET_MAX)
            return rule_error(err, flag, spec, "is too long");
        memcpy(target, text, len);
        target[len] = '\0';
    }
    *ret_ports = colon ? colon + 1 : NULL;
    return 0;
}

static int parse_target(const char *flag, const char *spec, char *target, struct net_rule *r,
                        struct error *err)
{
    int e;

    if (!*target || strcmp(target, "*") == 0)
        return 0;
    if (strspn(target, "0123456789,-") == strlen(target))
        return rule_error(err, flag, spec, "has no colon before the port");
    e = parse_literal(flag, spec, target, r, err);
    return e == -ENOENT ? parse_name(flag, spec, target, r, err) : e;
}

/* One rule; ret_bare: the target is empty (":80"). */
static int rule_parse(const char *flag, const char *spec, struct net_rule *ret, bool *ret_bare,
                      struct error *err)
{
    struct net_rule r = {.target = NET_TARGET_ANY};
    char target[TARGET_MAX];
    const char *rest, *ports = NULL;
    int e = parse_scheme(flag, spec, &rest, err);

    if (e < 0)
        return e;
    r.protos = (uint8_t)e;
    /* An empty rule or a bare colon is what an unset shell variable leaves: never "everything". */
    if (!*rest)
        return rule_error(err, flag, spec, "names no port");
    e = split_target(flag, spec, rest, target, &ports, err);
    if (e < 0)
        return e;
    if ((r.protos & NET_ICMP) && ports)
        return rule_error(err, flag, spec, "names a port, which icmp does not have");
    e = parse_target(flag, spec, target, &r, err);
    if (e == 0)
        e = port_set_parse(&r.ports, ports ? ports : "*", false, flag, err);
    if (e < 0) {
        rule_fini(&r);
        return e;
    }
    *ret = r;
    *ret_bare = !*target;
    return 0;
}

/* Joins the ports of a rule for TCP to anybody with the set that Landlock takes. */
static int connect_join(struct port_set *to, struct port_set *from, const char *flag,
                        struct error *err)
{
    struct port_range *v;

    if (from->any) {
        to->any = true;
        return 0;
    }
    v = reallocarray(to->ranges, to->n + from->n, sizeof(*v));
    if (!v)
        return policy_error_memory(flag, err);
    memcpy(v + to->n, from->ranges, from->n * sizeof(*v));
    to->ranges = v;
    to->n += from->n;
    port_set_normalise(to);
    return 0;
}

int policy_add_net_allow(struct policy *p, const char *flag, const char *spec, struct error *err)
{
    struct net_rule r;
    bool bare;
    int e = rule_parse(flag, spec, &r, &bare, err);

    if (e < 0)
        return e;
    /* A bare port is TCP: the form that the kernel enforces alone, at no cost. */
    if (bare && r.protos == (NET_TCP | NET_UDP))
        r.protos = NET_TCP;
    if (r.target == NET_TARGET_ANY && (r.protos & NET_TCP)) {
        e = connect_join(&p->net_connect, &r.ports, flag, err);
        r.protos &= (uint8_t)~NET_TCP;
    }
    if (e < 0 || !r.protos) {
        rule_fini(&r);
        return e;
    }
    return rules_take(&p->net_allow, &r, flag, err);
}

int policy_add_net_deny(struct policy *p, const char *flag, const char *spec, struct error *err)
{
    struct net_rule r;
    bool bare;
    int e = rule_parse(flag, spec, &r, &bare, err);

    if (e < 0)
        return e;
    if (r.target == NET_TARGET_NAME) {
        rule_fini(&r);
        return rule_error(err, flag, spec,
                          "names a host: a denial takes addresses only, since a name may have "
                          "others tomorrow");
    }
    return rules_take(&p->net_deny, &r, flag, err);
}

int policy_add_net_allow_bind(struct policy *p, const char *flag, const char *ports,
                              struct error *err)
{
    return port_set_parse(&p->net_bind, ports, true, flag, err);
}

int policy_add_net_deny_bind(struct policy *p, const char *flag, const char *ports,
                             struct error *err)
{
    return port_set_parse(&p->net_deny_bind, ports, false, flag, err);
}

/* ---- of the whole ---- */

bool policy_net_allows_by_default(const struct policy *p)
{
    return p->net_deny.n && !p->net_allow.n && port_set_is_empty(&p->net_connect);
}

unsigned policy_net_protos(const struct policy *p)
{
    unsigned protos = port_set_is_empty(&p->net_connect) ? 0 : NET_TCP;

    if (policy_net_allows_by_default(p))
        protos |= NET_TCP | NET_UDP;
    for (size_t i = 0; i < p->net_allow.n; i++)
        protos |= p->net_allow.v[i].protos;
    return protos;
}

/* Everything of these protocols, whatever the address and port? */
static unsigned rule_opens(const struct net_rule *r)
{
    return r->target == NET_TARGET_ANY && r->ports.any ? r->protos : 0;
}

unsigned policy_net_mediated(const struct policy *p)
{
    unsigned open = p->net_connect.any ? NET_TCP : 0, asked = 0;

    /* The ports that rules and programs name are not the kernel's then. */
    if (p->net_deny.n || p->port_remap)
        return policy_net_protos(p);
    for (size_t i = 0; i < p->net_allow.n; i++) {
        open |= rule_opens(&p->net_allow.v[i]);
        asked |= p->net_allow.v[i].protos;
    }
    return asked & ~open;
}

bool policy_bind_governed(const struct policy *p)
{
    if (!port_set_is_empty(&p->net_deny_bind))
        return true;
    return !p->net_bind.any;
}

bool policy_bind_mediated(const struct policy *p)
{
    return p->port_remap || !port_set_is_empty(&p->net_deny_bind);
}

bool policy_bind_allowed(const struct policy *p, uint16_t port)
{
    if (port && port_set_has(&p->net_deny_bind, port))
        return false;
    if (port_set_is_empty(&p->net_bind) && !port_set_is_empty(&p->net_deny_bind))
        return true;
    return port_set_has(&p->net_bind, port);
}

bool policy_net_has_names(const struct policy *p)
{
    for (size_t i = 0; i < p->net_allow.n; i++) {
        if (p->net_allow.v[i].target == NET_TARGET_NAME)
            return true;
    }
    return false;
}
