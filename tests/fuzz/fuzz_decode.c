/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes the decoder of notifications with its normalisers, every machine on any host. The input is
 * a row of records: machine, number, architecture flaw, six arguments. Checked: foreign calls are
 * refused and leave the result alone, what is accepted belongs to the table, has a canonical form,
 * and invents nothing: arguments the call does not have are 0.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <string.h>

#include "arch/arch.h"

#include "fuzz.h"

struct record {
    uint8_t machine, flaw;
    uint16_t nr;
    uint32_t high; /* upper half of the number's word, or the foreign architecture */
    uint64_t args[6];
};

static bool is_foreign(const struct arch *a, const struct seccomp_data *d)
{
    uint32_t nr = (uint32_t)d->nr;

    return d->arch != a->audit_arch || (a->foreign_bit && (nr & a->foreign_bit)) ||
           !arch_call(a, nr);
}

static void check_known(const struct arch *a, const struct seccomp_data *d, const struct call *c)
{
    CHECK(c->info && c->info->nr == (uint32_t)d->nr);
    CHECK(c->info == arch_call_by_name(a, c->info->name));
    CHECK((unsigned)c->op == c->info->op && (unsigned)c->op < CALL_OP_COUNT);
    CHECK((unsigned)c->form < CALL_ID_COUNT);
    CHECK(call_id_name(c->form));
    CHECK(c->variant <= VARIANT_STRUCT);
    /* Rewriting moves arguments and adds constants; it never needs the machine's own extra ones. */
    if (c->form == c->info->id && c->variant == VARIANT_NONE) {
        for (unsigned i = c->info->nargs; i < 6; i++)
            CHECK(c->args[i] == 0);
    }
    for (unsigned i = 0; i < 6; i++)
        CHECK(a->untag(a->untag(c->args[i])) == a->untag(c->args[i]));
}

/* The same notification decodes to the same call, whatever was in the result before. */
static void check_pure(const struct arch *a, const struct seccomp_data *d, const struct call *first)
{
    struct call again;

    memset(&again, 0x5a, sizeof(again));
    CHECK(arch_decode(a, d, &again) == 0);
    CHECK(again.info == first->info && again.op == first->op && again.form == first->form);
    CHECK(again.variant == first->variant && again.at_flags == first->at_flags);
    CHECK(memcmp(again.args, first->args, sizeof(again.args)) == 0);
}

static void one(const struct record *r)
{
    const struct arch *a = arch_all[r->machine % arch_count];
    struct seccomp_data d = {.nr = r->nr % 640, .arch = a->audit_arch};
    struct call c, before;
    int e;

    memcpy(d.args, r->args, sizeof(d.args));
    if (r->flaw & 1)
        d.nr = (int)((uint32_t)d.nr | r->high);
    if (r->flaw & 2)
        d.arch = r->high;
    if (r->flaw & 4)
        d.arch = arch_all[(r->machine + 1u) % arch_count]->audit_arch;
    memset(&c, 0xa5, sizeof(c));
    before = c;
    e = arch_decode(a, &d, &c);
    CHECK(e == 0 || e == -ENOSYS);
    CHECK((e < 0) == is_foreign(a, &d));
    if (e < 0) {
        CHECK(memcmp(&c, &before, sizeof(c)) == 0);
        return;
    }
    check_known(a, &d, &c);
    check_pure(a, &d, &c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct record r;

    for (; size >= sizeof(r); data += sizeof(r), size -= sizeof(r)) {
        memcpy(&r, data, sizeof(r));
        one(&r);
    }
    return 0;
}
