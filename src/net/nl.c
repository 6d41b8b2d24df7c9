/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rtnetlink for a network of its own that holds nothing but `lo`: dumps of links, addresses and
 * routes, empty dumps for everything else, EPERM for every change. Pure; the request is hostile.
 */
#include "net/nl.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <stdlib.h>
#include <string.h>

#include "base/util.h"

/* linux/if.h, which cannot be included beside net/if.h. */
#define FLAG_LOWER_UP 0x10000u
#define KIND_MASK 3 /* rtnetlink numbers its messages in fours: NEW, DEL, GET, SET */
#define KIND_GET 2
#define FOREVER 0xffffffffu

/* An answer under construction. Everything in it has a fixed size far below the bound. */
struct out {
    const struct nlmsghdr *req;
    const struct nl_view *view;
    nl_emit emit;
    void *ctx;
    size_t len;
    struct nlmsghdr *last;
    union {
        struct nlmsghdr h;
        unsigned char bytes[NL_ANSWER_MAX];
    } u;
};

static void *out_reserve(struct out *o, size_t len)
{
    unsigned char *p = o->u.bytes + o->len;

    if (len > sizeof(o->u) - o->len)
        abort(); /* a constant of this file is wrong */
    memset(p, 0, NLMSG_ALIGN(len));
    o->len += NLMSG_ALIGN(len);
    return p;
}

/* Starts a message; returns its payload. */
static void *out_message(struct out *o, uint16_t type, uint16_t flags, size_t payload)
{
    struct nlmsghdr *h = out_reserve(o, NLMSG_HDRLEN + payload);

    h->nlmsg_type = type;
    h->nlmsg_flags = flags;
    h->nlmsg_seq = o->req->nlmsg_seq;
    h->nlmsg_pid = o->view->portid;
    h->nlmsg_len = (uint32_t)(NLMSG_HDRLEN + payload);
    o->last = h;
    return NLMSG_DATA(h);
}

static void out_attr(struct out *o, uint16_t type, const void *data, size_t len)
{
    struct rtattr *a = out_reserve(o, RTA_LENGTH(len));

    a->rta_type = type;
    a->rta_len = (uint16_t)RTA_LENGTH(len);
    if (data)
        memcpy(RTA_DATA(a), data, len);
    o->last->nlmsg_len = (uint32_t)(o->u.bytes + o->len - (unsigned char *)o->last);
}

static void out_attr_u32(struct out *o, uint16_t type, uint32_t v)
{
    out_attr(o, type, &v, sizeof(v));
}

static void out_attr_u8(struct out *o, uint16_t type, uint8_t v)
{
    out_attr(o, type, &v, sizeof(v));
}

static void out_flush(struct out *o)
{
    if (o->len)
        o->emit(o->ctx, o->u.bytes, o->len);
    o->len = 0;
}

/* The kernel repeats the request behind an error, and its header alone behind an acknowledgement. */
static void answer_error(struct out *o, int err)
{
    size_t body = err ? MIN(o->req->nlmsg_len - NLMSG_HDRLEN, (size_t)512) : 0;
    bool cut = !err || body < o->req->nlmsg_len - NLMSG_HDRLEN;
    struct nlmsgerr *e;

    e = out_message(o, NLMSG_ERROR, cut ? NLM_F_CAPPED : 0, sizeof(*e) + body);
    e->error = err;
    memcpy(&e->msg, o->req, NLMSG_HDRLEN + body);
    out_flush(o);
}

static void answer_done(struct out *o)
{
    out_message(o, NLMSG_DONE, NLM_F_MULTI, sizeof(int));
    out_flush(o);
}

