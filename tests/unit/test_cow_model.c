/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The copy-on-write layer against a real copy: random operations on both, compared after each step;
 * then commit and compare, or abort and compare bit by bit. COW_SEEDS: number of seeds (24), COW_SEED:
 * the first one, COW_STEPS: operations a seed (60).
 */
#include "cow_fixture.h"

static uint64_t rng;

static unsigned pick(unsigned n)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (unsigned)(rng >> 33) % n;
}

static int env_number(const char *name, int otherwise)
{
    const char *text = getenv(name);

    return text ? atoi(text) : otherwise;
}

/* ---- a tree to begin with ---- */

static void put(int dir_fd, const char *name, mode_t mode, const char *text, size_t times)
{
    int fd = openat(dir_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);

    assert_true(fd >= 0);
    for (size_t i = 0; i < times; i++)
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void age_all(int dir_fd)
{
    struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000, .tv_nsec = 5}};
    DIR *dir = fdopendir(openat(dir_fd, ".", O_RDONLY | O_DIRECTORY));
    struct dirent *e;

    while ((e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (e->d_type == DT_DIR) {
            int fd = openat(dir_fd, e->d_name, O_RDONLY | O_DIRECTORY);

            age_all(fd);
            close(fd);
        }
        utimensat(dir_fd, e->d_name, old, AT_SYMLINK_NOFOLLOW);
    }
    closedir(dir);
    futimens(dir_fd, old);
}

static void make_tree(int fd)
{
    int sub_fd;

    assert_int_equal(mkdirat(fd, "a", 0755), 0);
    assert_int_equal(mkdirat(fd, "a/a", 0750), 0);
    assert_int_equal(mkdirat(fd, "a/a/b", 0755), 0);
    assert_int_equal(mkdirat(fd, "b", 0777), 0);
    assert_int_equal(mkdirat(fd, "c", 0755), 0);
    put(fd, "a/b", 0644, "lower a/b\n", 3);
    put(fd, "a/a/a", 0600, "deep\n", 1);
    put(fd, "a/a/b/c", 0644, "deeper\n", 900);
    put(fd, "d", 0640, "0123456789", 20);
    put(fd, "b/a", 0755, "#!/bin/sh\n", 1);
    put(fd, "b/d", 0644, "", 0);
    assert_int_equal(linkat(fd, "d", fd, "b/e", 0), 0);
    assert_int_equal(linkat(fd, "b/a", fd, "a/a/d", 0), 0);
    assert_int_equal(symlinkat("../d", fd, "a/c"), 0);
    assert_int_equal(symlinkat("/nowhere", fd, "e"), 0);
    assert_int_equal(symlinkat("../a/a", fd, "b/c"), 0);
    assert_int_equal(mkfifoat(fd, "a/e", 0644), 0);
    sub_fd = openat(fd, "a", O_RDONLY | O_DIRECTORY);
    fsetxattr(sub_fd, "user.one", "1", 1, 0);
    close(sub_fd);
    age_all(fd);
}

/* ---- both sides ---- */

struct both {
    struct cow_layer *l;
    int real_fd;
    int step, asked, found, missing; /* paths */
    char text[256];                  /* the operation, for messages */
};

static void any_path(char path[32])
{
    unsigned depth = pick(3);

    path[0] = '\0';
    for (unsigned i = 0; i <= depth; i++)
        sprintf(path + strlen(path), "%s%c", i ? "/" : "", 'a' + (char)pick(5));
}

/* The real side's directory: no links followed, as the layer's walk here. */
static int real_walk(struct both *b, const char *path, const char **ret_name)
{
    const char *slash = strrchr(path, '/');
    char dir[32];
    int fd;

    *ret_name = slash ? slash + 1 : path;
    snprintf(dir, sizeof(dir), "%.*s", slash ? (int)(slash - path) : 1, slash ? path : ".");
    fd = sys_openat2(b->real_fd, dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, RESOLVE_NO_SYMLINKS);
    return fd == -ELOOP ? -ENOTDIR : fd;
}

