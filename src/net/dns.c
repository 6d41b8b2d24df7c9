/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A name server for the pinned names (NR-03): UDP on loopback, a thread that sleeps until somebody
 * asks. Queries come from the command, or from anybody on this machine: all hostile, answered from
 * the pins alone, which are no secret. Nothing is forwarded.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>

#include "net/names.h"
#include "net/net.h"

/* ---- messages (RFC 1035) ---- */

#define DNS_HEADER 12
#define DNS_NAME_MAX 255
#define DNS_QR 0x80
#define DNS_AA 0x04
#define DNS_RD 0x01
#define DNS_RA 0x80
#define RCODE_FORMERR 1
#define RCODE_NXDOMAIN 3
#define RCODE_NOTIMP 4
#define TYPE_A 1
#define TYPE_AAAA 28
#define TYPE_ANY 255
#define CLASS_IN 1
#define ANSWER_TTL 60

/* The question's name in lower case with dots; its length in the message, or 0 when it is none. */
static size_t question_name(const unsigned char *q, size_t len, char name[DNS_NAME_MAX + 1])
{
    size_t at = 0, n = 0;

    for (;;) {
        size_t label = at < len ? q[at] : 64;

        if (label > 63 || at + 1 + label > len || n + label + 1 > DNS_NAME_MAX)
            return 0;
        at++;
        if (label == 0)
            break;
        if (n)
            name[n++] = '.';
        for (size_t i = 0; i < label; i++, at++)
            name[n++] = q[at] >= 'A' && q[at] <= 'Z' ? (char)(q[at] - 'A' + 'a') : (char)q[at];
    }
    name[n] = '\0';
    return strlen(name) == n ? at : 0;
}

static size_t answer_record(unsigned char *out, size_t room, unsigned type, const void *data,
                            size_t size)
{
    unsigned char head[12] = {0xc0, DNS_HEADER, 0, (unsigned char)type, 0, CLASS_IN,
                              0,    0,          0, ANSWER_TTL,          0, (unsigned char)size};

    if (room < sizeof(head) + size)
        return 0;
    memcpy(out, head, sizeof(head));
    memcpy(out + sizeof(head), data, size);
    return sizeof(head) + size;
}

static unsigned answer_pin(const struct net_pin *pin, unsigned type, unsigned char *out,
                           size_t *len)
{
    unsigned count = 0;

    for (size_t i = 0; i < pin->n; i++) {
        const struct net_dest *d = &pin->v[i];
        unsigned own = d->v6 ? TYPE_AAAA : TYPE_A;
        size_t n;

        if (type != own && type != TYPE_ANY)
            continue;
        n = answer_record(out + *len, DNS_MESSAGE_MAX - *len, own, d->addr, d->v6 ? 16 : 4);
        *len += n;
        count += n > 0;
    }
    return count;
}

size_t net_dns_answer(const struct net_pins *p, const unsigned char *query, size_t len,
                      unsigned char out[DNS_MESSAGE_MAX])
{
    struct net_dest loopback[2] = {{.addr = {127, 0, 0, 1}}, {.v6 = true, .addr = {[15] = 1}}};
    const struct net_pin local = {"localhost", loopback, 2}, *pin;
    char name[DNS_NAME_MAX + 1];
    size_t used, n = DNS_HEADER;
    unsigned type, rcode = 0, count = 0;

    if (len < DNS_HEADER || len > DNS_MESSAGE_MAX * 2 || (query[2] & DNS_QR))
        return 0;
    memset(out, 0, DNS_HEADER);
    memcpy(out, query, 2);
    out[2] = (unsigned char)(DNS_QR | DNS_AA | (query[2] & (0x78 | DNS_RD)));
    used = question_name(query + DNS_HEADER, len - DNS_HEADER, name);
    if (query[2] & 0x78) {
        out[3] = RCODE_NOTIMP;
        return n;
    }
    if (query[4] || query[5] != 1 || !used || DNS_HEADER + used + 4 > len) {
        out[3] = RCODE_FORMERR;
        return n;
    }
    memcpy(out + n, query + n, used + 4);
    n += used + 4;
    out[5] = 1;
    type = (unsigned)query[n - 4] << 8 | query[n - 3];
    pin = net_pins_find(p, name);
    if (!pin && strcmp(name, "localhost") == 0)
        pin = &local;
    if (!pin)
        rcode = RCODE_NXDOMAIN;
    else if (query[n - 2] == 0 && query[n - 1] == CLASS_IN)
        count = answer_pin(pin, type, out, &n);
    out[3] = (unsigned char)(DNS_RA | rcode);
    out[7] = (unsigned char)count;
    return n;
}

/* ---- the thread ---- */

