/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pure half of the architecture layer, both machines on any host: tables, families, names,
 * stat layouts, pointer tags. Decoding is in test_arch_decode.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "arch/table.h"
#include "base/util.h"

static const struct arch *arch_named(const char *name)
{
    for (size_t i = 0; i < arch_count; i++) {
        if (strcmp(arch_all[i]->name, name) == 0)
            return arch_all[i];
    }
    fail_msg("no machine %s", name);
    return NULL;
}

static void pinned_numbers(void **state)
{
    static const struct {
        const char *name;
        int x86_64, aarch64;
    } pins[] = {
        {"read", 0, 63},
        {"openat", 257, 56},
        {"execve", 59, 221},
        {"clone", 56, 220},
        {"seccomp", 317, 277},
        {"memfd_create", 319, 279},
        {"renameat", 264, 38},
        {"statx", 332, 291},
        {"exit", 60, 93},
        {"creat", 85, -1},
        {"open", 2, -1},
        {"arch_prctl", 158, -1},
        {"faccessat", 269, 48},
        {"sync_file_range", 277, 84},
        {"getrlimit", 97, 163},
        {"uselib", 134, -1},
        {"rseq", 334, 293},
        {"pidfd_send_signal", 424, 424},
        {"openat2", 437, 437},
        {"landlock_create_ruleset", 444, 444},
        {"fchmodat2", 452, 452},
        {"map_shadow_stack", 453, 453},
        {"setxattrat", 463, 463},
        {"open_tree_attr", 467, 467},
        {"file_setattr", 469, 469},
        {"listns", 470, 470},
        {"rseq_slice_yield", 471, 471},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pins); i++) {
        const struct call_info *x = arch_call_by_name(&arch_x86_64, pins[i].name);
        const struct call_info *a = arch_call_by_name(&arch_aarch64, pins[i].name);

        if ((x ? x->nr : -1) != pins[i].x86_64 || (a ? a->nr : -1) != pins[i].aarch64)
            fail_msg("%s: %d/%d", pins[i].name, x ? x->nr : -1, a ? a->nr : -1);
    }
}

static void tables_are_consistent(void **state)
{
    (void)state;
    for (size_t k = 0; k < arch_count; k++) {
        const struct arch *a = arch_all[k];
        size_t found = 0;

        assert_true(a->ncalls > 300);
        for (size_t i = 0; i < a->ncalls; i++) {
            const struct call_info *c = &a->calls[i];

            assert_true(i == 0 || a->calls[i - 1].nr < c->nr);
            assert_true(c->nr < 512); /* x32's own numbers are no part of any table */
            assert_ptr_equal(arch_call(a, c->nr), c);
            assert_ptr_equal(arch_call_by_id(a, c->id), c);
            assert_ptr_equal(arch_call_by_name(a, c->name), c);
            assert_string_equal(call_id_name(c->id), c->name);
            assert_true(c->op < CALL_OP_COUNT && c->nargs <= 6);
            for (unsigned n = 0; n < 6; n++)
                assert_true((c->role[n] != ARG_NONE) == (n < c->nargs));
        }
        for (unsigned nr = 0; nr < 70000; nr++)
            found += arch_call(a, nr) != NULL;
        assert_int_equal(found, a->ncalls);
    }
    assert_null(arch_call_by_id(&arch_aarch64, CALL_open));
    assert_null(arch_call_by_id(&arch_x86_64, CALL_ID_COUNT));
}

/* From 424 on the numbers are the same everywhere. */
static void new_numbers_are_shared(void **state)
{
    (void)state;
    for (unsigned nr = 424; nr < 512; nr++) {
        const struct call_info *x = arch_call(&arch_x86_64, nr), *a = arch_call(&arch_aarch64, nr);

        assert_true(!x == !a);
        if (x)
            assert_string_equal(x->name, a->name);
    }
    assert_non_null(arch_call(&arch_x86_64, 471));
    assert_null(arch_call(&arch_x86_64, 423));
}

static void members(const struct arch *a, enum call_op op, char *out, size_t size)
{
    size_t len = 0;

    out[0] = '\0';
    for (unsigned id = 0; id < CALL_ID_COUNT; id++) {
        const struct call_info *c = arch_call_by_id(a, (enum call_id)id);

        if (c && c->op == op && len < size)
            len += (size_t)snprintf(out + len, size - len, "%s%s", len ? " " : "", c->name);
    }
}

