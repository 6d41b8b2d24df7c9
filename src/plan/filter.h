/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter plan (what each system call number gets) and its compiler to classic BPF. Pure: takes
 * the architecture record as an argument, makes no system call, runs in the caller's thread before
 * the child exists. Input is our own policy, never the child's.
 */
#pragma once

#include <linux/filter.h>
#include <linux/seccomp.h>

#include "arch/arch.h"
#include "base/error.h"

/* One comparison of an argument. `wide` compares 64 bits, otherwise the low 32. */
enum arg_cmp {
    CMP_EQ,     /* (arg & mask) == value; a mask of 0 means all bits here and in CMP_NE */
    CMP_NE,     /* (arg & mask) != value */
    CMP_GE,     /* arg >= value, unsigned; mask ignored */
    CMP_ANYSET, /* (arg & mask) != 0 */
};
struct arg_test {
    uint8_t arg; /* 0..5 */
    uint8_t cmp; /* enum arg_cmp */
    bool wide;
    uint64_t mask;
    uint64_t value;
};

/* `ret` is a SECCOMP_RET_* value with its data. All tests of a clause must hold (AND). */
#define FILTER_MAX_TESTS 6
struct filter_clause {
    struct arg_test test[FILTER_MAX_TESTS];
    uint8_t ntests; /* 0: always */
    uint32_t ret;
};

/* Clauses of one number, tried in order; the first that holds decides; none: `otherwise`. */
#define FILTER_MAX_CLAUSES 40
struct filter_entry {
    struct filter_clause *clauses;
    uint16_t nclauses;
    uint32_t otherwise;
};

/* Numbers that the table does not know get `unknown`; foreign architectures are killed. */
struct filter_plan {
    const struct arch *arch;
    struct filter_entry *entries; /* indexed like arch->calls */
    uint32_t unknown;             /* SECCOMP_RET_ERRNO|ENOSYS */
};

int filter_plan_init(struct filter_plan *p, const struct arch *a); /* all known calls allowed */
void filter_plan_fini(struct filter_plan *p);
/* Appends a clause to one call; deny clauses must be added before notify ones (first match wins).
 * Unknown ids on this machine are silently nothing to do. 0, -ENOMEM, -E2BIG. */
int filter_add(struct filter_plan *p, enum call_id id, const struct filter_clause *c);
/* The same for every member of an operation that this machine has. */
int filter_add_op(struct filter_plan *p, enum call_op op, const struct filter_clause *c);

/* What the plan says about one call, without compiling it: the definition that the compiler is
 * tested against, and the answer for calls that explain mode notifies. */
uint32_t filter_eval(const struct filter_plan *p, const struct seccomp_data *d);
bool filter_clause_holds(const struct filter_clause *c, const struct seccomp_data *d);
/* Entry of a call, NULL when this machine has none. */
struct filter_entry *filter_entry(const struct filter_plan *p, enum call_id id);
/* True when some number of the plan can return `action` (SECCOMP_RET_ACTION_FULL part). */
bool filter_has_action(const struct filter_plan *p, uint32_t action);

struct filter_prog {
    struct sock_filter *insns; /* owned */
    size_t len;                /* <= BPF_MAXINSNS */
};
int filter_compile(const struct filter_plan *p, struct filter_prog *ret, struct error *err);
void filter_prog_fini(struct filter_prog *p);

/* Readable listing of the program, for --print-filter: one row an instruction, calls by name. */
struct buf;
void filter_print(const struct filter_plan *p, const struct filter_prog *prog, struct buf *out);
/* The plan as a table, one call a line: number, name, clauses in order, verdict. Calls that are
 * plainly allowed are listed only when `all` is set. */
void filter_print_table(const struct filter_plan *p, bool all, struct buf *out);

/* BPF interpreter with the kernel's semantics for seccomp programs (only the loads seccomp allows).
 * Returns the SECCOMP_RET_* value; an invalid program or out-of-range jump returns
 * SECCOMP_RET_KILL_PROCESS and sets *ret_bad. Used by the tests and by --print-filter's check. */
uint32_t filter_run(const struct filter_prog *prog, const struct seccomp_data *d, bool *ret_bad);
