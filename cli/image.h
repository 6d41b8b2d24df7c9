/* SPDX-License-Identifier: Apache-2.0 */
/* --image. The main thread; see image.c. */
#pragma once

#include "policy/policy.h"

/* What an image says about a run. */
struct cli_image {
    char *root; /* directory of the unpacked image: shared with other runs, never written to */
    struct strv entrypoint, cmd, env;
    char *workdir, *user, *home; /* NULL: none */
    struct strv argv;            /* entrypoint and cmd */
};

/* Finds and unpacks the image. 0 or a negative errno with *err, whose message is empty when the helper
 * program has told the reason already. */
int cli_image_get(struct cli_image *i, const char *reference, struct error *err);
/* The image's root, environment, directory and user in the policy, where the user said nothing else. */
int cli_image_apply(const struct cli_image *i, struct policy *p, struct error *err);
void cli_image_fini(struct cli_image *i);
