/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy-on-write layer after its run: changes, conflicts, storage and recovery, one behaviour a test.
 * The merged view is in test_cow_view, random operations against a real copy are in test_cow_model,
 * failures in test_cow_fault.
 */
#include "cow_one.h"

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
    fd = fix_change(o.l, &o.root, "mode", COW_NEED_OWNER);
    assert_int_equal(sys_chmod_fd(fd, 0600), 0);
    close(fd);

    assert_int_equal(cow_changes(o.l, &c), 0);
    assert_int_equal(cow_changes_text(o.l, &c, &text), 0);
    assert_string_equal(buf_cstr(&text), "D  dir\n"
                                         "M  file\n"
                                         "D  gone\n"
                                         "M  mode\n"
                                         "A  moved\n"
                                         "A  moved/inner\n"
                                         "A  \"moved/n\\377\\n\"\n"
                                         "D  type\n"
                                         "A  type\n");
    cow_changes_json(&c, &json);
    assert_non_null(strstr(
        buf_cstr(&json), "\"path\":\"moved/n\\ufffd\\u000a\",\"path_hex\":\"6d6f7665642f6eff0a\""));
    assert_non_null(strstr(buf_cstr(&json), "\"from\":\"dir\""));
    assert_non_null(strstr(buf_cstr(&json), "\"target\":\"target\""));
    assert_int_equal(cow_changes_diff(o.l, &c, 1 << 20, NULL, &diff), 0);
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
        assert_int_equal(cow_changes_diff(o.l, &c, 1 << 20, NULL, &diff), 0);
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
    fd = fix_change(o.l, &o.root, "dir", COW_NEED_OWNER);
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

static void assert_text(int dir_fd, const char *name, const char *text)
{
    int fd = openat(dir_fd, name, O_RDONLY);
    char found[32] = "";

    assert_int_equal(read(fd, found, sizeof(found) - 1), strlen(text));
    assert_string_equal(found, text);
    close(fd);
}

static void test_conflict_ours(void **state)
{
    struct cow_report report = {.ours = true};
    struct error err = {0};
    struct one o;

    (void)state;
    one_make(&o);
    assert_int_equal(write_to(&o, &o.root, "file", O_TRUNC, "ours\n"), 0);
    put(o.fd, "file", 0644, "by others\n");
    assert_int_equal(cow_commit(&o.l, 1, &report, &err), 0);
    assert_text(o.fd, "file", "ours\n");
    cow_report_fini(&report);
    one_fini(&o);
}

/* Another file by then, to which the run has nothing to say: what it wrote goes to the new name. */
static void test_conflict_ours_moved(void **state)
{
    struct cow_report report = {.ours = true};
    struct error err = {0};
    struct one o;

    (void)state;
    fix_in_place = true;
    one_make(&o);
    fix_in_place = false;
    assert_int_equal(write_to(&o, &o.root, "file", O_TRUNC, "ours\n"), 0);
    assert_int_equal(cow_rename(o.l, &o.root, "file", &o.root, "moved", 0), 0);
    put(o.fd, "theirs", 0644, "by others\n");
    assert_int_equal(renameat(o.fd, "theirs", o.fd, "file"), 0);
    assert_int_equal(cow_commit(&o.l, 1, &report, &err), 0);
    assert_text(o.fd, "moved", "ours\n");
    assert_text(o.fd, "file", "by others\n");
    cow_report_fini(&report);
    one_fini(&o);
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

/* In the work directory itself: not seen, not committed, not in the way. */
static void test_storage_inside(void **state)
{
    _cleanup_buf_ struct buf view = {0};
    struct cow_entry en;
    char path[PATH_MAX];
    struct one o;

    (void)state;
    lower_make(&o);
    snprintf(path, sizeof(path), "%s/work/inside", fix_top);
    o.l = fix_layer(o.fd, path, 0);
    assert_int_equal(cow_root(o.l, &o.root), 0);
    dump_of_view(o.l, &view);
    assert_null(strstr(buf_cstr(&view), "inside"));
    assert_int_equal(cow_lookup(o.l, &o.root, "inside", &en), 0);
    assert_int_equal(en.where, COW_NONE);
    assert_int_equal(write_to(&o, &o.root, "new", O_CREAT, "new\n"), 0);
    commit(&o);
    assert_int_equal(faccessat(o.fd, "new", F_OK, 0), 0);
    one_fini(&o);
}

static void test_storage_beside(void **state)
{
    char path[PATH_MAX];
    struct one o;

    (void)state;
    assert_int_equal(chmod(fix_top, 0755), 0);
    lower_make(&o);
    o.l = fix_layer(o.fd, NULL, 0);
    snprintf(path, sizeof(path), "%s/.sandlock-%u/%s", fix_top, (unsigned)geteuid(), cow_id(o.l));
    assert_string_equal(cow_storage_path(o.l), path);
    assert_int_equal(cow_abort(o.l, NULL), 0);
    cow_free(o.l);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_changes),
        cmocka_unit_test(test_diff_applies),
        cmocka_unit_test(test_no_change),
        cmocka_unit_test(test_conflicts),
        cmocka_unit_test(test_conflict_ours),
        cmocka_unit_test(test_conflict_ours_moved),
        cmocka_unit_test(test_storage_is_private),
        cmocka_unit_test(test_storage_inside),
        cmocka_unit_test(test_storage_beside),
        cmocka_unit_test(test_states_and_damage),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
