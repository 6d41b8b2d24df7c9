/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pure parts of src/net: addresses, port rules, which mode governs UNIX sockets, netlink answers.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/keep.h"
#include "net/net.h"
#include "net/nl.h"
#include "net/rules.h"

/* ---- addresses ---- */

static struct net_addr tcp4(int port)
{
    struct net_addr a = {.u.in.sin_family = AF_INET, .len = sizeof(struct sockaddr_in)};

    a.u.in.sin_port = htons((uint16_t)port);
    a.u.in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return a;
}

static struct net_addr unix_name(const char *bytes, size_t n)
{
    struct net_addr a = {.u.un.sun_family = AF_UNIX};

    memcpy(a.u.un.sun_path, bytes, n);
    a.len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    return a;
}

static void test_unix_names(void **state)
{
    char path[NET_PATH_MAX], longest[sizeof(((struct sockaddr_un *)0)->sun_path)];
    struct net_addr a;

    (void)state;
    a = unix_name("/run/x", 7);
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_PATH);
    assert_string_equal(path, "/run/x");
    a = unix_name("/run/x", 6); /* no terminator: the length is one */
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_PATH);
    assert_string_equal(path, "/run/x");
    a = unix_name("/a\0/etc", 7);
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_PATH);
    assert_string_equal(path, "/a");
    memset(longest, 'x', sizeof(longest));
    a = unix_name(longest, sizeof(longest));
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_PATH);
    assert_int_equal(strlen(path), sizeof(longest));
    a = unix_name("\0abc", 4);
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_ABSTRACT);
    a = unix_name("", 0);
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_OTHER);
    a = unix_name("/run/x", 7);
    a.len = sizeof(struct sockaddr_un) + 1;
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_OTHER);
    a = tcp4(80);
    assert_int_equal(net_addr_unix_name(&a, path), NET_NAME_OTHER);
}

static void test_text(void **state)
{
    char text[NET_TEXT_MAX];
    struct net_addr a = tcp4(443), b = {.u.in6.sin6_family = AF_INET6, .len = 28};

    (void)state;
    net_addr_text(&a, text);
    assert_string_equal(text, "127.0.0.1:443");
    b.u.in6.sin6_port = htons(80);
    b.u.in6.sin6_addr = in6addr_loopback;
    net_addr_text(&b, text);
    assert_string_equal(text, "[::1]:80");
    a = unix_name("\0name", 5);
    net_addr_text(&a, text);
    assert_string_equal(text, "@name");
    a = (struct net_addr){.len = 0};
    net_addr_text(&a, text);
    assert_string_equal(text, "address family 0");
}

/* ---- port rules ---- */

static void test_connect_check(void **state)
{
    struct port_range range = {80, 90};
    struct port_set some = {.ranges = &range, .n = 1}, none = {0}, any = {.any = true};
    struct net_addr a = tcp4(80), six = {.u.in6.sin6_family = AF_INET6, .len = 24};

    (void)state;
    assert_int_equal(net_connect_check(&some, AF_INET, &a), 0);
    assert_int_equal(net_connect_check(&none, AF_INET, &a), -EACCES);
    assert_int_equal(net_connect_check(&any, AF_INET, &a), 0);
    a = tcp4(91);
    assert_int_equal(net_connect_check(&some, AF_INET, &a), -EACCES);
    /* the family must be the socket's */
    assert_int_equal(net_connect_check(&any, AF_INET6, &a), -EINVAL);
    six.u.in6.sin6_port = htons(85);
    assert_int_equal(net_connect_check(&some, AF_INET6, &six), 0);
    six.len = 23;
    assert_int_equal(net_connect_check(&some, AF_INET6, &six), -EINVAL);
    a.len = sizeof(struct sockaddr_in) - 1;
    assert_int_equal(net_connect_check(&any, AF_INET, &a), -EINVAL);
    a.len = 1;
    assert_int_equal(net_connect_check(&any, AF_INET, &a), -EINVAL);
    /* disconnect */
    a = tcp4(91);
    a.u.sa.sa_family = AF_UNSPEC;
    assert_int_equal(net_connect_check(&none, AF_INET, &a), 0);
    a.len = 8;
    assert_int_equal(net_connect_check(&none, AF_INET, &a), -EINVAL);
}

static void test_listen_allowed(void **state)
{
    struct port_range range = {80, 90}, zero = {0, 0}, odd = {85, 85};
    struct port_set all = {.any = true}, denied = {.ranges = &odd, .n = 1};
    const struct policy some = {.net_bind = {.ranges = &range, .n = 1}},
                        free_choice = {.net_bind = {.ranges = &zero, .n = 1}},
                        any = {.net_bind = all}, none = {0},
                        both = {.net_bind = {.ranges = &range, .n = 1}, .net_deny_bind = denied},
                        rest = {.net_deny_bind = denied}, nothing = {.net_deny_bind = all};

    (void)state;
    assert_true(net_listen_allowed(&some, 80));
    assert_false(net_listen_allowed(&some, 91));
    assert_false(net_listen_allowed(&some, 0));
    assert_false(net_listen_allowed(&some, -EIO));
    assert_true(net_listen_allowed(&free_choice, 0));
    assert_true(net_listen_allowed(&free_choice, 40000));
    assert_true(net_listen_allowed(&any, 0));
    assert_false(net_listen_allowed(&none, 0));
    assert_false(net_listen_allowed(&none, 80));
    assert_true(net_listen_allowed(&both, 84));
    assert_false(net_listen_allowed(&both, 85));
    assert_true(net_listen_allowed(&rest, 0));
    assert_true(net_listen_allowed(&rest, 84));
    assert_false(net_listen_allowed(&rest, 85));
    assert_false(net_listen_allowed(&nothing, 84));
}

