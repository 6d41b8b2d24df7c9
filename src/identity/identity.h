/* SPDX-License-Identifier: Apache-2.0 */
/* Features that give the sandbox an identity of its own: the host name so far (PV-01). */
#pragma once

#include "supervisor/supervisor.h"

extern const struct feature identity_uname_feature;
