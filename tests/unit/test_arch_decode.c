/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder of notifications and the normaliser, both machines on any host: refusal of foreign
 * calls, and every rewritten call field by field.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>

#include "arch/table.h"
#include "arch/x86_64/x86_64.h"
#include "base/util.h"

/* Recognisable arguments that use all 64 bits. */
#define POISON(i) (UINT64_C(0xa5a5a5a5c0ffee00) + (i))

static struct seccomp_data notification(const struct arch *a, uint32_t nr)
{
    struct seccomp_data d = {.nr = (int)nr, .arch = a->audit_arch};

    for (unsigned i = 0; i < 6; i++)
        d.args[i] = POISON(i);
    return d;
}

static void decode_name(const struct arch *a, const char *name, struct call *ret)
{
    const struct call_info *info = arch_call_by_name(a, name);
    struct seccomp_data d;

    if (!info)
        fail_msg("%s lacks %s", a->name, name);
    d = notification(a, info->nr);
    assert_int_equal(arch_decode(a, &d, ret), 0);
    assert_ptr_equal(ret->info, info);
    assert_int_equal(ret->op, info->op);
}

static void decode_refuses_foreigners(void **state)
{
    struct call c = {.op = OP_BRK};
    struct seccomp_data d;

    (void)state;
    for (size_t k = 0; k < arch_count; k++) {
        const struct arch *a = arch_all[k];
        /* i386, AArch32, riscv64, big endian aarch64, the other machine, nothing */
        const uint32_t foreign[] = {
            0x40000003, 0x40000028, 0xc00000f3, 0x800000b7, arch_all[!k]->audit_arch, 0};
        const int bad[] = {-1,
                           INT32_MIN,
                           INT32_MAX,
                           400,
                           423,
                           472,
                           512,
                           520,
                           547,
                           65536,
                           65536 + 63,
                           (int)(0x40000000u | 63),
                           (int)(0x80000000u | 63)};

        d = notification(a, 63);
        assert_int_equal(arch_decode(a, &d, &c), 0); /* the control */
        for (size_t i = 0; i < ARRAY_SIZE(foreign); i++) {
            d = notification(a, 63);
            d.arch = foreign[i];
            c = (struct call){.op = OP_BRK};
            assert_int_equal(arch_decode(a, &d, &c), -ENOSYS);
            assert_int_equal(c.op, OP_BRK); /* untouched on failure */
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
            d = notification(a, (uint32_t)bad[i]);
            assert_int_equal(arch_decode(a, &d, &c), -ENOSYS);
        }
    }
    assert_int_equal(arch_x86_64.audit_arch, 0xc000003e);
    assert_int_equal(arch_aarch64.audit_arch, 0xc00000b7);
    for (unsigned nr = 0; nr < 548; nr++) { /* x32: every number */
        d = notification(&arch_x86_64, 0x40000000u | nr);
        assert_int_equal(arch_decode(&arch_x86_64, &d, &c), -ENOSYS);
    }
}

/* "form[~VARIANT] arguments [at=flags]"; a0..a5 are the call's own, CWD is AT_FDCWD; trailing zeros
 * are left out. */
static void describe(const struct call *c, char *out, size_t size)
{
    static const char *const variant[] = {"",         "~TIMESPEC", "~TIMEVAL",
                                          "~UTIMBUF", "~LEGACY",   "~STRUCT"};
    int last = 5;
    size_t len = (size_t)snprintf(out, size, "%s%s", call_id_name(c->form), variant[c->variant]);

    while (last >= 0 && c->args[last] == 0)
        last--;
    for (int i = 0; i <= last; i++) {
        uint64_t v = c->args[i];

        if (v >= POISON(0) && v <= POISON(5))
            len += (size_t)snprintf(out + len, size - len, " a%u", (unsigned)(v - POISON(0)));
        else if (v == (uint64_t)(int64_t)AT_FDCWD)
            len += (size_t)snprintf(out + len, size - len, " CWD");
        else
            len += (size_t)snprintf(out + len, size - len, " %#llx", (unsigned long long)v);
    }
    if (c->at_flags == (uint32_t)POISON(2))
        snprintf(out + len, size - len, " at=a2");
    else if (c->at_flags)
        snprintf(out + len, size - len, " at=%#x", c->at_flags);
}

struct vector {
    const char *call, *expect;
};

