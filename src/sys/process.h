/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Calls about processes and threads that the C libraries lack or wrap differently, one wrapper each:
 * the kernel's value or -errno. Any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int sys_pidfd_kill(int pidfd, int sig);
/* Frees the memory of a process that is being killed, in our time. process_mrelease(2), 5.15 */
int sys_process_mrelease(int pidfd);
/* Do both run in one address space? kcmp(2); false as well where the kernel does not say. */
bool sys_same_memory(pid_t a, pid_t b);
/* A shorter slice is an earlier deadline, and needs no privilege. sched_setattr(2), 6.12 */
int sys_thread_slice(uint64_t ns);
/* prlimit(2): sets the limit of another process and tells the one before; either may be NULL. */
struct rlimit;
int sys_rlimit(pid_t pid, int resource, const struct rlimit *set, struct rlimit *ret_old);
/* The kernel's rules for len; bytes written. */
int sys_affinity_get(pid_t tid, size_t len, void *mask);
int sys_affinity_set(pid_t tid, size_t len, const void *mask);
