/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile to network rules: tries to get a connection or a datagram to where no rule allows. The test
 * outside listens there and must not see a packet; this program only tries.
 *   net_escape sweep PORT            every family, type and protocol; every call and form of address
 *   net_escape race SECONDS GOOD BAD the address, the header and the descriptor flip during the calls
 *   net_escape fd N PORT             uses descriptor N, inherited or received
 * Addresses are 127.0.0.1 and 127.0.0.2 (BAD: only the latter). Prints "sockets N sent M failed K".
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FASTOPEN 0x20000000

static union any {
    struct sockaddr sa;
    struct sockaddr_in in;
    struct sockaddr_in6 in6;
} good, bad, shared;
static atomic_bool stop;
static struct mmsghdr header[2];
static long sockets, sent, failed;
static int target = 100, pool[4];

static void count(long r)
{
    if (r >= 0)
        sent++;
    else
        failed++;
}

static void set4(union any *a, const char *ip, int port)
{
    memset(a, 0, sizeof(*a));
    a->in.sin_family = AF_INET;
    a->in.sin_port = htons((unsigned short)port);
    inet_pton(AF_INET, ip, &a->in.sin_addr);
}

static void set6(union any *a, const char *ip, int port)
{
    memset(a, 0, sizeof(*a));
    a->in6.sin6_family = AF_INET6;
    a->in6.sin6_port = htons((unsigned short)port);
    inet_pton(AF_INET6, ip, &a->in6.sin6_addr);
}

/* Ancillary data of kind `k`: none, a source, a route back, a descriptor. Returns its length. */
static size_t control(int k, void *buf, int fd)
{
    struct cmsghdr *c = buf;
    unsigned char route[12] = {7, 7, 4, 127, 0, 0, 2, 0};

    memset(buf, 0, 128);
    switch (k) {
    case 1:
        *c = (struct cmsghdr){CMSG_LEN(sizeof(struct in_pktinfo)), SOL_IP, IP_PKTINFO};
        return CMSG_SPACE(sizeof(struct in_pktinfo));
    case 2:
        *c = (struct cmsghdr){CMSG_LEN(sizeof(route)), SOL_IP, IP_RETOPTS};
        memcpy(CMSG_DATA(c), route, sizeof(route));
        return CMSG_SPACE(sizeof(route));
    case 3:
        *c = (struct cmsghdr){CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS};
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
        return CMSG_SPACE(sizeof(int));
    default: return 0;
    }
}

/* Every sending call with this destination. */
static void send_all(int fd, const union any *to, socklen_t len, int flags)
{
    _Alignas(8) char ctl[128];
    struct iovec iov = {(void *)"escape", 6};
    struct mmsghdr m[2];

    flags |= MSG_DONTWAIT | MSG_NOSIGNAL;
    count(sendto(fd, "escape", 6, flags, &to->sa, len));
    for (int k = 0; k < 4; k++) {
        size_t n = control(k, ctl, fd);

        memset(m, 0, sizeof(m));
        for (int i = 0; i < 2; i++)
            m[i].msg_hdr = (struct msghdr){.msg_name = (void *)(uintptr_t)to,
                                           .msg_namelen = len,
                                           .msg_iov = &iov,
                                           .msg_iovlen = 1,
                                           .msg_control = n ? ctl : NULL,
                                           .msg_controllen = n};
        count(sendmsg(fd, &m[0].msg_hdr, flags));
        if (k == 0) /* the second message is the forbidden one, the first names good */
            m[0].msg_hdr.msg_name = &good;
        count(sendmmsg(fd, m, 2, (unsigned)flags));
    }
}

static void try_all(int fd, const union any *to, socklen_t len)
{
    union any none = {.sa.sa_family = AF_UNSPEC};
    int on = 1;

    send_all(fd, to, len, 0);
    send_all(fd, to, len, FASTOPEN);
    send_all(fd, to, len, MSG_MORE);
    if (connect(fd, &to->sa, len) == 0 || errno == EINPROGRESS)
        count(send(fd, "escape", 6, MSG_DONTWAIT | MSG_NOSIGNAL));
    connect(fd, &none.sa, sizeof(none.in));
    /* First somewhere allowed, then again. */
    if (connect(fd, &good.sa, sizeof(good.in)) == 0) {
        send_all(fd, to, len, 0);
        connect(fd, &none.sa, sizeof(none.in));
        connect(fd, &to->sa, len);
        count(send(fd, "escape", 6, MSG_DONTWAIT | MSG_NOSIGNAL));
    }
    setsockopt(fd, IPPROTO_TCP, 30, &on, sizeof(on));
    connect(fd, &to->sa, len);
    count(send(fd, "escape", 6, MSG_DONTWAIT | MSG_NOSIGNAL));
}