enum op_kind {
    DO_WRITE,
    DO_APPEND,
    DO_CREATE,
    DO_EXCLUSIVE,
    DO_CUT,
    DO_TRUNCATE,
    DO_MKDIR,
    DO_RMDIR,
    DO_UNLINK,
    DO_RENAME,
    DO_NOREPLACE,
    DO_EXCHANGE,
    DO_LINK,
    DO_SYMLINK,
    DO_FIFO,
    DO_CHMOD,
    DO_CHOWN,
    DO_TIMES,
    DO_XATTR,
    DO_UNXATTR,
    DO_TMPFILE,
    DO_REOPEN,
    DO_READ_FD_CHMOD,
    DO_COUNT,
};
static const char *const op_names[DO_COUNT] = {
    "write",  "append", "create",    "exclusive", "cut",     "truncate", "mkdir",        "rmdir",
    "unlink", "rename", "noreplace", "exchange",  "link",    "symlink",  "fifo",         "chmod",
    "chown",  "times",  "xattr",     "unxattr",   "tmpfile", "reopen",   "read-fd-chmod"};

/* One operation in (directory, name), done with `fd` from either side. */
struct args {
    enum op_kind kind;
    unsigned a, b;
};

static int open_flags(const struct args *x)
{
    switch (x->kind) {
    case DO_WRITE: return O_WRONLY;
    case DO_APPEND: return O_WRONLY | O_APPEND;
    case DO_CREATE: return O_RDWR | O_CREAT;
    case DO_EXCLUSIVE: return O_RDWR | O_CREAT | O_EXCL;
    case DO_CUT: return O_WRONLY | O_TRUNC;
    default: return O_RDWR;
    }
}

static int on_open(const struct args *x, int fd)
{
    char text[32];
    int n = snprintf(text, sizeof(text), "%u-%u", x->a, x->b);

    if (fd < 0)
        return fd;
    if (x->kind == DO_TRUNCATE)
        n = ftruncate(fd, x->a % 300);
    else if (x->kind == DO_APPEND)
        n = (int)write(fd, text, (size_t)n);
    else if (x->b % 4) /* sometimes it is opened only */
        n = (int)pwrite(fd, text, (size_t)n, x->a % 50);
    close(fd);
    return n < 0 ? -errno : 0;
}

static int on_object(const struct args *x, int fd)
{
    struct timespec t[2] = {{.tv_sec = x->a}, {.tv_sec = x->b, .tv_nsec = 7}};
    char path[FD_PATH_MAX], value[16];
    struct stat st;
    int r = -1;

    if (fd < 0)
        return fd;
    fd_path(fd, path);
    fstat(fd, &st);
    snprintf(value, sizeof(value), "v%u", x->a % 10);
    if (S_ISLNK(st.st_mode) && x->kind != DO_TIMES && x->kind != DO_CHOWN) {
        close(fd);
        return -EOPNOTSUPP;
    }
    switch (x->kind) {
    case DO_CHMOD: r = chmod(path, (S_ISDIR(st.st_mode) ? 0700 : 0600) | (x->a & 0177)); break;
    case DO_CHOWN: r = chown(path, geteuid() ? (uid_t)-1 : x->a % 3, (gid_t)-1); break;
    case DO_TIMES: r = utimensat(AT_FDCWD, path, t, 0); break;
    case DO_XATTR: r = setxattr(path, x->b % 2 ? "user.one" : "user.two", value, 2, 0); break;
    default: r = removexattr(path, "user.one"); break;
    }
    r = r < 0 ? -errno : 0;
    close(fd);
    return r;
}

static enum cow_need need_of(const struct args *x)
{
    return x->kind == DO_XATTR || x->kind == DO_UNXATTR ? COW_NEED_WRITE : COW_NEED_OWNER;
}

static unsigned rename_flags(enum op_kind k)
{
    return k == DO_NOREPLACE ? RENAME_NOREPLACE : k == DO_EXCHANGE ? RENAME_EXCHANGE : 0;
}

