/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy-on-write layer when things fail: each call of the library returning ENOSPC, EIO or ENOMEM,
 * and kill -9 before each call of a commit. Linked with a build of src/fs/cow in which every call asks
 * cow_fault() first. COW_POINTS: how many of the calls are tried, evenly spread (40; 0: all).
 */
#include <signal.h>

#include "cow_fixture.h"
#include "fs/cow/internal.h"

bool cow_fault(const char *call);

static struct {
    bool armed, kill, hit;
    int at, error;
    int count;
} fault;

/* Was the directory of the journal synced between its end and that of the limbo? */
static struct {
    char journal[PATH_MAX], limbo[PATH_MAX];
    bool begun, synced;
} watch;

static void watch_call(const char *call)
{
    bool there = access(watch.journal, F_OK) == 0;

    watch.begun |= there;
    if (watch.begun && !there && strcmp(call, "fsync") == 0 && access(watch.limbo, F_OK) == 0)
        watch.synced = true;
}

bool cow_fault(const char *call)
{
    if (watch.journal[0])
        watch_call(call);
    if (!fault.armed || fault.count++ != fault.at)
        return false;
    fault.hit = true;
    if (fault.kill)
        kill(getpid(), SIGKILL);
    errno = fault.error;
    return true;
}

static void arm(int at, int error, bool by_kill)
{
    fault.at = at;
    fault.error = error;
    fault.kill = by_kill;
    fault.count = 0;
    fault.hit = false;
    fault.armed = true;
}

static int stride(int calls)
{
    const char *text = getenv("COW_POINTS");
    /* Emulated machines are twenty times as slow. */
    int points = text ? atoi(text) : getenv("SANDLOCK_VM") ? 6 : 30;

    return points && calls > points ? calls / points : 1;
}

/* ---- the tree ---- */

static char storage_path[PATH_MAX];

static void put(int dir_fd, const char *name, mode_t mode, const char *text)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static int make_tree(const char *name)
{
    char path[PATH_MAX];
    int fd;

    fix_path(path, name);
    fix_rm(path);
    assert_int_equal(mkdir(path, 0755), 0);
    fd = fix_open_dir(name);
    assert_int_equal(mkdirat(fd, "dir", 0750), 0);
    assert_int_equal(mkdirat(fd, "dir/sub", 0755), 0);
    assert_int_equal(mkdirat(fd, "gone", 0755), 0);
    assert_int_equal(mkdirat(fd, "swap", 0700), 0);
    put(fd, "dir/file", 0644, "file");
    put(fd, "dir/sub/deep", 0644, "deep");
    put(fd, "gone/one", 0644, "one");
    put(fd, "mode", 0644, "mode");
    put(fd, "edit", 0644, "before");
    put(fd, "move", 0644, "move");
    put(fd, "type", 0644, "type");
    assert_int_equal(linkat(fd, "edit", fd, "edit2", 0), 0);
    return fd;
}

/* Errors are let through: with a fault armed they are expected. */
static int write_to(struct cow_layer *l, struct cow_pos *p, const char *name, int flags,
                    const char *text)
{
    int fd = cow_open(l, p, name, O_WRONLY | flags, 0644);
    ssize_t n;

    if (fd < 0)
        return fd;
    n = write(fd, text, strlen(text));
    close(fd);
    return n < 0 ? -errno : 0;
}

static int chmod_to(struct cow_layer *l, struct cow_pos *p, const char *name, mode_t mode)
{
    int fd = fix_change(l, p, name, COW_NEED_OWNER), e;

    if (fd < 0)
        return fd;
    e = sys_chmod_fd(fd, mode);
    close(fd);
    return e;
}

#define TRY(call)                 \
    do {                          \
        int e_ = (call);          \
        if (e_ < 0 && first >= 0) \
            first = e_;           \
    } while (0)

