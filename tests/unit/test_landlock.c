/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which rights a policy handles and grants, for every Landlock ABI, and what is said when the kernel
 * lacks something. Pure but for gpu and probe tests. Enforcement is in test_landlock_kernel.c.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#include "base/util.h"
#include "plan/gpu.h"
#include "plan/landlock.h"
#include "sys/landlock.h"

#define FS_1 0x1fffull
#define NET_TCP 3ull
#define NET_UDP 12ull

static void waive(struct policy *p, enum protection_mode mode)
{
    for (int i = 0; i < PROTECTION_COUNT; i++)
        p->protection[i] = mode;
}

static void test_masks_by_abi(void **state)
{
    struct policy p;

    (void)state;
    policy_init(&p);
    waive(&p, PROTECTION_DEGRADED);
    for (int abi = 1; abi <= 12; abi++) {
        struct kernel k = {.landlock_abi = abi};
        struct landlock_masks m;

        assert_int_equal(landlock_masks(&p, &k, &m, NULL), 0);
        assert_int_equal(m.handled_fs, FS_1 | (abi >= 2 ? 1u << 13 : 0) |
                                           (abi >= 3 ? 1u << 14 : 0) | (abi >= 5 ? 1u << 15 : 0) |
                                           (abi >= 9 ? 1u << 16 : 0));
        assert_int_equal(m.handled_net, (abi >= 4 ? NET_TCP : 0) | (abi >= 10 ? NET_UDP : 0));
        assert_int_equal(m.scoped, abi >= 6 ? 3 : 0);
    }
    policy_fini(&p);
}

static void test_disabled(void **state)
{
    struct kernel k = {.landlock_abi = 7};
    struct landlock_masks m;
    struct policy p;
    struct error err = {0};

    (void)state;
    policy_init(&p);
    for (int i = PROT_FS_TRUNCATE; i < PROTECTION_COUNT; i++)
        p.protection[i] = PROTECTION_DISABLED;
    assert_int_equal(landlock_masks(&p, &k, &m, &err), 0);
    assert_int_equal(m.handled_fs, FS_1 | 1u << 13);
    assert_int_equal(m.handled_net, 0);
    assert_int_equal(m.scoped, 0);
    policy_fini(&p);
}

static void test_ports_any(void **state)
{
    struct kernel k = {.landlock_abi = 7};
    struct landlock_masks m;
    struct policy p;
    struct error err = {0};

    (void)state;
    policy_init(&p);
    p.net_connect.any = true;
    assert_int_equal(landlock_masks(&p, &k, &m, &err), 0);
    assert_int_equal(m.handled_net, LANDLOCK_ACCESS_NET_BIND_TCP);
    p.net_bind.any = true;
    assert_int_equal(landlock_masks(&p, &k, &m, &err), 0);
    assert_int_equal(m.handled_net, 0);
    /* Nothing to confine: the protection may be missing. */
    k.landlock_abi = 3;
    waive(&p, PROTECTION_DEGRADED);
    p.protection[PROT_NET_TCP] = PROTECTION_STRICT;
    assert_int_equal(landlock_masks(&p, &k, &m, &err), 0);
    p.net_bind.any = false;
    assert_int_equal(landlock_masks(&p, &k, &m, &err), -EOPNOTSUPP);
    assert_string_equal(err.where, "net-tcp");
    policy_fini(&p);
}

static void test_missing(void **state)
{
    struct kernel k = {.landlock_abi = 2};
    struct landlock_masks m;
    struct policy p;
    struct error err = {0};

    (void)state;
    policy_init(&p);
    assert_int_equal(landlock_masks(&p, &k, &m, &err), -EOPNOTSUPP);
    assert_int_equal(err.kind, ERROR_SETUP);
    assert_string_equal(err.where, "fs-truncate");
    assert_non_null(strstr(err.message, "Landlock ABI 2"));
    assert_non_null(strstr(err.message, "fs-truncate (ABI 3), net-tcp (ABI 4)"));
    assert_non_null(strstr(err.message, "abstract-unix-socket-scope (ABI 6)"));
    assert_non_null(strstr(err.message, "--allow-degraded fs-truncate --allow-degraded net-tcp"));
    assert_null(strstr(err.message, "fs-refer"));
    assert_non_null(strstr(err.message, "--allow-degraded abstract-unix-socket-scope"));
    /* Following the advice works. */
    waive(&p, PROTECTION_DEGRADED);
    assert_int_equal(landlock_masks(&p, &k, &m, &err), 0);
    policy_fini(&p);
}

