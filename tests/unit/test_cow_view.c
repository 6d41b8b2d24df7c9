/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The merged view of the copy-on-write layer while its run lives, one behaviour a test.
 */
#include <pthread.h>

#include "cow_one.h"

/* ---- quota ---- */

static void test_quota(void **state)
{
    char name[16], *big;
    struct one o;
    int fd, e = 0, made = 0;

    (void)state;
    lower_make(&o);
    layer_make(&o, 1 << 20);
    while (e == 0 && made < 1000) {
        snprintf(name, sizeof(name), "n%d", made);
        e = write_to(&o, &o.root, name, O_CREAT, "");
        made += e == 0;
    }
    assert_int_equal(e, -ENOSPC);
    assert_in_range(made, 200, 256);
    for (int i = 0; i < made; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(cow_unlink(o.l, &o.root, name), 0);
    }
    assert_true(cow_quota_used(o.l) <= COW_NAME_COST); /* the root's object */
    /* Through a descriptor that was handed out. */
    fd = cow_open(o.l, &o.root, "big", O_WRONLY | O_CREAT, 0644);
    assert_true(fd >= 0);
    big = calloc(1, 2 << 20);
    memset(big, 'x', 2 << 20);
    assert_int_equal(write(fd, big, 2 << 20), 2 << 20);
    fsync(fd); /* delayed allocation */
    assert_true(cow_quota_sample(o.l) >= 2 << 20);
    assert_int_equal(cow_quota_room(o.l), 0);
    assert_int_equal(write_to(&o, &o.root, "more", O_CREAT, ""), -ENOSPC);
    close(fd);
    assert_int_equal(cow_unlink(o.l, &o.root, "big"), 0);
    assert_true(cow_quota_sample(o.l) < 1 << 20);
    assert_int_equal(write_to(&o, &o.root, "more", O_CREAT, ""), 0);
    free(big);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

/* ---- copies ---- */

static void test_light_and_sparse(void **state)
{
    struct cow_stat st;
    struct stat real;
    struct one o;
    int fd;

    (void)state;
    lower_make(&o);
    fd = openat(o.fd, "sparse", O_RDWR | O_CREAT, 0644);
    assert_int_equal(pwrite(fd, "x", 1, 64 << 20), 1);
    assert_int_equal(pwrite(fd, "y", 1, 1 << 20), 1);
    fsync(fd);
    close(fd);
    layer_make(&o, 0);
    fd = fix_change(o.l, &o.root, "sparse", COW_NEED_OWNER);
    assert_int_equal(sys_chmod_fd(fd, 0600), 0);
    fstat(fd, &real);
    assert_int_equal(real.st_blocks, 0); /* attributes only */
    close(fd);
    assert_int_equal(fix_stat(o.l, &o.root, "sparse", &st), 0);
    assert_int_equal(st.st.st_mode & 07777, 0600);
    assert_int_equal(st.st.st_size, (64 << 20) + 1);
    assert_true(st.st.st_blocks > 0); /* lower's */
    fd = cow_open(o.l, &o.root, "sparse", O_RDWR, 0);
    assert_true(fd >= 0);
    fsync(fd);
    fstat(fd, &real);
    assert_int_equal(real.st_size, (64 << 20) + 1);
    assert_true(real.st_blocks < 2048);
    close(fd);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

static void test_link_group(void **state)
{
    struct stat a, b;
    char text[32] = "";
    struct one o;
    int fd;

    (void)state;
    lower_make(&o);
    assert_int_equal(linkat(o.fd, "file", o.fd, "dir/other", 0), 0);
    layer_make(&o, 0);
    assert_int_equal(write_to(&o, &o.root, "file", O_TRUNC, "changed\n"), 0);
    commit(&o);
    assert_int_equal(fstatat(o.fd, "file", &a, 0), 0);
    assert_int_equal(fstatat(o.fd, "dir/other", &b, 0), 0);
    assert_int_equal(a.st_ino, b.st_ino);
    fd = openat(o.fd, "dir/other", O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 8);
    assert_string_equal(text, "changed\n");
    close(fd);
    one_fini(&o);
}

/* ---- positions outlive what happens to their directories ---- */

static void test_removed_directory(void **state)
{
    struct cow_pos dir, inner_pos;
    struct cow_entry en;
    struct one o;

    (void)state;
    one_make(&o);
    assert_int_equal(cow_enter(o.l, &o.root, "dir", &dir), 0);
    assert_int_equal(cow_pos_copy(&dir, &inner_pos), 0);
    assert_int_equal(cow_unlink(o.l, &dir, "inner"), 0);
    assert_int_equal(cow_rmdir(o.l, &o.root, "dir"), 0);
    assert_int_equal(write_to(&o, &inner_pos, "x", O_CREAT, ""), -ENOENT);
    assert_int_equal(cow_mkdir(o.l, &inner_pos, "x", 0755), -ENOENT);
    assert_int_equal(cow_lookup(o.l, &inner_pos, "inner", &en), 0);
    assert_int_equal(en.where, COW_NONE);
    /* Made anew it is another, empty one. */
    assert_int_equal(cow_mkdir(o.l, &o.root, "dir", 0755), 0);
    assert_int_equal(write_to(&o, &inner_pos, "x", O_CREAT, ""), -ENOENT);
    assert_int_equal(cow_rmdir(o.l, &o.root, "dir"), 0);
    cow_pos_fini(&dir);
    cow_pos_fini(&inner_pos);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

static void test_moved_directory(void **state)
{
    struct cow_pos dir, up;
    struct one o;
    int fd;

    (void)state;
    one_make(&o);
    fd = openat(o.fd, "dir", O_RDONLY | O_DIRECTORY); /* a descriptor of before */
    assert_int_equal(cow_mkdir(o.l, &o.root, "new", 0755), 0);
    assert_int_equal(cow_enter(o.l, &o.root, "new", &up), 0);
    assert_int_equal(cow_rename(o.l, &o.root, "dir", &up, "moved", 0), 0);
    assert_int_equal(cow_pos_of_fd(o.l, fd, &dir), 0);
    assert_int_equal(write_to(&o, &dir, "late", O_CREAT, "late\n"), 0);
    cow_pos_fini(&up);
    assert_int_equal(cow_parent(o.l, &dir, &up), 0);
    assert_int_equal(cow_rename(o.l, &up, "moved", &up, "again", 0), 0);
    commit(&o);
    assert_int_equal(faccessat(o.fd, "new/again/late", F_OK, 0), 0);
    assert_int_equal(faccessat(o.fd, "new/again/inner", F_OK, 0), 0);
    assert_int_equal(faccessat(o.fd, "dir", F_OK, 0), -1);
    cow_pos_fini(&dir);
    cow_pos_fini(&up);
    close(fd);
    one_fini(&o);
}

static void test_names_stay_inside(void **state)
{
    static const char *const names[] = {"", ".", "..", "../x", "dir/inner", "/etc"};
    struct cow_entry en;
    struct one o;

    (void)state;
    one_make(&o);
    for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
        assert_int_equal(cow_lookup(o.l, &o.root, names[i], &en), -EINVAL);
        assert_int_equal(cow_open(o.l, &o.root, names[i], O_WRONLY | O_CREAT, 0644), -EINVAL);
        assert_int_equal(cow_mkdir(o.l, &o.root, names[i], 0755), -EINVAL);
        assert_int_equal(cow_unlink(o.l, &o.root, names[i]), -EINVAL);
        assert_int_equal(cow_rename(o.l, &o.root, "file", &o.root, names[i], 0), -EINVAL);
        assert_int_equal(fix_change(o.l, &o.root, names[i], COW_NEED_NONE), -EINVAL);
    }
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

static void test_clean(void **state)
{
    struct cow_pos p;
    struct one o;

    (void)state;
    one_make(&o);
    assert_true(cow_is_clean(o.l));
    assert_int_equal(cow_enter(o.l, &o.root, "dir", &p), 0);
    assert_int_equal(write_to(&o, &p, "inner", O_APPEND, "x"), 0);
    assert_false(cow_is_clean(o.l));
    cow_pos_fini(&p);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

static void test_listing_while_removing(void **state)
{
    _Alignas(8) char chunk[64];
    char name[16];
    struct cow_list *s;
    struct one o;
    uint64_t at = 0;
    ssize_t n;
    int seen = 0;

    (void)state;
    lower_make(&o);
    for (int i = 0; i < 50; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        put(o.fd, name, 0644, "");
    }
    layer_make(&o, 0);
    assert_int_equal(cow_list_new(o.l, &o.root, &s), 0);
    while ((n = cow_list_read(s, chunk, sizeof(chunk), &at)) > 0) {
        for (ssize_t i = 0; i < n; i += ((struct view_entry *)(chunk + i))->reclen) {
            const char *found = ((struct view_entry *)(chunk + i))->name;

            if (found[0] != 'n')
                continue;
            seen++;
            assert_int_equal(cow_unlink(o.l, &o.root, found), 0);
        }
    }
    assert_int_equal(seen, 50);
    at = 3; /* not a place that was given out */
    assert_int_equal(cow_list_read(s, chunk, sizeof(chunk), &at), 0);
    at = 0;
    assert_int_equal(cow_list_read(s, chunk, 8, &at), -EINVAL);
    cow_list_free(s);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

/* ---- rights ---- */

static void as_nobody(struct one *o)
{
    struct cow_pos open_dir;

    assert_int_equal(write_to(o, &o->root, "file", O_APPEND, "x"), -EACCES);
    assert_int_equal(write_to(o, &o->root, "made", O_CREAT, "x"), -EACCES);
    assert_int_equal(cow_unlink(o->l, &o->root, "file"), -EACCES);
    assert_int_equal(cow_rename(o->l, &o->root, "file", &o->root, "f", 0), -EACCES);
    assert_int_equal(cow_mkdir(o->l, &o->root, "d", 0755), -EACCES);
    assert_int_equal(write_to(o, &o->root, "everybody", O_APPEND, "x"), 0);
    assert_int_equal(fix_change(o->l, &o->root, "file", COW_NEED_WRITE), -EACCES);
    assert_int_equal(fix_change(o->l, &o->root, "file", COW_NEED_OWNER), -EPERM);
    assert_int_equal(cow_enter(o->l, &o->root, "open", &open_dir), 0);
    assert_int_equal(write_to(o, &open_dir, "made", O_CREAT, "x"), 0);
    cow_pos_fini(&open_dir);
}

static void test_rights_of_others(void **state)
{
    struct cow_config config = {0};
    struct one o;
    char path[PATH_MAX];
    int status;
    pid_t pid;

    (void)state;
    if (geteuid() != 0)
        skip();
    lower_make(&o);
    put(o.fd, "everybody", 0666, "e");
    assert_int_equal(mkdirat(o.fd, "open", 0755), 0);
    assert_int_equal(fchmodat(o.fd, "open", 0777, 0), 0);
    assert_int_equal(chmod(fix_top, 0777), 0);
    fix_path(path, "nobodys");
    config.storage = path;
    pid = fork();
    if (pid == 0) {
        struct error err = {0};
        bool bad = setresgid(65534, 65534, 65534) < 0 || setresuid(65534, 65534, 65534) < 0;

        if (bad || cow_create(o.fd, &config, &o.l, &err) < 0 || cow_root(o.l, &o.root) < 0)
            _exit(2);
        as_nobody(&o);
        _exit(cow_abort(o.l, NULL) < 0 ? 3 : 42);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 42);
    close(o.fd);
}

/* ---- many at once ---- */

#define THREADS 6

static void *busy(void *arg)
{
    struct one *o = arg;
    unsigned seed = (unsigned)(uintptr_t)pthread_self();
    struct cow_pos dirs[2] = {COW_POS_INIT, COW_POS_INIT};
    char a[8], b[8];

    cow_root(o->l, &dirs[0]);
    cow_enter(o->l, &dirs[0], "dir", &dirs[1]);
    for (int i = 0; i < 1500; i++) {
        struct cow_pos *p = &dirs[rand_r(&seed) % 2], *q = &dirs[rand_r(&seed) % 2], in;
        struct cow_stat st;

        snprintf(a, sizeof(a), "t%d", rand_r(&seed) % 6);
        snprintf(b, sizeof(b), "t%d", rand_r(&seed) % 6);
        switch (rand_r(&seed) % 8) {
        case 0: write_to(o, p, a, O_CREAT | O_APPEND, "x"); break;
        case 1: cow_unlink(o->l, p, a); break;
        case 2: cow_rename(o->l, p, a, q, b, 0); break;
        case 3: cow_mkdir(o->l, p, a, 0755); break;
        case 4: cow_rmdir(o->l, p, a); break;
        case 5: fix_link(o->l, p, a, q, b); break;
        case 6: fix_stat(o->l, p, a, &st); break;
        default:
            if (cow_enter(o->l, p, a, &in) == 0) {
                write_to(o, &in, b, O_CREAT, "x");
                cow_unlink(o->l, &in, b);
                cow_pos_fini(&in);
            }
        }
        /* Appends of all are kept. */
        write_to(o, &dirs[0], "shared", O_APPEND, "y");
    }
    cow_pos_fini(&dirs[0]);
    cow_pos_fini(&dirs[1]);
    return NULL;
}

static void test_threads(void **state)
{
    _cleanup_buf_ struct buf view = {0}, real = {0};
    pthread_t t[THREADS];
    struct cow_stat st;
    struct one o;

    (void)state;
    lower_make(&o);
    put(o.fd, "shared", 0644, "");
    put(o.fd, "t1", 0644, "1");
    put(o.fd, "dir/t2", 0644, "2");
    assert_int_equal(mkdirat(o.fd, "t3", 0755), 0);
    layer_make(&o, 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&t[i], NULL, busy, &o), 0);
    for (int i = 0; i < THREADS; i++)
        pthread_join(t[i], NULL);
    assert_int_equal(fix_stat(o.l, &o.root, "shared", &st), 0);
    assert_int_equal(st.st.st_size, THREADS * 1500);
    dump_of_view(o.l, &view);
    commit(&o);
    dump_of_real(o.fd, false, &real);
    dump_compare(&view, &real, "after the commit");
    one_fini(&o);
}

/* ---- the first write ---- */

struct first {
    const char *name;
    size_t size; /* of the file; every byte 'a' */
    off_t hole;  /* and so much of nothing behind it */
    mode_t mode;
};

static void first_make(int dir_fd, const struct first *f)
{
    const struct timespec old[2] = {{.tv_sec = 1000000001, .tv_nsec = 5},
                                    {.tv_sec = 1000000002, .tv_nsec = 6}};
    int fd = openat(dir_fd, f->name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    for (size_t i = 0; i < f->size; i++)
        assert_int_equal(pwrite(fd, "a", 1, (off_t)i), 1);
    assert_int_equal(ftruncate(fd, (off_t)f->size + f->hole), 0);
    assert_true(fsetxattr(fd, "user.first", "v", 1, 0) == 0 || errno == EOPNOTSUPP);
    assert_int_equal(fchmod(fd, f->mode), 0);
    assert_int_equal(futimens(fd, old), 0);
    close(fd);
}

/* Opens and writes a byte at 1, or behind the end; what the kernel says about it in between and after. */
static void first_write(int fd, int flags, struct buf *out)
{
    char text[4096] = "", value[8];
    struct stat st;
    ssize_t n;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &st), 0);
    buf_addf(out, "%o %lld %lld.%ld ", st.st_mode, (long long)st.st_size,
             (long long)st.st_atim.tv_sec, st.st_atim.tv_nsec);
    /* To cut a file is to change it, now. */
    buf_addf(out, "%d ",
             flags & O_TRUNC ? st.st_mtim.tv_sec > 1500000000
                             : st.st_mtim.tv_sec == 1000000002 && st.st_mtim.tv_nsec == 6);
    buf_addf(out, "%d ", st.st_blocks * 512 >= st.st_size);
    buf_addf(out, "%x ", (unsigned)fcntl(fd, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK));
    buf_addf(out, "at %lld ", (long long)lseek(fd, 0, SEEK_CUR));
    n = fgetxattr(fd, "user.first", value, sizeof(value));
    buf_addf(out, "%zd ", n < 0 ? -1 : n);
    assert_int_equal(lseek(fd, 1, SEEK_SET), 1);
    assert_int_equal(write(fd, "Z", 1), 1);
    assert_int_equal(fstat(fd, &st), 0);
    buf_addf(out, "%o %lld\n", st.st_mode, (long long)st.st_size);
    if ((flags & O_ACCMODE) != O_RDWR)
        return;
    for (off_t at = 0; (n = pread(fd, text, sizeof(text), at)) > 0; at += n)
        buf_add(out, text, (size_t)n);
}

static void first_read(int fd, struct buf *out)
{
    char text[4096];
    ssize_t n;

    assert_true(fd >= 0);
    while ((n = read(fd, text, sizeof(text))) > 0)
        buf_add(out, text, (size_t)n);
    assert_int_equal(n, 0);
    close(fd);
}

/* As cow_path() and the operations on behalf do it. */
static int first_found(struct one *o, const char *name, int flags)
{
    int found_fd = cow_open_path(o->l, &o->root, name), fd;
    struct sys_ident id;

    assert_true(found_fd >= 0);
    assert_int_equal(sys_identify(found_fd, &id), 0);
    fd = cow_open_found(o->l, &o->root, name, found_fd, &id, flags);
    close(found_fd);
    return fd;
}

static void first_once(const struct first *f, int flags, bool found)
{
    _cleanup_buf_ struct buf want = {0}, have = {0}, before = {0}, after = {0};
    struct one o;
    int fd, copy_fd;

    lower_make(&o);
    first_make(o.fd, f);
    dump_of_real(o.fd, true, &before);
    layer_make(&o, 0);
    fd = found ? first_found(&o, f->name, flags) : cow_open(o.l, &o.root, f->name, flags, 0);
    first_write(fd, flags, &have);
    close(fd);
    first_read(cow_open(o.l, &o.root, f->name, O_RDONLY, 0), &have);
    dump_of_real(o.fd, true, &after);
    dump_compare(&before, &after, "lower changed");
    /* The control: the same file without a layer, made anew because the copy has read it (atime). */
    assert_int_equal(unlinkat(o.fd, f->name, 0), 0);
    first_make(o.fd, f);
    copy_fd = openat(o.fd, f->name, flags | O_CLOEXEC);
    first_write(copy_fd, flags, &want);
    close(copy_fd);
    first_read(openat(o.fd, f->name, O_RDONLY | O_CLOEXEC), &want);
    if (want.len != have.len || memcmp(want.data, have.data, want.len) != 0)
        fail_msg("%s, flags %o%s:\n%.150s\nnatively\n%.150s", f->name, flags,
                 found ? ", found" : "", buf_cstr(&have), buf_cstr(&want));
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

/* Neither to read nor to write (access mode 3), but with the rights for both: ioctl alone. */
static void test_first_of_neither(void **state)
{
    char text[32] = "";
    struct one o;
    int fd;

    (void)state;
    for (int found = 0; found < 2; found++) {
        one_make(&o);
        fd = openat(o.fd, "file", O_ACCMODE | O_CLOEXEC); /* the control */
        assert_true(fd >= 0);
        close(fd);
        fd = found ? first_found(&o, "file", O_ACCMODE)
                   : cow_open(o.l, &o.root, "file", O_ACCMODE, 0);
        assert_true(fd >= 0);
        assert_int_equal(read(fd, text, 1), -1);
        assert_int_equal(write(fd, "x", 1), -1);
        close(fd);
        fd = cow_open(o.l, &o.root, "file", O_RDONLY, 0);
        assert_int_equal(read(fd, text, sizeof(text) - 1), 14);
        assert_string_equal(text, "one\ntwo\nthree\n");
        close(fd);
        assert_int_equal(cow_abort(o.l, NULL), 0);
        one_fini(&o);
    }
}

/* At once (small, no holes, no set-id bits) or step by step: nobody can tell. */
static void test_first_write(void **state)
{
    static const struct first files[] = {
        {"empty", 0, 0, 0644},         {"small", 5, 0, 0640},     {"chunks", 40000, 0, 0600},
        {"most", 65536, 0, 0666},      {"large", 65537, 0, 0644}, {"sparse", 3, 50000, 0644},
        {"set-id", 5, 0, 04755},       {"group", 5, 0, 02775},    {"sticky", 5, 0, 01777},
        {"private", 5, 0, 0200 | 0400}};
    static const int flags[] = {O_WRONLY,
                                O_RDWR,
                                O_WRONLY | O_APPEND,
                                O_RDWR | O_APPEND,
                                O_WRONLY | O_TRUNC,
                                O_RDWR | O_TRUNC | O_APPEND,
                                O_RDWR | O_NONBLOCK,
                                O_WRONLY | O_SYNC};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(files); i++) {
        for (size_t k = 0; k < ARRAY_SIZE(flags); k++) {
            first_once(&files[i], flags[k], false);
            first_once(&files[i], flags[k], true);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quota),
        cmocka_unit_test(test_light_and_sparse),
        cmocka_unit_test(test_first_write),
        cmocka_unit_test(test_first_of_neither),
        cmocka_unit_test(test_link_group),
        cmocka_unit_test(test_removed_directory),
        cmocka_unit_test(test_moved_directory),
        cmocka_unit_test(test_names_stay_inside),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_listing_while_removing),
        cmocka_unit_test(test_rights_of_others),
        cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
