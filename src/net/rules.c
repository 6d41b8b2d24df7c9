/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Features "net-rules" and "net-sends": destinations per host and address (NP-02). The decision is
 * made here on copied bytes; connect.c and send.c perform. Receivers, workers; at start the caller.
 */
#include "net/rules.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "net/send.h"
#include "net/watch.h"

#define DNS_PORT 53

struct net_rules_state *net_rules_of(const struct request *r)
{
    return supervisor_state(r->sup, &net_rules_feature);
}

unsigned net_socket_proto(int fd)
{
    int type = net_sockopt(fd, SOL_SOCKET, SO_TYPE);

    switch (net_sockopt(fd, SOL_SOCKET, SO_PROTOCOL)) {
    case IPPROTO_TCP: return type == SOCK_STREAM ? NET_TCP : 0;
    case IPPROTO_UDP: return type == SOCK_DGRAM ? NET_UDP : 0;
    case IPPROTO_ICMP:
    case IPPROTO_ICMPV6: return type == SOCK_DGRAM ? NET_ICMP : 0;
    default: return 0;
    }
}

static const char *proto_name(unsigned proto)
{
    return proto == NET_TCP ? "tcp" : proto == NET_UDP ? "udp" : "icmp";
}

static int refuse(const struct request *r, unsigned proto, const struct net_addr *a,
                  enum net_answer why)
{
    char text[NET_TEXT_MAX], hint[NET_TEXT_MAX + 32];

    /* getaddrinfo asks for the way to its results by connecting to port 0 of each: nobody's loss. */
    if (proto == NET_UDP && net_addr_port(a) == 0)
        return -ECONNREFUSED;
    net_addr_text(a, text);
    if (proto == NET_ICMP && strrchr(text, ':'))
        *strrchr(text, ':') = '\0';
    snprintf(hint, sizeof(hint), "--net-allow %s://%s", proto_name(proto), text);
    request_explain(r, text, ECONNREFUSED,
                    why == NET_DENIED ? "denied by --net-deny" : "destination not allowed",
                    why == NET_DENIED ? NULL : hint);
    return -ECONNREFUSED;
}

/* Loopback is what the kernel makes of the unspecified address, unless the socket is bound to
 * another one of this host: said explicitly it is what was checked (NR-02). */
static void settle(struct net_addr *a)
{
    struct in6_addr *six = &a->u.in6.sin6_addr;

    if (a->u.sa.sa_family == AF_INET && a->u.in.sin_addr.s_addr == htonl(INADDR_ANY))
        a->u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else if (a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(six))
        *six = in6addr_loopback;
    else if (a->u.sa.sa_family == AF_INET6 && IN6_IS_ADDR_V4MAPPED(six) && !six->s6_addr32[3])
        six->s6_addr32[3] = htonl(INADDR_LOOPBACK);
}

/* To our own name server, in the family that the caller speaks. */
static int redirect_dns(struct net_rules_state *s, int fd, struct net_addr *a, bool v6)
{
    int port = net_dns_port(s->dns, v6 ? AF_INET6 : AF_INET);

    if (port < 0)
        return port;
    net_asked_note(&s->asked, fd, a);
    if (a->u.sa.sa_family == AF_INET) {
        a->u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        a->u.in.sin_port = htons((uint16_t)port);
        return 0;
    }
    a->u.in6.sin6_port = htons((uint16_t)port);
    a->u.in6.sin6_scope_id = 0;
    a->u.in6.sin6_addr = in6addr_loopback;
    if (!v6) /* ::ffff:127.0.0.1 */
        a->u.in6.sin6_addr =
            (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
    return 0;
}

int net_rules_judge(const struct request *r, int fd, struct net_addr *a)
{
    const struct policy *p = supervisor_policy(r->sup);
    struct net_rules_state *s = net_rules_of(r);
    unsigned proto = net_socket_proto(fd);
    enum net_answer answer;
    struct net_dest d;

    /* An inherited or received socket of a kind that the command could not make itself. */
    if (!proto || (proto != NET_TCP && !(policy_net_protos(p) & proto))) {
        request_explain(r, "socket", EACCES, "protocol not allowed", NULL);
        return -EACCES;
    }
    if (!(policy_net_mediated(p) & proto))
        return 0; /* open, or Landlock's to decide */
    if (a->u.sa.sa_family != AF_INET && a->u.sa.sa_family != AF_INET6)
        return -EAFNOSUPPORT;
    if (net_dest_of(&a->u.sa, a->len, &d) < 0)
        return -EINVAL;
    pthread_rwlock_rdlock(&s->lock);
    answer = net_match_ask(s->match, proto, &d);
    pthread_rwlock_unlock(&s->lock);
    if (answer == NET_ALLOWED) {
        settle(a);
        if (p->port_remap)
            net_remap_destination(r, proto, a);
        return 0;
    }
    if (proto == NET_UDP && d.port == DNS_PORT && answer == NET_NO_RULE && s->dns &&
        redirect_dns(s, fd, a, d.v6) == 0)
        return 0;
    return refuse(r, proto, a, answer);
}

/* ---- /etc/hosts ---- */

static bool hosts_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return !p->no_supervisor && policy_net_has_names(p);
}

static int hosts_render(const struct request *r, int host_fd, struct buf *out)
{
    struct net_rules_state *s = net_rules_of(r);
    const char *name = supervisor_policy(r->sup)->name;
    struct utsname u = {0};

    (void)host_fd;
    if (!s || uname(&u) < 0)
        return -EIO;
    pthread_rwlock_rdlock(&s->lock);
    net_names_hosts(&s->pins, name ? name : u.nodename, out);
    pthread_rwlock_unlock(&s->lock);
    return 0;
}