/* ---- modes ---- */

static void test_modes(void **state)
{
    struct kernel old = {.landlock_abi = 7, .pidfd_getfd = true}, new = old, docker = old;
    struct policy p;
    struct fs_grant g = {.path = (char *)"/tmp"};
    struct sockaddr_un un = {.sun_family = AF_UNIX};
    int fd;

    (void)state;
    new.landlock_abi = 9;
    docker.pidfd_getfd = false;
    policy_init(&p);
    assert_int_equal(net_unix_mode(&p, &old), NET_UNIX_CLOSED);
    assert_int_equal(net_unix_mode(&p, &new), NET_UNIX_NATIVE);
    p.fs_write = (struct fs_grants){&g, 1};
    assert_int_equal(net_unix_mode(&p, &old), NET_UNIX_OPEN);
    assert_false(net_sends_feature.wanted(&p, &old)); /* a directory's: streams alone */
    assert_true(net_unix_streams_feature.wanted(&p, &old));
    assert_true(net_unix_streams_feature.wanted(&p, &docker));
    assert_false(net_keep_unix_feature.wanted(&p, &old));
    assert_int_equal(net_unix_mode(&p, &docker), NET_UNIX_OPEN);
    assert_false(net_sends_feature.wanted(&p, &docker));
    assert_true(net_keep_unix_feature.wanted(&p, &docker));
    assert_true(net_keep_feature.wanted(&p, &docker));
    assert_int_equal(net_unix_mode(&p, &new), NET_UNIX_NATIVE);
    assert_true(net_unix_open_feature.wanted(&p, &old));
    assert_false(net_unix_closed_feature.wanted(&p, &old));
    assert_int_equal(strv_add(&p.fs_deny, "/tmp/x"), 0);
    assert_int_equal(net_unix_mode(&p, &new), NET_UNIX_OPEN);
    assert_true(net_unix_bind_feature.wanted(&p, &new));
    g.path = (char *)"/dev/null"; /* holds no socket */
    assert_int_equal(net_unix_mode(&p, &old), NET_UNIX_CLOSED);
    assert_false(net_sends_feature.wanted(&p, &old));
    snprintf(un.sun_path, sizeof(un.sun_path), "/tmp/test_net.%d", getpid());
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof(un)), 0);
    g.path = un.sun_path;
    assert_true(net_sends_feature.wanted(&p, &old));
    assert_false(net_unix_streams_feature.wanted(&p, &old));
    assert_false(net_sends_feature.wanted(&p, &docker));
    assert_int_equal(unlink(un.sun_path), 0);
    close(fd);
    g.path = (char *)"/tmp";
    p.no_supervisor = true;
    assert_int_equal(net_unix_mode(&p, &old), NET_UNIX_CLOSED);
    assert_false(net_listen_feature.wanted(&p, &old));
    p.no_supervisor = false;
    assert_true(net_listen_feature.wanted(&p, &old));
    p.net_bind.any = true;
    assert_false(net_listen_feature.wanted(&p, &old));
    p.net_bind.any = false;
    old.landlock_abi = 3;
    assert_false(net_listen_feature.wanted(&p, &old));
    p.fs_write = (struct fs_grants){0};
    policy_fini(&p);
}

/* ---- netlink ---- */

struct answers {
    struct {
        unsigned char bytes[NL_ANSWER_MAX];
        size_t len;
    } v[128];
    size_t n;
};

static void collect(void *ctx, const void *msg, size_t len)
{
    struct answers *a = ctx;

    assert_true(a->n < 128 && len <= NL_ANSWER_MAX);
    memcpy(a->v[a->n].bytes, msg, len);
    a->v[a->n++].len = len;
}

static struct answers got;

static void ask(uint16_t type, uint16_t flags, unsigned char family, size_t payload, bool ipv6)
{
    struct nl_view view = {.portid = 77, .ipv6 = ipv6};
    union {
        struct nlmsghdr h;
        unsigned char bytes[128];
    } u = {.h = {.nlmsg_type = type, .nlmsg_flags = flags | NLM_F_REQUEST, .nlmsg_seq = 5}};

    u.h.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + payload);
    u.bytes[NLMSG_HDRLEN] = family;
    got.n = 0;
    nl_answer(&view, &u, u.h.nlmsg_len, collect, &got);
}

