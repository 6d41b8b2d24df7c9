/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Hostile to a supervisor that connects on behalf: one thread connects, others change what the call
 * names. A server whose answer begins with 'o' must never be reached.
 *   net_race path SECONDS INSIDE OUTSIDE    the address flips between two sockets
 *   net_race fd SECONDS OUTSIDE PORT        descriptor and address flip between UNIX and TCP
 *   net_race block SECONDS PORT             O_NONBLOCK flips while a connection cannot complete
 *   net_race dgram SECONDS INSIDE OUTSIDE   the address and the header of datagrams flip, in every call
 *   net_race link SECONDS INSIDE OUTSIDE LINK   the same calls to a link that flips between both
 * Whoever receives datagrams has to look himself. Prints "reached N refused M" and exits 0; exits 9 when
 * the wrong server answered.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

static union {
    struct sockaddr_un un;
    struct sockaddr_in in;
    struct sockaddr sa;
} a, b, shared;
static atomic_bool stop;
static int target = 100, unix_fd, tcp_fd;
static long reached, refused;

static void set_unix(struct sockaddr_un *un, const char *path)
{
    memset(un, 0, sizeof(*un));
    un->sun_family = AF_UNIX;
    strncpy(un->sun_path, path, sizeof(un->sun_path) - 1);
}

static void set_tcp(struct sockaddr_in *in, int port)
{
    memset(in, 0, sizeof(*in));
    in->sin_family = AF_INET;
    in->sin_port = htons((unsigned short)port);
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
}

/* As long in the one state as in the other: an emulator of one processor interrupts at branches only, which
 * without these loops would always be in the second. */
static void hold(void)
{
    for (volatile int i = 0; i < 20; i++)
        ;
}

static void *flip_address(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        memcpy(&shared, &a, sizeof(shared));
        __asm__ volatile("" ::: "memory"); /* both must happen */
        hold();
        memcpy(&shared, &b, sizeof(shared));
        __asm__ volatile("" ::: "memory");
        hold();
    }
    return NULL;
}

static void *flip_fd(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        dup2(unix_fd, target);
        dup2(tcp_fd, target);
    }
    return NULL;
}

static void *flip_block(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        fcntl(target, F_SETFL, 0);
        fcntl(target, F_SETFL, O_NONBLOCK);
    }
    return NULL;
}

static struct msghdr header;

static void *flip_header(void *arg)
{
    (void)arg;
    while (!atomic_load(&stop)) {
        *(void *volatile *)&header.msg_name = &a;
        hold();
        *(void *volatile *)&header.msg_name = &b;
        hold();
        *(void *volatile *)&header.msg_name = &shared;
        hold();
    }
    return NULL;
}

static const char *link_name;

static void *flip_link(void *arg)
{
    char other[200];

    (void)arg;
    snprintf(other, sizeof(other), "%s.new", link_name);
    while (!atomic_load(&stop)) {
        if (symlink(a.un.sun_path, other) || rename(other, link_name) ||
            symlink(b.un.sun_path, other) || rename(other, link_name))
            unlink(other);
    }
    return NULL;
}

static void look_at(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    char c = 0;

    if (poll(&p, 1, 1000) == 1 && recv(fd, &c, 1, 0) == 1 && c == 'o') {
        puts("ESCAPE: the server outside answered");
        exit(9);
    }
}

static void attempt(int fd)
{
    if (connect(fd, &shared.sa, sizeof(shared.un)) == 0) {
        reached++;
        look_at(fd);
    } else {
        refused++;
    }
}

static void run_path(time_t end)
{
    while (time(NULL) < end) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);

        attempt(fd);
        close(fd);
    }
}

