/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Groups of system calls (the default deny list among them) and the options that add to or take
 * from what the filter refuses. The caller's thread; our own user's text.
 */
#include <errno.h>
#include <string.h>

#include "arch/arch.h"
#include "policy/internal.h"
#include "policy/suggest.h"

/* clang-format off */
/* One row a group, written once and expanded to names and to ids. FP-02: what a confined program
 * has no business with. personality is in it, but the plan lets a query pass. */
#define CALLS_DEFAULT(X)                                                                         \
    X(mount) X(umount2) X(pivot_root) X(swapon) X(swapoff) X(reboot) X(sethostname)              \
    X(setdomainname) X(kexec_load) X(kexec_file_load) X(init_module) X(finit_module)             \
    X(delete_module) X(create_module) X(get_kernel_syms) X(query_module) X(unshare) X(setns)     \
    X(perf_event_open) X(bpf) X(userfaultfd) X(keyctl) X(add_key) X(request_key) X(ptrace)       \
    X(process_vm_readv) X(process_vm_writev) X(process_madvise) X(pidfd_getfd) X(kcmp)           \
    X(open_by_handle_at) X(name_to_handle_at) X(ioperm) X(iopl) X(modify_ldt) X(quotactl)        \
    X(quotactl_fd) X(acct) X(lookup_dcookie) X(nfsservctl) X(io_uring_setup) X(io_uring_enter)   \
    X(io_uring_register) X(personality) X(fanotify_init) X(fanotify_mark) X(fsopen) X(fsmount)   \
    X(fsconfig) X(fspick) X(move_mount) X(open_tree) X(open_tree_attr) X(mount_setattr)          \
    X(chroot) X(syslog) X(vhangup) X(settimeofday) X(adjtimex) X(clock_settime)                  \
    X(clock_adjtime) X(uselib) X(_sysctl)
#define CALLS_SYSV_IPC(X)                                                                   \
    X(shmget) X(shmat) X(shmdt) X(shmctl) X(msgget) X(msgsnd) X(msgrcv) X(msgctl) X(semget) \
    X(semop) X(semtimedop) X(semctl)
/* FP-04: short, so that a complete sandbox can be started inside. */
#define CALLS_NO_SUPERVISOR(X)                                                            \
    X(swapon) X(swapoff) X(reboot) X(kexec_load) X(kexec_file_load) X(init_module)        \
    X(finit_module) X(delete_module) X(perf_event_open) X(bpf) X(ioperm) X(iopl)          \
    X(io_uring_setup) X(io_uring_enter) X(io_uring_register)
/* Groups below serve --extra-deny-syscall alone. */
#define CALLS_NETWORK(X)                                                                   \
    X(socket) X(socketpair) X(connect) X(bind) X(listen) X(accept) X(accept4) X(sendto)    \
    X(sendmsg) X(sendmmsg) X(recvfrom) X(recvmsg) X(recvmmsg) X(shutdown) X(getsockname)   \
    X(getpeername) X(setsockopt) X(getsockopt)
#define CALLS_PROCESS(X) X(clone) X(clone3) X(fork) X(vfork)
#define CALLS_TRACING(X)                                                                  \
    X(ptrace) X(process_vm_readv) X(process_vm_writev) X(process_madvise) X(pidfd_getfd)  \
    X(kcmp) X(perf_event_open) X(userfaultfd) X(process_mrelease) X(get_robust_list)
#define CALLS_MOUNT(X)                                                                       \
    X(mount) X(umount2) X(pivot_root) X(chroot) X(fsopen) X(fsmount) X(fsconfig) X(fspick)   \
    X(move_mount) X(open_tree) X(open_tree_attr) X(mount_setattr) X(statmount) X(listmount)
#define CALLS_MQUEUE(X)                                                              \
    X(mq_open) X(mq_unlink) X(mq_timedsend) X(mq_timedreceive) X(mq_notify) X(mq_getsetattr)
#define CALLS_AIO(X)                                                                  \
    X(io_setup) X(io_destroy) X(io_submit) X(io_cancel) X(io_getevents) X(io_pgetevents)
#define CALLS_MEMFD(X) X(memfd_create) X(memfd_secret)
#define CALLS_WATCH(X)                                                                       \
    X(inotify_init) X(inotify_init1) X(inotify_add_watch) X(inotify_rm_watch) X(fanotify_init) \
    X(fanotify_mark)
