/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Kernel constants that Debian 12's 6.1 headers (or musl's) lack, each with the kernel that brought
 * it. Definitions only; safe in any thread and in the raw child.
 */
#pragma once

#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>

/* ---- numbers shared by all machines since 5.1 ---- */
#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434 /* 5.3 */
#endif
#ifndef SYS_pidfd_send_signal
#define SYS_pidfd_send_signal 424 /* 5.1 */
#endif
#ifndef SYS_close_range
#define SYS_close_range 436 /* 5.9 */
#endif
#ifndef SYS_openat2
#define SYS_openat2 437 /* 5.6 */
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438 /* 5.6 */
#endif
#ifndef SYS_faccessat2
#define SYS_faccessat2 439 /* 5.8 */
#endif
#ifndef SYS_landlock_create_ruleset
#define SYS_landlock_create_ruleset 444 /* 5.13 */
#define SYS_landlock_add_rule 445
#define SYS_landlock_restrict_self 446
#endif
#ifndef SYS_fchmodat2
#define SYS_fchmodat2 452 /* 6.6 */
#endif
#ifndef SYS_process_mrelease
#define SYS_process_mrelease 448 /* 5.15 */
#endif
#ifndef SYS_setxattrat
#define SYS_setxattrat 463 /* 6.13 */
#define SYS_getxattrat 464
#define SYS_listxattrat 465
#define SYS_removexattrat 466
#endif
#ifndef SYS_file_getattr
#define SYS_file_getattr 468 /* 6.17 */
#define SYS_file_setattr 469
#endif

/* ---- Landlock file system rights (ABI 1: bits 0 to 12) ---- */
#ifndef LANDLOCK_ACCESS_FS_REFER
#define LANDLOCK_ACCESS_FS_REFER (1ULL << 13) /* ABI 2, 5.19 */
#endif
#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* ABI 3, 6.2 */
#endif
#ifndef LANDLOCK_ACCESS_FS_IOCTL_DEV
#define LANDLOCK_ACCESS_FS_IOCTL_DEV (1ULL << 15) /* ABI 5, 6.10 */
#endif
#ifndef LANDLOCK_ACCESS_FS_RESOLVE_UNIX
#define LANDLOCK_ACCESS_FS_RESOLVE_UNIX (1ULL << 16) /* ABI 9, 7.1 */
#endif

/* ---- Landlock network rights and scopes ---- */
#ifndef LANDLOCK_ACCESS_NET_BIND_TCP
#define LANDLOCK_ACCESS_NET_BIND_TCP (1ULL << 0) /* ABI 4, 6.7 */
#define LANDLOCK_ACCESS_NET_CONNECT_TCP (1ULL << 1)
#endif
#ifndef LANDLOCK_ACCESS_NET_BIND_UDP
#define LANDLOCK_ACCESS_NET_BIND_UDP (1ULL << 2) /* ABI 10, 7.2 */
#define LANDLOCK_ACCESS_NET_CONNECT_SEND_UDP (1ULL << 3)
#endif
#ifndef LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
#define LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET (1ULL << 0) /* ABI 6, 6.12 */
#define LANDLOCK_SCOPE_SIGNAL (1ULL << 1)
#endif

/* ---- Landlock restrict_self flags ---- */
#ifndef LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF
#define LANDLOCK_RESTRICT_SELF_LOG_SAME_EXEC_OFF (1U << 0) /* ABI 7, 6.15 */
#define LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON (1U << 1)
#define LANDLOCK_RESTRICT_SELF_LOG_SUBDOMAINS_OFF (1U << 2)
#endif
#ifndef LANDLOCK_RESTRICT_SELF_TSYNC
#define LANDLOCK_RESTRICT_SELF_TSYNC (1U << 3) /* ABI 8, 7.0 */
#endif

/* The rule type is an enumerator in the kernel's header, absent from older ones. */
#define UAPI_LANDLOCK_RULE_NET_PORT 2 /* ABI 4, 6.7 */

/* The kernel's structures as of ABI 6, under our own names: older headers have shorter ones. The
 * kernel accepts longer structures whose unknown tail is zero. */
struct uapi_landlock_ruleset {
    uint64_t handled_access_fs;
    uint64_t handled_access_net; /* ABI 4 */
    uint64_t scoped;             /* ABI 6 */
};
_Static_assert(sizeof(struct uapi_landlock_ruleset) == 24, "struct landlock_ruleset_attr");

struct uapi_landlock_port {
    uint64_t allowed_access;
    uint64_t port; /* host byte order */
};
_Static_assert(sizeof(struct uapi_landlock_port) == 16, "struct landlock_net_port_attr");

/* struct linux_dirent64, which no header has. */
struct uapi_dirent {
    uint64_t ino;
    int64_t off;
    uint16_t len;
    uint8_t type;
    char name[];
};
_Static_assert(offsetof(struct uapi_dirent, name) == 19, "struct linux_dirent64");

/* ---- seccomp ---- */
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5) /* 5.19 */
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0) /* 6.6 */
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS _IOW('!', 4, __u64) /* 6.6 */
#endif

/* ---- clone ---- */
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x00000080 /* 5.6; in clone() these bits are the exit signal */
#endif