static void test_no_landlock(void **state)
{
    static const int reasons[] = {EOPNOTSUPP, ENOSYS, EPERM};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(reasons); i++) {
        struct kernel k = {.landlock_abi = 0, .landlock_errno = reasons[i]};
        struct landlock_masks m;
        struct policy p;
        struct error err = {0};

        policy_init(&p);
        for (unsigned mode = PROTECTION_STRICT; mode <= PROTECTION_DISABLED; mode++) {
            waive(&p, mode); /* file confinement cannot be waived */
            assert_int_equal(landlock_masks(&p, &k, &m, &err), -reasons[i]);
            assert_string_equal(err.where, "landlock");
        }
        if (reasons[i] == EOPNOTSUPP)
            assert_non_null(strstr(err.message, "lsm="));
        policy_fini(&p);
    }
}

static void test_rights(void **state)
{
    struct landlock_masks all = {.handled_fs = 0x1ffff}, first = {.handled_fs = FS_1};
    const uint64_t devices = LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_BLOCK;

    (void)state;
    assert_int_equal(landlock_read_rights(&all, true), 1 | 4 | 8);
    assert_int_equal(landlock_read_rights(&all, false), 1 | 4);
    assert_int_equal(landlock_write_rights(&all, true), 0x1ffff & ~devices);
    assert_int_equal(landlock_write_rights(&all, false), 1 | 2 | 4 | 1 << 14 | 1 << 15 | 1 << 16);
    assert_int_equal(landlock_write_rights(&first, true), FS_1 & ~devices);
    assert_int_equal(landlock_write_rights(&first, false), 1 | 2 | 4);
}

static void touch(const char *dir, const char *name)
{
    char path[300];
    FILE *f;

    snprintf(path, sizeof(path), "%s/%s", dir, name);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
}

static void test_gpu(void **state)
{
    char dir[] = "/tmp/sandlock-gpu-XXXXXX", sub[64], cmd[128];
    uint32_t devices[] = {1};
    struct strv nodes = {0};
    struct error err = {0};
    struct policy p;

    (void)state;
    assert_non_null(mkdtemp(dir));
    policy_init(&p);
    assert_int_equal(gpu_nodes(&p, dir, &nodes, &err), 0);
    assert_int_equal(nodes.n, 0);
    p.gpu = GPU_ALL;
    assert_int_equal(gpu_nodes(&p, dir, &nodes, &err), 0);
    assert_int_equal(nodes.n, 0); /* all of none */
    p.gpu = GPU_LIST;
    p.gpu_devices = devices;
    p.n_gpu_devices = 1;
    assert_int_equal(gpu_nodes(&p, dir, &nodes, &err), -ENODEV);
    assert_string_equal(err.where, "--gpu");
    snprintf(sub, sizeof(sub), "%s/dri", dir);
    assert_int_equal(mkdir(sub, 0700), 0);
    touch(dir, "dri/renderD129");
    touch(dir, "kfd");
    assert_int_equal(gpu_nodes(&p, dir, &nodes, &err), 0);
    assert_int_equal(nodes.n, 2);
    strv_fini(&nodes);
    touch(dir, "nvidiactl");
    touch(dir, "nvidia0");
    touch(dir, "nvidia1");
    assert_int_equal(gpu_nodes(&p, dir, &nodes, &err), 0);
    assert_int_equal(nodes.n, 2);
    assert_non_null(strstr(nodes.v[1], "/nvidia1"));
    strv_fini(&nodes);
    p.gpu = GPU_ALL;
    assert_int_equal(gpu_nodes(&p, dir, &nodes, &err), 0);
    assert_int_equal(nodes.n, 5);
    strv_fini(&nodes);
    p.gpu_devices = NULL;
    policy_fini(&p);
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    assert_int_equal(system(cmd), 0);
}

static void test_probe(void **state)
{
    const struct kernel *k = kernel_probe(), *all;
    int abi = sys_landlock_abi();

    (void)state;
    assert_ptr_equal(k, kernel_probe());
    assert_int_equal(k->landlock_abi, abi > 0 ? abi : 0);
    assert_int_equal(k->landlock_errno != 0, abi <= 0);
    all = kernel_probe_all();
    assert_int_equal(all->landlock_abi, k->landlock_abi);
    assert_true(!all->net_namespaces || all->user_namespaces);
    assert_true(!k->wait_killable || all->addfd_send); /* 5.19 lies behind 5.14 */
    assert_ptr_equal(all, kernel_probe_all());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_masks_by_abi), cmocka_unit_test(test_disabled),
        cmocka_unit_test(test_ports_any),    cmocka_unit_test(test_missing),
        cmocka_unit_test(test_no_landlock),  cmocka_unit_test(test_rights),
        cmocka_unit_test(test_gpu),          cmocka_unit_test(test_probe),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
