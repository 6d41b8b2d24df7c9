/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the commands share: exit codes, messages, output. The main thread of the program.
 */
#pragma once

#include "base/buf.h"
#include "base/error.h"

enum cli_exit {
    EXIT_WRONG_USAGE = 2,
    EXIT_TIMED_OUT = 124,
    EXIT_OWN_FAILURE = 125,
    EXIT_NOT_EXECUTABLE = 126,
    EXIT_NOT_FOUND = 127,
    EXIT_SIGNAL_BASE = 128,
};

/* One file a command. argv is NULL-terminated and begins behind the command's name. */
int cli_run(char *const *argv);
int cli_check(char *const *argv);
int cli_recover(char *const *argv);

/* `sandlock: WHERE: MESSAGE` on stderr, one line whatever the bytes; returns the exit code. */
int cli_fail(const struct error *err);
/* `sandlock: ...` on stderr, one line. */
void cli_note(const char *fmt, ...) _printf_(1, 2);
/* All of b on stdout: 0, or an exit code after saying why not. */
int cli_print(struct buf *b);
int cli_print_version(void);

/* A cow_progress (fs/cow/layer.h), and what takes its line away when the work ended otherwise. */
void cli_progress(void *arg, const char *what, uint64_t done, uint64_t of);
void cli_progress_end(void);

struct option;
enum cli_command { COMMAND_RUN = 0, COMMAND_CHECK, COMMAND_RECOVER, COMMAND_TOP };
/* The help of a command, made from its option table; on stdout. */
int cli_help(enum cli_command c);