/* Walks all answers as a client would; counts messages of a type, demanding seq and portid. */
static int count(uint16_t type)
{
    int n = 0;

    for (size_t i = 0; i < got.n; i++) {
        const struct nlmsghdr *h = (const void *)got.v[i].bytes;
        size_t left = got.v[i].len;

        while (left) {
            assert_true(left >= sizeof(*h) && h->nlmsg_len >= sizeof(*h));
            assert_true(h->nlmsg_len <= left);
            assert_int_equal(h->nlmsg_seq, 5);
            assert_int_equal(h->nlmsg_pid, 77);
            n += h->nlmsg_type == type;
            left -= NLMSG_ALIGN(h->nlmsg_len);
            h = (const void *)((const char *)h + NLMSG_ALIGN(h->nlmsg_len));
        }
    }
    return n;
}

static int error_of(void)
{
    const struct nlmsghdr *h = (const void *)got.v[0].bytes;

    assert_int_equal(got.n, 1);
    assert_int_equal(h->nlmsg_type, NLMSG_ERROR);
    return ((const struct nlmsgerr *)NLMSG_DATA(h))->error;
}

static void test_nl_dumps(void **state)
{
    const struct nlmsghdr *h = (const void *)got.v[0].bytes;
    const struct ifinfomsg *m = NLMSG_DATA(h);

    (void)state;
    ask(RTM_GETLINK, NLM_F_DUMP, AF_UNSPEC, 1, true);
    assert_int_equal(count(RTM_NEWLINK), 1);
    assert_int_equal(count(NLMSG_DONE), 1);
    assert_int_equal(m->ifi_index, 1);
    assert_true(m->ifi_flags & IFF_LOOPBACK);
    ask(RTM_GETADDR, NLM_F_DUMP, AF_UNSPEC, 1, true);
    assert_int_equal(count(RTM_NEWADDR), 2);
    ask(RTM_GETADDR, NLM_F_DUMP, AF_INET, 8, true);
    assert_int_equal(count(RTM_NEWADDR), 1);
    ask(RTM_GETADDR, NLM_F_DUMP, AF_UNSPEC, 8, false);
    assert_int_equal(count(RTM_NEWADDR), 1);
    ask(RTM_GETROUTE, NLM_F_DUMP, AF_UNSPEC, 12, true);
    assert_int_equal(count(RTM_NEWROUTE), 4);
    assert_int_equal(count(NLMSG_DONE), 1);
    ask(RTM_GETNEIGH, NLM_F_DUMP, AF_UNSPEC, 12, true);
    assert_int_equal(count(NLMSG_DONE), 1);
    assert_int_equal(got.n, 1);
}

static void test_nl_refusals(void **state)
{
    static const uint16_t changes[] = {RTM_NEWLINK, RTM_DELLINK,  RTM_SETLINK,  RTM_NEWADDR,
                                       RTM_DELADDR, RTM_NEWROUTE, RTM_NEWQDISC, RTM_NEWTFILTER};
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(changes); i++) {
        ask(changes[i], 0, 0, 16, true);
        assert_int_equal(error_of(), -EPERM);
        ask(changes[i], NLM_F_DUMP | NLM_F_ACK, 0, 16, true);
        assert_int_equal(error_of(), -EPERM);
    }
    ask(RTM_MAX + 1, 0, 0, 16, true);
    assert_int_equal(error_of(), -EOPNOTSUPP);
    ask(NLMSG_NOOP, NLM_F_ACK, 0, 0, true);
    assert_int_equal(error_of(), 0);
    ask(RTM_GETLINK, 0, 0, 1, true);
    assert_int_equal(error_of(), -EINVAL);
    ask(RTM_GETROUTE, 0, AF_INET, 12, true);
    assert_int_equal(error_of(), -ENETUNREACH);
}

/* Whatever the bytes: bounded answers, nothing read past the end (the sanitizers watch). */
static void test_nl_garbage(void **state)
{
    struct nl_view view = {.portid = 77};
    uint32_t x = 12345;
    unsigned char *p;

    (void)state;
    for (int round = 0; round < 20000; round++) {
        size_t n = round % 97;

        p = malloc(n ? n : 1);
        assert_non_null(p);
        for (size_t i = 0; i < n; i++)
            p[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
        if (n >= 16 && round % 3) { /* plausible headers reach deeper */
            struct nlmsghdr *h = (void *)p;

            h->nlmsg_len = 16 + (uint32_t)round % 64;
            h->nlmsg_type = (uint16_t)(RTM_GETLINK + 4 * (round % 5));
            h->nlmsg_flags |= NLM_F_REQUEST;
        }
        got.n = 0;
        nl_answer(&view, p, n, collect, &got);
        free(p);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unix_names),    cmocka_unit_test(test_text),
        cmocka_unit_test(test_connect_check), cmocka_unit_test(test_listen_allowed),
        cmocka_unit_test(test_modes),         cmocka_unit_test(test_nl_dumps),
        cmocka_unit_test(test_nl_refusals),   cmocka_unit_test(test_nl_garbage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
