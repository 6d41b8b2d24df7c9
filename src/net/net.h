/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network-side features: UNIX sockets by path (FG-05), listen without bind (NB-01), the netlink
 * view (NL-01). Handlers run in receiver threads, waiting work on workers; addresses are the child's.
 */
#pragma once

#include <netinet/in.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "supervisor/supervisor.h"

extern const struct feature net_unix_closed_feature;
extern const struct feature net_unix_streams_feature;
extern const struct feature net_unix_open_feature;
extern const struct feature net_unix_bind_feature;
extern const struct feature net_listen_feature;
extern const struct feature net_netlink_feature;

/* How UNIX sockets are governed under a policy on a kernel; see README.md. */
enum net_unix_mode {
    NET_UNIX_NATIVE = 0, /* Landlock checks the path (ABI 9) and nothing else needs a look */
    NET_UNIX_CLOSED,     /* no UNIX socket can be created; pairs stay */
    NET_UNIX_OPEN, /* sockets exist; connect is performed on behalf, and what sends datagrams */
};
bool net_unix_is_native(const struct policy *p, const struct kernel *k);
enum net_unix_mode net_unix_mode(const struct policy *p, const struct kernel *k);
/* Does the policy need messages to be looked at for UNIX datagrams alone? */
bool net_unix_datagrams(const struct policy *p, const struct kernel *k);
/* True when Landlock checks TCP binds, so that listen has to follow the same rule. */
bool net_bind_is_governed(const struct policy *p, const struct kernel *k);

/* A socket address copied from the child once. */
struct net_addr {
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
        struct sockaddr_storage storage;
    } u;
    socklen_t len;
};
#define NET_PATH_MAX (sizeof(((struct sockaddr_un *)0)->sun_path) + 1)
#define NET_TEXT_MAX 128

/* Copies the address with the kernel's length rule: 0, -EINVAL or -EFAULT. */
int net_addr_read(const struct request *r, child_addr addr, uint64_t len, struct net_addr *ret);
enum net_name { NET_NAME_OTHER = 0, NET_NAME_PATH, NET_NAME_ABSTRACT };
/* What a UNIX socket would make of the address. PATH: path is NUL-terminated and not empty. OTHER:
 * unnamed, another family or a length the kernel refuses; it never names an object. */
enum net_name net_addr_unix_name(const struct net_addr *a, char path[NET_PATH_MAX]);
/* For people: "1.2.3.4:80", "[::1]:80", "@name" or the path. Bytes are not escaped. */
void net_addr_text(const struct net_addr *a, char out[NET_TEXT_MAX]);
/* Port in host order of an INET or INET6 address, or -1. */
int net_addr_port(const struct net_addr *a);

/* Landlock's rule for connect on a TCP socket of `domain`, on copied bytes: 0, -EACCES, -EINVAL. */
int net_connect_check(const struct port_set *ports, int domain, const struct net_addr *a);
/* May a TCP socket whose local port is `port` (0: none yet) listen? Where the kernel may choose, any
 * port that is not denied may have been chosen. */
bool net_listen_allowed(const struct policy *p, int port);
/* May the kernel choose the port? */
bool net_bind_is_free(const struct policy *p);

/* Integer socket option, or -errno. */
int net_sockopt(int fd, int level, int option);
/* Duplicate of argument 0, a socket, and its domain; -EACCES where the kernel refuses duplicates. */
int net_socket_dup(const struct request *r, int *ret_domain);

/* A thread that takes no signals: handlers and signalfd belong to the caller. 0 or -errno. */
int net_thread_create(pthread_t *t, void *(*fn)(void *), void *arg);
/* Waits so long at most; less than a second. */
void net_cond_wait_ms(pthread_cond_t *cond, pthread_mutex_t *lock, unsigned ms);
/* The moment at which the socket's own SO_SNDTIMEO or SO_RCVTIMEO ends a wait; INT64_MAX without. */
int64_t net_wait_deadline(int fd, int option);
/* Would a native call be interrupted now? */
bool net_is_interrupted(const struct request *r);

/* State of the open feature. */
struct grants;
struct net_watch;
struct net_open {
    struct grants *grants;
    struct net_watch *watch;
};
/*
 * unix_name.c: decides about a UNIX destination on copied bytes. A path becomes the descriptor of the
 * object that was judged: ret_object_fd is then the caller's to close, after the kernel had the address;
 * otherwise it is left alone. 0, -ESRCH when nobody waits any more, or an errno, explained.
 */
int net_unix_settle(const struct request *r, struct net_addr *a, int *ret_object_fd);
/* Explains the kernel's EPERM for a settled abstract name. */
void net_unix_explain_scope(const struct request *r, const struct net_addr *a);
/* connect.c */
struct verdict net_connect(struct request *r);
/* bind.c */
struct verdict net_bind(struct request *r);
/* Binds an internet socket to a free port that is not denied. 0 or a negative errno. */
int net_bind_any_port(int fd, struct net_addr *a, const struct policy *p);
/* ifreq.c: ioctl that asks for interfaces. The pure part: `i` becomes what the command tells of lo on a
 * socket of this family. 0 or a negative errno. */
struct ifreq;
int net_ifreq_answer(uint32_t cmd, int domain, struct ifreq *i);
struct verdict net_ifreq(struct request *r);
/* socketpair.c: where sends are not looked at, answers datagram pairs with sequenced-packet pairs. */
struct verdict net_socketpair(struct request *r);

/* Tests of socket and socketpair: the family, and the type without its flags. */
#define NET_UNIX_SOCKET                                        \
    {                                                          \
        .arg = 0, .cmp = CMP_EQ, .mask = ~0u, .value = AF_UNIX \
    }
#define NET_TYPE_IS(t)                                     \
    {                                                      \
        .arg = 1, .cmp = CMP_EQ, .mask = 0xf, .value = (t) \
    }
/* The pairs that it answers. */
#define NET_PAIR_CLAUSES 2
extern const struct filter_clause net_pair_clauses[NET_PAIR_CLAUSES];
