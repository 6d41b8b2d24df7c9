/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sandlock recover`: staged changes that outlived their run (ST-03, CM-02). The main thread; what is
 * found in the storage was written by us, but a damaged index is told, not trusted.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli.h"
#include "fs/cow/layer.h"
#include "options.h"

#define RECOVER_MAX 64

struct recover_args {
    const char *dir, *storage;
    size_t n;
    struct {
        const char *id;
        enum recover_option o;
    } v[RECOVER_MAX];
};

static const char *const state_names[] = {
    [COW_LIVE] = "running",   [COW_ORPHAN] = "orphan",
    [COW_KEPT] = "kept",      [COW_INTERRUPTED] = "interrupted",
    [COW_BROKEN] = "damaged",
};

/* What may have been chosen by others is shown as text, whatever its bytes. */
static void add_text(struct buf *b, const char *text)
{
    for (; text && *text; text++) {
        if ((unsigned char)*text < ' ' || *text == 0x7f)
            buf_addf(b, "\\%03o", (unsigned char)*text);
        else
            buf_addc(b, *text);
    }
}

static int list_one(const struct cow_info *i, void *arg)
{
    long long age = (long long)time(NULL) - (long long)i->created;
    struct buf *b = arg;

    buf_addf(b, "%s  %-11s  %llds  %llu kB  ", i->id, state_names[i->state], age > 0 ? age : 0,
             (unsigned long long)(i->bytes + 1023) / 1024);
    add_text(b, i->lower ? i->lower : "?");
    if (i->command) {
        buf_adds(b, "  ");
        add_text(b, i->command);
    }
    if (i->reason) {
        buf_adds(b, "  (");
        add_text(b, i->reason);
        buf_addc(b, ')');
    }
    buf_addc(b, '\n');
    return 0;
}

static int list_all(int storage_fd, struct error *err)
{
    _cleanup_buf_ struct buf b = {0};
    int r = cow_storage_list(storage_fd, list_one, &b);

    if (r < 0)
        return error_set(err, ERROR_SETUP, r, "recover", "cannot list the storage: %s",
                         error_text(r));
    return cli_print(&b);
}

static int recover_one(int storage_fd, const char *id, enum cow_recover_what what,
                       struct error *err)
{
    struct cow_report report = {.progress = cli_progress};
    _cleanup_buf_ struct buf told = {0};
    int r = cow_recover(storage_fd, id, what, &report, err);

    cli_progress_end();
    buf_add(&told, report.conflicts.data, report.conflicts.len);
    buf_add(&told, report.notes.data, report.notes.len);
    if (told.len)
        (void)cli_print(&told);
    cow_report_fini(&report);
    return r;
}

static int print_some(struct buf *b)
{
    int r = cli_print(b);

    b->len = 0;
    return r ? -EPIPE : 0;
}

static int show_one(int storage_fd, const char *id, enum cow_show how, struct error *err)
{
    _cleanup_buf_ struct buf b = {0};
    int r = cow_show(storage_fd, id, how, print_some, &b, err);

    return r < 0 || !b.len ? r : cli_print(&b);
}

static int recover_do(int storage_fd, const char *id, enum recover_option o, struct error *err)
{
    switch (o) {
    case RECOVER_OPTION_commit: return recover_one(storage_fd, id, COW_RECOVER_COMMIT, err);
    case RECOVER_OPTION_rollback: return recover_one(storage_fd, id, COW_RECOVER_ROLLBACK, err);
    case RECOVER_OPTION_abort: return recover_one(storage_fd, id, COW_RECOVER_DROP, err);
    case RECOVER_OPTION_diff: return show_one(storage_fd, id, COW_SHOW_DIFF, err);
    case RECOVER_OPTION_changes_json: return show_one(storage_fd, id, COW_SHOW_JSON, err);
    default: return show_one(storage_fd, id, COW_SHOW_LIST, err);
    }
}

static int recover_parse(struct recover_args *a, char *const *argv, struct error *err, int *ret_end)
{
    struct option_parser p = {
        .options = recover_options, .count = RECOVER_OPTION_COUNT, .argv = argv};
    const char *value;
    int o;

    *ret_end = -1;
    while ((o = option_next(&p, &value, err)) >= 0) {
        if (o == RECOVER_OPTION_help || o == RECOVER_OPTION_version) {
            *ret_end = o == RECOVER_OPTION_help ? cli_help(COMMAND_RECOVER) : cli_print_version();
            return 0;
        }
        if (o == RECOVER_OPTION_fs_storage) {
            a->storage = value;
            continue;
        }
        if (a->n == RECOVER_MAX)
            return error_set(err, ERROR_USAGE, -E2BIG, p.flag, "more than %d at a time",
                             RECOVER_MAX);
        a->v[a->n].id = value;
        a->v[a->n++].o = o;
    }
    if (o != -ENOENT)
        return o;
    a->dir = *p.argv ? *p.argv : ".";
    if (*p.argv && p.argv[1])
        return error_set(err, ERROR_USAGE, -EINVAL, p.argv[1],
                         "recover takes one work directory at most");
    return 0;
}

static int recover(const struct recover_args *a, struct error *err)
{
    _cleanup_close_ int lower_fd = -1, storage_fd = -1;
    int r = 0, fd = sys_open_path(AT_FDCWD, a->dir, O_DIRECTORY);

    if (fd < 0 && !a->storage)
        return error_set(err, ERROR_SETUP, fd, "recover", "%s: %s", a->dir, error_text(fd));
    lower_fd = fd < 0 ? -1 : fd;
    fd = cow_storage_open(lower_fd, a->storage, false, err);
    if (fd == -ENOENT && a->n == 0)
        return 0; /* nothing was ever stored */
    if (fd == -ENOENT)
        return error_set(err, ERROR_SETUP, fd, a->v[0].id, "there is no such layer of %s", a->dir);
    if (fd < 0)
        return fd;
    storage_fd = fd;
    if (a->n == 0)
        return list_all(storage_fd, err);
    for (size_t i = 0; r >= 0 && i < a->n; i++)
        r = recover_do(storage_fd, a->v[i].id, a->v[i].o, err);
    return r;
}

int cli_recover(char *const *argv)
{
    struct recover_args a = {0};
    struct error err = {0};
    int end, r = recover_parse(&a, argv, &err, &end);

    if (r == 0 && end >= 0)
        return end;
    if (r == 0)
        r = recover(&a, &err);
    return r < 0 ? cli_fail(&err) : r;
}
