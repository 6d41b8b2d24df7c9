/* SPDX-License-Identifier: Apache-2.0 */
/*
 * TCP to 127.0.0.1, for rules per host: `connect PORT N` makes N connections and prints the nanoseconds
 * of one; `connect PORT N send` makes one and prints those of sending a byte N times; `connect serve`
 * prints a port and takes what comes.
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static double now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Connected, and reset when it is closed: no port waits. */
static int connection(const struct sockaddr_in *to)
{
    const struct linger reset = {1, 0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)to, sizeof(*to))) {
        perror("connect");
        exit(1);
    }
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
    return fd;
}

static int serve(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static char buf[1 << 16];
    socklen_t len = sizeof(at);
    int s = socket(AF_INET, SOCK_STREAM, 0);

    if (s < 0 || bind(s, (struct sockaddr *)&at, sizeof(at)) || listen(s, 4096) ||
        getsockname(s, (struct sockaddr *)&at, &len))
        return 1;
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int c = accept(s, NULL, NULL);

        while (c >= 0 && read(c, buf, sizeof(buf)) > 0)
            ;
        close(c);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in to = {.sin_family = AF_INET};
    double start;
    long n;
    int fd;

    if (argc == 2 && strcmp(argv[1], "serve") == 0)
        return serve();
    if (argc < 3)
        return 2;
    to.sin_port = htons((unsigned short)atoi(argv[1]));
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    n = atol(argv[2]);
    fd = argc > 3 ? connection(&to) : -1;
    start = now_ns();
    for (long i = 0; i < n; i++) {
        if (fd < 0)
            close(connection(&to));
        else if (send(fd, "x", 1, 0) != 1)
            return 1;
    }
    printf("%.0f\n", (now_ns() - start) / (double)n);
    return 0;
}