struct net_dns {
    struct supervisor *sup;
    const struct net_pins *pins;
    pthread_rwlock_t *pins_lock;
    pthread_mutex_t lock; /* leaf: the start of the thread */
    pthread_t thread;
    bool running;
    int fd[2]; /* AF_INET, AF_INET6; -1: this machine has none */
    int port[2];
    int stop_fd;
};

/* Anybody on this machine may ask: the name is escaped, and said once. */
static void explain_unknown(const struct net_dns *d, const unsigned char *answer, size_t len)
{
    char name[DNS_NAME_MAX + 1], hint[DNS_NAME_MAX + 32];

    if ((answer[3] & 15) != RCODE_NXDOMAIN ||
        !question_name(answer + DNS_HEADER, len - DNS_HEADER, name))
        return;
    snprintf(hint, sizeof(hint), "--net-allow %s", name);
    supervisor_explain(d->sup, "host name", name, "no rule names it", hint);
}

static void dns_serve(const struct net_dns *d, int fd)
{
    unsigned char query[DNS_MESSAGE_MAX * 2], answer[DNS_MESSAGE_MAX];
    struct sockaddr_storage from;
    socklen_t from_len = sizeof(from);
    ssize_t n = recvfrom(fd, query, sizeof(query), MSG_DONTWAIT | MSG_TRUNC,
                         (struct sockaddr *)&from, &from_len);
    size_t len = 0;

    if (n > 0 && (size_t)n <= sizeof(query)) {
        pthread_rwlock_rdlock(d->pins_lock);
        len = net_dns_answer(d->pins, query, (size_t)n, answer);
        pthread_rwlock_unlock(d->pins_lock);
    }
    if (!len)
        return;
    explain_unknown(d, answer, len);
    (void)sendto(fd, answer, len, MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&from, from_len);
}

static void *dns_main(void *arg)
{
    struct net_dns *d = arg;
    struct pollfd p[3] = {{.fd = d->fd[0], .events = POLLIN},
                          {.fd = d->fd[1], .events = POLLIN},
                          {.fd = d->stop_fd, .events = POLLIN}};

    for (;;) {
        if (poll(p, 3, -1) < 0)
            continue;
        if (p[2].revents)
            return NULL;
        for (int i = 0; i < 2; i++) {
            if (p[i].revents)
                dns_serve(d, d->fd[i]);
        }
    }
}

/* A socket on loopback; the port is the kernel's choice. */
static int dns_socket(int family, int *ret_port)
{
    _cleanup_close_ int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    struct net_addr a = {0};

    if (fd < 0)
        return -1;
    a.u.sa.sa_family = (sa_family_t)family;
    a.len = family == AF_INET ? sizeof(a.u.in) : sizeof(a.u.in6);
    if (family == AF_INET)
        a.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        a.u.in6.sin6_addr = in6addr_loopback;
    if (bind(fd, &a.u.sa, a.len) || getsockname(fd, &a.u.sa, &a.len))
        return -1;
    *ret_port = net_addr_port(&a);
    return steal_fd(&fd);
}

static int dns_run(struct net_dns *d)
{
    int e;

    if (d->running)
        return 0;
    d->fd[0] = d->fd[0] < 0 ? dns_socket(AF_INET, &d->port[0]) : d->fd[0];
    d->fd[1] = d->fd[1] < 0 ? dns_socket(AF_INET6, &d->port[1]) : d->fd[1];
    d->stop_fd = d->stop_fd < 0 ? eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) : d->stop_fd;
    if (d->stop_fd < 0)
        return -EMFILE;
    e = net_thread_create(&d->thread, dns_main, d);
    d->running = e == 0;
    return e;
}

struct net_dns *net_dns_new(struct supervisor *s, const struct net_pins *pins,
                            pthread_rwlock_t *lock)
{
    struct net_dns *d = calloc(1, sizeof(*d));

    if (!d)
        return NULL;
    d->sup = s;
    d->pins = pins;
    d->pins_lock = lock;
    d->fd[0] = d->fd[1] = d->stop_fd = -1;
    pthread_mutex_init(&d->lock, NULL);
    return d;
}

void net_dns_free(struct net_dns *d)
{
    uint64_t one = 1;

    if (!d)
        return;
    if (d->running && write(d->stop_fd, &one, sizeof(one)) == sizeof(one))
        pthread_join(d->thread, NULL);
    util_closep(&d->fd[0]);
    util_closep(&d->fd[1]);
    util_closep(&d->stop_fd);
    pthread_mutex_destroy(&d->lock);
    free(d);
}

int net_dns_port(struct net_dns *d, int family)
{
    int i = family == AF_INET6, e;

    pthread_mutex_lock(&d->lock);
    e = dns_run(d);
    if (e == 0)
        e = d->fd[i] >= 0 ? d->port[i] : -EADDRNOTAVAIL;
    pthread_mutex_unlock(&d->lock);
    return e;
}
