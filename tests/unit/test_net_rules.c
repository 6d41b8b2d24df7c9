/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pure parts of the rules per host: canonical destinations, the matcher against a plain walk over the
 * rules, DNS answers, ancillary data.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "net/rules.h"
#include "net/send.h"

static struct net_addr addr(const char *text, int port)
{
    struct net_addr a = {0};

    if (strchr(text, ':')) {
        a.u.in6.sin6_family = AF_INET6;
        a.u.in6.sin6_port = htons((uint16_t)port);
        assert_int_equal(inet_pton(AF_INET6, text, &a.u.in6.sin6_addr), 1);
        a.len = sizeof(a.u.in6);
    } else {
        a.u.in.sin_family = AF_INET;
        a.u.in.sin_port = htons((uint16_t)port);
        assert_int_equal(inet_pton(AF_INET, text, &a.u.in.sin_addr), 1);
        a.len = sizeof(a.u.in);
    }
    return a;
}

static struct net_dest dest(const char *text, int port)
{
    struct net_addr a = addr(text, port);
    struct net_dest d;

    assert_int_equal(net_dest_of(&a.u.sa, a.len, &d), 0);
    return d;
}

static void test_canonical(void **state)
{
    static const struct {
        const char *text;
        bool v6;
        uint8_t first, last;
    } forms[] = {
        {"10.0.0.1", false, 10, 1},        {"::ffff:10.0.0.1", false, 10, 1},
        {"::10.0.0.1", false, 10, 1},      {"64:ff9b::10.0.0.1", false, 10, 1},
        {"0.0.0.0", false, 127, 1},        {"::", true, 0, 1},
        {"::ffff:0.0.0.0", false, 127, 1}, {"::1", true, 0, 1},
        {"fd00::a00:1", true, 0xfd, 1},    {"64:ff9b:1::10.0.0.1", true, 0, 1},
    };
    struct net_addr a = addr("10.0.0.1", 80);
    struct net_dest d;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(forms); i++) {
        d = dest(forms[i].text, 80);
        assert_int_equal(d.v6, forms[i].v6);
        assert_int_equal(d.addr[0], forms[i].first);
        assert_int_equal(d.addr[d.v6 ? 15 : 3], forms[i].last);
        assert_int_equal(d.port, 80);
    }
    for (socklen_t len = 0; len < sizeof(a.u.in); len++)
        assert_int_equal(net_dest_of(&a.u.sa, len, &d), -EINVAL);
    a = addr("fd00::1", 80);
    for (socklen_t len = 0; len < 24; len++)
        assert_int_equal(net_dest_of(&a.u.sa, len, &d), -EINVAL);
    assert_int_equal(net_dest_of(&a.u.sa, 24, &d), 0);
    a.u.sa.sa_family = AF_UNSPEC;
    assert_int_equal(net_dest_of(&a.u.sa, a.len, &d), -EINVAL);
}

static struct net_match *match_of(struct policy *p)
{
    struct net_match *m = net_match_new();

    assert_non_null(m);
    assert_int_equal(net_match_add_policy(m, p), 0);
    assert_int_equal(net_match_seal(m), 0);
    return m;
}

static enum net_answer ask(const struct net_match *m, unsigned proto, const char *text, int port)
{
    struct net_dest d = dest(text, port);

    return net_match_ask(m, proto, &d);
}

