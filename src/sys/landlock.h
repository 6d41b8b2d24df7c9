/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The three Landlock calls through libc's syscall(). For the caller's threads before the child
 * exists; the raw child has its own variants in sys/raw.h. Each returns the value or -errno.
 */
#pragma once

#include "sys/uapi.h"

/* Highest ABI the kernel speaks, -ENOSYS (not built) or -EOPNOTSUPP (not in lsm=). */
int sys_landlock_abi(void);
/* New ruleset descriptor, close-on-exec. */
int sys_landlock_create(const struct uapi_landlock_ruleset *attr);
int sys_landlock_add_path(int ruleset_fd, uint64_t access, int parent_fd);
int sys_landlock_add_port(int ruleset_fd, uint64_t access, uint16_t port);
int sys_landlock_restrict(int ruleset_fd, uint32_t flags);
