/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual files of this build. Constant data; each renders itself where its subject lives.
 */
#include "fs/virtual.h"
#include "identity/identity.h"

const struct virtual_file *const all_virtual_files[] = {
    &identity_hostname_file,   &identity_etc_hostname_file, &identity_loadavg_file,
    &identity_uptime_file,     &identity_mounts_file,       &identity_mountinfo_file,
    &identity_mountstats_file,
};
const size_t all_virtual_file_count = ARRAY_SIZE(all_virtual_files);