static void test_match(void **state)
{
    static const char *const allow[] = {
        "tcp://10.0.0.0/8:80", "10.1.0.0/16:443", "[fd00::]/8",   ":22",
        "icmp://10.9.9.9",     "udp://*:123",     "10.1.2.3:8080"};
    static const char *const deny[] = {"169.254.169.254", "10.1.2.3:443", "udp://10.0.0.0/8:123"};
    struct policy p;
    struct net_match *m;

    (void)state;
    policy_init(&p);
    for (size_t i = 0; i < ARRAY_SIZE(allow); i++)
        assert_int_equal(policy_add_net_allow(&p, "-n", allow[i], NULL), 0);
    for (size_t i = 0; i < ARRAY_SIZE(deny); i++)
        assert_int_equal(policy_add_net_deny(&p, "-n", deny[i], NULL), 0);
    m = match_of(&p);
    assert_int_equal(ask(m, NET_TCP, "10.200.0.1", 80), NET_ALLOWED);
    assert_int_equal(ask(m, NET_UDP, "10.200.0.1", 80), NET_NO_RULE);
    assert_int_equal(ask(m, NET_TCP, "10.200.0.1", 443), NET_NO_RULE);
    assert_int_equal(ask(m, NET_TCP, "10.1.2.4", 443), NET_ALLOWED);
    assert_int_equal(ask(m, NET_UDP, "10.1.2.4", 443), NET_ALLOWED);
    assert_int_equal(ask(m, NET_TCP, "10.1.2.3", 443), NET_DENIED);
    assert_int_equal(ask(m, NET_TCP, "::ffff:10.1.2.3", 443), NET_DENIED);
    assert_int_equal(ask(m, NET_TCP, "64:ff9b::10.1.2.3", 443), NET_DENIED);
    assert_int_equal(ask(m, NET_TCP, "10.1.2.3", 8080), NET_ALLOWED);
    assert_int_equal(ask(m, NET_TCP, "11.1.2.3", 80), NET_NO_RULE);
    assert_int_equal(ask(m, NET_TCP, "11.1.2.3", 22), NET_ALLOWED);
    assert_int_equal(ask(m, NET_TCP, "2001:db8::1", 22), NET_ALLOWED);
    assert_int_equal(ask(m, NET_UDP, "2001:db8::1", 22), NET_NO_RULE);
    assert_int_equal(ask(m, NET_TCP, "fd00::7", 1), NET_ALLOWED);
    assert_int_equal(ask(m, NET_TCP, "fd00::7", 0), NET_NO_RULE);
    assert_int_equal(ask(m, NET_TCP, "169.254.169.254", 22), NET_DENIED);
    assert_int_equal(ask(m, NET_UDP, "169.254.169.254", 123), NET_DENIED);
    assert_int_equal(ask(m, NET_UDP, "8.8.8.8", 123), NET_ALLOWED);
    assert_int_equal(ask(m, NET_UDP, "10.0.0.1", 123), NET_DENIED);
    assert_int_equal(ask(m, NET_ICMP, "10.9.9.9", 0), NET_ALLOWED);
    assert_int_equal(ask(m, NET_ICMP, "10.9.9.8", 0), NET_NO_RULE);
    net_match_free(m);
    policy_fini(&p);
}

static void test_deny_alone(void **state)
{
    struct policy p;
    struct net_match *m;

    (void)state;
    policy_init(&p);
    assert_int_equal(policy_add_net_deny(&p, "-n", "10.0.0.0/8:25", NULL), 0);
    m = match_of(&p);
    assert_int_equal(ask(m, NET_TCP, "10.0.0.1", 25), NET_DENIED);
    assert_int_equal(ask(m, NET_TCP, "10.0.0.1", 26), NET_ALLOWED);
    assert_int_equal(ask(m, NET_UDP, "8.8.8.8", 25), NET_ALLOWED);
    assert_int_equal(ask(m, NET_ICMP, "8.8.8.8", 0), NET_NO_RULE);
    net_match_free(m);
    policy_fini(&p);
}

/* The definition: a walk over the rules. */
static bool walk_allows(const struct policy *p, const struct net_dest *d)
{
    for (size_t i = 0; i < p->net_allow.n; i++) {
        const struct net_rule *r = &p->net_allow.v[i];
        bool same = r->target == (d->v6 ? NET_TARGET_V6 : NET_TARGET_V4);

        for (unsigned bit = 0; bit < r->prefix && same; bit++)
            same = !((r->addr[bit / 8] ^ d->addr[bit / 8]) >> (7 - bit % 8) & 1);
        if (same && port_set_has(&r->ports, d->port))
            return true;
    }
    return false;
}

