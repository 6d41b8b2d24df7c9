/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tables of mounts. Any thread. The text is the kernel's; names in it are of whoever may mount.
 */
#include "fs/mount_table.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

void mount_table_fini(struct mount_table *t)
{
    free(t->rows);
    *t = (struct mount_table){0};
}

void mount_table_add(struct mount_table *t, const struct mount_row *row)
{
    struct mount_row *rows = util_grow(t->rows, t->n, &t->cap, sizeof(*rows));

    if (!rows) {
        t->error = -ENOMEM;
        return;
    }
    t->rows = rows;
    t->rows[t->n++] = *row;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue", proc_pid_mountinfo(5) */
static bool mount_parse_line(char *line, struct mount_row *row)
{
    char *field[6], *dash, *rest, *end;

    *row = (struct mount_row){.tags = ""};
    for (size_t i = 0; i < ARRAY_SIZE(field); i++) {
        field[i] = strsep(&line, " ");
        if (!field[i] || !line)
            return false;
    }
    row->id = (unsigned)strtoul(field[0], &end, 10);
    if (*end || end == field[0])
        return false;
    row->parent = (unsigned)strtoul(field[1], &end, 10);
    if (*end || end == field[1])
        return false;
    row->dev = field[2];
    row->root = field[3];
    row->point = field[4];
    row->options = field[5];
    if (strncmp(line, "- ", 2) == 0) {
        rest = line + 2;
    } else {
        dash = strstr(line, " - ");
        if (!dash)
            return false;
        *dash = '\0';
        row->tags = line;
        rest = dash + 3;
    }
    row->type = strsep(&rest, " ");
    row->source = strsep(&rest, " ");
    row->super = strsep(&rest, " ");
    return row->super != NULL;
}

void mount_table_parse(struct mount_table *t, char *text)
{
    char *line;

    while ((line = strsep(&text, "\n"))) {
        struct mount_row row;

        if (*line && mount_parse_line(line, &row))
            mount_table_add(t, &row);
    }
}

/* ---- what is shown ---- */

void mount_table_show(struct mount_table *t, unsigned id)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i].id == id)
            t->rows[i].shown = true;
    }
}

/* One byte of an escaped name. */
static char mount_byte(const char **at)
{
    const char *s = *at;

    if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
        s[3] <= '7') {
        *at += 4;
        return (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
    }
    *at += 1;
    return *s;
}

/* 1: at the path, 2: beneath it. */
static int mount_relation(const char *point, const char *path)
{
    size_t n = strlen(path);

    if (n == 1)
        return strcmp(point, "/") == 0 ? 1 : 2;
    for (size_t i = 0; i < n; i++) {
        if (!*point || mount_byte(&point) != path[i])
            return 0;
    }
    return *point == '\0' ? 1 : *point == '/' ? 2 : 0;
}

void mount_table_show_beneath(struct mount_table *t, const char *path)
{
    for (size_t i = 0; i < t->n; i++)
        t->rows[i].shown |= mount_relation(t->rows[i].point, path) == 2;
}

void mount_table_hide_beneath(struct mount_table *t, const char *path)
{
    for (size_t i = 0; i < t->n; i++)
        t->rows[i].shown &= mount_relation(t->rows[i].point, path) == 0;
}

/* ---- rendering ---- */

static const struct mount_row *mount_find(const struct mount_table *t, unsigned id)
{
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i].id == id)
            return &t->rows[i];
    }
    return NULL;
}

static unsigned mount_shown_parent(const struct mount_table *t, const struct mount_row *row)
{
    unsigned id = row->parent;

    for (size_t i = 0; i < t->n; i++) {
        const struct mount_row *up = mount_find(t, id);

        if (!up || up->shown)
            break;
        id = up->parent;
    }
    return id;
}

/* What follows "rw" or "ro", with its comma. */
static const char *mount_more(const char *options)
{
    const char *comma = strchr(options, ',');

    return comma ? comma : "";
}

static bool mount_is_ro(const char *options)
{
    return strncmp(options, "ro", 2) == 0 && (options[2] == '\0' || options[2] == ',');
}

static void mount_render_row(const struct mount_table *t, const struct mount_row *m,
                             enum mount_format format, struct buf *out)
{
    bool ro = mount_is_ro(m->options) || mount_is_ro(m->super);

    switch (format) {
    case MOUNTS:
        buf_addf(out, "%s %s %s %s%s%s 0 0\n", m->source, m->point, m->type, ro ? "ro" : "rw",
                 mount_more(m->options), mount_more(m->super));
        break;
    case MOUNTINFO:
        buf_addf(out, "%u %u %s %s %s %s%s%s - %s %s %s\n", m->id, mount_shown_parent(t, m), m->dev,
                 m->root, m->point, m->options, *m->tags ? " " : "", m->tags, m->type, m->source,
                 m->super);
        break;
    case MOUNTSTATS:
        buf_addf(out, "device %s mounted on %s with fstype %s\n", m->source, m->point, m->type);
        break;
    }
}

int mount_table_render(const struct mount_table *t, enum mount_format format, struct buf *out)
{
    if (t->error < 0)
        return t->error;
    for (size_t i = 0; i < t->n; i++) {
        if (t->rows[i].shown)
            mount_render_row(t, &t->rows[i], format, out);
    }
    return buf_error(out);
}
