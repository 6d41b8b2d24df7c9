/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The policy's setters and its validation: what is accepted, what each refusal says, and that a
 * refused value leaves the policy as it was.
 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/arch.h"
#include "policy/internal.h"

typedef int (*setter)(struct policy *, const char *, const char *, struct error *);

static int set_fs_read(struct policy *p, const char *flag, const char *v, struct error *err)
{
    return policy_add_fs_read(p, flag, v, false, err);
}

static int set_disable(struct policy *p, const char *flag, const char *v, struct error *err)
{
    return policy_set_protection(p, flag, v, PROTECTION_DISABLED, err);
}

static int set_degraded(struct policy *p, const char *flag, const char *v, struct error *err)
{
    return policy_set_protection(p, flag, v, PROTECTION_DEGRADED, err);
}

static const struct refusal {
    setter set;
    const char *value;
    const char *says;
    enum error_kind kind;
} refusals[] = {
    {set_fs_read, "", "the path is empty", ERROR_USAGE},
    {policy_add_fs_deny, "", "the path is empty", ERROR_USAGE},
    {policy_set_cwd, "", "the path is empty", ERROR_USAGE},

    {policy_add_net_allow, "", "names no port", ERROR_USAGE},
    {policy_add_net_allow, ":", "the port is missing", ERROR_USAGE},
    {policy_add_net_allow, "*:", "the port is missing", ERROR_USAGE},
    {policy_add_net_allow, "tcp://", "names no port", ERROR_USAGE},
    {policy_add_net_allow, "tcp://:", "the port is missing", ERROR_USAGE},
    {policy_add_net_allow, ":0", "names port 0", ERROR_USAGE},
    {policy_add_net_allow, ":80,*", "mixes * with numbers", ERROR_USAGE},
    {policy_add_net_allow, "80", "has no colon before the port", ERROR_USAGE},
    {policy_add_net_allow, "sctp://:80", "names an unknown protocol", ERROR_USAGE},
    {policy_add_net_allow, "TCP://:80", "names an unknown protocol", ERROR_USAGE},
    {policy_add_net_allow, "://:80", "names an unknown protocol", ERROR_USAGE},
    {policy_add_net_allow, "a b:80", "is neither a host nor a port rule", ERROR_USAGE},
    {policy_add_net_allow, "*.example.com:80", "is neither a host", ERROR_USAGE},
    {policy_add_net_allow, "example.com:http", "\"http\" is not a port", ERROR_USAGE},
    {policy_add_net_allow, "[::1:80", "unfinished [address]", ERROR_USAGE},
    {policy_add_net_allow, "[::1]80", "unfinished [address]", ERROR_USAGE},
    {policy_add_net_allow, "::1:80", "use [::1]:80 for the port, [::1:80] for", ERROR_USAGE},
    {policy_add_net_deny, "udp://2001:db8::5:443", "use [2001:db8::5]:443 for the", ERROR_USAGE},
    {policy_add_net_allow, "tcp://fd00:::80", "use [fd00::]:80", ERROR_USAGE},
    {policy_add_net_allow, "::1:80,443-445", "lacks brackets: use [::1]:80,443-445", ERROR_USAGE},
    {policy_add_net_allow, "::1:*", "lacks brackets: use [::1]:*", ERROR_USAGE},
    {policy_add_net_deny, "fd00::/8:80", "lacks brackets: use [fd00::/8]:80", ERROR_USAGE},
    {policy_add_net_allow, "1:2:3:4:5:6:7:8:80", "use [1:2:3:4:5:6:7:8]:80", ERROR_USAGE},
    {policy_add_net_allow, "udp://", "names no port", ERROR_USAGE},
    {policy_add_net_allow, "icmp://", "names no port", ERROR_USAGE},
    {policy_add_net_allow, "icmp://10.0.0.1:80", "names a port, which icmp", ERROR_USAGE},
    {policy_add_net_allow, "10.0.0.0/33", "prefix length beyond 32", ERROR_USAGE},
    {policy_add_net_allow, "10.0.0.0/", "prefix length beyond 32", ERROR_USAGE},
    {policy_add_net_allow, "[fd00::/129]:80", "prefix length beyond 128", ERROR_USAGE},
    {policy_add_net_allow, "example.com/8", "prefix length without an address", ERROR_USAGE},
    {policy_add_net_allow, "10.0.0:80", "is not an IPv4 address", ERROR_USAGE},
    {policy_add_net_allow, "10.0.0.256", "is not an IPv4 address", ERROR_USAGE},
    {policy_add_net_allow, "::g", "is not an IPv6 address", ERROR_USAGE},
    {policy_add_net_allow, "fe80::1%eth0", "has a scope", ERROR_USAGE},
    {policy_add_net_allow, "[10.0.0.1]:80", "something else than IPv6", ERROR_USAGE},
    {policy_add_net_allow, "-a.example:1", "hyphen", ERROR_USAGE},
    {policy_add_net_allow, "a..b", "empty or over-long part", ERROR_USAGE},
    {policy_add_net_allow, "host:80,*", "mixes * with numbers", ERROR_USAGE},
    {policy_add_net_deny, "example.com", "names a host", ERROR_USAGE},
    {policy_add_net_deny, "", "names no port", ERROR_USAGE},
    {policy_add_net_deny_bind, "0", "names port 0", ERROR_USAGE},

    {policy_set_timeout, "0", "must be more than 0", ERROR_USAGE},
    {policy_set_timeout, "0.0", "must be more than 0", ERROR_USAGE},
    {policy_set_timeout, "5m", "is not a time in seconds", ERROR_USAGE},
    {policy_set_timeout, "-1", "is not a time in seconds", ERROR_USAGE},
    {policy_set_timeout, "1e9", "is not a time in seconds", ERROR_USAGE},
    {policy_set_timeout, "9999999999", "is more than 1000000000 seconds", ERROR_USAGE},
    {policy_set_stop_grace, "x", "is not a time in seconds", ERROR_USAGE},
    {policy_set_stop_grace, "9999999999", "is more than 1000000000 seconds", ERROR_USAGE},
    {policy_set_stop_signal, "SIGNOPE", "is not a signal", ERROR_USAGE},
    {policy_set_stop_signal, "0", "is not a signal", ERROR_USAGE},

    {policy_add_env, "PATH", "is not of the form KEY=VALUE", ERROR_USAGE},
    {policy_add_env, "=x", "is not of the form KEY=VALUE", ERROR_USAGE},
    {policy_add_env, "", "is not of the form KEY=VALUE", ERROR_USAGE},

    {policy_set_user, "1000", "names only one of user and group", ERROR_USAGE},
    {policy_set_user, "", "names only one of user and group", ERROR_USAGE},
    {policy_set_user, "1000:", "is not UID:GID", ERROR_USAGE},
    {policy_set_user, ":1000", "is not UID:GID", ERROR_USAGE},
    {policy_set_user, "root:root", "is not UID:GID", ERROR_USAGE},
    {policy_set_user, "1:2:3", "is not UID:GID", ERROR_USAGE},
    {policy_set_user, "4294967295:0", "is not UID:GID", ERROR_USAGE},
    {policy_set_user, "0:4294967296", "is not UID:GID", ERROR_USAGE},
    {policy_set_user, "00000000000000000001:1", "is not UID:GID", ERROR_USAGE},

    {policy_set_max_open_files, "0", "is not a number of files", ERROR_USAGE},
    {policy_set_max_open_files, "-5", "is not a number of files", ERROR_USAGE},
    {policy_set_max_open_files, "4294967296", "is not a number of files", ERROR_USAGE},
    {policy_set_max_open_files, "1k", "is not a number of files", ERROR_USAGE},
    {policy_set_max_memory, "0", "is not a size", ERROR_USAGE},
    {policy_set_max_memory, "17179869184G", "is not a size", ERROR_USAGE},
    {policy_set_max_memory, "100K", "is less than", ERROR_USAGE},
    {policy_set_max_processes, "0", "is not a number of processes", ERROR_USAGE},
    {policy_set_max_processes, "4294967297", "is not a number of processes", ERROR_USAGE},
    {policy_set_max_cpu, "0", "is not a percentage", ERROR_USAGE},
    {policy_set_max_cpu, "101", "is not a percentage", ERROR_USAGE},
    {policy_set_num_cpus, "0", "is not a number of processors", ERROR_USAGE},
    {policy_set_num_cpus, "1025", "is not a number of processors", ERROR_USAGE},
    {policy_set_cpu_cores, "", "is not a list of cores", ERROR_USAGE},
    {policy_set_cpu_cores, "0,", "is not a list of cores", ERROR_USAGE},
    {policy_set_cpu_cores, "a", "is not a list of cores", ERROR_USAGE},
    {policy_set_cpu_cores, "3-1", "is not a list of cores", ERROR_USAGE},
    {policy_set_cpu_cores, "8192", "is not a list of cores", ERROR_USAGE},
    {policy_set_cpu_cores, "0-99999999999", "is not a list of cores", ERROR_USAGE},
    {policy_set_gpu, "", "is not a list of GPUs", ERROR_USAGE},
    {policy_set_gpu, "none", "is not a list of GPUs", ERROR_USAGE},
    {policy_set_gpu, "0;1", "is not a list of GPUs", ERROR_USAGE},
    {policy_set_gpu, "1024", "is not a list of GPUs", ERROR_USAGE},

    {policy_set_name, "", "is empty", ERROR_USAGE},
    {policy_set_name, ".", "is not a name", ERROR_USAGE},
    {policy_set_name, "..", "is not a name", ERROR_USAGE},
    {policy_set_name, "a/b", "contains a slash", ERROR_USAGE},
    {policy_set_name, "a b", "contains white space", ERROR_USAGE},
    {policy_set_name, "a\nb", "contains white space", ERROR_USAGE},
    {policy_set_name, "a\033b", "contains a control character", ERROR_USAGE},
    {policy_set_name, "a\177b", "contains a control character", ERROR_USAGE},
    {policy_set_name, "12345678901234567890123456789012345678901234567890123456789012345",
     "is longer than 64 bytes", ERROR_USAGE},

    {policy_add_deny_syscall, "openta", "did you mean \"openat\"?", ERROR_USAGE},
    {policy_add_deny_syscall, "netwrok", "did you mean \"network\"?", ERROR_USAGE},
    {policy_add_deny_syscall, "xyzzyxyzzy", "is not a system call or group (groups: default",
     ERROR_USAGE},
    {policy_add_deny_syscall, "", "is not a system call or group", ERROR_USAGE},
    {policy_add_deny_syscall, "execve", "without execve no command can run", ERROR_POLICY},
    {policy_add_deny_syscall, "exit_group", "without exit_group", ERROR_POLICY},
    {policy_add_allow_syscall, "ptrace", "the single call \"ptrace\" cannot be allowed",
     ERROR_USAGE},
    {policy_add_allow_syscall, "network", "the group \"network\" cannot be allowed", ERROR_USAGE},
    {policy_add_allow_syscall, "nope", "is not a group of system calls (accepted: sysv_ipc)",
     ERROR_USAGE},

    {set_disable, "fs-refer", "fs-refer cannot be disabled", ERROR_POLICY},
    {set_disable, "net_tcp", "did you mean \"net-tcp\"?", ERROR_USAGE},
    {set_degraded, "everything", "is not a protection (accepted: fs-refer, fs-truncate,",
     ERROR_USAGE},
    {set_degraded, "", "is not a protection", ERROR_USAGE},
};

