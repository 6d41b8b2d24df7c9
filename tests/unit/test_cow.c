/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy-on-write layer, one behaviour a test. Random operations against a real copy are in
 * test_cow_model, failures in test_cow_fault.
 */
#include <pthread.h>

#include "cow_fixture.h"

static char storage[PATH_MAX];

struct one {
    int fd; /* lower */
    struct cow_layer *l;
    struct cow_pos root;
};

static void put(int dir_fd, const char *name, mode_t mode, const char *text)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static void lower_make(struct one *o)
{
    char path[PATH_MAX];

    fix_path(path, "work");
    fix_rm(path);
    assert_int_equal(mkdir(path, 0755), 0);
    o->fd = fix_open_dir("work");
    put(o->fd, "file", 0644, "one\ntwo\nthree\n");
    assert_int_equal(mkdirat(o->fd, "dir", 0755), 0);
    put(o->fd, "dir/inner", 0644, "inner\n");
}

static void layer_make(struct one *o, uint64_t quota)
{
    o->l = fix_layer(o->fd, storage, quota);
    assert_int_equal(cow_root(o->l, &o->root), 0);
}

static void one_make(struct one *o)
{
    lower_make(o);
    layer_make(o, 0);
}

static void one_fini(struct one *o)
{
    cow_pos_fini(&o->root);
    cow_free(o->l);
    close(o->fd);
}

static int write_to(struct one *o, struct cow_pos *p, const char *name, int flags, const char *text)
{
    int fd = cow_open(o->l, p, name, O_WRONLY | flags, 0644);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -errno : 0;
}

static void commit(struct one *o)
{
    struct cow_report report = {0};
    struct error err = {0};

    if (cow_commit(&o->l, 1, &report, &err) < 0)
        fail_msg("%s: %s\n%s%s", err.where, err.message, buf_cstr(&report.conflicts),
                 buf_cstr(&report.notes));
    cow_report_fini(&report);
}

/* ---- what changed ---- */

static void test_changes(void **state)
{
    _cleanup_buf_ struct buf text = {0}, json = {0}, diff = {0};
    struct cow_changes c = {0};
    struct cow_pos dir;
    struct one o;
    int fd;

    (void)state;
    lower_make(&o);
    put(o.fd, "opened", 0644, "same");
    put(o.fd, "rewritten", 0644, "same");
    put(o.fd, "type", 0644, "t");
    put(o.fd, "gone", 0644, "gone\n");
    put(o.fd, "mode", 0644, "m");
    layer_make(&o, 0);
    fd = cow_open(o.l, &o.root, "opened", O_RDWR, 0);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(write_to(&o, &o.root, "rewritten", O_TRUNC, "same"), 0);
    assert_int_equal(write_to(&o, &o.root, "file", O_TRUNC, "one\n2\nthree\n"), 0);
    assert_int_equal(cow_rename(o.l, &o.root, "dir", &o.root, "moved", 0), 0);
    assert_int_equal(cow_enter(o.l, &o.root, "moved", &dir), 0);
    assert_int_equal(write_to(&o, &dir, "n\xff\n", O_CREAT, "new\n"), 0);
    assert_int_equal(cow_unlink(o.l, &o.root, "type"), 0);
    assert_int_equal(cow_symlink(o.l, "target", &o.root, "type"), 0);
    assert_int_equal(cow_unlink(o.l, &o.root, "gone"), 0);
    fd = cow_change(o.l, &o.root, "mode", COW_NEED_OWNER);
    assert_int_equal(sys_chmod_fd(fd, 0600), 0);
    close(fd);

    assert_int_equal(cow_changes(o.l, &c), 0);
    cow_changes_text(&c, &text);
    assert_string_equal(buf_cstr(&text), "M  file\n"
                                         "D  gone\n"
                                         "M  mode\n"
                                         "R  dir -> moved\n"
                                         "A  moved/n\xff\\012\n"
                                         "T  type\n");
    cow_changes_json(&c, &json);
    assert_non_null(strstr(buf_cstr(&json), "\"path\":\"moved/n\\u00ff\\u000a\""));
    assert_non_null(strstr(buf_cstr(&json), "\"from\":\"dir\""));
    assert_non_null(strstr(buf_cstr(&json), "\"target\":\"target\""));
    assert_int_equal(cow_changes_diff(o.l, &c, 1 << 20, &diff), 0);
    assert_non_null(strstr(buf_cstr(&diff), "--- a/file\n+++ b/file\n@@ -1,3 +1,3 @@\n one\n-two\n"
                                            "+2\n three\n"));
    assert_non_null(strstr(buf_cstr(&diff), "--- a/gone\n+++ /dev/null\n@@ -1 +0,0 @@\n-gone\n"));
    cow_changes_fini(&c);
    cow_pos_fini(&dir);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    one_fini(&o);
}

