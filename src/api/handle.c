/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The public run functions: thin over api/sandbox.h. The caller's threads; one handle, one thread.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "api/capi.h"

static const struct sandlock_builder_t *policy_of(const sandlock_sandbox_t *p)
{
    return (const struct sandlock_builder_t *)p;
}

static bool name_is_valid(const char *name)
{
    struct policy scratch;
    bool ok;

    policy_init(&scratch);
    ok = policy_set_name(&scratch, "name", name, NULL) == 0;
    policy_fini(&scratch);
    return ok;
}

bool command_is_valid(const sandlock_sandbox_t *policy, const char *name, const char *const *argv,
                      unsigned argc)
{
    return policy && argv && argc && argv[0] && argv[0][0] && (!name || name_is_valid(name));
}

static void handle_free(struct sandlock_handle_t *h)
{
    if (!h)
        return;
    sandbox_free(h->sandbox);
    stage_result_fini(&h->stage);
    run_result_fini(&h->run);
    strv_fini(&h->argv);
    free(h->name);
    free(h);
}

static struct sandlock_handle_t *handle_new(const sandlock_sandbox_t *policy, const char *name,
                                            const char *const *argv, unsigned argc,
                                            const enum stdio_mode stdio[3], bool capture)
{
    struct sandbox_options o = {.capture = capture, .explain_fd = -1};
    struct sandlock_handle_t *h;
    int r;

    if (!command_is_valid(policy, name, argv, argc))
        return NULL;
    h = calloc(1, sizeof(*h));
    if (!h)
        return NULL;
    if (name)
        h->name = strdup(name);
    r = strv_add_all(&h->argv, argv, argc);
    if (r < 0 || (name && !h->name)) {
        handle_free(h);
        return NULL;
    }
    h->policy = policy_of(policy)->policy;
    h->policy.name = h->name;
    memcpy(o.stdio, stdio, sizeof(o.stdio));
    o.argv = (const char *const *)h->argv.v;
    if (sandbox_create(&h->policy, &o, &h->sandbox, &h->err) < 0) {
        handle_free(h);
        return NULL;
    }
    return h;
}

static int handle_start(struct sandlock_handle_t *h)
{
    int r;

    if (h->started)
        return -EALREADY; /* L-09 */
    h->started = true;
    r = sandbox_start(h->sandbox, &h->err);
    if (r < 0)
        h->start_error = start_exit_code(&h->err);
    return r;
}

static const enum stdio_mode stdio_inherit[3] = {STDIO_INHERIT, STDIO_INHERIT, STDIO_INHERIT};
static const enum stdio_mode stdio_capture[3] = {STDIO_INHERIT, STDIO_PIPED, STDIO_PIPED};

_public_ sandlock_handle_t *sandlock_create(const sandlock_sandbox_t *policy, const char *name,
                                            const char *const *argv, unsigned int argc)
{
    return handle_new(policy, name, argv, argc, stdio_inherit, false);
}

_public_ sandlock_handle_t *sandlock_create_for_run(const sandlock_sandbox_t *policy,
                                                    const char *name, const char *const *argv,
                                                    unsigned int argc)
{
    return handle_new(policy, name, argv, argc, stdio_capture, true);
}

_public_ int sandlock_start(sandlock_handle_t *h)
{
    return h ? handle_start(h) : -1;
}

_public_ sandlock_handle_t *sandlock_popen(const sandlock_sandbox_t *policy, const char *name,
                                           const char *const *argv, unsigned int argc,
                                           uint32_t stdin_mode, uint32_t stdout_mode,
                                           uint32_t stderr_mode, int *out_stdin_fd,
                                           int *out_stdout_fd, int *out_stderr_fd)
{
    const enum stdio_mode stdio[3] = {stdin_mode, stdout_mode, stderr_mode};
    int *out[3] = {out_stdin_fd, out_stdout_fd, out_stderr_fd};
    struct sandlock_handle_t *h;

    if (stdin_mode > STDIO_NULL || stdout_mode > STDIO_NULL || stderr_mode > STDIO_NULL)
        return NULL;
    h = handle_new(policy, name, argv, argc, stdio, true);
    if (!h)
        return NULL;
    if (handle_start(h) < 0) {
        handle_free(h);
        return NULL;
    }
    for (int i = 0; i < 3; i++) {
        if (out[i])
            *out[i] = sandbox_take_stream(h->sandbox, i);
    }
    return h;
}

_public_ int32_t sandlock_handle_pid(const sandlock_handle_t *h)
{
    return h ? (int32_t)sandbox_pid(h->sandbox) : -1;
}

_public_ int sandlock_handle_kill(sandlock_handle_t *h)
{
    int r = h ? sandbox_kill(h->sandbox) : -1;

    return r == -EPIPE || r == -ESRCH || r == -ECONNRESET ? 0 : r; /* dead already: TK-02 */
}

static int handle_restrict(struct sandlock_handle_t *h, const struct limits_restriction *to)
{
    return h ? sandbox_restrict(h->sandbox, to) : -1;
}

_public_ int sandlock_handle_restrict_max_memory(sandlock_handle_t *h, uint64_t bytes)
{
    return bytes ? handle_restrict(h, &(struct limits_restriction){.memory = bytes}) : -EINVAL;
}

_public_ int sandlock_handle_restrict_max_processes(sandlock_handle_t *h, uint32_t n)
{
    return n ? handle_restrict(h, &(struct limits_restriction){.processes = n}) : -EINVAL;
}