/* Families as the file system specification lists them (section 7) and: complete. */
static void families_are_complete(void **state)
{
    static const struct {
        enum call_op op;
        const char *x86_64, *aarch64; /* NULL: the same */
    } want[] = {
        {OP_OPEN, "open creat openat openat2", "openat openat2"},
        {OP_STAT, "stat lstat newfstatat", "newfstatat"},
        {OP_STATX, "statx", NULL},
        {OP_FSTAT, "fstat", NULL},
        {OP_ACCESS, "access faccessat faccessat2", "faccessat faccessat2"},
        {OP_READLINK, "readlink readlinkat", "readlinkat"},
        {OP_GETDENTS, "getdents getdents64", "getdents64"},
        {OP_UNLINK, "rmdir unlink unlinkat", "unlinkat"},
        {OP_MKDIR, "mkdir mkdirat", "mkdirat"},
        {OP_MKNOD, "mknod mknodat", "mknodat"},
        {OP_RENAME, "rename renameat renameat2", "renameat renameat2"},
        {OP_SYMLINK, "symlink symlinkat", "symlinkat"},
        {OP_LINK, "link linkat", "linkat"},
        {OP_CHMOD, "chmod fchmodat fchmodat2", "fchmodat fchmodat2"},
        {OP_FCHMOD, "fchmod", NULL},
        {OP_CHOWN, "chown lchown fchownat", "fchownat"},
        {OP_FCHOWN, "fchown", NULL},
        {OP_TIMES, "utime utimes futimesat utimensat", "utimensat"},
        {OP_TRUNCATE, "truncate", NULL},
        {OP_FTRUNCATE, "ftruncate", NULL},
        {OP_ALLOCATE, "fallocate", NULL},
        {OP_XATTR_SET, "setxattr lsetxattr setxattrat", NULL},
        {OP_FXATTR_SET, "fsetxattr", NULL},
        {OP_XATTR_GET, "getxattr lgetxattr getxattrat", NULL},
        {OP_FXATTR_GET, "fgetxattr", NULL},
        {OP_XATTR_LIST, "listxattr llistxattr listxattrat", NULL},
        {OP_FXATTR_LIST, "flistxattr", NULL},
        {OP_XATTR_REMOVE, "removexattr lremovexattr removexattrat", NULL},
        {OP_FXATTR_REMOVE, "fremovexattr", NULL},
        {OP_FILEATTR_GET, "file_getattr", NULL},
        {OP_FILEATTR_SET, "file_setattr", NULL},
        {OP_EXEC, "execve execveat", NULL},
        {OP_USELIB, "uselib", ""},
        {OP_CHDIR, "chdir", NULL},
        {OP_FCHDIR, "fchdir", NULL},
        {OP_GETCWD, "getcwd", NULL},
        {OP_CHROOT, "chroot", NULL},
        {OP_STATFS, "ustat statfs", "statfs"},
        {OP_WATCH, "inotify_add_watch", NULL},
        {OP_FANOTIFY, "fanotify_init fanotify_mark", NULL},
        {OP_HANDLE, "name_to_handle_at open_by_handle_at", NULL},
        {OP_MOUNT,
         "pivot_root mount umount2 open_tree move_mount fsopen fsconfig fsmount fspick "
         "mount_setattr open_tree_attr",
         NULL},
        {OP_NAMESPACE, "unshare setns", NULL},
        {OP_SPAWN, "clone fork vfork clone3", "clone clone3"},
        {OP_KILL, "kill rt_sigqueueinfo tkill tgkill rt_tgsigqueueinfo pidfd_send_signal", NULL},
        {OP_WAIT, "wait4 waitid", NULL},
        {OP_SOCKET, "socket", NULL},
        {OP_ACCEPT, "accept accept4", NULL},
        {OP_POLL, "poll ppoll", "ppoll"},
        {OP_SELECT, "select pselect6", "pselect6"},
        {OP_EPOLL_WAIT, "epoll_wait epoll_pwait epoll_pwait2", "epoll_pwait epoll_pwait2"},
        {OP_PIPE, "pipe pipe2", "pipe2"},
        {OP_DUP, "dup dup2 dup3", "dup dup3"},
        {OP_CLOCK_SETTIME, "adjtimex settimeofday clock_settime clock_adjtime", NULL},
        {OP_TIME, "time", ""},
        {OP_PROCESS_VM, "process_vm_readv process_vm_writev", NULL},
        {OP_LANDLOCK, "landlock_create_ruleset landlock_add_rule landlock_restrict_self", NULL},
        {OP_IO_URING, "io_uring_setup io_uring_enter io_uring_register", NULL},
        {OP_QUOTA, "quotactl quotactl_fd", NULL},
        {OP_MODULE,
         "create_module init_module delete_module get_kernel_syms query_module "
         "finit_module",
         "init_module delete_module finit_module"},
        {OP_KEXEC, "kexec_load kexec_file_load", NULL},
        {OP_IOPORT, "iopl ioperm", ""},
    };
    char got[512];

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        members(&arch_x86_64, want[i].op, got, sizeof(got));
        assert_string_equal(got, want[i].x86_64);
        members(&arch_aarch64, want[i].op, got, sizeof(got));
        assert_string_equal(got, want[i].aarch64 ? want[i].aarch64 : want[i].x86_64);
    }
    for (unsigned op = OP_NONE + 1; op < CALL_OP_COUNT; op++) {
        assert_non_null(call_op_name((enum call_op)op));
        members(&arch_x86_64, (enum call_op)op, got, sizeof(got));
        assert_true(got[0] != '\0');
    }
}

