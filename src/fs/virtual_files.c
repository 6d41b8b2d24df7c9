/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual files of this build. Constant data; each renders itself where its subject lives.
 */
#include "fs/view.h"
#include "fs/virtual.h"
#include "identity/identity.h"

const struct virtual_file *const all_virtual_files[] = {
    &identity_hostname_file, &view_mounts_file, &view_mountinfo_file, &view_mountstats_file,
    &view_maps_file,         &view_smaps_file,  &view_numa_maps_file, &view_syscall_file,
};
const size_t all_virtual_file_count = ARRAY_SIZE(all_virtual_files);