static void run_fd(time_t end)
{
    while (time(NULL) < end) {
        socklen_t len = sizeof(shared.un);
        struct sockaddr_un peer;

        unix_fd = socket(AF_UNIX, SOCK_STREAM, 0);
        tcp_fd = socket(AF_INET, SOCK_STREAM, 0);
        for (int i = 0; i < 20; i++)
            if (connect(target, &shared.sa, sizeof(shared.un)) == 0)
                reached++;
            else
                refused++;
        if (getpeername(unix_fd, (struct sockaddr *)&peer, &len) == 0)
            look_at(unix_fd);
        len = sizeof(peer);
        if (getpeername(tcp_fd, (struct sockaddr *)&peer, &len) == 0)
            look_at(tcp_fd);
        close(unix_fd);
        close(tcp_fd);
    }
}

static void run_block(time_t end)
{
    while (time(NULL) < end) {
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);

        dup2(fd, target);
        close(fd);
        attempt(target);
    }
}

static void count(bool sent)
{
    if (sent)
        reached++;
    else
        refused++;
}

static void run_dgram(time_t end)
{
    struct iovec iov = {(char[]){"x"}, 1};
    struct mmsghdr many[2] = {{{.msg_iov = &iov, .msg_iovlen = 1}, 0},
                              {{.msg_iov = &iov, .msg_iovlen = 1}, 0}};

    header.msg_name = &shared;
    header.msg_namelen = sizeof(shared.un);
    header.msg_iov = &iov;
    header.msg_iovlen = 1;
    while (time(NULL) < end) {
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK, 0);

        count(sendto(fd, "x", 1, 0, &shared.sa, sizeof(shared.un)) == 1);
        count(sendmsg(fd, &header, 0) == 1);
        for (int i = 0; i < 2; i++) {
            many[i].msg_hdr.msg_name = &shared;
            many[i].msg_hdr.msg_namelen = sizeof(shared.un);
        }
        count(sendmmsg(fd, many, 2, 0) > 0);
        if (connect(fd, &shared.sa, sizeof(shared.un)) == 0)
            count(send(fd, "x", 1, 0) == 1 && write(fd, "x", 1) == 1);
        close(fd);
    }
}

int main(int argc, char **argv)
{
    void *(*flip[3])(void *) = {flip_address, NULL, NULL};
    void (*run)(time_t) = run_path;
    pthread_t t[3];
    int n = 1;

    if (argc == 5 && !strcmp(argv[1], "path")) {
        set_unix(&a.un, argv[3]);
        set_unix(&b.un, argv[4]);
    } else if (argc == 5 && !strcmp(argv[1], "fd")) {
        set_unix(&a.un, argv[3]);
        set_tcp(&b.in, atoi(argv[4]));
        flip[n++] = flip_fd;
        run = run_fd;
    } else if (argc == 4 && !strcmp(argv[1], "block")) {
        set_tcp(&a.in, atoi(argv[3]));
        b = a;
        flip[0] = flip_block;
        run = run_block;
    } else if (argc == 5 && !strcmp(argv[1], "dgram")) {
        set_unix(&a.un, argv[3]);
        set_unix(&b.un, argv[4]);
        flip[n++] = flip_header;
        run = run_dgram;
    } else if (argc == 6 && !strcmp(argv[1], "link")) {
        link_name = argv[5];
        set_unix(&a.un, argv[3]);
        set_unix(&b.un, argv[4]);
        set_unix(&shared.un, link_name);
        flip[0] = flip_link;
        run = run_dgram;
    } else {
        return 2;
    }
    if (!link_name)
        shared = a;
    unix_fd = socket(AF_UNIX, SOCK_STREAM, 0);
    tcp_fd = socket(AF_INET, SOCK_STREAM, 0);
    for (int i = 0; i < n; i++)
        pthread_create(&t[i], NULL, flip[i], NULL);
    run(time(NULL) + atoi(argv[2]));
    atomic_store(&stop, true);
    for (int i = 0; i < n; i++)
        pthread_join(t[i], NULL);
    printf("reached %ld refused %ld\n", reached, refused);
    return 0;
}