static void test_refusals(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        const struct refusal *c = &refusals[i];
        struct policy before;
        struct policy p;
        struct error err = {0};

        policy_init(&p);
        before = p;
        if (c->set(&p, "--flag", c->value, &err) >= 0)
            fail_msg("accepted: \"%s\" (%s)", c->value, c->says);
        if (!strstr(err.message, c->says) || err.kind != c->kind)
            fail_msg("\"%s\": kind %d: %s", c->value, err.kind, err.message);
        assert_string_equal(err.where, "--flag");
        assert_memory_equal(&before, &p, sizeof(p));
        policy_fini(&p);
    }
}

/* A value of any length gives a message that still says what was wrong. */
static void test_long_values(void **state)
{
    static char text[200000];
    struct policy p;

    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    policy_init(&p);
    for (size_t i = 0; i < ARRAY_SIZE(refusals); i++) {
        struct error err = {0};

        if (refusals[i].set(&p, "--flag", text, &err) == 0)
            fail_msg("row %zu accepted 200,000 bytes", i);
        assert_true(strlen(err.message) < sizeof(err.message) - 1);
    }
    policy_fini(&p);
}

static void test_files_and_env(void **state)
{
    struct error err = {0};
    struct policy p;

    (void)state;
    policy_init(&p);
    assert_int_equal(chdir("/usr"), 0);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(policy_add_fs_read(&p, "-r", "lib", i & 1, &err), 0);
    assert_int_equal(p.fs_read.n, 1000);
    assert_string_equal(p.fs_read.v[999].path, "/usr/lib");
    assert_true(p.fs_read.v[999].optional);
    assert_false(p.fs_read.v[998].optional);
    assert_int_equal(policy_add_fs_write(&p, "-w", "/tmp", false, &err), 0);
    assert_string_equal(p.fs_write.v[0].path, "/tmp");
    assert_int_equal(policy_add_fs_deny(&p, "-d", "share", &err), 0);
    assert_string_equal(p.fs_deny.v[0], "/usr/share");
    assert_int_equal(policy_set_cwd(&p, "--cwd", "bin", &err), 0);
    assert_int_equal(policy_set_cwd(&p, "--cwd", "lib", &err), 0);
    assert_string_equal(p.cwd, "/usr/lib");
    assert_int_equal(policy_add_env(&p, "--env", "A=1", &err), 0);
    assert_int_equal(policy_add_env(&p, "--env", "AA=2", &err), 0);
    assert_int_equal(policy_add_env(&p, "--env", "A=3=4", &err), 0);
    assert_int_equal(policy_add_env(&p, "--env", "EMPTY=", &err), 0);
    assert_int_equal(p.env.n, 3);
    assert_string_equal(p.env.v[0], "A=3=4");
    assert_string_equal(p.env.v[2], "EMPTY=");
    assert_int_equal(policy_validate(&p, &err), 0);
    policy_fini(&p);
    policy_fini(&p);
}

