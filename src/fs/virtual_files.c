/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The virtual files of this build. Constant data; each renders itself where its subject lives.
 */
#include "determinism/determinism.h"
#include "fs/virtual.h"
#include "identity/identity.h"

const struct virtual_file *const all_virtual_files[] = {
    &identity_hostname_file, &determinism_random_file, &determinism_urandom_file,
    &determinism_hwrng_file, &determinism_uuid_file,   &determinism_boot_id_file,
};
const size_t all_virtual_file_count = ARRAY_SIZE(all_virtual_files);