_public_ int sandlock_handle_restrict_max_cpu(sandlock_handle_t *h, uint32_t percent)
{
    return percent ? handle_restrict(h, &(struct limits_restriction){.cpu = percent}) : -EINVAL;
}

static sandlock_result_t *result_copy(struct sandlock_handle_t *h)
{
    struct sandlock_result_t *r = calloc(1, sizeof(*r));

    if (!r)
        return NULL;
    r->run = h->run;
    r->run.out[0] = r->run.out[1] = r->run.stats.ports = (struct buf){0};
    for (int i = 0; i < 2; i++)
        buf_add(&r->run.out[i], h->run.out[i].data, h->run.out[i].len);
    if (outcome_changes(&h->stage.changes, &r->changes) < 0) {
        sandlock_result_free(r);
        return NULL;
    }
    return r;
}

_public_ sandlock_result_t *sandlock_handle_wait_timeout(sandlock_handle_t *h, uint64_t timeout_ms)
{
    struct error err;

    if (!h || !h->started)
        return NULL;
    if (!h->waited && h->start_error) {
        h->run = (struct run_result){.reason = REASON_EXITED, .code = h->start_error};
    } else if (!h->waited) {
        uint64_t ns = timeout_ms > UINT64_MAX / 1000000 ? 0 : timeout_ms * 1000000;

        if (sandbox_wait(h->sandbox, ns, &h->run, &err) < 0)
            return NULL;
        (void)outcome_settle(h);
    }
    h->waited = true;
    return result_copy(h);
}

_public_ sandlock_result_t *sandlock_handle_wait(sandlock_handle_t *h)
{
    return sandlock_handle_wait_timeout(h, 0);
}

_public_ void sandlock_handle_free(sandlock_handle_t *h)
{
    handle_free(h);
}

_public_ sandlock_result_t *sandlock_run(const sandlock_sandbox_t *policy, const char *name,
                                         const char *const *argv, unsigned int argc)
{
    struct sandlock_handle_t *h = handle_new(policy, name, argv, argc, stdio_capture, true);
    sandlock_result_t *r;

    if (!h)
        return NULL;
    (void)handle_start(h);
    r = sandlock_handle_wait(h);
    handle_free(h);
    return r;
}

_public_ int sandlock_run_interactive(const sandlock_sandbox_t *policy, const char *name,
                                      const char *const *argv, unsigned int argc)
{
    struct sandlock_handle_t *h = handle_new(policy, name, argv, argc, stdio_inherit, false);
    sandlock_result_t *r;
    int code = 125;

    if (!h)
        return 125;
    (void)handle_start(h);
    r = sandlock_handle_wait(h);
    if (r)
        code = run_result_exit_code(&r->run);
    sandlock_result_free(r);
    handle_free(h);
    return code;
}

_public_ int sandlock_result_exit_code(const sandlock_result_t *r)
{
    return r ? r->run.code : -1;
}

_public_ sandlock_exit_reason sandlock_result_reason(const sandlock_result_t *r)
{
    return r ? (sandlock_exit_reason)r->run.reason : SANDLOCK_EXIT_REASON_KILLED;
}

_public_ int sandlock_result_signal(const sandlock_result_t *r)
{
    return r ? r->run.signal : -1;
}

_public_ uint64_t sandlock_result_memory_kills(const sandlock_result_t *r)
{
    return r ? r->run.stats.limits.memory_kills : 0;
}

_public_ uint64_t sandlock_result_memory_peak(const sandlock_result_t *r)
{
    return r ? r->run.stats.limits.memory_peak : 0;
}

_public_ uint64_t sandlock_result_processes_refused(const sandlock_result_t *r)
{
    return r ? r->run.stats.limits.processes_refused : 0;
}

_public_ uint32_t sandlock_result_processes_peak(const sandlock_result_t *r)
{
    return r ? r->run.stats.limits.processes_peak : 0;
}

_public_ bool sandlock_result_success(const sandlock_result_t *r)
{
    return r && r->run.reason == REASON_EXITED && r->run.code == 0;
}

static const uint8_t *result_bytes(const sandlock_result_t *r, int i, uintptr_t *len)
{
    if (len)
        *len = r ? r->run.out[i].len : 0;
    return r ? (const uint8_t *)r->run.out[i].data : NULL;
}

_public_ const uint8_t *sandlock_result_stdout_bytes(const sandlock_result_t *r, uintptr_t *len)
{
    return result_bytes(r, 0, len);
}

_public_ const uint8_t *sandlock_result_stderr_bytes(const sandlock_result_t *r, uintptr_t *len)
{
    return result_bytes(r, 1, len);
}

static char *result_string(const sandlock_result_t *r, int i)
{
    return r ? strndup(r->run.out[i].data ? r->run.out[i].data : "", r->run.out[i].len) : NULL;
}

_public_ char *sandlock_result_stdout(const sandlock_result_t *r)
{
    return result_string(r, 0);
}

_public_ char *sandlock_result_stderr(const sandlock_result_t *r)
{
    return result_string(r, 1);
}

_public_ void sandlock_result_free(sandlock_result_t *r)
{
    if (!r)
        return;
    run_result_fini(&r->run);
    outcome_changes_fini(&r->changes);
    free(r);
}

_public_ void sandlock_string_free(char *s)
{
    free(s);
}