static void sweep_socket(int family, int type, int protocol, int port)
{
    static const char *const four[] = {"127.0.0.2", "127.0.0.1", "0.0.0.0"};
    static const char *const six[] = {"::ffff:127.0.0.2", "::127.0.0.2", "64:ff9b::127.0.0.2",
                                      "::ffff:0.0.0.0",   "::",          "::1"};
    union any a;

    for (unsigned i = 0; i < 3 + 6 + 1; i++) {
        int fd = socket(family, type | SOCK_NONBLOCK, protocol);

        if (fd < 0)
            return;
        sockets++;
        if (i < 3)
            set4(&a, four[i], port);
        else if (i < 9)
            set6(&a, six[i - 3], port);
        else {
            set4(&a, "127.0.0.2", port);
            a.sa.sa_family = AF_UNSPEC; /* UDP over IPv4 reads it all the same */
        }
        try_all(fd, &a, i < 3 || i == 9 ? sizeof(a.in) : sizeof(a.in6));
        close(fd);
    }
}

static void sweep(int port)
{
    static const int protocols[] = {0,  1,   2,   6,   17,  33,  41,  47,
                                    58, 103, 115, 132, 136, 255, 256, 262};

    for (int family = 0; family < 47; family++)
        for (int type = 1; type < 11; type++)
            for (unsigned p = 0; p < sizeof(protocols) / sizeof(protocols[0]); p++)
                sweep_socket(family, type, protocols[p], port);
}

static void *flip_address(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        memcpy(&shared, &good, sizeof(shared));
        __asm__ volatile("" ::: "memory"); /* both must happen */
        memcpy(&shared, &bad, sizeof(shared));
        __asm__ volatile("" ::: "memory");
    }
    return NULL;
}

static void *flip_fd(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop))
        for (int i = 0; i < 4; i++)
            dup2(pool[i], target);
    return NULL;
}

/* What a message says of its destination, its route and its length changes while it is read. */
static void *flip_header(void *arg)
{
    _Alignas(8) static char ctl[128];
    union any *const names[] = {NULL, &good, &bad, &shared};
    size_t n = control(2, ctl, 0);

    (void)arg;
    for (unsigned k = 0; !atomic_load(&stop); k++) {
        struct msghdr *h = &header[k / 64 % 2].msg_hdr;

        h->msg_name = names[k % 4];
        h->msg_namelen = k % 5 ? sizeof(bad.in) : k % 3 ? 0 : sizeof(bad.in6);
        h->msg_control = k % 7 ? NULL : ctl;
        h->msg_controllen = k % 7 ? 0 : n;
        __asm__ volatile("" ::: "memory");
    }
    return NULL;
}

/* By the header that flips, on a socket that has an allowed peer half of the time. */
static void send_header(int fd)
{
    static struct iovec iov = {(void *)"escape", 6};

    for (int i = 0; i < 2; i++) {
        header[i].msg_hdr.msg_iov = &iov;
        header[i].msg_hdr.msg_iovlen = 1;
    }
    for (int i = 0; i < 8; i++) {
        count(sendmsg(fd, &header[i % 2].msg_hdr, MSG_DONTWAIT | MSG_NOSIGNAL));
        count(sendmmsg(fd, header, 2, MSG_DONTWAIT | MSG_NOSIGNAL));
        if (i == 4)
            connect(fd, &good.sa, sizeof(good.in));
    }
}

static void race(int seconds)
{
    static void *(*const flips[])(void *) = {flip_address, flip_fd, flip_header};
    time_t end = time(NULL) + seconds;
    pthread_t t[3];

    for (int i = 0; i < 4; i++)
        pool[i] = -1;
    for (int i = 0; i < 3; i++)
        pthread_create(&t[i], NULL, flips[i], NULL);
    while (time(NULL) < end) {
        int pair[2];

        for (int i = 0; i < 4; i++) {
            int old = pool[i];

            if (i == 3 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
                close(pair[1]);
            pool[i] = i == 3 ? pair[0] : socket(AF_INET, i == 1 ? SOCK_DGRAM : SOCK_STREAM, 0);
            if (i != 3)
                fcntl(pool[i], F_SETFL, O_NONBLOCK);
            if (old >= 0)
                close(old);
        }
        sockets += 4;
        for (int i = 0; i < 8; i++) {
            send_all(target, &shared, sizeof(shared.in), i == 7 ? FASTOPEN : 0);
            if (connect(target, &shared.sa, sizeof(shared.in)) == 0)
                count(send(target, "escape", 6, MSG_DONTWAIT | MSG_NOSIGNAL));
            send_header(target);
        }
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 3; i++)
        pthread_join(t[i], NULL);
}

int main(int argc, char **argv)
{
    set4(&good, "127.0.0.1", 9);
    if (argc == 3 && !strcmp(argv[1], "sweep")) {
        sweep(atoi(argv[2]));
    } else if (argc == 5 && !strcmp(argv[1], "race")) {
        set4(&good, "127.0.0.1", atoi(argv[3]));
        set4(&bad, "127.0.0.2", atoi(argv[4]));
        race(atoi(argv[2]));
    } else if (argc == 4 && !strcmp(argv[1], "fd")) {
        set4(&bad, "127.0.0.2", atoi(argv[3]));
        sockets = 1;
        try_all(atoi(argv[2]), &bad, sizeof(bad.in));
    } else {
        return 2;
    }
    printf("sockets %ld sent %ld failed %ld\n", sockets, sent, failed);
    return 0;
}