const struct virtual_file net_hosts_file = {
    .path = "/etc/hosts",
    .wanted = hosts_wanted,
    .render = hosts_render,
};

/* ---- the features ---- */

static bool rules_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return !p->no_supervisor && (policy_net_mediated(p) || policy_net_has_names(p));
}

/* Where destinations of datagrams are not the kernel's to check, internet's or UNIX' (keep.c says why
 * not UNIX' where sockets cannot be duplicated). */
static bool sends_wanted(const struct policy *p, const struct kernel *k)
{
    return !p->no_supervisor &&
           ((policy_net_mediated(p) & (NET_UDP | NET_ICMP)) || net_unix_datagrams(p, k));
}

/* Names that a program asks for itself, rather than read them in /etc/hosts. */
static bool answers_wanted(const struct policy *p, const struct kernel *k)
{
    return sends_wanted(p, k) && policy_net_has_names(p) && (policy_net_mediated(p) & NET_UDP);
}

static void rules_stop(void *state)
{
    struct net_rules_state *s = state;

    if (!s)
        return;
    net_refresh_stop(s->refresh);
    net_dns_free(s->dns);
    net_watch_free(s->watch);
    net_match_free(s->match);
    net_pins_fini(&s->pins);
    pthread_mutex_destroy(&s->asked.lock);
    pthread_rwlock_destroy(&s->lock);
    free(s);
}

struct net_match *net_rules_match(const struct policy *p, const struct net_pins *pins)
{
    struct net_match *m = net_match_new();
    int e = m ? net_match_add_policy(m, p) : -ENOMEM;

    for (size_t i = 0; i < p->net_allow.n && e == 0; i++) {
        const struct net_rule *rule = &p->net_allow.v[i];
        const struct net_pin *pin =
            rule->target == NET_TARGET_NAME ? net_pins_find(pins, rule->name) : NULL;

        for (size_t k = 0; pin && k < pin->n && e == 0; k++)
            e = net_match_add(m, rule, false, &pin->v[k]);
    }
    if (e == 0)
        e = net_match_seal(m);
    if (e < 0) {
        net_match_free(m);
        return NULL;
    }
    return m;
}

static int rules_start(struct supervisor *sup, void **ret_state, struct error *err)
{
    const struct policy *p = supervisor_policy(sup);
    struct net_rules_state *s = calloc(1, sizeof(*s));
    int e = 0;

    if (!s)
        return error_set(err, ERROR_SETUP, -ENOMEM, "--net-allow", "out of memory");
    pthread_mutex_init(&s->asked.lock, NULL);
    pthread_rwlock_init(&s->lock, NULL);
    e = net_names_resolve(p, &s->pins, err);
    if (e == 0) {
        s->match = net_rules_match(p, &s->pins);
        s->watch = net_watch_new();
        s->dns = s->pins.n ? net_dns_new(sup, &s->pins, &s->lock) : NULL;
        if (!s->match || !s->watch || (s->pins.n && !s->dns))
            e = error_set(err, ERROR_SETUP, -ENOMEM, "--net-allow", "out of memory");
    }
    if (e == 0 && p->dns_refresh_ns && s->pins.n)
        e = net_refresh_start(s, p, err);
    if (e < 0) {
        rules_stop(s);
        return e;
    }
    *ret_state = s;
    return 0;
}

static const struct feature_call rules_calls[] = {
    {OP_CONNECT, net_connect, NULL, 0},
};

/* A send that names nobody goes where connect led: not notified, whatever the socket is. */
static const struct filter_clause sendto_clauses[] = {
    {.test = {{.arg = 4, .cmp = CMP_NE, .wide = true, .value = 0}},
     .ntests = 1,
     .ret = SECCOMP_RET_USER_NOTIF},
};

static const struct feature_call sends_calls[] = {
    {OP_SENDTO, net_sendto, sendto_clauses, ARRAY_SIZE(sendto_clauses)},
    {OP_SENDMSG, net_sendmsg, NULL, 0},
    {OP_SENDMMSG, net_sendmmsg, NULL, 0},
};

/* A sender is told through an address alone. */
static const struct filter_clause recvfrom_clauses[] = {
    {.test = {{.arg = 4, .cmp = CMP_NE, .wide = true, .value = 0}},
     .ntests = 1,
     .ret = SECCOMP_RET_USER_NOTIF},
};

static const struct feature_call answers_calls[] = {
    {OP_RECVFROM, net_recvfrom, recvfrom_clauses, ARRAY_SIZE(recvfrom_clauses)},
    {OP_RECVMSG, net_recvmsg, NULL, 0},
};

/* behalf: the command's own, inner domain forbids what these threads do for it. */
const struct feature net_rules_feature = {
    .name = "net-rules",
    .wanted = rules_wanted,
    .calls = rules_calls,
    .ncalls = ARRAY_SIZE(rules_calls),
    .behalf = true,
    .start = rules_start,
    .stop = rules_stop,
};

const struct feature net_answers_feature = {
    .name = "net-answers",
    .wanted = answers_wanted,
    .calls = answers_calls,
    .ncalls = ARRAY_SIZE(answers_calls),
    .behalf = true,
};

const struct feature net_sends_feature = {
    .name = "net-sends",
    .wanted = sends_wanted,
    .calls = sends_calls,
    .ncalls = ARRAY_SIZE(sends_calls),
    .behalf = true,
};