/* 0x100 AT_SYMLINK_NOFOLLOW, 0x200 AT_REMOVEDIR, 0x241 O_CREAT|O_WRONLY|O_TRUNC, 0x11 SIGCHLD,
 * 0x4111 CLONE_VFORK|CLONE_VM|SIGCHLD. */
static const struct vector legacy_vectors[] = {
    {"open", "openat CWD a0 a1 a2"},
    {"creat", "openat CWD a0 0x241 a1"},
    {"stat", "newfstatat CWD a0 a1"},
    {"lstat", "newfstatat CWD a0 a1 0x100"},
    {"access", "faccessat2 CWD a0 a1"},
    {"readlink", "readlinkat CWD a0 a1 a2"},
    {"unlink", "unlinkat CWD a0"},
    {"rmdir", "unlinkat CWD a0 0x200"},
    {"mkdir", "mkdirat CWD a0 a1"},
    {"mknod", "mknodat CWD a0 a1 a2"},
    {"rename", "renameat2 CWD a0 CWD a1"},
    {"symlink", "symlinkat a0 CWD a1"},
    {"link", "linkat CWD a0 CWD a1"},
    {"chmod", "fchmodat2 CWD a0 a1"},
    {"chown", "fchownat CWD a0 a1 a2"},
    {"lchown", "fchownat CWD a0 a1 a2 0x100"},
    {"utime", "utimensat~UTIMBUF CWD a0 a1"},
    {"utimes", "utimensat~TIMEVAL CWD a0 a1"},
    {"futimesat", "utimensat~TIMEVAL a0 a1 a2"},
    {"getdents", "getdents64~LEGACY a0 a1 a2"},
    {"fork", "clone 0x11"},
    {"vfork", "clone 0x4111"},
    {"pipe", "pipe2 a0"},
    {"dup2", "dup3~LEGACY a0 a1"},
    {"select", "pselect6~TIMEVAL a0 a1 a2 a3 a4"},
    {"epoll_create", "epoll_create1~LEGACY 0 a0"},
    {"epoll_wait", "epoll_pwait a0 a1 a2 a3"},
    {"eventfd", "eventfd2 a0"},
    {"signalfd", "signalfd4 a0 a1 a2"},
    {"inotify_init", "inotify_init1"},
    {"getpgrp", "getpgid"},
};

static const struct vector shared_vectors[] = {
    {"faccessat", "faccessat2 a0 a1 a2"},
    {"fchmodat", "fchmodat2 a0 a1 a2"},
    {"renameat", "renameat2 a0 a1 a2 a3"},
    {"execve", "execveat CWD a0 a1 a2"},
    {"accept", "accept4 a0 a1 a2"},
    {"utimensat", "utimensat~TIMESPEC a0 a1 a2 a3"},
    {"pselect6", "pselect6~TIMESPEC a0 a1 a2 a3 a4 a5"},
    {"setxattr", "setxattrat CWD a0 a1 a2 a3 a4"},
    {"lsetxattr", "setxattrat CWD a0 a1 a2 a3 a4 at=0x100"},
    {"setxattrat", "setxattrat~STRUCT a0 a1 a3 a4 a5 at=a2"},
    {"getxattr", "getxattrat CWD a0 a1 a2 a3"},
    {"lgetxattr", "getxattrat CWD a0 a1 a2 a3 at=0x100"},
    {"getxattrat", "getxattrat~STRUCT a0 a1 a3 a4 a5 at=a2"},
    {"listxattr", "listxattrat CWD a0 a1 a2"},
    {"llistxattr", "listxattrat CWD a0 a1 a2 at=0x100"},
    {"listxattrat", "listxattrat a0 a1 a3 a4 at=a2"},
    {"removexattr", "removexattrat CWD a0 a1"},
    {"lremovexattr", "removexattrat CWD a0 a1 at=0x100"},
    {"removexattrat", "removexattrat a0 a1 a3 at=a2"},
};

/* Calls only x86_64 has and that keep their own form: no modern equal, or obsolete. */
static const char *const own_form[] = {
    "poll",
    "pause",
    "alarm",
    "time",
    "ustat",
    "sysfs",
    "uselib",
    "modify_ldt",
    "_sysctl",
    "arch_prctl",
    "iopl",
    "ioperm",
    "create_module",
    "get_kernel_syms",
    "query_module",
    "getpmsg",
    "putpmsg",
    "afs_syscall",
    "tuxcall",
    "security",
    "set_thread_area",
    "get_thread_area",
    "epoll_ctl_old",
    "epoll_wait_old",
    "vserver",
    "uretprobe",
    "uprobe",
};