static void test_scalars(void **state)
{
    struct error err = {0};
    struct policy p;

    (void)state;
    policy_init(&p);
    assert_int_equal(p.stop_signal, SIGTERM);
    assert_true(p.stop_grace_ns == 200000000);
    assert_int_equal(policy_set_timeout(&p, "-t", "0.1", &err), 0);
    assert_true(p.timeout_ns == 100000000);
    assert_int_equal(policy_set_stop_grace(&p, "-g", "0", &err), 0);
    assert_true(p.stop_grace_ns == 0);
    assert_int_equal(policy_set_stop_signal(&p, "-s", "INT", &err), 0);
    assert_int_equal(p.stop_signal, SIGINT);
    assert_int_equal(policy_set_user(&p, "--user", "0:4294967294", &err), 0);
    assert_true(p.has_user && p.uid == 0 && p.gid == 4294967294u);
    assert_int_equal(policy_set_max_open_files(&p, "-n", "64", &err), 0);
    assert_int_equal(p.max_open_files, 64);
    assert_int_equal(policy_set_cpu_cores(&p, "-c", "5,0-2,1", &err), 0);
    assert_int_equal(p.n_cpu_cores, 4);
    assert_int_equal(p.cpu_cores[3], 5);
    assert_int_equal(policy_set_gpu(&p, "--gpu", "1,0", &err), 0);
    assert_int_equal(p.gpu, GPU_LIST);
    assert_int_equal(p.gpu_devices[1], 1);
    assert_int_equal(policy_set_gpu(&p, "--gpu", "all", &err), 0);
    assert_int_equal(p.gpu, GPU_ALL);
    assert_int_equal(p.n_gpu_devices, 0);
    assert_int_equal(policy_set_name(&p, "--name",
                                     "b\xc3\xbc"
                                     "cher-1",
                                     &err),
                     0);
    assert_int_equal(policy_set_name(&p, "--name", "web", &err), 0);
    assert_string_equal(p.name, "web");
    policy_fini(&p);
}

