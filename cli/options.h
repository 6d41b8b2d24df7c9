/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The option tables and the parser that walks a command line with them. The main thread, before
 * anything is created; the words are our own user's.
 */
#pragma once

#include "base/error.h"

enum option_flags {
    OPT_REPEAT = 1u << 0,     /* may be given more than once */
    OPT_OPTIONAL = 1u << 1,   /* the value may be missing; it is given as --name=VALUE only */
    OPT_LATER = 1u << 2,      /* part of a later feature: refused by name, never ignored */
    OPT_SUPERVISOR = 1u << 3, /* cannot work with --no-supervisor */
    OPT_VALUE = 1u << 4,      /* set by the table itself when a value is named */
};

enum option_group {
    FILES = 0,
    NETWORK,
    LIMITS,
    PROGRAM,
    PROCESS,
    PROTECTION,
    REPORT,
    ENDING,
    GENERAL,
    OPTION_GROUP_COUNT,
};

#define OPT(id, ...) RUN_OPTION_##id,
enum run_option {
#include "run_options.def"
    RUN_OPTION_COUNT
};
#undef OPT
#define OPT(id, ...) CHECK_OPTION_##id,
enum check_option {
#include "check_options.def"
    CHECK_OPTION_COUNT
};
#undef OPT
#define OPT(id, ...) RECOVER_OPTION_##id,
enum recover_option {
#include "recover_options.def"
    RECOVER_OPTION_COUNT
};
#undef OPT

/* Read at every start: names inline, so that the table needs no relocation. The texts of --help are
 * in a table of their own, see help.c. */
struct option {
    char name[20];
    char letter;
    uint8_t flags;
};
extern const struct option run_options[RUN_OPTION_COUNT];
extern const struct option check_options[CHECK_OPTION_COUNT];
extern const struct option recover_options[RECOVER_OPTION_COUNT];

struct option_parser {
    const struct option *options;
    size_t count;
    char *const *argv;  /* moves on; afterwards the first word that is not ours */
    const char *bundle; /* rest of a bundle of letters */
    uint64_t seen[2];
    char flag[24]; /* "--name" of the option just read, for messages */
};
/* The next option: its index with *ret_value (NULL when there is none), -ENOENT at the end of the
 * options, or -EINVAL with *err. */
int option_next(struct option_parser *p, const char **ret_value, struct error *err);
static inline bool option_seen(const struct option_parser *p, unsigned i)
{
    return p->seen[i / 64] >> (i % 64) & 1;
}
