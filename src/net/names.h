/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Host names of a policy: resolved once before the command exists, pinned, and shown to it (NR-03).
 */
#pragma once

#include <pthread.h>

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

/* What a resolving process reports for each address, and once at the end of each name. */
#define NET_PIN_ADDRESSES 64 /* of one name */
struct net_names_record {
    uint32_t index;
    int32_t error; /* of getaddrinfo */
    uint8_t v6;
    uint8_t addr[16];
    uint8_t last;
    uint8_t pad[2];
};
_Static_assert(sizeof(struct net_names_record) == 28, "no holes");
/* In such a process: resolves all names once. False when nobody reads any more. */
bool net_names_report(int fd, const struct net_pins *pins);
/* Adds an address that is not there yet, up to the bound. 0 or -ENOMEM. */
int net_pin_add(struct net_pin *pin, const struct net_names_record *rec);

/* An /etc/hosts with loopback, the host's own name and the pinned ones. Pure. */
void net_names_hosts(const struct net_pins *p, const char *own, struct buf *out);

#define DNS_MESSAGE_MAX 512
/* The answer to a DNS query, from the pins alone: other names do not exist. Pure; the query is
 * hostile. Length, or 0 when nothing should be answered. */
size_t net_dns_answer(const struct net_pins *p, const unsigned char *query, size_t len,
                      unsigned char out[DNS_MESSAGE_MAX]);

/* The thread that answers on loopback; it starts with the first query. The pins are read under the
 * lock. */
struct supervisor;
struct net_dns *net_dns_new(struct supervisor *s, const struct net_pins *pins,
                            pthread_rwlock_t *lock);
void net_dns_free(struct net_dns *d);
/* Port of the responder's socket of this family (AF_INET or AF_INET6), or a negative errno. */
int net_dns_port(struct net_dns *d, int family);