/* Applies a unified diff of one file; what comes out must be the other text. */
static void apply_diff(const char *diff, const char *old, struct buf *out)
{
    size_t line = 1, start, n, want_old, want_new;

    for (; *diff && strncmp(diff, "@@ ", 3) != 0; diff = strchr(diff, '\n') + 1)
        ;
    while (*diff) {
        n = 1;
        if (sscanf(diff, "@@ -%zu,%zu", &start, &n) < 2)
            assert_int_equal(sscanf(diff, "@@ -%zu", &start), 1);
        want_old = n;
        start += n == 0; /* "after that line" */
        for (; line < start; line++) {
            buf_add(out, old, strcspn(old, "\n") + 1);
            old += strcspn(old, "\n") + 1;
        }
        diff = strchr(diff, '\n') + 1;
        for (want_new = 0; *diff && *diff != '@'; diff = strchr(diff, '\n') + 1) {
            size_t len = strcspn(diff + 1, "\n") + 1;

            if (*diff != '+') {
                assert_memory_equal(old, diff + 1, len);
                old += len;
                line++;
                assert_true(want_old-- > 0);
            }
            if (*diff != '-') {
                buf_add(out, diff + 1, len);
                want_new++;
            }
        }
        assert_int_equal(want_old, 0);
    }
    buf_adds(out, old);
}

static void random_lines(struct buf *b, unsigned *seed)
{
    for (int i = rand_r(seed) % 60; i > 0; i--)
        buf_addf(b, "line %d\n", rand_r(seed) % 12);
}

static void test_diff_applies(void **state)
{
    unsigned seed = 7;

    (void)state;
    for (int i = 0; i < 60; i++) {
        _cleanup_buf_ struct buf old = {0}, new = {0}, diff = {0}, made = {0};
        struct cow_changes c = {0};
        struct one o;

        lower_make(&o);
        random_lines(&old, &seed);
        random_lines(&new, &seed);
        put(o.fd, "text", 0644, buf_cstr(&old));
        layer_make(&o, 0);
        assert_int_equal(write_to(&o, &o.root, "text", O_TRUNC, buf_cstr(&new)), 0);
        assert_int_equal(cow_changes(o.l, &c), 0);
        assert_int_equal(cow_changes_diff(o.l, &c, 1 << 20, &diff), 0);
        if (strcmp(buf_cstr(&old), buf_cstr(&new)) != 0) {
            apply_diff(buf_cstr(&diff), buf_cstr(&old), &made);
            assert_string_equal(buf_cstr(&made), buf_cstr(&new));
        } else {
            assert_int_equal(diff.len, 0);
        }
        cow_changes_fini(&c);
        assert_int_equal(cow_abort(o.l, NULL), 0);
        one_fini(&o);
    }
}

/* ---- nothing changed: nothing is touched ---- */

static void test_no_change(void **state)
{
    _cleanup_buf_ struct buf before = {0}, after = {0};
    struct one o;
    int fd;

    (void)state;
    one_make(&o);
    dump_of_real(o.fd, true, &before);
    fd = cow_open(o.l, &o.root, "file", O_RDWR, 0);
    assert_true(fd >= 0);
    close(fd);
    fd = cow_change(o.l, &o.root, "dir", COW_NEED_OWNER);
    assert_true(fd >= 0);
    close(fd);
    assert_int_equal(cow_mkdir(o.l, &o.root, "file", 0755), -EEXIST);
    commit(&o);
    dump_of_real(o.fd, true, &after);
    dump_compare(&before, &after, "no change");
    one_fini(&o);
}

/* ---- others change lower meanwhile ---- */

