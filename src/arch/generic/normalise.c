/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewrites calls into the canonical forms of call.h: the engine, and the rows that every machine
 * needs. Pure, runs in the receivers; the arguments are hostile numbers and are only moved.
 */
#include "arch/generic/generic.h"

#include <fcntl.h>

#include "base/util.h"

static uint64_t rewrite_source(const struct call *c, int32_t src)
{
    if (src >= REWRITE_A(0) && src <= REWRITE_A(5))
        return c->args[src - REWRITE_A(0)];
    return (uint64_t)(int64_t)src;
}

bool generic_rewrite(struct call *c, const struct rewrite *rows, size_t n)
{
    size_t lo = 0, hi = n;
    struct call out = *c;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (rows[mid].call < c->info->id)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (lo == n || rows[lo].call != c->info->id)
        return false;
    out.form = (enum call_id)rows[lo].form;
    out.variant = (enum call_variant)rows[lo].variant;
    out.at_flags = (uint32_t)rewrite_source(c, rows[lo].at_flags);
    for (unsigned i = 0; i < ARRAY_SIZE(out.args); i++)
        out.args[i] = rewrite_source(c, rows[lo].args[i]);
    *c = out;
    return true;
}

#define A(n) REWRITE_A(n)
#define ROW(from, to, var, at, ...)                  \
    {                                                \
        CALL_##from, CALL_##to, VARIANT_##var, (at), \
        {                                            \
            __VA_ARGS__                              \
        }                                            \
    }
#define NOFOLLOW AT_SYMLINK_NOFOLLOW

/* faccessat and fchmodat have three arguments: what a program leaves in the fourth register is not
 * a flag word (PR-09), hence the explicit 0. Sorted by call id. */
const struct rewrite generic_rows[] = {
    ROW(accept, accept4, NONE, 0, A(0), A(1), A(2), 0),
    ROW(execve, execveat, NONE, 0, AT_FDCWD, A(0), A(1), A(2), 0),
    ROW(setxattr, setxattrat, NONE, 0, AT_FDCWD, A(0), A(1), A(2), A(3), A(4)),
    ROW(lsetxattr, setxattrat, NONE, NOFOLLOW, AT_FDCWD, A(0), A(1), A(2), A(3), A(4)),
    ROW(getxattr, getxattrat, NONE, 0, AT_FDCWD, A(0), A(1), A(2), A(3)),
    ROW(lgetxattr, getxattrat, NONE, NOFOLLOW, AT_FDCWD, A(0), A(1), A(2), A(3)),
    ROW(listxattr, listxattrat, NONE, 0, AT_FDCWD, A(0), A(1), A(2)),
    ROW(llistxattr, listxattrat, NONE, NOFOLLOW, AT_FDCWD, A(0), A(1), A(2)),
    ROW(removexattr, removexattrat, NONE, 0, AT_FDCWD, A(0), A(1)),
    ROW(lremovexattr, removexattrat, NONE, NOFOLLOW, AT_FDCWD, A(0), A(1)),
    ROW(renameat, renameat2, NONE, 0, A(0), A(1), A(2), A(3), 0),
    ROW(fchmodat, fchmodat2, NONE, 0, A(0), A(1), A(2), 0),
    ROW(faccessat, faccessat2, NONE, 0, A(0), A(1), A(2), 0),
    ROW(pselect6, pselect6, TIMESPEC, 0, A(0), A(1), A(2), A(3), A(4), A(5)),
    ROW(utimensat, utimensat, TIMESPEC, 0, A(0), A(1), A(2), A(3)),
    ROW(setxattrat, setxattrat, STRUCT, A(2), A(0), A(1), A(3), A(4), A(5)),
    ROW(getxattrat, getxattrat, STRUCT, A(2), A(0), A(1), A(3), A(4), A(5)),
    ROW(listxattrat, listxattrat, NONE, A(2), A(0), A(1), A(3), A(4)),
    ROW(removexattrat, removexattrat, NONE, A(2), A(0), A(1), A(3)),
};
const size_t generic_rows_count = ARRAY_SIZE(generic_rows);

void generic_normalise(struct call *c)
{
    generic_rewrite(c, generic_rows, generic_rows_count);
}
