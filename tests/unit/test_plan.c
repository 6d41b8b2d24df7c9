/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole plans on this kernel: descriptors and flags of each mode, clear failures, and the installed
 * filter asked for every call it refuses. Skipped where the kernel has no Landlock.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "base/util.h"
#include "plan/plan.h"
#include "supervisor/supervisor.h"
#include "sys/seccomp.h"

static const struct kernel *kernel;

static int group_setup(void **state)
{
    (void)state;
    kernel = kernel_probe();
    if (kernel->landlock_abi < 1 || !kernel->seccomp_filter) {
        print_message("no Landlock or seccomp on this kernel: skipped\n");
        exit(77);
    }
    return 0;
}

static void policy_start(struct policy *p)
{
    policy_init(p);
    for (int i = 0; i < PROTECTION_COUNT; i++)
        p->protection[i] = PROTECTION_DEGRADED;
    assert_int_equal(policy_add_fs_read(p, "-r", "/usr", false, NULL), 0);
}

static void build(struct policy *p, struct plan *ret)
{
    struct error err = {0};

    assert_int_equal(policy_validate(p, &err), 0);
    if (plan_build(p, kernel, ret, &err) < 0)
        fail_msg("%s: %s", err.where, err.message);
    assert_ptr_equal(ret->policy, p);
    assert_true(ret->prog.len > 0);
}

static int open_descriptors(void)
{
    int n = 0;

    for (int fd = 0; fd < 256; fd++)
        n += fcntl(fd, F_GETFD) >= 0;
    return n;
}

static void test_modes(void **state)
{
    int before = open_descriptors();
    struct policy p;
    struct plan plan;

    (void)state;
    policy_start(&p);
    build(&p, &plan);
    assert_true(plan.ruleset_fd >= 0);
    assert_int_equal(plan.anchor_fd >= 0, kernel->landlock_abi >= 6);
    assert_int_equal(plan.nested_fd >= 0, plan.behalf);
    assert_int_equal(plan.notify, filter_has_action(&plan.filter, SECCOMP_RET_USER_NOTIF));
    assert_null(plan.quiet.entries);
    plan_fini(&plan);
    plan_fini(&plan); /* harmless */

    p.no_supervisor = true;
    build(&p, &plan);
    assert_false(plan.notify);
    assert_int_equal(plan.nfeatures, 0);
    assert_int_equal(plan.anchor_fd, -1);
    assert_true(plan.ruleset_fd >= 0);
    plan_fini(&plan);
    p.no_supervisor = false;

    assert_int_equal(policy_add_fs_deny(&p, "x", "/usr/share", NULL), 0);
    build(&p, &plan);
    assert_true(plan.behalf);
    assert_true(plan.notify);
    assert_true(plan.nested_fd >= 0);
    plan_fini(&plan);
    policy_fini(&p);
    memset(&plan, 0, sizeof(plan));
    plan_fini(&plan);
    assert_int_equal(open_descriptors(), before);
}

static void test_explain(void **state)
{
    struct seccomp_data d = {.arch = arch_native()->audit_arch};
    struct policy p;
    struct plan plan;
    bool bad;

    (void)state;
    policy_start(&p);
    p.explain = true;
    build(&p, &plan);
    assert_true(plan.notify);
    d.nr = arch_call_by_name(arch_native(), "mount")->nr;
    assert_int_equal(filter_run(&plan.prog, &d, &bad), SECCOMP_RET_USER_NOTIF);
    assert_int_equal(plan_denied_ret(&plan, &d), SECCOMP_RET_ERRNO | EPERM);
    d.nr = arch_call_by_name(arch_native(), "clone3")->nr;
    assert_int_equal(filter_run(&plan.prog, &d, &bad), SECCOMP_RET_ERRNO | ENOSYS);
    d.nr = arch_call_by_name(arch_native(), "read")->nr;
    assert_int_equal(filter_run(&plan.prog, &d, &bad), SECCOMP_RET_ALLOW);
    plan_fini(&plan);
    policy_fini(&p);
}

static void test_failures(void **state)
{
    int before = open_descriptors();
    struct kernel poor = *kernel;
    struct policy p;
    struct plan plan;
    struct error err = {0};

    (void)state;
    policy_start(&p);
    poor.landlock_abi = 0;
    poor.landlock_errno = EOPNOTSUPP;
    assert_int_equal(plan_build(&p, &poor, &plan, &err), -EOPNOTSUPP);
    assert_string_equal(err.where, "landlock");
    poor = *kernel;
    poor.seccomp_filter = false;
    assert_int_equal(plan_build(&p, &poor, &plan, &err), -ENOSYS);
    assert_string_equal(err.where, "seccomp");
    assert_int_equal(policy_add_fs_read(&p, "-r", "/nonexistent/x", false, &err), 0);
    assert_int_equal(plan_build(&p, kernel, &plan, &err), -ENOENT);
    assert_string_equal(err.where, "--fs-read");
    policy_fini(&p);
    assert_int_equal(open_descriptors(), before);
}

/* In the child: 0, or the index + 1 of the first call whose answer is not the plan's. */
static int ask_kernel(const struct plan *plan, int out)
{
    const struct arch *a = arch_native();
    int asked = 0;

    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        sys_seccomp_filter(plan->prog.insns, plan->prog.len, 0) < 0)
        return -1;
    for (int nr = 0; nr < 1024; nr++) {
        struct seccomp_data d = {.nr = nr, .arch = a->audit_arch};
        uint32_t want = filter_eval(&plan->filter, &d);

        if ((want & SECCOMP_RET_ACTION_FULL) != SECCOMP_RET_ERRNO)
            continue;
        errno = 0;
        if (syscall(nr, 0L, 0L, 0L, 0L, 0L, 0L) != -1 || errno != (int)(want & SECCOMP_RET_DATA)) {
            dprintf(out, "number %d: errno %d, plan 0x%x\n", nr, errno, want);
            return 1;
        }
        asked++;
    }
    return asked > 500 ? 0 : 1; /* the unknown numbers alone are that many */
}

static void test_installed(void **state)
{
    struct policy p;
    struct plan plan;
    int status;
    pid_t pid;

    (void)state;
    policy_start(&p);
    p.no_supervisor = false;
    build(&p, &plan);
    pid = fork();
    if (pid == 0)
        _exit(ask_kernel(&plan, STDERR_FILENO));
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
    plan_fini(&plan);
    policy_fini(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modes),
        cmocka_unit_test(test_explain),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_installed),
    };

    return cmocka_run_group_tests(tests, group_setup, NULL);
}
