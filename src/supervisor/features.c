/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The features of this build in dispatch order: for an operation that several take, the first that
 * does not pass decides. Constant data.
 */
#include "determinism/determinism.h"
#include "fs/fs.h"
#include "fs/staged.h"
#include "fs/view.h"
#include "fs/virtual.h"
#include "identity/identity.h"
#include "limits/limits.h"
#include "net/keep.h"
#include "net/rules.h"
#include "supervisor/explain.h"

const struct feature *const all_features[] = {
    /* Narrow questions first: each takes its own objects and passes on everything else. */
    &identity_uname_feature,
    &identity_load_feature,
    &net_netlink_feature,
    &net_listen_feature,
    &fs_staged_feature,
    /* Then what denies, before what grants. */
    &fs_dirs_feature,
    &fs_procview_feature,
    &fs_deny_feature,
    &fs_virtual_feature,
    &fs_chroot_feature,
    &fs_view_list_feature,
    &fs_metadata_feature,
    &net_keep_feature,
    &net_keep_unix_feature,
    &net_bind_rules_feature,
    &net_remap_feature,
    &net_rules_feature,
    &net_sends_feature,
    &net_answers_feature,
    /* Counts a new process before it can be anybody's. */
    &limits_processes_feature,
    /* After what denies a program or a path: these rewrite and answer what is left. */
    &determinism_image_feature,
    &determinism_time_feature,
    &determinism_random_feature,
    &net_unix_closed_feature,
    &net_unix_streams_feature,
    &net_unix_open_feature,
    &net_unix_bind_feature,
    /* Take calls that nobody above does. */
    &limits_memory_feature,
    &limits_cpus_feature,
    &limits_disk_feature,
    /* Looks at what is left and lets the kernel decide. */
    &explain_feature,
};
const size_t all_feature_count = ARRAY_SIZE(all_features);