/* Whatever takes a path or an address belongs to an operation, or no feature could mediate it. */
static void classes_follow_from_roles(void **state)
{
    static const char *const meta[] = {
        "chmod",        "fchmod",      "fchmodat",     "fchmodat2",    "chown",
        "lchown",       "fchown",      "fchownat",     "utime",        "utimes",
        "futimesat",    "utimensat",   "setxattr",     "lsetxattr",    "fsetxattr",
        "setxattrat",   "removexattr", "lremovexattr", "fremovexattr", "removexattrat",
        "file_setattr",
    };
    size_t nmeta = 0;

    (void)state;
    for (size_t i = 0; i < arch_x86_64.ncalls; i++) {
        const struct call_info *c = &arch_x86_64.calls[i];
        bool path = false, fd = false, address = false;

        for (unsigned n = 0; n < c->nargs; n++) {
            path |= c->role[n] == ARG_PATH;
            fd |= c->role[n] == ARG_FD || c->role[n] == ARG_DIRFD;
            address |= c->role[n] == ARG_ADDR || c->role[n] == ARG_MSG;
            if (c->role[n] == ARG_DIRFD)
                assert_int_equal(c->role[n + 1], ARG_PATH);
        }
        assert_int_equal(path, !!(c->classes & CLASS_PATH));
        assert_int_equal(fd, !!(c->classes & CLASS_FD));
        if (path || address)
            assert_int_not_equal(c->op, OP_NONE);
        nmeta += !!(c->classes & CLASS_META);
    }
    assert_int_equal(nmeta, ARRAY_SIZE(meta));
    for (size_t i = 0; i < ARRAY_SIZE(meta); i++)
        assert_true(arch_call_by_name(&arch_x86_64, meta[i])->classes & CLASS_META);
}

static void names_and_aliases(void **state)
{
    static const struct {
        const char *alias, *name;
    } pairs[] = {
        {"fstatat", "newfstatat"}, {"umount", "umount2"},   {"sendfile64", "sendfile"},
        {"pread", "pread64"},      {"pwrite", "pwrite64"},  {"prlimit", "prlimit64"},
        {"pselect", "pselect6"},   {"_exit", "exit_group"}, {"send", "sendto"},
    };

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
        for (size_t k = 0; k < arch_count; k++) {
            const struct call_info *c = arch_call_by_name(arch_all[k], pairs[i].alias);

            assert_non_null(c);
            assert_string_equal(c->name, pairs[i].name);
        }
    }
    for (size_t i = 1; i < arch_names_count; i++)
        assert_true(strcmp(arch_names[i - 1].name, arch_names[i].name) < 0);
    assert_true(arch_name_known("open"));
    assert_null(arch_call_by_name(&arch_aarch64, "open"));
    assert_null(arch_call_by_name(&arch_aarch64, "stat64"));
    assert_false(arch_name_known("opena"));
    assert_false(arch_name_known(""));
    assert_string_equal(call_id_name(CALL_ID_COUNT), "?");
    assert_string_equal(call_op_name(CALL_OP_COUNT), "?");
    assert_string_equal(call_op_name(OP_XATTR_SET), "xattr_set");
}

static void suggestions(void **state)
{
    char longname[300];

    (void)state;
    memset(longname, 'x', sizeof(longname));
    longname[sizeof(longname) - 1] = '\0';
    assert_string_equal(arch_name_suggest("opneat"), "openat");
    assert_string_equal(arch_name_suggest("mout"), "mount");
    assert_string_equal(arch_name_suggest("landlock_add_rules"), "landlock_add_rule");
    assert_string_equal(arch_name_suggest("socketpairs"), "socketpair");
    assert_null(arch_name_suggest("frobnicate"));
    assert_null(arch_name_suggest(""));
    assert_null(arch_name_suggest("x"));
    assert_null(arch_name_suggest(longname));
}

static void clone_argument_order(void **state)
{
    const struct call_info *x = arch_call_by_id(&arch_x86_64, CALL_clone);

    (void)state;
    assert_int_equal(arch_x86_64.clone_tls_arg, 4);
    assert_int_equal(arch_x86_64.clone_ctid_arg, 3);
    assert_int_equal(arch_aarch64.clone_tls_arg, 3);
    assert_int_equal(arch_aarch64.clone_ctid_arg, 4);
    assert_int_equal(x->nargs, 5);
    assert_int_equal(x->role[0], ARG_FLAGS);
}

