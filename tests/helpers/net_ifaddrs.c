/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Prints what getifaddrs knows: one "NAME ADDRESS" line each, "-" for link addresses. Tests build it
 * against both C libraries, whose ways of asking differ.
 */
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>

int main(void)
{
    struct ifaddrs *all;

    if (getifaddrs(&all)) {
        perror("getifaddrs");
        return 1;
    }
    for (struct ifaddrs *p = all; p; p = p->ifa_next) {
        char text[INET6_ADDRSTRLEN] = "-";

        if (p->ifa_addr && p->ifa_addr->sa_family == AF_INET)
            inet_ntop(AF_INET, &((struct sockaddr_in *)p->ifa_addr)->sin_addr, text, sizeof(text));
        if (p->ifa_addr && p->ifa_addr->sa_family == AF_INET6)
            inet_ntop(AF_INET6, &((struct sockaddr_in6 *)p->ifa_addr)->sin6_addr, text,
                      sizeof(text));
        printf("%s %s\n", p->ifa_name, text);
    }
    freeifaddrs(all);
    return 0;
}