/* Everything a run does, once. The first error or 0; goes on after errors, as programs do. */
static int change_all(struct cow_layer *l)
{
    struct cow_pos root = COW_POS_INIT, dir = COW_POS_INIT, made = COW_POS_INIT,
                   gone = COW_POS_INIT;
    int first = cow_root(l, &root);

    if (first < 0)
        return first;
    TRY(write_to(l, &root, "edit", O_APPEND, " and after"));
    TRY(chmod_to(l, &root, "mode", 0600));
    TRY(cow_rename(l, &root, "move", &root, "moved", 0));
    TRY(cow_enter(l, &root, "dir", &dir));
    if (dir.lower_fd >= 0 || dir.upper_fd >= 0) {
        TRY(write_to(l, &dir, "new", O_CREAT | O_EXCL, "new"));
        TRY(cow_unlink(l, &dir, "file"));
        TRY(cow_rename(l, &dir, "sub", &root, "sub", 0));
    }
    TRY(cow_rename(l, &root, "dir", &root, "dir2", 0));
    TRY(cow_mkdir(l, &root, "made", 0755));
    if (cow_enter(l, &root, "made", &made) == 0) {
        TRY(write_to(l, &made, "a", O_CREAT, "a"));
        TRY(cow_symlink(l, "a", &made, "link"));
        TRY(cow_mknod(l, &made, "fifo", S_IFIFO | 0600));
        TRY(fix_link(l, &made, "a", &root, "hard"));
    }
    if (cow_enter(l, &root, "gone", &gone) == 0) {
        TRY(cow_unlink(l, &gone, "one"));
        TRY(cow_rmdir(l, &root, "gone"));
    }
    TRY(cow_unlink(l, &root, "type"));
    TRY(cow_mkdir(l, &root, "type", 0711));
    TRY(cow_rename(l, &root, "swap", &root, "made", RENAME_EXCHANGE));
    cow_pos_fini(&root);
    cow_pos_fini(&dir);
    cow_pos_fini(&made);
    cow_pos_fini(&gone);
    return first;
}

static int recover_one(const struct cow_info *i, void *arg)
{
    int *storage_fd = arg;
    struct cow_report report = {0};
    struct error err = {0};
    int e = cow_recover(*storage_fd, i->id, COW_RECOVER_AUTO, &report, &err);

    if (e < 0)
        fail_msg("recover: %s: %s\n%s", err.where, err.message, buf_cstr(&report.notes));
    cow_report_fini(&report);
    return 0;
}

/* 1: there is no storage. */
static int each_layer(const char *storage, int (*each)(const struct cow_info *i, void *arg))
{
    int e, fd = open(storage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0)
        return 1;
    e = cow_storage_list(fd, each, &fd);
    close(fd);
    return e;
}

static void recover_all(const char *storage)
{
    int e = each_layer(storage, recover_one);

    if (e == 1)
        return;
    assert_int_equal(e, 0);
    assert_int_equal(rmdir(storage), 0);
}

/* ---- a call fails in the run ---- */

static void run_with_error(int at, int error, int *ret_calls)
{
    _cleanup_buf_ struct buf before = {0}, after = {0};
    int lower_fd = make_tree("work"), e;
    struct cow_config config = {.storage = storage_path};
    struct cow_layer *l = NULL;
    struct error err = {0};

    dump_of_real(lower_fd, true, &before);
    arm(at, error, false);
    e = cow_create(lower_fd, &config, &l, &err);
    if (e == 0)
        e = change_all(l);
    fault.armed = false;
    *ret_calls = fault.count;
    if (at < 0)
        assert_int_equal(e, 0);
    if (l) { /* whatever failed: what can be seen is a tree */
        dump_of_view(l, &after);
        assert_int_equal(cow_abort(l, &err), 0);
        cow_free(l);
    }
    dump_of_real(lower_fd, true, &after);
    dump_compare(&before, &after, "lower changed");
    close(lower_fd);
    recover_all(storage_path);
}

static void test_errors_in_the_run(void **state)
{
    static const int errors[] = {ENOSPC, EIO, ENOMEM};
    int calls, ignored;

    (void)state;
    run_with_error(-1, 0, &calls);
    print_message("%d calls\n", calls);
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        for (int at = (int)i; at < calls; at += stride(calls))
            run_with_error(at, errors[i], &ignored);
    }
}

/* ---- a call fails, or the process dies, in the commit ---- */

struct trees {
    struct buf old, new;
    int lower_fd;
    struct cow_layer *l;
};

static void trees_make(struct trees *t, const char *name, const char *storage)
{
    t->lower_fd = make_tree(name);
    dump_of_real(t->lower_fd, true, &t->old);
    t->l = fix_layer(t->lower_fd, storage, 0);
    assert_int_equal(change_all(t->l), 0);
    dump_of_view(t->l, &t->new);
}

