/* SPDX-License-Identifier: Apache-2.0 */
/* Features that give the sandbox an identity of its own: the host name so far (PV-01). */
#pragma once

#include "fs/virtual.h"
#include "supervisor/supervisor.h"

/* /proc/sys/kernel/hostname, and the system's own record of the name. */
extern const struct virtual_file identity_hostname_file, identity_etc_hostname_file;
extern const struct feature identity_uname_feature;
