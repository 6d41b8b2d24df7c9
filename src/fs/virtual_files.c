/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual files of this build. Constant data; each renders itself where its subject lives.
 */
#include "fs/virtual.h"
#include "identity/identity.h"
#include "limits/limits.h"

const struct virtual_file *const all_virtual_files[] = {
    &identity_hostname_file, &limits_meminfo_file,      &limits_cpuinfo_file,     &limits_stat_file,
    &limits_cpu_online_file, &limits_cpu_possible_file, &limits_cpu_present_file,
};
const size_t all_virtual_file_count = ARRAY_SIZE(all_virtual_files);
