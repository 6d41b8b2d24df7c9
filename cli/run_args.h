/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a command line of `sandlock run` says: the policy and what concerns the command line alone.
 * The main thread; our own user's words.
 */
#pragma once

#include "image.h"
#include "policy/policy.h"

struct arch;

enum run_action { ACTION_RUN = 0, ACTION_HELP, ACTION_VERSION, ACTION_PRINT_FILTER };

struct run_args {
    enum run_action action;
    struct policy policy;
    const char *const *argv;  /* the command; NULL when only the filter is printed */
    const char *shell[4];     /* argv of --exec-shell */
    const char *explain_path; /* --explain=FILE, or NULL: stderr */
    const struct arch *print_arch;
    int status_fd; /* -1: none; open for writing, checked */
    bool stats, quiet, diff, changes_json;
    const char *image_ref; /* --image, or NULL */
    struct cli_image image;
};

/* Fills *a in every case (run_args_fini is always right). 0 or a negative errno with *err. */
int run_args_parse(struct run_args *a, char *const *argv, struct error *err);
void run_args_fini(struct run_args *a);
