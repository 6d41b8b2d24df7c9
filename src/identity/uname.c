/* SPDX-License-Identifier: Apache-2.0 */
/*
 * PV-01: uname, /proc and /etc/hostname tell the sandbox's name as the host name when the policy gives one. Runs in
 * receiver threads; the one address is the child's and is only written to.
 */
#include <errno.h>
#include <string.h>
#include <sys/utsname.h>

#include "fs/fs.h"
#include "fs/grants.h"
#include "identity/identity.h"

/* The kernel's struct new_utsname, which both C libraries use as their own. */
#define UTS_FIELD 65
_Static_assert(sizeof(struct utsname) == 6 * UTS_FIELD, "struct utsname is struct new_utsname");
_Static_assert(offsetof(struct utsname, nodename) == UTS_FIELD, "nodename is the second field");

#define ETC_HOSTNAME "/etc/hostname"

static struct verdict uname_handle(struct request *r)
{
    const char *name = supervisor_policy(r->sup)->name;
    struct utsname u;

    /* Fields end in zeroes, not in what was on our stack. */
    memset(&u, 0, sizeof(u));
    if (uname(&u))
        return verdict_errno(errno);
    memset(u.nodename, 0, sizeof(u.nodename));
    memcpy(u.nodename, name, strnlen(name, sizeof(u.nodename) - 1));
    return verdict_result(request_write(r, call_addr(&r->call, 0), &u, sizeof(u)));
}

static bool uname_wanted(const struct policy *p, const struct kernel *k)
{
    (void)k;
    return p->name && !p->no_supervisor;
}

static bool hostname_wanted(const struct policy *p, const struct kernel *k)
{
    return uname_wanted(p, k) && fs_grants_proc(p);
}

static int hostname_render(const struct request *r, int host_fd, struct buf *out)
{
    (void)host_fd;
    buf_adds(out, supervisor_policy(r->sup)->name);
    buf_addc(out, '\n');
    return 0;
}

const struct virtual_file identity_hostname_file = {
    .proc = "sys/kernel/hostname",
    .wanted = hostname_wanted,
    .render = hostname_render,
};

/* Costs: where a grant reaches the file, every path call is mediated (docs/identity.md). */
static bool etc_hostname_wanted(const struct policy *p, const struct kernel *k)
{
    return uname_wanted(p, k) && grants_reach(p, ETC_HOSTNAME);
}

const struct virtual_file identity_etc_hostname_file = {
    .path = ETC_HOSTNAME,
    .wanted = etc_hostname_wanted,
    .render = hostname_render,
};

static const struct feature_call uname_calls[] = {
    {OP_UNAME, uname_handle, NULL, 0},
};

const struct feature identity_uname_feature = {
    .name = "uname",
    .wanted = uname_wanted,
    .calls = uname_calls,
    .ncalls = ARRAY_SIZE(uname_calls),
};
