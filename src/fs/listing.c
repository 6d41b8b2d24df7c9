/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records of getdents. Receiver threads; nothing here is the child's but the address written to.
 */
#include "fs/listing.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "fs/procfs.h"

struct uapi_dirent *listing_next(uint8_t *buf, size_t n, size_t *off)
{
    struct uapi_dirent *e = (struct uapi_dirent *)(buf + *off);

    if (*off + LISTING_NAME_OFFSET >= n || e->len <= LISTING_NAME_OFFSET || *off + e->len > n)
        return NULL;
    *off += e->len;
    return e;
}

bool listing_hides(const struct request *r, const char *name)
{
    long pid = 0;

    for (const char *p = name; *p; p++) {
        if (*p < '0' || *p > '9' || pid > 100000000)
            return false;
        pid = pid * 10 + (*p - '0');
    }
    return *name && !supervisor_is_member(r->sup, (pid_t)pid);
}

void listing_to_legacy(uint8_t *buf, size_t n)
{
    struct uapi_dirent *e;
    size_t off = 0;

    while ((e = listing_next(buf, n, &off))) {
        uint8_t *at = (uint8_t *)e, type = e->type;

        memmove(at + LISTING_LEGACY_NAME_OFFSET, e->name, e->len - LISTING_NAME_OFFSET);
        at[e->len - 1] = type;
    }
}

int listing_is_proc_root(int fd, struct sys_ident *ret_id)
{
    struct procfs_place place;
    int e = sys_identify(fd, ret_id);

    if (e < 0)
        return e;
    if (!S_ISDIR(ret_id->mode))
        return -ENOTDIR;
    if (!procfs_is(fd, ret_id))
        return 0;
    e = procfs_place(fd, ret_id, &place);
    return e < 0 ? e : !*place.rest;
}

int listing_write(const struct request *r, uint8_t *buf, size_t n)
{
    if (r->call.variant == VARIANT_LEGACY)
        listing_to_legacy(buf, n);
    return request_write(r, call_addr(&r->call, 1), buf, n);
}