static void test_net(void **state)
{
    struct error err = {0};
    struct policy p;

    (void)state;
    policy_init(&p);
    assert_int_equal(policy_add_net_allow(&p, "-n", ":80", &err), 0);
    assert_int_equal(policy_add_net_allow(&p, "-n", "*:443", &err), 0);
    assert_int_equal(policy_add_net_allow(&p, "-n", "tcp://:22", &err), 0);
    assert_int_equal(policy_add_net_allow(&p, "-n", "tcp://*:8000-8002,9000", &err), 0);
    assert_int_equal(p.net_connect.n, 5);
    assert_false(p.net_connect.any);
    assert_true(port_set_has(&p.net_connect, 8001));
    assert_true(port_set_is_empty(&p.net_bind));
    assert_int_equal(policy_add_net_allow_bind(&p, "-b", "0,8080", &err), 0);
    assert_true(port_set_has(&p.net_bind, 0));
    assert_int_equal(policy_add_net_allow(&p, "-n", "*", &err), 0);
    assert_true(p.net_connect.any);
    policy_fini(&p);
    for (unsigned i = 0; i < 3; i++) {
        static const char *const all[] = {":*", "*:*", "tcp://*"};

        policy_init(&p);
        assert_int_equal(policy_add_net_allow(&p, "-n", all[i], &err), 0);
        assert_true(p.net_connect.any);
        policy_fini(&p);
    }
}

