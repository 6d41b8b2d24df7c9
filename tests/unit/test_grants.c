/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Grants and denies by identity: which objects a granted or denied path covers after renames, through
 * links, hard links and bind mounts (those need root and are left out otherwise).
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "fs/deny.h"
#include "fs/grants.h"
#include "fs/resolve.h"

static char root[64];

static void file(const char *path)
{
    int fd = open(path, O_CREAT | O_WRONLY, 0644);

    assert_true(fd >= 0);
    close(fd);
}

static int setup(void **state)
{
    (void)state;
    strcpy(root, "/tmp/grants.XXXXXX");
    assert_non_null(mkdtemp(root));
    assert_int_equal(chdir(root), 0);
    assert_int_equal(mkdir("w", 0755) | mkdir("w/sub", 0755) | mkdir("r", 0755) |
                         mkdir("r/deep", 0755) | mkdir("none", 0755),
                     0);
    file("w/f");
    file("w/sub/g");
    file("r/f");
    file("r/deep/g");
    file("none/f");
    file("none/one");
    assert_int_equal(symlink("w", "link"), 0);
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];

    (void)state;
    assert_int_equal(chdir("/"), 0);
    snprintf(cmd, sizeof(cmd), "rm -rf '%s'", root);
    return system(cmd);
}

static int path_fd(const char *path)
{
    int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return fd;
}

static void add(struct fs_grants *g, struct fs_grant *v, const char *path, char *buf, bool optional)
{
    sprintf(buf, "%s/%s", root, path);
    v[g->n++] = (struct fs_grant){.path = buf, .optional = optional};
    g->v = v;
}

struct fixture {
    struct policy p;
    struct fs_grant r[8], w[8];
    char text[16][128];
    int n;
};
static void granted(struct fixture *f, const char *path, int bits)
{
    if (bits & GRANT_WRITE)
        add(&f->p.fs_write, f->w, path, f->text[f->n++], false);
    else
        add(&f->p.fs_read, f->r, path, f->text[f->n++], false);
}
static struct grants *built(struct fixture *f)
{
    struct grants *g = NULL;
    struct error err = {0};

    if (grants_new(&f->p, &g, &err) < 0)
        fail_msg("%s: %s", err.where, err.message);
    return g;
}

static int of(const struct grants *g, const char *path)
{
    int fd = path_fd(path), bits = grants_of_object(g, fd, -1, NULL);
    char dir[256], *slash;
    int parent;

    /* Whether the parent is told or found must not matter. */
    snprintf(dir, sizeof(dir), "%s", path);
    slash = strrchr(dir, '/');
    if (slash) {
        *slash = '\0';
        parent = open(dir, O_PATH | O_DIRECTORY);
        assert_int_equal(grants_of_object(g, fd, parent, slash + 1), bits);
        close(parent);
    }
    close(fd);
    return bits;
}

#define RW (GRANT_READ | GRANT_WRITE)

static void test_trees(void **state)
{
    struct fixture f = {0};

    (void)state;
    granted(&f, "r", GRANT_READ);
    granted(&f, "w", GRANT_WRITE);
    granted(&f, "none/one", GRANT_WRITE);
    struct grants *g = built(&f);
    assert_int_equal(of(g, "w"), RW);
    assert_int_equal(of(g, "w/f"), RW);
    assert_int_equal(of(g, "w/sub/g"), RW);
    assert_int_equal(of(g, "r/deep/g"), GRANT_READ);
    assert_int_equal(of(g, "none/f"), 0);
    assert_int_equal(of(g, "none"), 0);
    assert_int_equal(of(g, "none/one"), RW);
    assert_int_equal(of(g, "."), 0);
    assert_int_equal(of(g, "/etc/passwd"), 0);
    grants_free(g);
}

static void test_overlap_is_union(void **state)
{
    struct fixture f = {0};

    (void)state;
    granted(&f, "r", GRANT_READ);
    granted(&f, "r/deep", GRANT_WRITE);
    granted(&f, "r", GRANT_READ);
    struct grants *g = built(&f);
    assert_int_equal(of(g, "r/f"), GRANT_READ);
    assert_int_equal(of(g, "r/deep/g"), RW);
    grants_free(g);
}

static void test_links_grant_their_target(void **state)
{
    struct fixture f = {0};

    (void)state;
    granted(&f, "link", GRANT_WRITE);
    struct grants *g = built(&f);
    assert_int_equal(of(g, "w/f"), RW);
    assert_int_equal(of(g, "link"), 0); /* the link itself lies in the root */
    grants_free(g);
}