static void test_match_many(void **state)
{
    unsigned seed = 12345;
    struct policy p;
    struct net_match *m;
    char text[80];
    size_t allowed = 0;

    (void)state;
    policy_init(&p);
    for (int i = 0; i < 1000; i++) {
        seed = seed * 1103515245 + 12345;
        snprintf(text, sizeof(text), "tcp://10.%u.%u.%u/%u:%u-%u", seed >> 28, (seed >> 24) & 15,
                 (seed >> 20) & 3, 16 + (seed >> 8) % 17, 1 + (seed >> 4) % 3, 5u);
        assert_int_equal(policy_add_net_allow(&p, "-n", text, NULL), 0);
    }
    m = match_of(&p);
    for (int i = 0; i < 20000; i++) {
        struct net_dest d;

        seed = seed * 1103515245 + 12345;
        snprintf(text, sizeof(text), "10.%u.%u.%u", seed >> 28, (seed >> 24) & 15,
                 (seed >> 20) & 3);
        d = dest(text, (int)(1 + (seed >> 8) % 6));
        assert_int_equal(net_match_ask(m, NET_TCP, &d) == NET_ALLOWED, walk_allows(&p, &d));
        allowed += walk_allows(&p, &d);
    }
    assert_true(allowed > 1000 && allowed < 19000);
    net_match_free(m);
    policy_fini(&p);
}

static size_t query_of(unsigned char *q, const char *name, unsigned type)
{
    size_t n = 12;

    memset(q, 0, 12);
    q[0] = 0x12;
    q[1] = 0x34;
    q[2] = 1;
    q[5] = 1;
    while (*name) {
        size_t label = strcspn(name, ".");

        q[n++] = (unsigned char)label;
        memcpy(q + n, name, label);
        n += label;
        name += label + (name[label] == '.');
    }
    q[n++] = 0;
    q[n++] = (unsigned char)(type >> 8);
    q[n++] = (unsigned char)type;
    q[n++] = 0;
    q[n++] = 1;
    return n;
}

static void test_dns(void **state)
{
    struct net_dest d[] = {dest("10.0.0.1", 0), dest("10.0.0.2", 0), dest("fd00::1", 0)};
    struct net_pin pin = {"api.example.com", d, 3};
    const struct net_pins pins = {&pin, 1};
    unsigned char q[600], a[DNS_MESSAGE_MAX];
    size_t n, len;

    (void)state;
    len = query_of(q, "API.example.com", 1);
    n = net_dns_answer(&pins, q, len, a);
    assert_int_equal(n, len + 2 * 16);
    assert_memory_equal(a, q, 2);
    assert_int_equal(a[2] & 0x81, 0x81);
    assert_int_equal(a[3] & 15, 0);
    assert_int_equal(a[7], 2);
    assert_memory_equal(a + n - 4, d[1].addr, 4);
    n = net_dns_answer(&pins, q, query_of(q, "api.example.com", 28), a);
    assert_int_equal(a[7], 1);
    assert_memory_equal(a + n - 16, d[2].addr, 16);
    net_dns_answer(&pins, q, query_of(q, "api.example.com", 15), a); /* MX: exists, has none */
    assert_int_equal(a[3] & 15, 0);
    assert_int_equal(a[7], 0);
    net_dns_answer(&pins, q, query_of(q, "www.example.com", 1), a);
    assert_int_equal(a[3] & 15, 3);
    net_dns_answer(&pins, q, query_of(q, "localhost", 1), a);
    assert_int_equal(a[7], 1);
    /* Cut anywhere: never beyond the query, and an error or silence. */
    len = query_of(q, "api.example.com", 1);
    for (size_t cut = 0; cut < len; cut++) {
        n = net_dns_answer(&pins, q, cut, a);
        assert_true(n == 0 || ((a[3] & 15) == 1 && a[7] == 0));
    }
    q[12] = 0xc0; /* a compressed name in a question */
    net_dns_answer(&pins, q, len, a);
    assert_int_equal(a[3] & 15, 1);
    q[2] |= 0x80; /* an answer */
    assert_int_equal(net_dns_answer(&pins, q, len, a), 0);
}

