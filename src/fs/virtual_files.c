/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual files of this build. Constant data; each renders itself where its subject lives.
 */
#include "fs/virtual.h"
#include "identity/identity.h"
#include "net/rules.h"

const struct virtual_file *const all_virtual_files[] = {
    &identity_hostname_file,
    &net_hosts_file,
};
const size_t all_virtual_file_count = ARRAY_SIZE(all_virtual_files);