static void stage_everything(struct one *o)
{
    struct cow_pos dir;

    assert_int_equal(write_to(o, &o->root, "file", O_APPEND, "four\n"), 0);
    assert_int_equal(write_to(o, &o->root, "new", O_CREAT, "new\n"), 0);
    assert_int_equal(cow_enter(o->l, &o->root, "dir", &dir), 0);
    assert_int_equal(cow_unlink(o->l, &dir, "inner"), 0);
    assert_int_equal(cow_rmdir(o->l, &o->root, "dir"), 0);
    cow_pos_fini(&dir);
}

static void test_conflicts(void **state)
{
    static const char *const what[] = {"file: changed meanwhile", "new: created meanwhile",
                                       "dir: changed meanwhile", "file: removed or replaced"};

    (void)state;
    for (size_t i = 0; i < ARRAY_SIZE(what); i++) {
        _cleanup_buf_ struct buf before = {0}, after = {0};
        struct cow_report report = {0};
        struct error err = {0};
        struct one o;

        one_make(&o);
        stage_everything(&o);
        if (i == 0)
            put(o.fd, "file", 0644, "by others\n");
        else if (i == 1)
            put(o.fd, "new", 0644, "by others\n");
        else if (i == 2)
            put(o.fd, "dir/more", 0644, "by others\n");
        else
            assert_int_equal(unlinkat(o.fd, "file", 0), 0);
        dump_of_real(o.fd, true, &before);
        assert_int_equal(cow_commit(&o.l, 1, &report, &err), -ESTALE);
        assert_non_null(strstr(buf_cstr(&report.conflicts), what[i]));
        dump_of_real(o.fd, true, &after);
        dump_compare(&before, &after, what[i]);
        cow_report_fini(&report);
        assert_int_equal(cow_abort(o.l, NULL), 0);
        one_fini(&o);
    }
}

static void test_conflict_ours(void **state)
{
    struct cow_report report = {.ours = true};
    struct error err = {0};
    struct one o;
    char text[32] = "";
    int fd;

    (void)state;
    one_make(&o);
    assert_int_equal(write_to(&o, &o.root, "file", O_TRUNC, "ours\n"), 0);
    put(o.fd, "file", 0644, "by others\n");
    assert_int_equal(cow_commit(&o.l, 1, &report, &err), 0);
    fd = openat(o.fd, "file", O_RDONLY);
    assert_int_equal(read(fd, text, sizeof(text)), 5);
    assert_string_equal(text, "ours\n");
    close(fd);
    cow_report_fini(&report);
    one_fini(&o);
}

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
    assert_true(cow_quota_sample(o.l));
    assert_int_equal(write_to(&o, &o.root, "more", O_CREAT, ""), -ENOSPC);
    close(fd);
    assert_int_equal(cow_unlink(o.l, &o.root, "big"), 0);
    assert_false(cow_quota_sample(o.l));
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
    fd = cow_change(o.l, &o.root, "sparse", COW_NEED_OWNER);
    assert_int_equal(sys_chmod_fd(fd, 0600), 0);
    fstat(fd, &real);
    assert_int_equal(real.st_blocks, 0); /* attributes only */
    close(fd);
    assert_int_equal(cow_stat(o.l, &o.root, "sparse", &st), 0);
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

