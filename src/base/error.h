/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The error object that crosses layers: a negative errno, the flag, key, path or step it is about,
 * and one line for a person. Internal functions that cannot say more return a bare negative errno.
 */
#pragma once

#include <stdarg.h>

#include "base/util.h"

enum error_kind {
    ERROR_NONE = 0,
    ERROR_USAGE,    /* the command line is wrong: exit 2 */
    ERROR_POLICY,   /* the policy is impossible or contradictory: exit 125 */
    ERROR_SETUP,    /* the sandbox could not be made: exit 125 */
    ERROR_NOTFOUND, /* the command does not exist: exit 127 */
    ERROR_NOEXEC,   /* the command was found but cannot be executed: exit 126 */
};

struct error {
    enum error_kind kind;
    int code;          /* negative errno, or 0 when no system call failed */
    char where[160];   /* flag, field, path or launch step; may be empty */
    char message[512]; /* one line, no newline, without `where` */
};

/* Fills *e (which may be NULL) and returns code, or -EINVAL when code is 0, so that
 * `return error_set(e, ...)` always fails. */
int error_set(struct error *e, enum error_kind kind, int code, const char *where, const char *fmt,
              ...) _printf_(5, 6);

/* Text of a negative or positive errno; never NULL, thread-safe. */
const char *error_text(int code);
