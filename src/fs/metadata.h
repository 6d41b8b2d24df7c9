/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the feature "metadata" (FG-03): may this object be changed? Receivers.
 */
#pragma once

#include "fs/behalf.h"

/* Flags of the path forms: walk flags, or -EINVAL for unknown ones. */
int metadata_walk(uint32_t at_flags);
/* Resolves the object of a path form ("" with AT_EMPTY_PATH: of a descriptor) and requires a write
 * grant on it. 0 or -errno. */
int metadata_path(struct request *r, int dirfd, child_addr path, unsigned walk, struct target *t);
/* The same for a descriptor of the caller's. */
int metadata_fd(struct request *r, int fd, struct target *t);

struct verdict metadata_xattr_set(struct request *r);
struct verdict metadata_xattr_remove(struct request *r);
struct verdict metadata_fxattr_set(struct request *r);
struct verdict metadata_fxattr_remove(struct request *r);
struct verdict metadata_fileattr_set(struct request *r);
struct verdict metadata_ioctl(struct request *r);
#define METADATA_IOCTLS 3
extern const struct filter_clause metadata_ioctl_when[METADATA_IOCTLS];