static void trees_fini(struct trees *t)
{
    buf_fini(&t->old);
    buf_fini(&t->new);
    close(t->lower_fd);
}

static bool dump_same(const struct buf *a, const struct buf *b)
{
    return a->len == b->len && memcmp(a->data, b->data, a->len) == 0;
}

/* 0: the old tree, 1: the new one. Anything else fails. */
static int which(struct trees *t, int at)
{
    _cleanup_buf_ struct buf now = {0}, exact = {0};
    char text[64];

    snprintf(text, sizeof(text), "interrupted at call %d", at);
    dump_of_real(t->lower_fd, false, &now);
    if (dump_same(&now, &t->new))
        return 1;
    dump_of_real(t->lower_fd, true, &exact);
    if (dump_same(&exact, &t->old))
        return 0;
    if (getenv("COW_VERBOSE"))
        dump_compare(&t->old, &exact, "against the old tree");
    dump_compare(&t->new, &now, text);
    return -1;
}

/* In a process of its own, which is killed at a call. True when it got through. */
static bool commit_killed(struct cow_layer **layers, size_t n, int at, int *ret_calls)
{
    int status, p[2], calls = 0;
    pid_t pid;

    assert_int_equal(pipe(p), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        struct cow_report report = {0};
        struct error err = {0};
        int e;

        arm(at, 0, true);
        e = cow_commit(layers, n, &report, &err);
        if (write(p[1], &fault.count, sizeof(fault.count)) < 0)
            e = -1;
        _exit(e < 0 ? 1 : 0);
    }
    close(p[1]);
    for (size_t i = 0; i < n; i++)
        cow_free(layers[i]); /* the child holds the lock now, until it ends */
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (read(p[0], &calls, sizeof(calls)) == sizeof(calls))
        *ret_calls = calls;
    close(p[0]);
    if (WIFSIGNALED(status))
        return false;
    assert_int_equal(WEXITSTATUS(status), 0);
    return true;
}

/* A record as the release before --commit-backup wrote it: that the version says, and no step says what was. */
static int former_record(enum cow_record type, struct cow_get *g, void *arg)
{
    struct buf payload = {0}, *out = arg;
    size_t n = (size_t)(g->end - g->p);

    if (type == REC_HEADER) {
        cow_put_u32(&payload, 1);
        buf_add(&payload, g->p + 4, n - 4);
    } else {
        buf_add(&payload, g->p, type == REC_STEP ? n - 4 : n);
    }
    cow_frame(out, type, &payload);
    buf_fini(&payload);
    return 0;
}