static int do_real(const struct args *x, int dir, const char *name, int dir2, const char *name2)
{
    char target[32], path[FD_PATH_MAX];
    struct stat st;
    int fd, e;

    snprintf(target, sizeof(target), "to%u", x->a % 9);
    switch (x->kind) {
    case DO_WRITE:
    case DO_APPEND:
    case DO_CREATE:
    case DO_EXCLUSIVE:
    case DO_CUT:
    case DO_TRUNCATE:
    case DO_REOPEN:
        if (fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISFIFO(st.st_mode))
            return x->kind == DO_EXCLUSIVE ? -EEXIST : -ENXIO;
        fd = openat(dir, name, open_flags(x) | O_NOFOLLOW | O_CLOEXEC, 0600 | (x->a & 0177));
        return on_open(x, fd < 0 ? -errno : fd);
    case DO_MKDIR: e = mkdirat(dir, name, 0700 | (x->a & 077)); break;
    case DO_RMDIR: e = unlinkat(dir, name, AT_REMOVEDIR); break;
    case DO_UNLINK: e = unlinkat(dir, name, 0); break;
    case DO_RENAME:
    case DO_NOREPLACE:
    case DO_EXCHANGE: return sys_renameat2(dir, name, dir2, name2, rename_flags(x->kind));
    case DO_LINK: e = linkat(dir, name, dir2, name2, 0); break;
    case DO_SYMLINK: e = symlinkat(target, dir, name); break;
    case DO_FIFO: e = mknodat(dir, name, S_IFIFO | 0644, 0); break;
    case DO_TMPFILE:
        fd = openat(dir, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0640);
        if (fd < 0)
            return -errno;
        fd_path(fd, path);
        e = write(fd, target, 3) == 3 ? linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW) : -1;
        e = e < 0 ? -errno : 0;
        close(fd);
        return e;
    case DO_READ_FD_CHMOD:
        fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
        if (fd < 0)
            return -errno;
        e = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? fchmod(fd, 0600 | (x->a & 0177)) : 0;
        close(fd);
        break;
    default:
        fd = openat(dir, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        return on_object(x, fd < 0 ? -errno : fd);
    }
    return e < 0 ? -errno : 0;
}

static int do_cow(struct cow_layer *l, const struct args *x, struct cow_pos *dir, const char *name,
                  struct cow_pos *dir2, const char *name2)
{
    char target[32];
    int fd, fd2, e;

    snprintf(target, sizeof(target), "to%u", x->a % 9);
    switch (x->kind) {
    case DO_REOPEN: /* /proc/self/fd/N of a read-only descriptor */
        fd = cow_open(l, dir, name, O_RDONLY, 0);
        if (fd < 0)
            return fd;
        fd2 = cow_open_fd(l, fd, O_RDWR);
        close(fd);
        if (fd2 == -EISDIR)
            return -EISDIR;
        return on_open(x, fd2);
    case DO_WRITE:
    case DO_APPEND:
    case DO_CREATE:
    case DO_EXCLUSIVE:
    case DO_CUT:
    case DO_TRUNCATE:
        return on_open(x, cow_open(l, dir, name, open_flags(x), 0600 | (x->a & 0177)));
    case DO_MKDIR: return cow_mkdir(l, dir, name, 0700 | (x->a & 077));
    case DO_RMDIR: return cow_rmdir(l, dir, name);
    case DO_UNLINK: return cow_unlink(l, dir, name);
    case DO_RENAME:
    case DO_NOREPLACE:
    case DO_EXCHANGE: return cow_rename(l, dir, name, dir2, name2, rename_flags(x->kind));
    case DO_LINK: return fix_link(l, dir, name, dir2, name2);
    case DO_SYMLINK: return cow_symlink(l, target, dir, name);
    case DO_FIFO: return cow_mknod(l, dir, name, S_IFIFO | 0644);
    case DO_TMPFILE:
        fd = cow_open(l, dir, ".", O_TMPFILE | O_RDWR, 0640);
        if (fd < 0)
            return fd;
        e = write(fd, target, 3) == 3 ? cow_link_fd(l, fd, dir, name) : -EIO;
        close(fd);
        return e;
    case DO_READ_FD_CHMOD:
        fd = cow_open(l, dir, name, O_RDONLY, 0);
        if (fd == -ENXIO)
            return 0;
        if (fd < 0)
            return fd;
        {
            struct stat st;

            e = 0;
            if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
                fd2 = cow_change_fd(l, fd, COW_NEED_OWNER);
                e = fd2 < 0 ? fd2 : sys_chmod_fd(fd2, 0600 | (x->a & 0177));
                if (fd2 >= 0)
                    close(fd2);
            }
        }
        close(fd);
        return e;
    default: return on_object(x, fix_change(l, dir, name, need_of(x)));
    }
}

