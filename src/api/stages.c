/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public functions about transactions: thin over api/transaction.h. One transaction, one thread,
 * sandlock_transaction_kill() excepted; what is told is borrowed from the result.
 */
#include <errno.h>
#include <string.h>

#include "api/capi.h"
#include "api/transaction.h"

struct sandlock_transaction_t {
    struct transaction t;
    bool ran;
};

struct sandlock_transaction_result_t {
    enum transaction_end end;
    int code;
    char *message, *kept;
    struct sandlock_result_t *stages;
    size_t n;
    struct sandlock_result_t whole; /* the changes, and what the last stage ended with */
};

_public_ sandlock_transaction_t *sandlock_transaction_new(void)
{
    sandlock_transaction_t *t = calloc(1, sizeof(*t));

    if (t)
        transaction_init(&t->t);
    return t;
}

_public_ int sandlock_transaction_add(sandlock_transaction_t *t, const sandlock_sandbox_t *policy,
                                      const char *name, const char *const *argv, unsigned int argc)
{
    if (!t)
        return -1;
    if (t->ran || !command_is_valid(policy, name, argv, argc))
        return -EINVAL;
    return transaction_add(&t->t, &((const struct sandlock_builder_t *)policy)->policy, name, argv,
                           argc);
}

_public_ int sandlock_transaction_set_dry_run(sandlock_transaction_t *t, bool v)
{
    if (!t)
        return -1;
    t->t.dry_run = v;
    return 0;
}

_public_ int sandlock_transaction_set_timeout(sandlock_transaction_t *t, uint64_t ms)
{
    if (!t)
        return -1;
    t->t.timeout_ns = ms > UINT64_MAX / 1000000 ? 0 : ms * 1000000;
    return 0;
}

_public_ int sandlock_transaction_kill(sandlock_transaction_t *t)
{
    if (!t)
        return -1;
    transaction_kill(&t->t);
    return 0;
}

_public_ void sandlock_transaction_free(sandlock_transaction_t *t)
{
    if (!t)
        return;
    transaction_fini(&t->t);
    free(t);
}

static char *message_of(const struct error *err)
{
    struct buf b = {0};

    buf_addf(&b, "%s%s%s", err->where, *err->where ? ": " : "", err->message);
    return buf_steal(&b);
}

/* What the stages said moves over; of the last one a copy stays for the whole. */
static int result_fill(sandlock_transaction_result_t *r, struct transaction *t)
{
    r->end = t->end;
    r->code = transaction_code(t);
    r->kept = STEAL_PTR(t->changes.kept);
    if (t->end == TRANSACTION_FAILED && !(r->message = message_of(&t->err)))
        return -ENOMEM;
    r->stages = calloc(t->n_ran + 1, sizeof(*r->stages));
    if (!r->stages)
        return -ENOMEM;
    for (r->n = 0; r->n < t->n_ran; r->n++) {
        r->stages[r->n].run = t->v[r->n].run;
        t->v[r->n].run = (struct run_result){0};
    }
    r->whole.run.code = -1;
    if (r->n)
        r->whole.run = r->stages[r->n - 1].run;
    r->whole.run.out[0] = r->whole.run.out[1] = r->whole.run.stats.ports = (struct buf){0};
    if (t->end == TRANSACTION_FAILED) {
        r->whole.run.reason = REASON_EXITED;
        r->whole.run.code = r->code;
        r->whole.run.signal = 0;
    }
    return outcome_changes(&t->changes.changes, &r->whole.changes);
}

_public_ sandlock_transaction_result_t *sandlock_transaction_run(sandlock_transaction_t *t)
{
    sandlock_transaction_result_t *r = t && !t->ran ? calloc(1, sizeof(*r)) : NULL;

    if (!r)
        return NULL;
    t->ran = true;
    (void)transaction_run(&t->t);
    if (result_fill(r, &t->t) < 0) {
        sandlock_transaction_result_free(r);
        return NULL;
    }
    return r;
}

_public_ sandlock_disposition
sandlock_transaction_result_disposition(const sandlock_transaction_result_t *r)
{
    return r ? (sandlock_disposition)r->end : SANDLOCK_DISPOSITION_FAILED;
}

_public_ int sandlock_transaction_result_exit_code(const sandlock_transaction_result_t *r)
{
    return r ? r->code : -1;
}

_public_ char *sandlock_transaction_result_message(const sandlock_transaction_result_t *r)
{
    return r && r->message ? strdup(r->message) : NULL;
}

_public_ char *sandlock_transaction_result_kept(const sandlock_transaction_result_t *r)
{
    return r && r->kept ? strdup(r->kept) : NULL;
}

_public_ uintptr_t sandlock_transaction_result_stages_len(const sandlock_transaction_result_t *r)
{
    return r ? r->n : 0;
}

_public_ const sandlock_result_t *sandlock_transaction_result_stage(
    const sandlock_transaction_result_t *r, uintptr_t i)
{
    return r && i < r->n ? &r->stages[i] : NULL;
}

_public_ const sandlock_result_t *sandlock_transaction_result_whole(
    const sandlock_transaction_result_t *r)
{
    return r ? &r->whole : NULL;
}

_public_ void sandlock_transaction_result_free(sandlock_transaction_result_t *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->n; i++)
        run_result_fini(&r->stages[i].run);
    outcome_changes_fini(&r->whole.changes);
    free(r->stages);
    free(r->message);
    free(r->kept);
    free(r);
}