#define CALLS_SCHED(X)                                                                \
    X(setpriority) X(sched_setparam) X(sched_setscheduler) X(sched_setattr)           \
    X(sched_setaffinity) X(ioprio_set) X(mbind) X(set_mempolicy) X(migrate_pages)     \
    X(move_pages) X(set_mempolicy_home_node)

#define GROUPS(X)                                                                       \
    X(default, DEFAULT) X(sysv_ipc, SYSV_IPC) X(no_supervisor, NO_SUPERVISOR)           \
    X(network, NETWORK) X(process, PROCESS) X(tracing, TRACING) X(mount, MOUNT)         \
    X(mqueue, MQUEUE) X(aio, AIO) X(memfd, MEMFD) X(watch, WATCH) X(sched, SCHED)

/* clang-format on */

#define CALL_NAME(name) #name,
#define CALL_NUMBER(name) CALL_##name,
#define GROUP_DATA(name, list)                                                      \
    static const char *const group_names_##name[] = {CALLS_##list(CALL_NAME) NULL}; \
    static const uint16_t group_ids_##name[] = {CALLS_##list(CALL_NUMBER) CALL_ID_COUNT};
#define GROUP_ROW(name, list) {#name, group_names_##name, group_ids_##name},

GROUPS(GROUP_DATA)

const struct syscall_group syscall_groups[] = {GROUPS(GROUP_ROW)};
const size_t syscall_group_count = ARRAY_SIZE(syscall_groups);

#define GROUP_FORMS                                                                             \
    "groups: default, sysv_ipc, no_supervisor, network, process, tracing, mount, mqueue, aio, " \
    "memfd, watch, sched"

const struct syscall_group *syscall_group_by_name(const char *name)
{
    for (size_t i = 0; i < syscall_group_count; i++) {
        if (strcmp(syscall_groups[i].name, name) == 0)
            return &syscall_groups[i];
    }
    return NULL;
}

static int unknown_call(const char *flag, const char *name, struct error *err)
{
    struct suggestion s = {.word = name};
    const char *near = arch_name_suggest(name);

    if (near)
        suggest_offer(&s, near);
    for (size_t i = 0; i < syscall_group_count; i++)
        suggest_offer(&s, syscall_groups[i].name);
    if (s.best)
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         SHOWN " is not a system call or group; did you mean " SHOWN "?", name,
                         s.best);
    return error_set(err, ERROR_USAGE, -EINVAL, flag,
                     SHOWN " is not a system call or group (" GROUP_FORMS ")", name);
}

/* Calls without which the command cannot even be started or end: the policy would be impossible. */
static bool is_vital(unsigned id)
{
    return id == CALL_execve || id == CALL_exit || id == CALL_exit_group || id == CALL_rt_sigreturn;
}

int policy_add_deny_syscall(struct policy *p, const char *flag, const char *name, struct error *err)
{
    const struct syscall_group *group = syscall_group_by_name(name);
    struct call_set set = p->extra_deny;
    bool found = false;

    if (group) {
        for (const uint16_t *id = group->ids; *id != CALL_ID_COUNT; id++)
            call_set_add(&p->extra_deny, *id);
        return 0;
    }
    /* A name may belong to one machine alone: the policy then says nothing on the other. */
    for (size_t i = 0; i < arch_count; i++) {
        const struct call_info *info = arch_call_by_name(arch_all[i], name);

        if (!info)
            continue;
        found = true;
        if (is_vital(info->id))
            return error_set(err, ERROR_POLICY, -EINVAL, flag, "without %s no command can run",
                             name);
        call_set_add(&set, info->id);
    }
    if (!found)
        return unknown_call(flag, name, err);
    p->extra_deny = set;
    return 0;
}

int policy_add_allow_syscall(struct policy *p, const char *flag, const char *group,
                             struct error *err)
{
    if (strcmp(group, "sysv_ipc") == 0) {
        p->allow_sysv_ipc = true;
        return 0;
    }
    if (syscall_group_by_name(group))
        return error_set(err, ERROR_USAGE, -EINVAL, flag,
                         "the group " SHOWN " cannot be allowed (accepted: sysv_ipc)", group);
    if (arch_name_known(group))
        return error_set(
            err, ERROR_USAGE, -EINVAL, flag,
            "the single call " SHOWN " cannot be allowed (accepted: the group sysv_ipc)", group);
    return error_set(err, ERROR_USAGE, -EINVAL, flag,
                     SHOWN " is not a group of system calls (accepted: sysv_ipc)", group);
}