static void add_link(struct out *o, uint16_t flags)
{
    struct ifinfomsg *m = out_message(o, RTM_NEWLINK, flags, sizeof(*m));
    static const unsigned char no_address[6];

    m->ifi_type = ARPHRD_LOOPBACK;
    m->ifi_index = NL_LO_INDEX;
    m->ifi_flags = IFF_UP | IFF_LOOPBACK | IFF_RUNNING | FLAG_LOWER_UP;
    out_attr(o, IFLA_IFNAME, "lo", sizeof("lo"));
    out_attr_u32(o, IFLA_TXQLEN, NL_LO_QUEUE);
    out_attr_u8(o, IFLA_OPERSTATE, 0);
    out_attr_u8(o, IFLA_LINKMODE, 0);
    out_attr_u32(o, IFLA_MTU, NL_LO_MTU);
    out_attr_u32(o, IFLA_GROUP, 0);
    out_attr_u32(o, IFLA_NUM_TX_QUEUES, 1);
    out_attr_u32(o, IFLA_NUM_RX_QUEUES, 1);
    out_attr_u8(o, IFLA_CARRIER, 1);
    out_attr(o, IFLA_QDISC, "noqueue", sizeof("noqueue"));
    out_attr(o, IFLA_ADDRESS, no_address, sizeof(no_address));
    out_attr(o, IFLA_BROADCAST, no_address, sizeof(no_address));
    out_attr(o, IFLA_STATS64, NULL, sizeof(struct rtnl_link_stats64));
    out_attr(o, IFLA_STATS, NULL, sizeof(struct rtnl_link_stats));
}

static void add_address(struct out *o, int family)
{
    struct ifa_cacheinfo cache = {.ifa_prefered = FOREVER, .ifa_valid = FOREVER};
    uint32_t v4 = htonl(INADDR_LOOPBACK);
    struct in6_addr v6 = IN6ADDR_LOOPBACK_INIT;
    struct ifaddrmsg *m = out_message(o, RTM_NEWADDR, NLM_F_MULTI, sizeof(*m));

    m->ifa_family = (unsigned char)family;
    m->ifa_prefixlen = family == AF_INET ? 8 : 128;
    m->ifa_flags = IFA_F_PERMANENT;
    m->ifa_scope = RT_SCOPE_HOST;
    m->ifa_index = NL_LO_INDEX;
    if (family == AF_INET) {
        out_attr(o, IFA_ADDRESS, &v4, sizeof(v4));
        out_attr(o, IFA_LOCAL, &v4, sizeof(v4));
        out_attr(o, IFA_LABEL, "lo", sizeof("lo"));
    } else {
        out_attr(o, IFA_ADDRESS, &v6, sizeof(v6));
    }
    out_attr(o, IFA_CACHEINFO, &cache, sizeof(cache));
    out_attr_u32(o, IFA_FLAGS, IFA_F_PERMANENT);
}

static void add_route(struct out *o, int family, int bits, int type, const void *dst, size_t len)
{
    uint32_t v4 = htonl(INADDR_LOOPBACK);
    struct rtmsg *m = out_message(o, RTM_NEWROUTE, NLM_F_MULTI, sizeof(*m));

    m->rtm_family = (unsigned char)family;
    m->rtm_dst_len = (unsigned char)bits;
    m->rtm_table = RT_TABLE_LOCAL;
    m->rtm_protocol = RTPROT_KERNEL;
    m->rtm_type = (unsigned char)type;
    m->rtm_scope = family == AF_INET6  ? RT_SCOPE_UNIVERSE
                   : type == RTN_LOCAL ? RT_SCOPE_HOST
                                       : RT_SCOPE_LINK;
    out_attr_u32(o, RTA_TABLE, RT_TABLE_LOCAL);
    out_attr(o, RTA_DST, dst, len);
    if (family == AF_INET)
        out_attr(o, RTA_PREFSRC, &v4, sizeof(v4));
    out_attr_u32(o, RTA_OIF, NL_LO_INDEX);
}

static void dump_routes(struct out *o, int family)
{
    uint32_t net = htonl(0x7f000000), host = htonl(INADDR_LOOPBACK), last = htonl(0x7fffffff);
    struct in6_addr v6 = IN6ADDR_LOOPBACK_INIT;

    if (family == AF_UNSPEC || family == AF_INET) {
        add_route(o, AF_INET, 8, RTN_LOCAL, &net, sizeof(net));
        add_route(o, AF_INET, 32, RTN_LOCAL, &host, sizeof(host));
        add_route(o, AF_INET, 32, RTN_BROADCAST, &last, sizeof(last));
    }
    if (o->view->ipv6 && (family == AF_UNSPEC || family == AF_INET6))
        add_route(o, AF_INET6, 128, RTN_LOCAL, &v6, sizeof(v6));
}

