/* SPDX-License-Identifier: Apache-2.0 */
/*
 * `sandlock check`: what this kernel offers, which fallbacks that means, and whether the default
 * policy can run. The main thread; the only input is the kernel's.
 */
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#include "arch/arch.h"
#include "cli.h"
#include "limits/limits.h"
#include "options.h"
#include "plan/landlock.h"

struct feature_row {
    const char *name;
    size_t offset; /* of a bool in struct kernel */
    const char *use;
    const char *without; /* what is done or lost instead; NULL: nothing to say */
};
#define ROW(field, use, without)                             \
    {                                                        \
#field, offsetof(struct kernel, field), use, without \
    }
static const struct feature_row feature_rows[] = {
    ROW(seccomp_filter, "system call filter", "no sandbox can be made"),
    ROW(notify, "calls answered by the supervisor",
        "only --no-supervisor works: no --fs-deny, --timeout, --name"),
    ROW(wait_killable, "signals do not break a call that is being answered",
        "a signal may make an answered call fail with EINTR"),
    ROW(addfd_send, "descriptor and answer handed over in one step",
        "a descriptor may stay open in the command when a signal interrupts its call"),
    ROW(pidfd_open, "process handles", "processes are told apart by number and start time"),
    ROW(pidfd_getfd, "duplicate a descriptor of the command",
        "no UNIX datagrams; sockets received from others neither connect nor listen"),
    ROW(process_vm, "read arguments in one call", "arguments are read through /proc"),
    ROW(ptrace, "inspect and checkpoint processes", "no checkpoint"),
    ROW(user_namespaces, "--user", "--user fails"),
    ROW(close_range, "close inherited descriptors in one call",
        "inherited descriptors are closed one by one"),
    ROW(openat2, "resolve paths in one call", "paths are resolved component by component"),
    ROW(fchmodat2, "change modes by descriptor", "modes are changed through /proc"),
    ROW(setxattrat, "change attributes by descriptor", "attributes are changed through /proc"),
    ROW(proc, "/proc is mounted", "no supervisor can look at its processes"),
};

static bool has(const struct kernel *k, const struct feature_row *row)
{
    return *(const bool *)((const char *)k + row->offset);
}

struct verdict_of_check {
    struct error err; /* why not, when !ok */
    bool ok;
};

/* Asks the code that will decide at the start of a run, not a copy of its rules. */
static void judge(const struct kernel *k, struct verdict_of_check *v)
{
    struct landlock_masks masks;
    struct policy policy;

    policy_init(&policy);
    v->ok =
        policy_validate(&policy, &v->err) == 0 && landlock_masks(&policy, k, &masks, &v->err) == 0;
    policy_fini(&policy);
    if (v->ok && (!k->seccomp_filter || !k->notify)) {
        v->ok = false;
        error_set(&v->err, ERROR_SETUP, -EOPNOTSUPP,
                  k->seccomp_filter ? "notify" : "seccomp_filter", "not available here");
    }
}

static void add_padded(struct buf *b, const char *text, size_t width)
{
    size_t len = strlen(text);

    buf_adds(b, text);
    do {
        buf_addc(b, ' ');
    } while (++len < width);
}

static void table_fallbacks(struct buf *b, const struct kernel *k)
{
    bool any = false;

    buf_adds(b, "\nFallbacks in use\n");
    for (size_t i = 0; i < ARRAY_SIZE(feature_rows); i++) {
        if (has(k, &feature_rows[i]))
            continue;
        any = true;
        buf_adds(b, "  ");
        add_padded(b, feature_rows[i].name, 28);
        buf_addf(b, "%s\n", feature_rows[i].without);
    }
    if (!any)
        buf_adds(b, "  none\n");
}

static void table(struct buf *b, const struct kernel *k, const struct utsname *u,
                  const struct verdict_of_check *v)
{
    buf_addf(b, "sandlock %s, %s, Linux %s\n\nLandlock ABI %d", SANDLOCK_VERSION,
             arch_native()->name, u->release, k->landlock_abi);
    if (k->landlock_abi == 0)
        buf_addf(b, " (%s)", error_text(k->landlock_errno));
    buf_addc(b, '\n');
    for (unsigned i = 0; i < PROTECTION_COUNT; i++) {
        const struct protection_info *info = &protection_info[i];

        buf_adds(b, "  ");
        add_padded(b, info->name, 28);
        buf_addf(b, "%s  ABI %d  %s\n", k->landlock_abi >= info->min_abi ? "yes" : "NO ",
                 info->min_abi, info->what);
    }
    buf_adds(b, "\nKernel features\n");
    for (size_t i = 0; i < ARRAY_SIZE(feature_rows); i++) {
        buf_adds(b, "  ");
        add_padded(b, feature_rows[i].name, 28);
        buf_addf(b, "%s  %s\n", has(k, &feature_rows[i]) ? "yes" : "NO ", feature_rows[i].use);
    }
    buf_adds(b, "\nLimits\n");
    for (unsigned i = 0; i < LIMIT_KIND_COUNT; i++) {
        buf_adds(b, "  ");
        add_padded(b, limits_name(i), 28);
        buf_addf(b, "%s\n", limits_would_be(i));
    }
    table_fallbacks(b, k);
    if (v->ok)
        buf_adds(b, "\nThe default policy can run here.\n");
    else
        buf_addf(b, "\nThe default policy cannot run here: %s%s%s\n", v->err.where,
                 *v->err.where ? ": " : "", v->err.message);
}

