/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host names of a policy: resolved once before the command exists, pinned, and shown to it (NR-03).
 */
#pragma once

#include "base/error.h"
#include "net/match.h"

struct buf;

struct net_pin {
    const char *name; /* the rule's */
    struct net_dest *v;
    size_t n;
};
struct net_pins {
    struct net_pin *v;
    size_t n;
};
void net_pins_fini(struct net_pins *p);
const struct net_pin *net_pins_find(const struct net_pins *p, const char *name);

/* Resolves every name of the policy in a helper process that is killed when it takes too long. */
int net_names_resolve(const struct policy *p, struct net_pins *ret, struct error *err);

/* An /etc/hosts with loopback, the host's own name and the pinned ones. Pure. */
void net_names_hosts(const struct net_pins *p, const char *own, struct buf *out);

#define DNS_MESSAGE_MAX 512
/* The answer to a DNS query, from the pins alone: other names do not exist. Pure; the query is
 * hostile. Length, or 0 when nothing should be answered. */
size_t net_dns_answer(const struct net_pins *p, const unsigned char *query, size_t len,
                      unsigned char out[DNS_MESSAGE_MAX]);

/* The thread that answers on loopback; it starts with the first query. */
struct net_dns *net_dns_new(const struct net_pins *pins);
void net_dns_free(struct net_dns *d);
/* Port of the responder's socket of this family (AF_INET or AF_INET6), or a negative errno. */
int net_dns_port(struct net_dns *d, int family);