/* Which rules are the kernel's, which have to be looked at, and what they say. */
static void test_net_rules(void **state)
{
    static const struct {
        const char *allow, *deny;
        unsigned protos, mediated;
    } sets[] = {
        {NULL, NULL, 0, 0},
        {":80", NULL, NET_TCP, 0},
        {"tcp://*", NULL, NET_TCP, 0},
        {"*", NULL, NET_TCP | NET_UDP, 0},
        {"*:80", NULL, NET_TCP | NET_UDP, NET_UDP},
        {"udp://*", NULL, NET_UDP, 0},
        {"udp://:53", NULL, NET_UDP, NET_UDP},
        {"icmp://*", NULL, NET_ICMP, 0},
        {"icmp://10.0.0.1", NULL, NET_ICMP, NET_ICMP},
        {"10.0.0.1:80", NULL, NET_TCP | NET_UDP, NET_TCP | NET_UDP},
        {"tcp://example.com", NULL, NET_TCP, NET_TCP},
        {NULL, "10.0.0.1", NET_TCP | NET_UDP, NET_TCP | NET_UDP},
        {":80", "10.0.0.1", NET_TCP, NET_TCP},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
        struct policy p;

        policy_init(&p);
        if (sets[i].allow)
            assert_int_equal(policy_add_net_allow(&p, "-n", sets[i].allow, NULL), 0);
        if (sets[i].deny)
            assert_int_equal(policy_add_net_deny(&p, "-n", sets[i].deny, NULL), 0);
        assert_int_equal(policy_net_protos(&p), sets[i].protos);
        assert_int_equal(policy_net_mediated(&p), sets[i].mediated);
        policy_fini(&p);
    }
}

