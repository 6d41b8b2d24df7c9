/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The rules of --net-allow and --net-deny as tables: is this destination permitted? Pure; built once
 * in the caller's thread, read by receivers. Addresses are grouped by prefix length and sorted within,
 * so that a look-up costs a binary search for each length in use, not a walk over the rules.
 */
#pragma once

#include <netinet/in.h>

#include "policy/policy.h"

struct net_match;

/* A destination in its canonical form (NR-02). */
struct net_dest {
    bool v6;
    uint8_t addr[16]; /* the first four bytes of an IPv4 address */
    uint16_t port;    /* host order; 0 for ICMP */
};

/* From a socket address of AF_INET or AF_INET6, of whatever is behind the form it is written in: the
 * unspecified address is loopback. -EINVAL for anything else. */
int net_dest_of(const struct sockaddr *sa, socklen_t len, struct net_dest *ret);

struct net_match *net_match_new(void); /* allows nothing; NULL when out of memory */
void net_match_free(struct net_match *m);
/* Adds a rule, for a name once with each address it has (rule->target is then NAME). */
int net_match_add(struct net_match *m, const struct net_rule *rule, bool deny,
                  const struct net_dest *resolved);
/* Adds all literal rules of a policy. */
int net_match_add_policy(struct net_match *m, const struct policy *p);
/* Sorts and joins; before the first question. */
int net_match_seal(struct net_match *m);

enum net_answer {
    NET_ALLOWED = 0,
    NET_NO_RULE, /* nothing allows it */
    NET_DENIED,  /* a denial covers it */
};
/* `proto` is one bit of enum net_proto. Port 0 is refused but for ICMP. */
enum net_answer net_match_ask(const struct net_match *m, unsigned proto, const struct net_dest *d);