static const char *expected(const struct vector *v, size_t n, const char *call)
{
    for (size_t i = 0; i < n; i++) {
        if (strcmp(v[i].call, call) == 0)
            return v[i].expect;
    }
    return NULL;
}

static bool keeps_form(const char *call)
{
    for (size_t i = 0; i < ARRAY_SIZE(own_form); i++) {
        if (strcmp(own_form[i], call) == 0)
            return true;
    }
    return false;
}

static void normalise_vectors(void **state)
{
    char got[256];
    struct call c;

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(legacy_vectors); i++) {
        assert_null(arch_call_by_name(&arch_aarch64, legacy_vectors[i].call));
        decode_name(&arch_x86_64, legacy_vectors[i].call, &c);
        describe(&c, got, sizeof(got));
        assert_string_equal(got, legacy_vectors[i].expect);
    }
    for (size_t i = 0; i < ARRAY_SIZE(shared_vectors); i++) {
        for (size_t k = 0; k < arch_count; k++) {
            decode_name(arch_all[k], shared_vectors[i].call, &c);
            describe(&c, got, sizeof(got));
            assert_string_equal(got, shared_vectors[i].expect);
        }
    }
    assert_int_equal(x86_64_legacy_count, ARRAY_SIZE(legacy_vectors));
    assert_int_equal(generic_rows_count, ARRAY_SIZE(shared_vectors));
    for (size_t i = 1; i < x86_64_legacy_count; i++)
        assert_true(x86_64_legacy[i - 1].call < x86_64_legacy[i].call);
    for (size_t i = 1; i < generic_rows_count; i++)
        assert_true(generic_rows[i - 1].call < generic_rows[i].call);
}

/* Whole table: what no vector names keeps its arguments; the rest of the registers is not seen. A
 * form always belongs to the operation of the call that was made. */
static void normalise_leaves_the_rest(void **state)
{
    (void)state;
    for (size_t k = 0; k < arch_count; k++) {
        const struct arch *a = arch_all[k];

        for (size_t i = 0; i < a->ncalls; i++) {
            const struct call_info *info = &a->calls[i];
            const char *v = expected(shared_vectors, ARRAY_SIZE(shared_vectors), info->name);
            struct seccomp_data d = notification(a, info->nr);
            const struct call_info *form;
            struct call c;

            if (!v && a == &arch_x86_64)
                v = expected(legacy_vectors, ARRAY_SIZE(legacy_vectors), info->name);
            assert_int_equal(arch_decode(a, &d, &c), 0);
            form = arch_call_by_id(a, c.form);
            assert_non_null(form);
            assert_int_equal(form->op, c.op);
            if (v)
                continue;
            if (!arch_call_by_id(&arch_aarch64, info->id) && !keeps_form(info->name))
                fail_msg("%s: legacy call without a vector", info->name);
            assert_int_equal(c.form, info->id);
            assert_int_equal(c.variant, VARIANT_NONE);
            assert_int_equal(c.at_flags, 0);
            for (unsigned n = 0; n < 6; n++)
                assert_true(c.args[n] == (n < info->nargs ? POISON(n) : 0));
        }
    }
}

/* Descriptors, flags and modes are 32 bits to the kernel: garbage above them must not matter. */
static void arguments_are_truncated(void **state)
{
    struct seccomp_data d = notification(&arch_x86_64, 257);
    struct call c;

    (void)state;
    d.args[0] = UINT64_C(0xdead0000ffffff9c);
    d.args[2] = UINT64_C(0xffffffff00000241);
    assert_int_equal(arch_decode(&arch_x86_64, &d, &c), 0);
    assert_int_equal(call_int(&c, 0), AT_FDCWD);
    assert_int_equal(call_u32(&c, 2), 0x241);
    assert_true(call_addr(&c, 1).addr == POISON(1));
    d = notification(&arch_x86_64, 2);
    assert_int_equal(arch_decode(&arch_x86_64, &d, &c), 0);
    assert_int_equal(call_int(&c, 0), AT_FDCWD);
}

int main(void)
{
    /* clang-format off */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(decode_refuses_foreigners),
        cmocka_unit_test(normalise_vectors),
        cmocka_unit_test(normalise_leaves_the_rest),
        cmocka_unit_test(arguments_are_truncated),
    };
    /* clang-format on */

    return cmocka_run_group_tests(tests, NULL, NULL);
}