static void test_follow_the_object(void **state)
{
    struct fixture f = {0};

    (void)state;
    granted(&f, "w", GRANT_WRITE);
    struct grants *g = built(&f);
    assert_int_equal(rename("w", "moved") | mkdir("w", 0755), 0);
    file("w/f");
    assert_int_equal(of(g, "moved/sub/g"), RW);
    assert_int_equal(of(g, "w/f"), 0);
    assert_int_equal(rename("none/f", "moved/in") | rename("moved/f", "none/out"), 0);
    assert_int_equal(of(g, "moved/in"), RW);
    assert_int_equal(of(g, "none/out"), 0);
    grants_free(g);
}

static void test_hard_links_by_their_directory(void **state)
{
    struct fixture f = {0};

    (void)state;
    granted(&f, "w", GRANT_WRITE);
    struct grants *g = built(&f);
    assert_int_equal(link("none/f", "w/linked"), 0);
    assert_int_equal(of(g, "w/linked"), RW);
    assert_int_equal(of(g, "none/f"), 0);
    grants_free(g);
}

static void test_nameless(void **state)
{
    struct fixture f = {0};
    int fd, p[2];

    (void)state;
    granted(&f, "w", GRANT_WRITE);
    struct grants *g = built(&f);
    fd = open("w/f", O_RDONLY);
    assert_int_equal(unlink("w/f"), 0);
    assert_int_equal(grants_of_object(g, fd, -1, NULL), 0);
    close(fd);
    assert_int_equal(pipe(p), 0);
    assert_int_equal(grants_of_object(g, p[0], -1, NULL), 0);
    close(p[0]);
    close(p[1]);
    grants_free(g);
}

static void test_missing(void **state)
{
    struct fixture f = {0};
    struct grants *g;
    struct error err = {0};

    (void)state;
    add(&f.p.fs_read, f.r, "absent", f.text[0], true);
    g = built(&f);
    assert_int_equal(of(g, "none/f"), 0);
    grants_free(g);
    f.r[0].optional = false;
    assert_int_equal(grants_new(&f.p, &g, &err), -ENOENT);
    assert_non_null(strstr(err.message, "absent"));
}

/* ---- denies ---- */

static struct deny *denying(const char *a, const char *b)
{
    struct strv paths = {0};
    struct deny *d = NULL;
    struct error err = {0};
    char text[256];

    snprintf(text, sizeof(text), "%s/%s", root, a);
    strv_add(&paths, text);
    if (b) {
        snprintf(text, sizeof(text), "%s/%s", root, b);
        strv_add(&paths, text);
    }
    if (deny_new(&paths, &d, &err) < 0)
        fail_msg("%s", err.message);
    strv_fini(&paths);
    return d;
}

static int denied(struct deny *d, const char *path)
{
    struct sys_ident id;
    int fd = path_fd(path), r;

    assert_int_equal(sys_identify(fd, &id), 0);
    r = deny_object(d, fd, &id, -1, NULL);
    close(fd);
    return r;
}

/* Places are looked up again after 20 ms when others move things. */
static void settle(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 40000000}, NULL);
}

static void test_denied_trees(void **state)
{
    struct deny *d;

    (void)state;
    assert_int_equal(link("w/f", "none/other"), 0);
    d = denying("w/f", "r/");
    assert_int_equal(denied(d, "w/f"), 1);
    assert_int_equal(denied(d, "none/other"), 1);
    assert_int_equal(denied(d, "w/sub/g"), 0);
    assert_int_equal(denied(d, "w"), 0);
    assert_int_equal(denied(d, "r"), 1);
    assert_int_equal(denied(d, "r/deep/g"), 1);
    assert_int_equal(denied(d, "none/f"), 0);
    assert_int_equal(denied(d, "/proc/version"), 0);
    assert_int_equal(denied(d, "/dev/null"), 0);
    deny_free(d);
}