static void one_step(struct both *b)
{
    struct args x = {.kind = pick(DO_COUNT), .a = pick(1000), .b = pick(1000)};
    char path[32], path2[32];
    const char *name, *name2, *rname, *rname2;
    struct cow_pos p = COW_POS_INIT, p2 = COW_POS_INIT;
    int want, have, dir, dir2;

    any_path(path);
    any_path(path2);
    snprintf(b->text, sizeof(b->text), "step %d: %s %s %s %u %u", b->step, op_names[x.kind], path,
             path2, x.a, x.b);
    if (getenv("COW_VERBOSE"))
        fprintf(stderr, "%s\n", b->text);
    dir = real_walk(b, path, &rname);
    dir2 = real_walk(b, path2, &rname2);
    want = dir < 0 ? dir : dir2 < 0 ? dir2 : do_real(&x, dir, rname, dir2, rname2);
    have = fix_walk(b->l, path, &p, &name);
    if (have == 0)
        have = fix_walk(b->l, path2, &p2, &name2);
    if (have == 0)
        have = do_cow(b->l, &x, &p, name, &p2, name2);
    cow_pos_fini(&p);
    cow_pos_fini(&p2);
    if (dir >= 0)
        close(dir);
    if (dir2 >= 0)
        close(dir2);
    if (want != have)
        fail_msg("%s: want %s, have %s", b->text, strerror(-want), strerror(-have));
}

/* ---- paths at once ---- */

/* Of up to four names, with what cow_path() leaves to others, or must not be misled by. */
static void odd_path(char path[64])
{
    static const char *const joins[] = {"/", "/", "/", "/", "//", "/./", "/../"};
    unsigned depth = pick(4);

    path[0] = '\0';
    for (unsigned i = 0; i <= depth; i++)
        sprintf(path + strlen(path), "%s%c", i ? joins[pick(7)] : "", 'a' + (char)pick(5));
    if (pick(8) == 0)
        strcat(path, pick(2) ? "/" : "/..");
}

/* The same name by name: the directory and the last name; links are not followed. */
static int walk_by_hand(struct cow_layer *l, const char *path, struct cow_pos *ret,
                        char name[NAME_MAX + 1])
{
    struct cow_pos p = COW_POS_INIT, next = COW_POS_INIT;
    int e = cow_root(l, &p);

    for (const char *end = strchr(path, '/'); e == 0 && end; end = strchr(path, '/')) {
        snprintf(name, NAME_MAX + 1, "%.*s", (int)(end - path), path);
        path = end + 1;
        if (!*name || strcmp(name, ".") == 0)
            continue;
        e = strcmp(name, "..") == 0 ? cow_parent(l, &p, &next) : cow_enter(l, &p, name, &next);
        cow_pos_fini(&p);
        p = next;
        next = (struct cow_pos)COW_POS_INIT;
    }
    snprintf(name, NAME_MAX + 1, "%s", path);
    *ret = p;
    return e;
}

/* What was decided at once is what the walk finds, and what the real copy has. */
static void compare_path(struct both *b, const char *path, unsigned flags, struct cow_path *w)
{
    _cleanup_cow_pos_ struct cow_pos p = COW_POS_INIT;
    struct cow_entry en = {0};
    char name[NAME_MAX + 1];
    int have = cow_path(b->l, path, flags, w), want, fd;
    bool missing = have == -ENOENT || (have > 0 && w->fd < 0), same;

    if (have == 0)
        return;
    /* EAGAIN: "..", and somebody else on this machine renamed something meanwhile; openat2(2). */
    do {
        fd = sys_openat2(b->real_fd, path,
                         O_PATH | O_CLOEXEC | (flags & COW_PATH_FOLLOW ? 0 : O_NOFOLLOW) |
                             (flags & COW_PATH_DIRECTORY ? O_DIRECTORY : 0),
                         0, RESOLVE_IN_ROOT);
    } while (fd == -EAGAIN);
    want = walk_by_hand(b->l, path, &p, name);
    if (want == 0)
        want = cow_lookup(b->l, &p, name, &en);
    if (missing) {
        same = fd == -ENOENT && (want == -ENOENT ||
                                 (want == 0 && (en.where == COW_NONE || en.where == COW_WHITEOUT)));
        same = same && (have < 0 || (flags & COW_PATH_PARENT && want == 0));
    } else {
        same = fd >= 0 && have > 0 && want == 0 && en.id.dev == w->id.dev &&
               en.id.ino == w->id.ino && en.id.mode == w->id.mode && en.in_upper == w->in_upper;
    }
    if (have > 0 && flags & COW_PATH_PARENT)
        same = same && w->dir.ino == p.ino && w->dir.node == p.node && strcmp(w->name, name) == 0 &&
               (w->dir.upper_fd >= 0) == (p.upper_fd >= 0);
    if (!same)
        fail_msg("%s: cow_path(%s, %#x): %d, fd %d; by hand %d, where %d; real %d", b->text, path,
                 flags, have, w->fd, want, en.where, fd);
    *(missing ? &b->missing : &b->found) += 1;
    if (fd >= 0)
        close(fd);
}