static void test_touched(void **state)
{
    struct sys_ident root, dir, file;
    struct cow_pos p;
    struct one o;

    (void)state;
    one_make(&o);
    assert_int_equal(sys_identify(o.fd, &root), 0);
    assert_int_equal(sys_identify_at(o.fd, "dir", &dir), 0);
    assert_int_equal(sys_identify_at(o.fd, "file", &file), 0);
    assert_true(cow_is_clean(o.l));
    assert_int_equal(cow_enter(o.l, &o.root, "dir", &p), 0);
    assert_int_equal(write_to(&o, &p, "inner", O_APPEND, "x"), 0);
    assert_false(cow_is_clean(o.l));
    assert_true(cow_is_touched_beneath(o.l, &root));
    assert_true(cow_is_touched_beneath(o.l, &dir));
    assert_false(cow_is_touched(o.l, &dir)); /* a copied file needs nothing in its directory */
    assert_false(cow_is_touched(o.l, &file));
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
    assert_int_equal(cow_change(o->l, &o->root, "file", COW_NEED_WRITE), -EACCES);
    assert_int_equal(cow_change(o->l, &o->root, "file", COW_NEED_OWNER), -EPERM);
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

/* ---- storage ---- */

static void test_storage_is_private(void **state)
{
    struct cow_config config = {0};
    struct cow_layer *l = NULL;
    char path[PATH_MAX], link[PATH_MAX];
    struct error err = {0};
    struct one o;

    (void)state;
    lower_make(&o);
    fix_path(path, "wide");
    fix_path(link, "linked");
    assert_int_equal(mkdir(path, 0755), 0);
    config.storage = path;
    assert_int_equal(cow_create(o.fd, &config, &l, &err), -EPERM);
    assert_int_equal(chmod(path, 0700), 0);
    assert_int_equal(symlink(path, link), 0);
    config.storage = link;
    assert_true(cow_create(o.fd, &config, &l, &err) < 0);
    assert_null(l);
    close(o.fd);
}

static int list_state(const struct cow_info *i, void *arg)
{
    *(int *)arg = i->state;
    return 0;
}

static void test_states_and_damage(void **state)
{
    char id[17], index[PATH_MAX + 32];
    int storage_fd, s = -1, fd;
    struct cow_layer *again = NULL;
    struct error err = {0};
    struct cow_report report = {0};
    struct one o;
    off_t size;

    (void)state;
    one_make(&o);
    stage_everything(&o);
    storage_fd = open(storage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    snprintf(id, sizeof(id), "%s", cow_id(o.l));
    snprintf(index, sizeof(index), "%s/index", cow_storage_path(o.l));
    assert_int_equal(cow_storage_list(storage_fd, list_state, &s), 0);
    assert_int_equal(s, COW_LIVE);
    assert_int_equal(cow_recover(storage_fd, id, COW_RECOVER_DROP, &report, &err), -EBUSY);
    one_fini(&o);
    assert_int_equal(cow_storage_list(storage_fd, list_state, &s), 0);
    assert_int_equal(s, COW_ORPHAN);
    /* A torn last record is dropped, damage in the middle refuses the layer. */
    fd = open(index, O_RDWR);
    assert_true(fd >= 0);
    size = lseek(fd, 0, SEEK_END);
    assert_int_equal(ftruncate(fd, size - 1), 0);
    assert_int_equal(cow_open_existing(storage_fd, id, &again, &err), 0);
    cow_free(again);
    assert_int_equal(pwrite(fd, "\xff", 1, size / 2), 1);
    close(fd);
    assert_int_equal(cow_open_existing(storage_fd, id, &again, &err), -EBADMSG);
    assert_int_equal(cow_recover(storage_fd, id, COW_RECOVER_DROP, &report, &err), 0);
    close(storage_fd);
    assert_int_equal(rmdir(storage), 0);
    cow_report_fini(&report);
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
        case 5: cow_link(o->l, p, a, q, b); break;
        case 6: cow_stat(o->l, p, a, &st); break;
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
    assert_int_equal(cow_stat(o.l, &o.root, "shared", &st), 0);
    assert_int_equal(st.st.st_size, THREADS * 1500);
    dump_of_view(o.l, &view);
    commit(&o);
    dump_of_real(o.fd, false, &real);
    dump_compare(&view, &real, "after the commit");
    one_fini(&o);
}

static int begin(void **state)
{
    (void)state;
    umask(022);
    fix_begin();
    fix_path(storage, "storage");
    return 0;
}

static int end(void **state)
{
    (void)state;
    fix_rm(fix_top);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),           cmocka_unit_test(test_diff_applies),
        cmocka_unit_test(test_no_change),         cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_conflict_ours),     cmocka_unit_test(test_quota),
        cmocka_unit_test(test_light_and_sparse),  cmocka_unit_test(test_link_group),
        cmocka_unit_test(test_removed_directory), cmocka_unit_test(test_moved_directory),
        cmocka_unit_test(test_touched),           cmocka_unit_test(test_listing_while_removing),
        cmocka_unit_test(test_rights_of_others),  cmocka_unit_test(test_storage_is_private),
        cmocka_unit_test(test_states_and_damage), cmocka_unit_test(test_threads),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