static void answer_dump(struct out *o, int family)
{
    switch (o->req->nlmsg_type) {
    case RTM_GETLINK:
        add_link(o, NLM_F_MULTI);
        out_flush(o);
        break;
    case RTM_GETADDR:
        if (family == AF_UNSPEC || family == AF_INET)
            add_address(o, AF_INET);
        if (o->view->ipv6 && (family == AF_UNSPEC || family == AF_INET6))
            add_address(o, AF_INET6);
        out_flush(o);
        break;
    case RTM_GETROUTE:
        dump_routes(o, family);
        out_flush(o);
        break;
    default: break;
    }
    answer_done(o);
}

/* Does a request for one link mean lo: by index, or by name in IFLA_IFNAME? */
static int link_lookup(const struct nlmsghdr *h)
{
    const struct ifinfomsg *m = NLMSG_DATA(h);
    size_t left = h->nlmsg_len - NLMSG_HDRLEN, size;
    const struct rtattr *a;

    if (left < sizeof(*m))
        return -EINVAL;
    if (m->ifi_index > 0)
        return m->ifi_index == NL_LO_INDEX ? 0 : -ENODEV;
    left -= MIN(left, (size_t)NLMSG_ALIGN(sizeof(*m)));
    a = (const struct rtattr *)((const char *)m + NLMSG_ALIGN(sizeof(*m)));
    while (left >= sizeof(*a) && a->rta_len >= sizeof(*a) && a->rta_len <= left) {
        size = a->rta_len - sizeof(*a);
        if (a->rta_type == IFLA_IFNAME)
            return size >= 2 && !memcmp(RTA_DATA(a), "lo", 2) &&
                           (size == 2 || !((const char *)RTA_DATA(a))[2])
                       ? 0
                       : -ENODEV;
        size = MIN(left, (size_t)RTA_ALIGN(a->rta_len));
        left -= size;
        a = (const struct rtattr *)((const char *)a + size);
    }
    return -EINVAL;
}

static int answer_one(struct out *o)
{
    int r;

    switch (o->req->nlmsg_type) {
    case RTM_GETLINK:
        r = link_lookup(o->req);
        if (r < 0)
            return r;
        add_link(o, 0);
        out_flush(o);
        return 0;
    case RTM_GETROUTE: return -ENETUNREACH;
    default: return -EOPNOTSUPP;
    }
}

static void answer_request(struct out *o)
{
    const struct nlmsghdr *h = o->req;
    const unsigned char *family = NLMSG_DATA(h);
    int err = 0;

    if (!(h->nlmsg_flags & NLM_F_REQUEST))
        return;
    if (h->nlmsg_type < NLMSG_MIN_TYPE) {
        err = 0; /* control messages are only acknowledged */
    } else if (h->nlmsg_type < RTM_BASE || h->nlmsg_type > RTM_MAX) {
        err = -EOPNOTSUPP;
    } else if (h->nlmsg_len - NLMSG_HDRLEN < sizeof(struct rtgenmsg)) {
        err = 0;
    } else if ((h->nlmsg_type & KIND_MASK) != KIND_GET) {
        err = -EPERM;
    } else if (h->nlmsg_flags & NLM_F_DUMP) {
        answer_dump(o, *family);
        return; /* a dump ends with DONE and is not acknowledged */
    } else {
        err = answer_one(o);
    }
    if (err || h->nlmsg_flags & NLM_F_ACK)
        answer_error(o, err);
}

void nl_answer(const struct nl_view *view, const void *request, size_t len, nl_emit emit, void *ctx)
{
    const unsigned char *p = request;
    struct out o = {.view = view, .emit = emit, .ctx = ctx};
    const struct nlmsghdr *h;
    size_t size;

    for (int i = 0; i < NL_REQUESTS_PER_DATAGRAM && len >= sizeof(*h); i++) {
        h = (const struct nlmsghdr *)p;
        if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > len)
            return;
        o.req = h;
        answer_request(&o);
        size = MIN(len, (size_t)NLMSG_ALIGN(h->nlmsg_len));
        p += size;
        len -= size;
    }
}
