/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seccomp(2) and small probing calls through libc's syscall(), for the caller's threads. The raw
 * child installs its filter with sys/raw.h. Each returns the value or -errno.
 */
#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include "sys/uapi.h"

/* Installs a filter for the calling thread: 0, the listener with NEW_LISTENER, or -errno. */
int sys_seccomp_filter(const struct sock_filter *insns, size_t len, unsigned long flags);
/* 0 when the kernel knows the action. */
int sys_seccomp_action_avail(uint32_t action);
/* True when the kernel knows all these filter flags (asked without a program: nothing happens). */
int sys_seccomp_flags_avail(unsigned long flags);

int sys_pidfd_open(pid_t pid, unsigned flags);
int sys_pidfd_getfd(int pidfd, int fd, unsigned flags);

/* Calls made with arguments that cannot succeed: -ENOSYS when the kernel lacks the call, and
 * -EPERM when something forbids it; anything else means that it is there. */
int sys_probe_openat2(void);
int sys_probe_close_range(void);
int sys_probe_fchmodat2(void);
int sys_probe_setxattrat(void);
int sys_probe_file_getattr(void);