static void test_denied_moves(void **state)
{
    struct deny *d = denying("w/sub", "r/f");
    int fd;

    (void)state;
    /* Others replace the file and move the directory. */
    file("fresh");
    assert_int_equal(rename("fresh", "r/f"), 0);
    assert_int_equal(denied(d, "r/f"), 1);
    assert_int_equal(rename("w/sub", "none/sub"), 0);
    settle();
    assert_int_equal(denied(d, "none/sub"), 1);
    assert_int_equal(denied(d, "none/sub/g"), 1);
    /* What is above may not be moved from inside. */
    fd = path_fd("r");
    assert_int_equal(deny_is_above(d, fd), 1);
    close(fd);
    fd = path_fd("r/deep");
    assert_int_equal(deny_is_above(d, fd), 0);
    close(fd);
    deny_free(d);
}

static void test_denied_later(void **state)
{
    struct deny *d = denying("none/later/file", "none/soon");
    int fd = path_fd("none");
    struct sys_ident id;

    (void)state;
    assert_int_equal(deny_name(d, fd, "soon"), 1);
    assert_int_equal(deny_name(d, fd, "sooner"), 0);
    assert_int_equal(deny_name(d, fd, "later"), 0);
    assert_int_equal(sys_identify(fd, &id), 0);
    assert_int_equal(deny_keeps(d, fd, &id), 1);
    close(fd);
    assert_int_equal(mkdir("none/later", 0755), 0);
    file("none/later/file");
    file("none/later/more");
    file("none/soon");
    assert_int_equal(denied(d, "none/later/file"), 1);
    assert_int_equal(denied(d, "none/later/more"), 0);
    assert_int_equal(denied(d, "none/soon"), 1);
    deny_free(d);
}

static void test_denied_directory_made_anew(void **state)
{
    struct deny *d = denying("none/empty/x", NULL), *e;

    (void)state;
    assert_int_equal(mkdir("none/empty", 0755), 0);
    e = denying("none/empty/x", NULL);
    assert_int_equal(rmdir("none/empty") | mkdir("none/empty", 0755), 0);
    file("none/empty/x");
    settle();
    assert_int_equal(denied(d, "none/empty/x"), 1);
    assert_int_equal(denied(e, "none/empty/x"), 1);
    deny_free(d);
    deny_free(e);
}

static void test_denied_links(void **state)
{
    struct deny *d;

    (void)state;
    assert_int_equal(symlink("none/one", "to"), 0);
    d = denying("to", NULL);
    assert_int_equal(denied(d, "to"), 1);
    assert_int_equal(denied(d, "none/one"), 1);
    assert_int_equal(denied(d, "none/f"), 0);
    file("fresh");
    assert_int_equal(rename("fresh", "none/one"), 0);
    assert_int_equal(denied(d, "none/one"), 1);
    deny_free(d);
}

static void test_bind_mounts(void **state)
{
    struct fixture f = {0};
    struct grants *g;
    struct deny *d;
    char src[128], dst[128];

    (void)state;
    if (unshare(CLONE_NEWNS) < 0 || mount("", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) {
        print_message("not root: no bind mounts\n");
        skip();
    }
    granted(&f, "r/deep", GRANT_WRITE);
    g = built(&f);
    d = denying("r/deep", NULL);
    assert_int_equal(mkdir("m", 0755), 0);
    snprintf(src, sizeof(src), "%s/r", root);
    snprintf(dst, sizeof(dst), "%s/m", root);
    assert_int_equal(mount(src, dst, NULL, MS_BIND, NULL), 0);
    assert_int_equal(of(g, "m/deep/g"), RW);
    assert_int_equal(of(g, "m/f"), 0);
    assert_int_equal(denied(d, "m/deep/g"), 1);
    assert_int_equal(denied(d, "m/deep"), 1);
    assert_int_equal(denied(d, "m/f"), 0);
    /* Another file system mounted below it. */
    assert_int_equal(mkdir("r/deep/t", 0755) | mount("none", "r/deep/t", "tmpfs", 0, NULL), 0);
    file("r/deep/t/x");
    assert_int_equal(denied(d, "r/deep/t/x"), 1);
    assert_int_equal(of(g, "r/deep/t/x"), RW);
    assert_int_equal(umount("r/deep/t") | umount("m"), 0);
    deny_free(d);
    grants_free(g);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_trees),
        T(test_overlap_is_union),
        T(test_links_grant_their_target),
        T(test_follow_the_object),
        T(test_hard_links_by_their_directory),
        T(test_nameless),
        T(test_missing),
        T(test_denied_trees),
        T(test_denied_moves),
        T(test_denied_later),
        T(test_denied_directory_made_anew),
        T(test_denied_links),
        T(test_bind_mounts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
