/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The features of this build in dispatch order: for an operation that several take, the first that
 * does not pass decides. Constant data.
 */
#include "fs/fs.h"
#include "fs/virtual.h"
#include "identity/identity.h"
#include "limits/limits.h"
#include "net/net.h"
#include "supervisor/explain.h"

const struct feature *const all_features[] = {
    /* Narrow questions first: each takes its own objects and passes on everything else. */
    &identity_uname_feature,
    &net_netlink_feature,
    &net_listen_feature,
    /* Then what denies, before what grants. */
    &fs_procview_feature,
    &fs_deny_feature,
    &fs_virtual_feature,
    &fs_metadata_feature,
    &net_unix_closed_feature,
    &net_unix_open_feature,
    &net_unix_bind_feature,
    /* Take calls that nobody above does. */
    &limits_processes_feature,
    &limits_memory_feature,
    &limits_cpus_feature,
    /* Looks at what is left and lets the kernel decide. */
    &explain_feature,
};
const size_t all_feature_count = ARRAY_SIZE(all_features);
