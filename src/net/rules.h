/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rules per host and address on the mediated path: the state that connect and the sending calls share,
 * and the one place that decides about a copied address. Receivers and workers ask; nothing of the
 * state changes after the start but the DNS thread's own.
 */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "fs/virtual.h"
#include "net/match.h"
#include "net/names.h"
#include "net/net.h"

extern const struct feature net_rules_feature;
extern const struct feature net_sends_feature;
extern const struct feature net_answers_feature;
extern const struct feature net_bind_rules_feature;

extern const struct feature net_remap_feature;
extern const struct virtual_file net_hosts_file;

#define NET_PROC_FILES 24
extern const struct virtual_file net_proc_files[NET_PROC_FILES];

/* Sockets that asked our name server, and whom they meant to ask. */
#define NET_ASKED_MAX 64
struct net_asked {
    pthread_mutex_t lock; /* leaf */
    atomic_bool any;
    unsigned next;
    struct {
        uint64_t ino;
        struct net_addr server;
    } v[NET_ASKED_MAX];
};
void net_asked_note(struct net_asked *a, int fd, const struct net_addr *server);
struct verdict net_recvfrom(struct request *r);
struct verdict net_recvmsg(struct request *r);

struct net_dns;
struct net_refresh;
struct net_rules_state {
    pthread_rwlock_t lock; /* match and pins, which --dns-refresh replaces */
    struct net_match *match;
    struct net_pins pins;
    struct net_refresh *refresh; /* or NULL */
    struct net_watch *watch;
    struct net_dns *dns; /* answers for the pinned names; NULL without names */
    struct net_asked asked;
};
struct net_rules_state *net_rules_of(const struct request *r); /* NULL: not active */

/* The rule's view of a socket: one bit of enum net_proto, asked from the kernel (NP-06); 0 for
 * everything that no rule can allow. */
unsigned net_socket_proto(int fd);

/*
 * Decides about a destination on copied bytes and makes it what the kernel is to be given: the
 * unspecified address becomes loopback, a query to a name server that no rule opens goes to our own.
 * 0, or a negative errno, explained.
 */
int net_rules_judge(const struct request *r, int fd, struct net_addr *a);

/* May stream `fd` (0 to 2) of ours be handed to a command under this policy? 0 or an error. */
int net_check_stream(const struct policy *p, int fd, struct error *err);

/* remap.c: bind to a virtual port; fd is the duplicate. 0 or a negative errno. */
int net_remap_bind(const struct request *r, int fd, struct net_addr *a);
/* A destination that is a virtual port of this sandbox becomes the real one. */
void net_remap_destination(const struct request *r, unsigned proto, struct net_addr *a);

/* What the command calls a real local port. */
uint16_t net_remap_seen(const struct supervisor *s, unsigned proto, uint16_t real);
/* "tcp 80 -> 40001, ...": the ports as the command and as others name them. */
void net_remap_list(const struct supervisor *s, struct buf *out);

/* own.c: inodes of the sockets that the sandbox's processes hold, sorted. */
struct net_inodes {
    uint64_t *v;
    size_t n;
};
int net_own_inodes(struct net_inodes *ret); /* 0 or -ENOMEM */
/* Does this process, or the one that this thread belongs to, hold the socket? False when in doubt. */
bool net_process_has_inode(pid_t tid, uint64_t ino);
bool net_inodes_have(const struct net_inodes *s, uint64_t ino);

/* rules.c: the tables of a policy with these addresses for its names; NULL when out of memory. */
struct net_match *net_rules_match(const struct policy *p, const struct net_pins *pins);

/* refresh.c: resolves the names again and again in a process of its own. 0 or an error. */
int net_refresh_start(struct net_rules_state *s, const struct policy *p, struct error *err);
void net_refresh_stop(struct net_refresh *f);
/* New addresses first, then old ones that fit. Pure. 0 or -ENOMEM. */
int net_pins_renew(struct net_pins *fresh, const struct net_pins *old);