static void pointer_tags(void **state)
{
    const struct arch *x = arch_named("x86_64"), *a = arch_named("aarch64");

    (void)state;
    assert_true(x->untag(0x00007ffc12345678) == 0x00007ffc12345678);
    assert_true(x->untag(0x7e007ffc12345678) == 0x7e007ffc12345678); /* LAM: the kernel knows */
    assert_true(x->untag(0x01ff123456789abc) == 0x01ff123456789abc); /* 57-bit address */
    assert_true(x->untag(0xffffffff81000000) == 0xffffffff81000000); /* kernel */
    assert_true(x->untag(0xfe00000000001000) == 0xfe00000000001000);
    assert_true(a->untag(0x0000fffff7ff0000) == 0x0000fffff7ff0000);
    assert_true(a->untag(0xab00fffff7ff0000) == 0x0000fffff7ff0000); /* TBI */
    assert_true(a->untag(0x0f0ffffff7ff0000) == 0x000ffffff7ff0000); /* 52-bit address, MTE tag */
    assert_true(a->untag(0xffff800010000000) == 0xffff800010000000); /* kernel */
    assert_true(a->untag(0x12ff800010000000) == 0x12ff800010000000);
}

static uint64_t field(const void *p, size_t off, size_t size)
{
    uint64_t v = 0;

    memcpy(&v, (const char *)p + off, size); /* both machines are little-endian */
    return v;
}

static void stat_layouts(void **state)
{
    struct stat st;
    unsigned char out[ARCH_STAT_MAX + 16];
    static const struct {
        const char *arch;
        size_t size, nlink, nlink_size, mode, uid, gid, rdev, blksize_size;
    } want[] = {
        {"x86_64", 144, 16, 8, 24, 28, 32, 40, 8},
        {"aarch64", 128, 20, 4, 16, 24, 28, 32, 4},
    };

    (void)state;
    memset(&st, 0, sizeof(st));
    st.st_dev = 0x12345678;
    st.st_ino = (ino_t)0x1122334455667788;
    st.st_nlink = 0x7654321;
    st.st_mode = S_IFREG | 04751;
    st.st_uid = 0xfedcba98;
    st.st_gid = 0x89abcdef;
    st.st_rdev = 0x87654321;
    st.st_size = (off_t)0x0102030405060708;
    st.st_blksize = 0x10000;
    st.st_blocks = (blkcnt_t)0x1020304050607080;
    st.st_atim = (struct timespec){-5, 999999999};
    st.st_mtim = (struct timespec){0x123456789a, 1};
    st.st_ctim = (struct timespec){0x23456789ab, 500000000};
    for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
        memset(out, 0xee, sizeof(out));
        assert_int_equal(arch_named(want[i].arch)->encode_stat(&st, out), want[i].size);
        assert_true(field(out, 0, 8) == st.st_dev && field(out, 8, 8) == st.st_ino);
        assert_true(field(out, want[i].nlink, want[i].nlink_size) == st.st_nlink);
        assert_true(field(out, want[i].mode, 4) == st.st_mode);
        assert_true(field(out, want[i].uid, 4) == st.st_uid);
        assert_true(field(out, want[i].gid, 4) == st.st_gid);
        assert_true(field(out, want[i].rdev, 8) == st.st_rdev);
        assert_true(field(out, 48, 8) == (uint64_t)st.st_size);
        assert_true(field(out, 56, want[i].blksize_size) == (uint64_t)st.st_blksize);
        assert_true(field(out, 64, 8) == (uint64_t)st.st_blocks);
        assert_true(field(out, 72, 8) == (uint64_t)-5 && field(out, 80, 8) == 999999999);
        assert_true(field(out, 88, 8) == 0x123456789a && field(out, 96, 8) == 1);
        assert_true(field(out, 104, 8) == 0x23456789ab && field(out, 112, 8) == 500000000);
        for (size_t n = 120; n < want[i].size; n++)
            assert_int_equal(out[n], 0);
        for (size_t n = want[i].size; n < sizeof(out); n++)
            assert_int_equal(out[n], 0xee); /* not one byte too many (MD-02) */
    }
}

int main(void)
{
    /* clang-format off */
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(pinned_numbers),
        cmocka_unit_test(tables_are_consistent),
        cmocka_unit_test(new_numbers_are_shared),
        cmocka_unit_test(families_are_complete),
        cmocka_unit_test(classes_follow_from_roles),
        cmocka_unit_test(names_and_aliases),
        cmocka_unit_test(suggestions),
        cmocka_unit_test(clone_argument_order),
        cmocka_unit_test(pointer_tags),
        cmocka_unit_test(stat_layouts),
    };
    /* clang-format on */

    return cmocka_run_group_tests(tests, NULL, NULL);
}
