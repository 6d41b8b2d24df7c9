/* SPDX-License-Identifier: Apache-2.0 */
/* Calls about processes and threads; see process.h. */
#include "sys/process.h"

#include <linux/kcmp.h>
#include <sys/resource.h>

#include "sys/raw.h"
#include "sys/uapi.h"

int sys_pidfd_kill(int pidfd, int sig)
{
    return (int)raw_call4(SYS_pidfd_send_signal, pidfd, sig, 0, 0);
}

int sys_process_mrelease(int pidfd)
{
    return (int)raw_call2(SYS_process_mrelease, pidfd, 0);
}

bool sys_same_memory(pid_t a, pid_t b)
{
    return raw_call5(SYS_kcmp, a, b, KCMP_VM, 0, 0) == 0;
}

int sys_thread_slice(uint64_t ns)
{
    struct {
        uint32_t size, policy;
        uint64_t flags;
        int32_t nice;
        uint32_t priority;
        uint64_t runtime, deadline, period;
    } attr = {.size = 48, .nice = getpriority(PRIO_PROCESS, 0), .runtime = ns};

    _Static_assert(sizeof(attr) == 48, "struct sched_attr, first version");
    return (int)raw_call3(SYS_sched_setattr, 0, &attr, 0);
}

int sys_rlimit(pid_t pid, int resource, const struct rlimit *set, struct rlimit *ret_old)
{
    return (int)raw_call4(SYS_prlimit64, pid, resource, set, ret_old);
}

int sys_affinity_get(pid_t tid, size_t len, void *mask)
{
    return (int)raw_call3(SYS_sched_getaffinity, tid, len, mask);
}

int sys_affinity_set(pid_t tid, size_t len, const void *mask)
{
    return (int)raw_call3(SYS_sched_setaffinity, tid, len, mask);
}
