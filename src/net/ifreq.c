/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SIOCGIF*: what ioctl says of the interfaces, as netlink does (NL-01): `lo` alone. A receiver answers from
 * constants, whatever the socket; the structure is the child's, copied once and given back.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/stat.h>

#include "net/net.h"
#include "net/nl.h"

_Static_assert(sizeof(struct ifreq) == 40 && sizeof(struct ifconf) == 16, "of 64-bit machines");

static void set_address(struct ifreq *i, uint32_t host_order)
{
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(host_order)};

    memcpy(&i->ifr_addr, &in, sizeof(in));
}

/* An IPv4 address of lo, which sockets of other families do not tell. */
static int address_answer(uint32_t cmd, struct ifreq *i)
{
    switch (cmd) {
    case SIOCGIFADDR:
    case SIOCGIFDSTADDR: set_address(i, INADDR_LOOPBACK); return 0;
    case SIOCGIFNETMASK: set_address(i, 0xff000000); return 0;
    case SIOCGIFBRDADDR: set_address(i, INADDR_ANY); return 0;
    default: return -ENODEV;
    }
}

static int link_answer(uint32_t cmd, struct ifreq *i)
{
    switch (cmd) {
    case SIOCGIFFLAGS: i->ifr_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING; return 0;
    case SIOCGIFMETRIC: i->ifr_metric = 0; return 0;
    case SIOCGIFMTU: i->ifr_mtu = NL_LO_MTU; return 0;
    case SIOCGIFINDEX: i->ifr_ifindex = NL_LO_INDEX; return 0;
    case SIOCGIFTXQLEN: i->ifr_qlen = NL_LO_QUEUE; return 0;
    case SIOCGIFMAP: memset(&i->ifr_map, 0, sizeof(i->ifr_map)); return 0;
    case SIOCGIFHWADDR:
        memset(&i->ifr_hwaddr, 0, sizeof(i->ifr_hwaddr));
        i->ifr_hwaddr.sa_family = ARPHRD_LOOPBACK;
        return 0;
    default: return -ENODEV;
    }
}

int net_ifreq_answer(uint32_t cmd, int domain, struct ifreq *i)
{
    char *alias;

    if (cmd == SIOCGIFNAME) {
        if (i->ifr_ifindex != NL_LO_INDEX)
            return -ENODEV;
        memset(i->ifr_name, 0, sizeof(i->ifr_name));
        memcpy(i->ifr_name, "lo", sizeof("lo"));
        return 0;
    }
    i->ifr_name[IFNAMSIZ - 1] = '\0';
    alias = strchr(i->ifr_name, ':'); /* "lo:1" is a label of an address of lo: there is none */
    if (strncmp(i->ifr_name, "lo", 2) != 0 || (i->ifr_name[2] && alias != i->ifr_name + 2))
        return -ENODEV;
    if (address_answer(cmd, &(struct ifreq){0}) < 0)
        return link_answer(cmd, i);
    if (domain != AF_INET)
        return -ENOTTY;
    return alias ? -EADDRNOTAVAIL : address_answer(cmd, i);
}

/* SIOCGIFCONF: interfaces with an IPv4 address; without a buffer their size is told. */
static int ifconf_answer(const struct request *r, child_addr arg)
{
    struct ifreq one = {.ifr_name = "lo"};
    struct ifconf c;
    int rc = request_read(r, arg, &c, sizeof(c));

    if (rc < 0)
        return rc;
    if (c.ifc_buf && c.ifc_len < (int)sizeof(one)) {
        c.ifc_len = 0;
    } else if (c.ifc_buf) {
        set_address(&one, INADDR_LOOPBACK);
        rc = request_write(r, (child_addr){(uint64_t)(uintptr_t)c.ifc_buf}, &one, sizeof(one));
    }
    if (rc == 0 && (!c.ifc_buf || c.ifc_len))
        c.ifc_len = sizeof(one);
    return rc ? rc : request_write(r, arg, &c.ifc_len, sizeof(c.ifc_len));
}

static int ifreq_answer(const struct request *r, uint32_t cmd, child_addr arg)
{
    _cleanup_close_ int fd = request_fd(r, call_int(&r->call, 0));
    int domain = fd < 0 ? AF_INET : net_sockopt(fd, SOL_SOCKET, SO_DOMAIN), rc;
    struct ifreq i;

    rc = request_read(r, arg, &i, sizeof(i));
    if (rc == 0)
        rc = net_ifreq_answer(cmd, domain, &i);
    return rc ? rc : request_write(r, arg, &i, sizeof(i));
}

struct verdict net_ifreq(struct request *r)
{
    uint32_t cmd = call_u32(&r->call, 1);
    child_addr arg = call_addr(&r->call, 2);
    _cleanup_close_ int fd = -1;
    struct stat st;

    if ((cmd & ~0x7fu) != 0x8900 || !(cmd & 0x70)) /* another feature's */
        return verdict_pass();
    fd = request_fd_path(r, call_int(&r->call, 0));
    if (fd < 0)
        return verdict_errno(fd);
    if (fstat(fd, &st) || !S_ISSOCK(st.st_mode))
        return verdict_errno(ENOTTY);
    if (!request_alive(r))
        return verdict_gone();
    return verdict_result(cmd == SIOCGIFCONF ? ifconf_answer(r, arg) : ifreq_answer(r, cmd, arg));
}
