/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual files of this build. Constant data; each renders itself where its subject lives.
 */
#include "determinism/determinism.h"
#include "fs/view.h"
#include "fs/virtual.h"
#include "identity/identity.h"
#include "limits/limits.h"
#include "net/rules.h"

const struct virtual_file *const all_virtual_files[] = {
    /* Of a tree of the command's own first. */
    &view_mounts_file,         &view_mountinfo_file,      &view_mountstats_file,
    &view_maps_file,           &view_smaps_file,          &view_numa_maps_file,
    &view_syscall_file,        &identity_hostname_file,   &identity_etc_hostname_file,
    &identity_loadavg_file,    &identity_uptime_file,     &identity_mounts_file,
    &identity_mountinfo_file,  &identity_mountstats_file, &net_hosts_file,
    &net_proc_files[0],        &net_proc_files[1],        &net_proc_files[2],
    &net_proc_files[3],        &net_proc_files[4],        &net_proc_files[5],
    &net_proc_files[6],        &net_proc_files[7],        &net_proc_files[8],
    &net_proc_files[9],        &net_proc_files[10],       &net_proc_files[11],
    &net_proc_files[12],       &net_proc_files[13],       &net_proc_files[14],
    &net_proc_files[15],       &net_proc_files[16],       &net_proc_files[17],
    &net_proc_files[18],       &net_proc_files[19],       &net_proc_files[20],
    &net_proc_files[21],       &net_proc_files[22],       &net_proc_files[23],
    &determinism_random_file,  &determinism_urandom_file, &determinism_hwrng_file,
    &determinism_uuid_file,    &determinism_boot_id_file, &limits_meminfo_file,
    &limits_cpuinfo_file,      &limits_stat_file,         &limits_cpu_online_file,
    &limits_cpu_possible_file, &limits_cpu_present_file,
};
const size_t all_virtual_file_count = ARRAY_SIZE(all_virtual_files);
