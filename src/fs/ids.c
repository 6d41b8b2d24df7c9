/* SPDX-License-Identifier: Apache-2.0 */
/* Owner numbers as the command sees them (PR-12). Pure; any thread; ids come from the child. */
#include "fs/ids.h"

#include <errno.h>
#include <unistd.h>

#define IDS_OVERFLOW 65534 /* default of /proc/sys/kernel/overflowuid and overflowgid */

static bool ids_mapped(const struct policy *p)
{
    return p->has_user && (p->uid != geteuid() || p->gid != getegid());
}

void ids_show_pair(const struct policy *p, uint32_t *uid, uint32_t *gid)
{
    if (!ids_mapped(p))
        return;
    *uid = *uid == geteuid() ? p->uid : IDS_OVERFLOW;
    *gid = *gid == getegid() ? p->gid : IDS_OVERFLOW;
}

void ids_show(const struct policy *p, struct stat *st)
{
    uint32_t uid = st->st_uid, gid = st->st_gid;

    ids_show_pair(p, &uid, &gid);
    st->st_uid = uid;
    st->st_gid = gid;
}

int ids_take(const struct policy *p, uid_t *uid, gid_t *gid)
{
    if (!ids_mapped(p))
        return 0;
    if ((*uid != (uid_t)-1 && *uid != p->uid) || (*gid != (gid_t)-1 && *gid != p->gid))
        return -EINVAL;
    if (*uid != (uid_t)-1)
        *uid = geteuid();
    if (*gid != (gid_t)-1)
        *gid = getegid();
    return 0;
}
