/* SPDX-License-Identifier: Apache-2.0 */
/* What gives the sandbox an identity of its own: host name (PV-01), age, load and mounts (PV-04). */
#pragma once

#include "fs/virtual.h"
#include "supervisor/supervisor.h"

/* /proc/sys/kernel/hostname, and the system's own record of the name. */
extern const struct virtual_file identity_hostname_file, identity_etc_hostname_file;
/* PV-04: the sandbox's own age and load, in the place of the host's. */
extern const struct virtual_file identity_uptime_file, identity_loadavg_file;
/* PV-04: the mounts that the policy has to do with. */
extern const struct virtual_file identity_mounts_file, identity_mountinfo_file,
    identity_mountstats_file;
extern const struct feature identity_uname_feature;
/* Since when, and the load seen last. */
extern const struct feature identity_load_feature;
