/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A table of mounts as /proc/<pid>/mountinfo tells it, which of them are shown, and the three files made from it.
 * Pure: no kernel calls. Rows may come from the kernel's text or be added by a feature with mounts of its own.
 */
#pragma once

#include "base/buf.h"

/* Strings as in mountinfo: blanks, newlines and backslashes as \ooo. Borrowed. */
struct mount_row {
    unsigned id, parent;
    const char *dev;  /* major:minor */
    const char *root; /* of the mount within its file system */
    const char *point;
    const char *options; /* of the mount: rw,relatime */
    const char *tags;    /* "shared:1 master:2", or "" */
    const char *type, *source, *super;
    bool shown;
};

struct mount_table {
    struct mount_row *rows;
    size_t n, cap;
    int error;
};
void mount_table_fini(struct mount_table *t);
#define _cleanup_mount_table_ _cleanup_(mount_table_fini)

/* Adds the rows of a mountinfo, which is cut up in place and must live as long as the table. Lines that are not
 * understood are left out: they are not shown. */
void mount_table_parse(struct mount_table *t, char *text);
void mount_table_add(struct mount_table *t, const struct mount_row *row);

/* Shows the mount with this number. */
void mount_table_show(struct mount_table *t, unsigned id);
/* Shows what is mounted below this absolute path; hides what is mounted below it or at it. */
void mount_table_show_beneath(struct mount_table *t, const char *path);
void mount_table_hide_beneath(struct mount_table *t, const char *path);

enum mount_format { MOUNTS, MOUNTINFO, MOUNTSTATS };
/* The shown rows. The parent of a row is its nearest shown one. 0 or -ENOMEM. */
int mount_table_render(const struct mount_table *t, enum mount_format format, struct buf *out);