static int former_journal(const struct cow_info *i, void *arg)
{
    _cleanup_buf_ struct buf out = {0};
    int *storage_fd = arg, fd;
    char path[64];

    snprintf(path, sizeof(path), "%s/journal", i->id);
    fd = openat(*storage_fd, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return 0;
    assert_int_equal(cow_read_records(fd, former_record, &out), 0);
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(pwrite(fd, out.data, out.len, 0), out.len);
    close(fd);
    return 0;
}

static bool former; /* what was interrupted was a commit of that release */

static void made_former(const char *storage)
{
    int e = each_layer(storage, former_journal);

    assert_true(e == 0 || e == 1);
}

/* What the kernel leaves of flush order cannot be tested here; what a kill leaves can. */
static void kill_everywhere(const char *storage)
{
    int calls = 1 << 30, old = 0, new = 0, step = 1;
    bool through = false;

    for (int at = -1; at < calls && !(through && at >= 0); at += at < 0 ? 1 : step) {
        struct trees t = {.lower_fd = -1};
        int left = 0;

        trees_make(&t, "work", storage);
        through = commit_killed(&t.l, 1, at, &left);
        if (at < 0) {
            assert_true(through);
            calls = left;
            step = stride(calls);
            through = false;
        }
        if (former)
            made_former(storage);
        recover_all(storage);
        if (which(&t, at))
            new ++;
        else
            old++;
        trees_fini(&t);
    }
    print_message("%d calls, %d old, %d new\n", calls, old, new);
    assert_true(old > 0 && new > 0);
}

static void test_kill_in_commit(void **state)
{
    (void)state;
    kill_everywhere(storage_path);
}

static void test_kill_in_former_commit(void **state)
{
    (void)state;
    former = true;
    kill_everywhere(storage_path);
    former = false;
}

static void test_kill_in_commit_other_fs(void **state)
{
    char storage[PATH_MAX];

    (void)state;
    if (!fix_other_fs(storage))
        skip();
    fix_limbo_in_root = true;
    kill_everywhere(storage);
    fix_limbo_in_root = false;
}

static void test_kill_in_commit_in_place(void **state)
{
    char storage[PATH_MAX];

    (void)state;
    fix_in_place = true;
    kill_everywhere(storage_path);
    if (fix_other_fs(storage)) {
        fix_limbo_in_root = true;
        kill_everywhere(storage);
        fix_limbo_in_root = false;
    }
    fix_in_place = false;
}

static void test_kill_in_transaction(void **state)
{
    char storages[2][PATH_MAX];
    int calls = 1 << 30, step = 1, old = 0, new = 0;

    (void)state;
    fix_path(storages[0], "storage-a");
    fix_path(storages[1], "storage-b");
    for (int at = -1; at < calls; at += at < 0 ? 1 : step) {
        struct trees a = {.lower_fd = -1}, b = {.lower_fd = -1};
        struct cow_layer *layers[2];
        int first = at & 1, left = 0;

        trees_make(&a, "work", storages[0]);
        trees_make(&b, "work2", storages[1]);
        layers[0] = a.l;
        layers[1] = b.l;
        commit_killed(layers, 2, at, &left);
        if (at < 0) {
            calls = left;
            step = stride(calls);
        }
        /* In either order: the layer that holds the decision may come first. */
        recover_all(storages[first]);
        recover_all(storages[!first]);
        assert_int_equal(which(&a, at), which(&b, at));
        if (which(&a, at))
            new ++;
        else
            old++;
        trees_fini(&a);
        trees_fini(&b);
    }
    print_message("%d calls, %d old, %d new\n", calls, old, new);
    assert_true(old > 0 && new > 0);
}

static void commit_with_error(int at, int error, int *ret_calls)
{
    struct trees t = {.lower_fd = -1};
    struct cow_report report = {0};
    struct error err = {0};
    int e;

    trees_make(&t, "work", storage_path);
    arm(at, error, false);
    e = cow_commit(&t.l, 1, &report, &err);
    fault.armed = false;
    *ret_calls = fault.count;
    if (e < 0 && strstr(err.message, "nothing is committed"))
        assert_int_equal(which(&t, at), 0);
    cow_free(t.l);
    recover_all(storage_path);
    if (e == 0)
        assert_int_equal(which(&t, at), 1);
    else
        which(&t, at);
    cow_report_fini(&report);
    trees_fini(&t);
}

static void errors_in_commit(void)
{
    static const int errors[] = {ENOSPC, EIO, ENOMEM};
    int calls, ignored;

    commit_with_error(-1, 0, &calls);
    for (size_t i = 0; i < ARRAY_SIZE(errors); i++) {
        for (int at = (int)i; at < calls; at += stride(calls))
            commit_with_error(at, errors[i], &ignored);
    }
}

static void test_errors_in_commit(void **state)
{
    (void)state;
    errors_in_commit();
    fix_in_place = true;
    errors_in_commit();
    fix_in_place = false;
}

/* ---- rolled back ---- */

/* What the last one was told: that there is no way back; that there is nothing to take back, because the commit
 * had not begun, or had ended and its storage was going. */
static bool complete, nothing;

static int roll_one(const struct cow_info *i, void *arg)
{
    struct cow_report report = {0};
    struct error err = {0};
    int *storage_fd = arg, e;

    e = cow_recover(*storage_fd, i->id, COW_RECOVER_ROLLBACK, &report, &err);
    complete = e == -EALREADY;
    nothing = e == -ENODATA;
    if (e < 0 && e != -ENODATA && !complete && !fault.hit)
        fail_msg("rollback: %s: %s\n%s", err.where, err.message, buf_cstr(&report.notes));
    cow_report_fini(&report);
    return 0;
}

static void roll_all(const char *storage)
{
    int e = each_layer(storage, roll_one);

    assert_int_not_equal(e, 1);
    assert_true(e >= 0 || fault.hit);
}

static bool commit_fails_at(struct trees *t, int at, int error, int *ret_calls)
{
    struct cow_report report = {0};
    struct error err = {0};
    int e;

    arm(at, error, false);
    e = cow_commit(&t->l, 1, &report, &err);
    fault.armed = false;
    *ret_calls = fault.count;
    cow_report_fini(&report);
    cow_free(t->l);
    t->l = NULL;
    return e < 0;
}

/* The commit fails at one call; the rollback too, at each of `again` (-1: never), and is repeated. */
static void rolled_back(const char *storage, int at, int again, int *ret_calls, int *ret_again,
                        int *ret_rolled)
{
    struct trees t = {.lower_fd = -1};
    bool failed;

    trees_make(&t, "work", storage);
    complete = nothing = false;
    failed = commit_fails_at(&t, at, EIO, ret_calls);
    arm(again, EIO, false);
    roll_all(storage);
    fault.armed = false;
    *ret_again = fault.count;
    if (again >= 0 && !complete)
        roll_all(storage); /* once more */
    recover_all(storage);
    if (failed && nothing)
        which(&t, at);
    else if (failed && complete)
        assert_int_equal(which(&t, at), 1);
    else if (failed && which(&t, at) != 0)
        fail_msg("failed at %d, rollback at %d: not the old tree", at, again);
    if (!failed)
        assert_int_equal(which(&t, at), 1);
    *ret_rolled += failed && !nothing && !complete;
    trees_fini(&t);
}

static void rollback_everywhere(const char *storage)
{
    int calls, inner, ignored, rolled = 0;

    fix_backup = true;
    rolled_back(storage, -1, -1, &calls, &inner, &rolled);
    assert_int_equal(rolled, 0);
    for (int at = 0; at < calls; at += stride(calls)) {
        rolled_back(storage, at, -1, &ignored, &inner, &rolled);
        if (at > calls / 2)
            rolled_back(storage, at, (at * 7) % (inner + 1), &ignored, &ignored, &rolled);
    }
    fix_backup = false;
    print_message("%d calls, %d rolled back\n", calls, rolled);
    assert_true(rolled > 0);
}

static void test_rollback(void **state)
{
    (void)state;
    rollback_everywhere(storage_path);
}

/* A lost power cannot be tested here; that the order is told to the disks can. */
static void test_journal_goes_first(void **state)
{
    struct trees t = {.lower_fd = -1};
    char storage[PATH_MAX];
    int ignored;

    (void)state;
    if (!fix_other_fs(storage))
        skip();
    fix_backup = true;
    trees_make(&t, "work", storage);
    fix_backup = false;
    snprintf(watch.journal, PATH_MAX, "%.4000s/journal", t.l->storage_path);
    snprintf(watch.limbo, PATH_MAX, "%.64s/work/.sandlock-%s", fix_top, t.l->id);
    assert_false(commit_fails_at(&t, -1, 0, &ignored));
    watch.journal[0] = '\0';
    assert_true(watch.begun && watch.synced);
    recover_all(storage);
    assert_int_equal(which(&t, -1), 1);
    trees_fini(&t);
}

static void test_rollback_other_fs(void **state)
{
    char storage[PATH_MAX];

    (void)state;
    if (!fix_other_fs(storage))
        skip();
    rollback_everywhere(storage);
}

static int begin(void **state)
{
    struct timespec now;

    (void)state;
    umask(022);
    fix_begin();
    fix_path(storage_path, "storage");
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    fix_start = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    /* No times before the start: everything is "now", and commits are compared without them. */
    fix_start -= (int64_t)3600 * 1000000000;
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
        cmocka_unit_test(test_errors_in_the_run),
        cmocka_unit_test(test_kill_in_commit),
        cmocka_unit_test(test_kill_in_commit_other_fs),
        cmocka_unit_test(test_kill_in_commit_in_place),
        cmocka_unit_test(test_kill_in_transaction),
        cmocka_unit_test(test_errors_in_commit),
        cmocka_unit_test(test_rollback),
        cmocka_unit_test(test_rollback_other_fs),
        cmocka_unit_test(test_kill_in_former_commit),
        cmocka_unit_test(test_journal_goes_first),
    };

    return cmocka_run_group_tests(tests, begin, end);
}
