/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Look-ups in the generated tables and the decoder of notifications. Pure, any thread. Names come
 * from the user's policy; numbers and arguments in seccomp_data come from the child.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

#include "arch/table.h"
#include "base/util.h"

const struct arch *const arch_all[] = {&arch_x86_64, &arch_aarch64};
const size_t arch_count = ARRAY_SIZE(arch_all);

const struct call_info *arch_call(const struct arch *a, uint32_t nr)
{
    size_t lo = 0, hi = a->ncalls;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (a->calls[mid].nr < nr)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < a->ncalls && a->calls[lo].nr == nr ? &a->calls[lo] : NULL;
}

const struct call_info *arch_call_by_id(const struct arch *a, enum call_id id)
{
    if ((unsigned)id >= CALL_ID_COUNT || a->index[id] == ARCH_NO_CALL)
        return NULL;
    return &a->calls[a->index[id]];
}

static int compare_name(const void *key, const void *row)
{
    return strcmp(key, ((const struct arch_name *)row)->name);
}

static const struct arch_name *find_name(const char *name)
{
    return bsearch(name, arch_names, arch_names_count, sizeof(arch_names[0]), compare_name);
}

const struct call_info *arch_call_by_name(const struct arch *a, const char *name)
{
    const struct arch_name *n = find_name(name);

    return n ? arch_call_by_id(a, (enum call_id)n->id) : NULL;
}

bool arch_name_known(const char *name)
{
    return find_name(name) != NULL;
}

const char *call_id_name(enum call_id id)
{
    return (unsigned)id < CALL_ID_COUNT ? arch_id_names[id] : "?";
}

const char *call_op_name(enum call_op op)
{
    return (unsigned)op < CALL_OP_COUNT ? arch_op_names[op] : "?";
}

int arch_decode(const struct arch *a, const struct seccomp_data *d, struct call *ret_call)
{
    uint32_t nr = (uint32_t)d->nr;
    const struct call_info *info;

    if (d->arch != a->audit_arch || (nr & a->foreign_bit))
        return -ENOSYS;
    info = arch_call(a, nr);
    if (!info)
        return -ENOSYS;
    *ret_call = (struct call){
        .info = info,
        .op = (enum call_op)info->op,
        .form = (enum call_id)info->id,
    };
    /* What the call does not take is left 0, whatever the register held. */
    for (unsigned i = 0; i < info->nargs; i++)
        ret_call->args[i] = d->args[i];
    a->normalise(ret_call);
    return 0;
}