static void test_net_rule_forms(void **state)
{
    static const struct {
        const char *text;
        uint8_t target, prefix, first, last; /* of the address */
        const char *name;
    } rules[] = {
        {"10.1.2.3/8:80", NET_TARGET_V4, 8, 10, 0, NULL},
        {"10.1.2.3", NET_TARGET_V4, 32, 10, 3, NULL},
        {"fd00::1", NET_TARGET_V6, 128, 0xfd, 1, NULL},
        {"[fd00::1]:80", NET_TARGET_V6, 128, 0xfd, 1, NULL},
        {"[fd00::]/8:80", NET_TARGET_V6, 8, 0xfd, 0, NULL},
        {"[fd00::/8]:80", NET_TARGET_V6, 8, 0xfd, 0, NULL},
        {"::ffff:10.0.0.9", NET_TARGET_V4, 32, 10, 9, NULL},
        {"64:ff9b::10.0.0.0/104", NET_TARGET_V4, 8, 10, 0, NULL},
        {"::1", NET_TARGET_V6, 128, 0, 1, NULL},
        /* No port can be read at the end of these. */
        {"fd00::1:a0", NET_TARGET_V6, 128, 0xfd, 0xa0, NULL},
        {"fd00:0:0:0:0:0:0:80", NET_TARGET_V6, 128, 0xfd, 0x80, NULL},
        {"fd00::1:80/128", NET_TARGET_V6, 128, 0xfd, 0x80, NULL},
        {"[fd00::1:80]", NET_TARGET_V6, 128, 0xfd, 0x80, NULL},
        {"::/0", NET_TARGET_V6, 0, 0, 0, NULL},
        {"0.0.0.0/0", NET_TARGET_V4, 0, 0, 0, NULL},
        {"Example.COM.:443", NET_TARGET_NAME, 0, 0, 0, "example.com"},
        {"tcp://my_host-1", NET_TARGET_NAME, 0, 0, 0, "my_host-1"},
    };
    struct policy p;

    (void)state;
    policy_init(&p);
    for (size_t i = 0; i < ARRAY_SIZE(rules); i++) {
        const struct net_rule *r;

        assert_int_equal(policy_add_net_allow(&p, "-n", rules[i].text, NULL), 0);
        assert_int_equal(p.net_allow.n, i + 1);
        r = &p.net_allow.v[i];
        assert_int_equal(r->target, rules[i].target);
        assert_int_equal(r->prefix, rules[i].prefix);
        assert_int_equal(r->addr[0], rules[i].first);
        assert_int_equal(r->addr[r->target == NET_TARGET_V6 ? 15 : 3], rules[i].last);
        if (rules[i].name)
            assert_string_equal(r->name, rules[i].name);
    }
    policy_fini(&p);
}

static void test_syscalls(void **state)
{
    struct error err = {0};
    struct policy p;

    (void)state;
    policy_init(&p);
    assert_int_equal(policy_add_deny_syscall(&p, "-d", "open", &err), 0);
    assert_true(call_set_has(&p.extra_deny, CALL_open));
    assert_false(call_set_has(&p.extra_deny, CALL_openat));
    /* The other machine's own call, and an alias. */
    assert_int_equal(policy_add_deny_syscall(&p, "-d", "umount", &err), 0);
    assert_true(call_set_has(&p.extra_deny, CALL_umount2));
    assert_int_equal(policy_add_deny_syscall(&p, "-d", "network", &err), 0);
    assert_true(call_set_has(&p.extra_deny, CALL_socket));
    assert_false(p.allow_sysv_ipc);
    assert_int_equal(policy_add_allow_syscall(&p, "-a", "sysv_ipc", &err), 0);
    assert_true(p.allow_sysv_ipc);
    policy_fini(&p);
}

/* Each group's names and ids agree, are known to some machine, and nothing is listed twice. */
static void test_groups(void **state)
{
    (void)state;
    assert_non_null(syscall_group_by_name("default"));
    assert_non_null(syscall_group_by_name("sysv_ipc"));
    assert_null(syscall_group_by_name("defaul"));
    for (size_t g = 0; g < syscall_group_count; g++) {
        struct call_set seen = {{0}};
        size_t i = 0;

        for (; syscall_groups[g].calls[i]; i++) {
            uint16_t id = syscall_groups[g].ids[i];

            assert_string_equal(syscall_groups[g].calls[i], call_id_name(id));
            assert_true(arch_name_known(syscall_groups[g].calls[i]));
            assert_false(call_set_has(&seen, id));
            call_set_add(&seen, id);
        }
        assert_int_equal(syscall_groups[g].ids[i], CALL_ID_COUNT);
        assert_false(call_set_has(&seen, CALL_execve));
    }
}

static void test_protections(void **state)
{
    struct error err = {0};
    struct policy p;

    (void)state;
    policy_init(&p);
    for (int i = 0; i < PROTECTION_COUNT; i++) {
        assert_int_equal(protection_by_name(protection_info[i].name), i);
        assert_int_equal(set_degraded(&p, "-a", protection_info[i].name, &err), 0);
        assert_int_equal(p.protection[i], PROTECTION_DEGRADED);
        assert_int_equal(set_degraded(&p, "-a", protection_info[i].name, &err), 0);
    }
    assert_true(set_disable(&p, "--disable", "net-tcp", &err) < 0);
    assert_string_equal(err.message, "net-tcp is given both to --allow-degraded and to --disable");
    assert_int_equal(err.kind, ERROR_POLICY);
    assert_int_equal(protection_by_name("fs"), -ENOENT);
    policy_fini(&p);
}

