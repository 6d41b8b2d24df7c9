/* SPDX-License-Identifier: Apache-2.0 */
/*
 * --help, made from the option tables, for 80 columns. The main thread; nothing here is touched by an
 * ordinary run.
 */
#include <string.h>

#include "cli.h"
#include "options.h"

#define WIDTH 79
#define COLUMN 30

struct help_row {
    const char *value;
    const char *text;
    uint8_t group;
};
#define OPT(id, long_name, short_name, value_name, option_flags, option_group, help) \
    {value_name, help, option_group},
static const struct help_row run_rows[RUN_OPTION_COUNT] = {
#include "run_options.def"
};
static const struct help_row check_rows[CHECK_OPTION_COUNT] = {
#include "check_options.def"
};
static const struct help_row recover_rows[RECOVER_OPTION_COUNT] = {
#include "recover_options.def"
};
#undef OPT

static const char *const group_titles[OPTION_GROUP_COUNT] = {
    [FILES] = "Files",     [NETWORK] = "Network", [LIMITS] = "Limits",
    [PROGRAM] = "Program", [PROCESS] = "Process", [PROTECTION] = "Protection",
    [REPORT] = "Reports",  [ENDING] = "Ending",   [GENERAL] = "General",
};

static void add_spaces(struct buf *b, size_t n)
{
    while (n--)
        buf_addc(b, ' ');
}

/* Adds words from column `at`, continuing lines at `indent`. */
static void add_wrapped(struct buf *b, const char *text, size_t at, size_t indent)
{
    for (bool first = true; *text; first = false) {
        size_t len = strcspn(text, " ");

        if (!first && at + 1 + len > WIDTH) {
            buf_addc(b, '\n');
            add_spaces(b, indent);
            at = indent;
        } else if (!first) {
            buf_addc(b, ' ');
            at++;
        }
        buf_add(b, text, len);
        at += len;
        text += len;
        text += strspn(text, " ");
    }
    buf_addc(b, '\n');
}

static void add_option(struct buf *b, const struct option *o, const struct help_row *row)
{
    size_t start = b->len;
    size_t at;

    if (o->letter)
        buf_addf(b, "  -%c, --%s", o->letter, o->name);
    else
        buf_addf(b, "      --%s", o->name);
    if (row->value)
        buf_addf(b, o->flags & OPT_OPTIONAL ? "[=%s]" : " %s", row->value);
    if (o->flags & OPT_REPEAT)
        buf_adds(b, " ...");
    at = b->len - start;
    if (at + 2 > COLUMN) {
        buf_addc(b, '\n');
        at = 0;
    }
    add_spaces(b, COLUMN - at);
    add_wrapped(b, row->text, COLUMN, COLUMN);
}

static void add_options(struct buf *b, const struct option *options, const struct help_row *rows,
                        size_t count)
{
    _cleanup_buf_ struct buf later = {0};

    for (unsigned g = 0; g < OPTION_GROUP_COUNT; g++) {
        bool titled = false;

        for (size_t i = 0; i < count; i++) {
            if (rows[i].group != g)
                continue;
            if (options[i].flags & OPT_LATER) {
                buf_addf(&later, "%s--%s", later.len ? ", " : "", options[i].name);
                continue;
            }
            if (!titled)
                buf_addf(b, "\n%s:\n", group_titles[g]);
            titled = true;
            add_option(b, &options[i], &rows[i]);
        }
    }
    if (later.len) {
        buf_adds(b, "\nNot built in yet:\n  ");
        add_wrapped(b, buf_cstr(&later), 2, 2);
    }
}

static void help_run(struct buf *b)
{
    buf_adds(b, "Usage: sandlock run [OPTION]... [--] COMMAND [ARGUMENT]...\n"
                "       sandlock run [OPTION]... --exec-shell CMD\n\n"
                "Runs a command that can reach only what the options grant. Options marked ...\n"
                "may be repeated. Nothing behind the command's name is read as an option.\n");
    add_options(b, run_options, run_rows, RUN_OPTION_COUNT);
    buf_adds(b, "\nExit code: the command's own; 128+N when signal N killed it; 124 timeout;\n"
                "125 sandlock failed; 126 the command cannot be executed; 127 it was not found;\n"
                "2 wrong usage.\n");
}

static void help_check(struct buf *b)
{
    buf_adds(b,
             "Usage: sandlock check [OPTION]...\n\n"
             "Tells what this kernel offers, which fallbacks are in use and what follows from\n"
             "them. Exit code: 0 when a sandbox with the default policy can run here, else 1.\n");
    add_options(b, check_options, check_rows, CHECK_OPTION_COUNT);
}

static void help_recover(struct buf *b)
{
    buf_adds(b,
             "Usage: sandlock recover [OPTION]... [DIR]\n\n"
             "Lists the changes below work directories that runs left behind: kept, orphaned by\n"
             "a run that was killed, or interrupted in the middle of their commit. DIR is the\n"
             "work directory (default: the current one).\n");
    add_options(b, recover_options, recover_rows, RECOVER_OPTION_COUNT);
}

static void help_top(struct buf *b)
{
    buf_adds(b, "Usage: sandlock COMMAND [OPTION]...\n\n"
                "Confines programs with Landlock and seccomp; needs no privileges.\n\n"
                "Commands:\n"
                "  run      run a command in a sandbox\n"
                "  check    tell what this kernel offers\n"
                "  recover  list, commit or drop changes that runs left behind\n\n"
                "Not built in yet:\n"
                "  ps, inspect, kill, profile, learn, checkpoint, restore, explain,\n"
                "  completion\n\n"
                "General:\n"
                "  -h, --help       print this help, or that of a command, and exit\n"
                "  -V, --version    print the version and exit\n\n"
                "Example:\n"
                "  sandlock run -r /usr -r /lib -r /lib64 -r /bin -- ls /usr\n");
}

int cli_help(enum cli_command c)
{
    _cleanup_buf_ struct buf b = {0};

    switch (c) {
    case COMMAND_RUN: help_run(&b); break;
    case COMMAND_CHECK: help_check(&b); break;
    case COMMAND_RECOVER: help_recover(&b); break;
    case COMMAND_TOP: help_top(&b); break;
    }
    return cli_print(&b);
}