static void test_hosts(void **state)
{
    struct net_dest d[] = {dest("10.0.0.1", 0), dest("fd00::1", 0)};
    struct net_pin pin = {"api.example.com", d, 2};
    const struct net_pins pins = {&pin, 1};
    _cleanup_buf_ struct buf out = {0};

    (void)state;
    net_names_hosts(&pins, "box", &out);
    assert_non_null(strstr(buf_cstr(&out), "127.0.0.1\tlocalhost\n"));
    assert_non_null(strstr(buf_cstr(&out), "127.0.0.1\tbox\n"));
    assert_non_null(
        strstr(buf_cstr(&out), "10.0.0.1\tapi.example.com\nfd00::1\tapi.example.com\n"));
}

static int fake_dup(void *ctx, int fd)
{
    (*(int *)ctx)++;
    return fd == 7 ? -EBADF : dup(0);
}

static void test_control(void **state)
{
    _Alignas(8) unsigned char buf[256];
    struct cmsghdr *c = (void *)buf;
    int two[2] = {3, 4}, calls = 0, got;
    struct net_rights rights = {0};
    size_t len = CMSG_SPACE(sizeof(two));

    (void)state;
    memset(buf, 0, sizeof(buf));
    *c = (struct cmsghdr){CMSG_LEN(sizeof(two)), SOL_SOCKET, SCM_RIGHTS};
    memcpy(CMSG_DATA(c), two, sizeof(two));
    assert_int_equal(net_control_translate(buf, len, AF_UNIX, fake_dup, &calls, &rights), 0);
    assert_int_equal(rights.n, 2);
    memcpy(&got, CMSG_DATA(c), sizeof(got));
    assert_int_equal(got, rights.fd[0]);
    net_rights_close(&rights);
    /* Nobody's descriptors through the internet; a length that lies; a descriptor that is none. */
    assert_int_equal(net_control_translate(buf, len, AF_INET, fake_dup, &calls, &rights), -EPERM);
    c->cmsg_len = len + 1;
    assert_int_equal(net_control_translate(buf, len, AF_UNIX, fake_dup, &calls, &rights), -EINVAL);
    c->cmsg_len = 3;
    assert_int_equal(net_control_translate(buf, len, AF_UNIX, fake_dup, &calls, &rights), -EINVAL);
    c->cmsg_len = CMSG_LEN(sizeof(two));
    two[1] = 7;
    memcpy(CMSG_DATA(c), two, sizeof(two));
    assert_int_equal(net_control_translate(buf, len, AF_UNIX, fake_dup, &calls, &rights), -EBADF);
    net_rights_close(&rights);
    *c = (struct cmsghdr){CMSG_LEN(4), SOL_IP, IP_TTL};
    assert_int_equal(net_control_translate(buf, CMSG_SPACE(4), AF_INET, fake_dup, &calls, &rights),
                     0);
    *c = (struct cmsghdr){CMSG_LEN(4), SOL_IP, IP_RETOPTS};
    assert_int_equal(net_control_translate(buf, CMSG_SPACE(4), AF_INET, fake_dup, &calls, &rights),
                     -EPERM);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_canonical),  cmocka_unit_test(test_match),
        cmocka_unit_test(test_deny_alone), cmocka_unit_test(test_match_many),
        cmocka_unit_test(test_dns),        cmocka_unit_test(test_hosts),
        cmocka_unit_test(test_control),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