static void ask_paths(struct both *b)
{
    for (int i = 0; i < 24; i++) {
        struct cow_path w = {.dir = COW_POS_INIT};
        char path[64];

        odd_path(path);
        assert_int_equal(cow_root(b->l, &w.dir), 0);
        compare_path(b, path, pick(8), &w);
        b->asked++;
        if (w.fd >= 0)
            close(w.fd);
        cow_pos_fini(&w.dir);
    }
}

/* By the run itself, or later by another process. */
static void commit_one(struct both *b, const char *storage, bool later)
{
    struct cow_report report = {0};
    struct error err = {0};
    char id[17];
    int e, storage_fd;

    if (later) {
        storage_fd = open(storage, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        snprintf(id, sizeof(id), "%s", cow_id(b->l));
        assert_int_equal(cow_keep(b->l, "kept", &err), 0);
        cow_free(b->l);
        b->l = NULL;
        e = cow_recover(storage_fd, id, COW_RECOVER_COMMIT, &report, &err);
        close(storage_fd);
    } else {
        e = cow_commit(&b->l, 1, &report, &err);
    }
    if (e < 0)
        fail_msg("commit: %s: %s\n%s%s", err.where, err.message, buf_cstr(&report.conflicts),
                 buf_cstr(&report.notes));
    cow_report_fini(&report);
}

static void one_seed(int seed, int steps)
{
    char work[PATH_MAX], copy[PATH_MAX], command[3 * PATH_MAX], storage[PATH_MAX];
    _cleanup_buf_ struct buf want = {0}, have = {0}, before = {0};
    struct error err = {0};
    bool other_fs = fix_other_fs(storage) && seed % 4 == 3;
    struct both b = {0};
    struct timespec now;
    int work_fd;

    rng = (uint64_t)seed * 0x9e3779b97f4a7c15u + 1;
    pick(2);
    fix_path(work, "work");
    fix_path(copy, "copy");
    assert_int_equal(mkdir(work, 0755), 0);
    work_fd = fix_open_dir("work");
    make_tree(work_fd);
    snprintf(command, sizeof(command), "cp -a --preserve=all %s %s", work, copy);
    assert_int_equal(system(command), 0);
    b.real_fd = fix_open_dir("copy");
    clock_gettime(CLOCK_REALTIME_COARSE, &now);
    fix_start = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
    dump_of_real(work_fd, true, &before);
    if (!other_fs)
        fix_path(storage, "storage");
    fix_in_place = seed & 1;
    b.l = fix_layer(work_fd, storage, 0);
    for (b.step = 0; b.step < steps; b.step++) {
        one_step(&b);
        dump_of_real(b.real_fd, false, &want);
        dump_of_view(b.l, &have);
        dump_compare(&want, &have, b.text);
        ask_paths(&b);
    }
    /* Or else nothing was tested. */
    assert_true(b.found * 20 > b.asked && b.missing * 20 > b.asked);
    if (getenv("COW_VERBOSE"))
        fprintf(stderr, "paths: %d found, %d missing, %d asked\n", b.found, b.missing, b.asked);
    dump_of_real(work_fd, true, &have);
    dump_compare(&before, &have, "lower changed before the commit");
    if (seed % 3 == 1) {
        assert_int_equal(cow_abort(b.l, &err), 0);
        dump_of_real(work_fd, true, &have);
        dump_compare(&before, &have, "abort");
    } else {
        commit_one(&b, storage, seed % 3 == 2);
        dump_of_real(work_fd, false, &have);
        dump_compare(&want, &have, "commit");
    }
    cow_free(b.l);
    assert_int_equal(rmdir(storage), 0); /* nothing is left */
    close(b.real_fd);
    close(work_fd);
    fix_rm(work);
    fix_rm(copy);
}

static void test_model(void **state)
{
    int first = env_number("COW_SEED", 1),
        n = env_number("COW_SEEDS", getenv("SANDLOCK_VM") ? 6 : 24);

    (void)state;
    umask(022);
    fix_begin();
    for (int seed = first; seed < first + n; seed++) {
        if (getenv("COW_VERBOSE"))
            fprintf(stderr, "seed %d\n", seed);
        printf("seed %d\n", seed);
        fflush(stdout);
        one_seed(seed, env_number("COW_STEPS", 60));
    }
    fix_rm(fix_top);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_model)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