static void json_string(struct buf *b, const char *s)
{
    buf_add_json(b, s, strlen(s));
}

static void json_fallbacks(struct buf *b, const struct kernel *k)
{
    const char *comma = "";

    buf_adds(b, ",\"fallbacks\":[");
    for (size_t i = 0; i < ARRAY_SIZE(feature_rows); i++) {
        if (has(k, &feature_rows[i]))
            continue;
        buf_addf(b, "%s{\"missing\":\"%s\",\"consequence\":", comma, feature_rows[i].name);
        json_string(b, feature_rows[i].without);
        buf_addc(b, '}');
        comma = ",";
    }
    buf_addc(b, ']');
}

static void json_limits(struct buf *b)
{
    for (unsigned i = 0; i < LIMIT_KIND_COUNT; i++) {
        buf_addf(b, "%s\"%s\":", i ? "," : ",\"limits\":{", limits_name(i));
        json_string(b, limits_would_be(i));
    }
    buf_addc(b, '}');
}

static void json(struct buf *b, const struct kernel *k, const struct utsname *u,
                 const struct verdict_of_check *v)
{
    buf_addf(b, "{\"version\":\"%s\",\"architecture\":\"%s\",\"kernel\":", SANDLOCK_VERSION,
             arch_native()->name);
    json_string(b, u->release);
    buf_addf(b, ",\"landlock_abi\":%d,\"landlock_errno\":%d,\"protections\":[", k->landlock_abi,
             k->landlock_abi         ? 0
             : k->landlock_errno < 0 ? -k->landlock_errno
                                     : k->landlock_errno);
    for (unsigned i = 0; i < PROTECTION_COUNT; i++) {
        const struct protection_info *info = &protection_info[i];

        buf_addf(b, "%s{\"name\":\"%s\",\"min_abi\":%d,\"state\":\"%s\",\"what\":", i ? "," : "",
                 info->name, info->min_abi,
                 k->landlock_abi >= info->min_abi ? "available" : "missing");
        json_string(b, info->what);
        buf_addc(b, '}');
    }
    buf_adds(b, "],\"features\":{");
    for (size_t i = 0; i < ARRAY_SIZE(feature_rows); i++)
        buf_addf(b, "%s\"%s\":%s", i ? "," : "", feature_rows[i].name,
                 has(k, &feature_rows[i]) ? "true" : "false");
    buf_addf(b, ",\"ia32\":%s}", k->ia32 ? "true" : "false");
    json_fallbacks(b, k);
    json_limits(b);
    buf_addf(b, ",\"default_policy\":{\"can_run\":%s,\"reason\":", v->ok ? "true" : "false");
    if (v->ok) {
        buf_adds(b, "null");
    } else {
        _cleanup_buf_ struct buf reason = {0};

        buf_addf(&reason, "%s%s%s", v->err.where, *v->err.where ? ": " : "", v->err.message);
        json_string(b, buf_cstr(&reason));
    }
    buf_adds(b, "}}\n");
}

int cli_check(char *const *argv)
{
    struct option_parser p = {.options = check_options, .count = CHECK_OPTION_COUNT, .argv = argv};
    struct verdict_of_check verdict = {.ok = false};
    _cleanup_buf_ struct buf out = {0};
    struct utsname uts = {0};
    const struct kernel *k;
    struct error err = {0};
    bool as_json = false;
    const char *value;
    int o;

    while ((o = option_next(&p, &value, &err)) >= 0) {
        if (o == CHECK_OPTION_help)
            return cli_help(COMMAND_CHECK);
        if (o == CHECK_OPTION_version)
            return cli_print_version();
        as_json = true;
    }
    if (o == -ENOENT && *p.argv)
        o = error_set(&err, ERROR_USAGE, -EINVAL, *p.argv, "check takes no argument");
    if (o != -ENOENT)
        return cli_fail(&err);
    uname(&uts);
    k = kernel_probe_all();
    judge(k, &verdict);
    if (as_json)
        json(&out, k, &uts, &verdict);
    else
        table(&out, k, &uts, &verdict);
    o = cli_print(&out);
    return o ? o : !verdict.ok;
}