static void expect_invalid(struct policy *p, const char *where, const char *says)
{
    struct error err = {0};

    assert_true(policy_validate(p, &err) < 0);
    assert_string_equal(err.where, where);
    if (!strstr(err.message, says))
        fail_msg("%s", err.message);
    assert_int_equal(err.kind, ERROR_POLICY);
    policy_fini(p);
    policy_init(p);
}

static void test_validate(void **state)
{
    static const char without[] = "needs a supervisor and cannot be combined with --no-supervisor";
    struct error err = {0};
    struct policy p;

    (void)state;
    policy_init(&p);
    assert_int_equal(policy_validate(&p, &err), 0);
    p.no_supervisor = true;
    assert_int_equal(policy_validate(&p, &err), 0);

    assert_int_equal(policy_add_fs_deny(&p, "x", "/etc", &err), 0);
    expect_invalid(&p, "--fs-deny", without);
    p.no_supervisor = true;
    p.timeout_ns = 1;
    expect_invalid(&p, "--timeout", without);
    p.no_supervisor = p.explain = true;
    expect_invalid(&p, "--explain", without);
    p.no_supervisor = p.linger = true;
    expect_invalid(&p, "--linger", without);
    p.no_supervisor = true;
    p.stop_grace_ns = 0;
    expect_invalid(&p, "--stop-grace", without);
    p.no_supervisor = true;
    p.stop_signal = SIGINT;
    expect_invalid(&p, "--stop-signal", without);
    p.no_supervisor = true;
    assert_int_equal(policy_set_name(&p, "x", "n", &err), 0);
    expect_invalid(&p, "--name", without);

    p.protection[PROT_FS_REFER] = PROTECTION_DISABLED;
    expect_invalid(&p, "--disable", "fs-refer cannot be disabled");
    p.protection[PROT_NET_TCP] = PROTECTION_DISABLED;
    assert_int_equal(policy_add_net_allow(&p, "x", ":80", &err), 0);
    expect_invalid(&p, "--net-allow", "restricts nothing");
    p.protection[PROT_NET_TCP] = PROTECTION_DISABLED;
    assert_int_equal(policy_add_net_allow_bind(&p, "x", "80", &err), 0);
    expect_invalid(&p, "--net-allow-bind", "restricts nothing");

    assert_int_equal(policy_set_cpu_cores(&p, "x", "8191", &err), 0);
    expect_invalid(&p, "--cpu-cores", "core 8191 is not available here (available: ");
    p.has_user = true;
    p.uid = (uid_t)-1;
    expect_invalid(&p, "--user", "user and group go together");
    p.gpu = GPU_LIST;
    expect_invalid(&p, "--gpu", "the list of devices is empty");
    p.cwd = strdup("relative");
    expect_invalid(&p, "--cwd", "not absolute");
    policy_fini(&p);
}

static void test_cores(void **state)
{
    struct cpu_mask m = {{0}};
    char text[32];
    char tiny[4];

    (void)state;
    assert_true(cpu_mask_read(&m));
    m = (struct cpu_mask){{0x10b}};
    cpu_mask_print(&m, text, sizeof(text));
    assert_string_equal(text, "0-1,3,8");
    cpu_mask_print(&m, tiny, sizeof(tiny));
    assert_true(strlen(tiny) < sizeof(tiny));
    assert_true(cpu_mask_has(&m, 8));
    assert_false(cpu_mask_has(&m, 8192));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),      cmocka_unit_test(test_long_values),
        cmocka_unit_test(test_files_and_env), cmocka_unit_test(test_scalars),
        cmocka_unit_test(test_net_rules),     cmocka_unit_test(test_net_rule_forms),
        cmocka_unit_test(test_net),           cmocka_unit_test(test_syscalls),
        cmocka_unit_test(test_groups),        cmocka_unit_test(test_protections),
        cmocka_unit_test(test_validate),      cmocka_unit_test(test_cores),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
