/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The command line of `sandlock run`: spellings, the end of the options, conflicts, and what each
 * refusal says. Linked with the program's own parser.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "../../cli/options.h"
#include "../../cli/run_args.h"

#define ARGS(...) ((char *const *)(const char *const[]){__VA_ARGS__ __VA_OPT__(, ) NULL})

static void refused(char *const *argv, enum error_kind kind, const char *where, const char *says)
{
    struct run_args a;
    struct error err = {0};

    if (run_args_parse(&a, argv, &err) >= 0)
        fail_msg("accepted %s", *argv);
    if (strcmp(err.where, where) != 0 || !strstr(err.message, says) || err.kind != kind)
        fail_msg("%s: kind %d: %s: %s", *argv, err.kind, err.where, err.message);
    run_args_fini(&a);
}

static void accepted(struct run_args *a, char *const *argv)
{
    struct error err = {0};

    if (run_args_parse(a, argv, &err) < 0)
        fail_msg("%s: %s", err.where, err.message);
}

static void test_spellings(void **state)
{
    struct run_args a;

    (void)state;
    accepted(&a, ARGS("-r/a", "-r", "/b", "-r=/c", "--fs-read", "/d", "--fs-read=/e", "--", "cmd",
                      "--fs-read", "/f"));
    assert_int_equal(a.policy.fs_read.n, 5);
    for (unsigned i = 0; i < 5; i++) {
        char path[3] = {'/', (char)('a' + i), '\0'};

        assert_string_equal(a.policy.fs_read.v[i].path, path);
    }
    assert_string_equal(a.argv[0], "cmd");
    assert_string_equal(a.argv[2], "/f");
    assert_null(a.argv[3]);
    run_args_fini(&a);

    /* The first word that is no option is the command; "-" is such a word. */
    accepted(&a, ARGS("--clean-env", "cmd", "-r", "--nonsense"));
    assert_true(a.policy.clean_env);
    assert_string_equal(a.argv[1], "-r");
    run_args_fini(&a);
    accepted(&a, ARGS("-"));
    assert_string_equal(a.argv[0], "-");
    run_args_fini(&a);
    accepted(&a, ARGS("--", "--", "x"));
    assert_string_equal(a.argv[0], "--");
    run_args_fini(&a);

    accepted(&a, ARGS("--env=A=B=C", "-e", "echo -- hi"));
    assert_string_equal(a.policy.env.v[0], "A=B=C");
    assert_string_equal(a.argv[0], "/bin/sh");
    assert_string_equal(a.argv[2], "echo -- hi");
    assert_null(a.argv[3]);
    run_args_fini(&a);

    accepted(&a, ARGS("-h"));
    assert_int_equal(a.action, ACTION_HELP);
    run_args_fini(&a);
    accepted(&a, ARGS("-hV"));
    assert_int_equal(a.action, ACTION_HELP);
    run_args_fini(&a);
    accepted(&a, ARGS("--version"));
    assert_int_equal(a.action, ACTION_VERSION);
    run_args_fini(&a);
}

static void test_optional_values(void **state)
{
    struct run_args a;

    (void)state;
    accepted(&a, ARGS("--explain", "cmd"));
    assert_true(a.policy.explain);
    assert_null(a.explain_path);
    assert_string_equal(a.argv[0], "cmd");
    run_args_fini(&a);
    accepted(&a, ARGS("--explain=/tmp/x", "--quiet", "cmd"));
    assert_string_equal(a.explain_path, "/tmp/x");
    run_args_fini(&a);
    accepted(&a, ARGS("--print-filter"));
    assert_int_equal(a.action, ACTION_PRINT_FILTER);
    run_args_fini(&a);
    accepted(&a, ARGS("--print-filter=aarch64", "--", "cmd"));
    assert_int_equal(a.action, ACTION_PRINT_FILTER);
    run_args_fini(&a);
    refused(ARGS("--print-filter=sparc"), ERROR_USAGE, "--print-filter", "is not a machine");
    refused(ARGS("--explain=", "cmd"), ERROR_USAGE, "--explain", "file name is empty");
}

static void test_usage(void **state)
{
    (void)state;
    refused(ARGS("--fs-raed", "/x"), ERROR_USAGE, "--fs-raed",
            "unknown option; did you mean --fs-read?");
    refused(ARGS("--fs-re", "/x"), ERROR_USAGE, "--fs-re", "unknown option");
    refused(ARGS("--nonsense=1"), ERROR_USAGE, "--nonsense", "unknown option");
    refused(ARGS("-z"), ERROR_USAGE, "-z", "unknown option");
    refused(ARGS("--=x"), ERROR_USAGE, "--", "unknown option");
    refused(ARGS("---"), ERROR_USAGE, "---", "unknown option");
    refused(ARGS("--clean-env=1", "x"), ERROR_USAGE, "--clean-env", "takes no value");
    refused(ARGS("-r"), ERROR_USAGE, "--fs-read", "needs a value");
    refused(ARGS("-r", "--", "x"), ERROR_USAGE, "--fs-read", "needs a value");
    refused(ARGS("--env", "--clean-env"), ERROR_USAGE, "--env", "needs a value");
    refused(ARGS("-t", "1", "--timeout=2", "x"), ERROR_USAGE, "--timeout", "more than once");
    refused(ARGS("--quiet", "--stats", "x"), ERROR_USAGE, "--quiet", "contradicts --stats");
    refused(ARGS("--quiet", "--explain", "x"), ERROR_USAGE, "--quiet", "contradicts --explain");
    refused(ARGS("--clean-env"), ERROR_USAGE, "", "no command given");
    refused(ARGS("--"), ERROR_USAGE, "", "no command given");
    refused(ARGS("-e", ""), ERROR_USAGE, "--exec-shell", "the command is empty");
    refused(ARGS("-e", "true", "--", "cmd"), ERROR_USAGE, "--exec-shell",
            "cannot be combined with a command (\"cmd\")");
    refused(ARGS("-t", "soon", "x"), ERROR_USAGE, "--timeout", "\"soon\" is not a time");
}

static void test_status_fd(void **state)
{
    int ends[2];
    char text[16];
    struct run_args a;

    (void)state;
    assert_int_equal(pipe(ends), 0);
    snprintf(text, sizeof(text), "%d", ends[1]);
    accepted(&a, ARGS("--status-fd", text, "x"));
    assert_int_equal(a.status_fd, ends[1]);
    assert_int_equal(fcntl(ends[1], F_GETFD), FD_CLOEXEC);
    run_args_fini(&a);
    snprintf(text, sizeof(text), "%d", ends[0]);
    refused(ARGS("--status-fd", text, "x"), ERROR_USAGE, "--status-fd", "not open for writing");
    close(ends[0]);
    refused(ARGS("--status-fd", text, "x"), ERROR_USAGE, "--status-fd", "is not open");
    close(ends[1]);
    refused(ARGS("--status-fd", "x", "x"), ERROR_USAGE, "--status-fd", "is not a descriptor");
    refused(ARGS("--status-fd", "4294967295", "x"), ERROR_USAGE, "--status-fd",
            "is not a descriptor");
}

static void test_no_supervisor(void **state)
{
    struct run_args a;
    char text[16];
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    char *const cases[][4] = {
        {(char *)"--fs-deny", (char *)"/x", NULL},
        {(char *)"--timeout", (char *)"1", NULL},
        {(char *)"--name", (char *)"n", NULL},
        {(char *)"--explain", NULL},
        {(char *)"--stats", NULL},
        {(char *)"--status-fd", text, NULL},
        {(char *)"--linger", NULL},
        {(char *)"--stop-signal", (char *)"TERM", NULL},
        {(char *)"--stop-grace", (char *)"0.2", NULL},
        {(char *)"--time-start", (char *)"0", NULL},
        {(char *)"--random-seed", (char *)"0", NULL},
    };

    (void)state;
    snprintf(text, sizeof(text), "%d", fd);
    for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
        char *argv[6] = {(char *)"--no-supervisor"};
        size_t n = 1;

        for (size_t k = 0; cases[i][k]; k++)
            argv[n++] = cases[i][k];
        argv[n++] = (char *)"cmd";
        refused(argv, ERROR_POLICY, cases[i][0], "cannot be combined with --no-supervisor");
    }
    close(fd);
    accepted(&a, ARGS("--no-supervisor", "-r", "/usr", "--clean-env", "cmd"));
    assert_true(a.policy.no_supervisor);
    run_args_fini(&a);
}

/* Every row either works or is refused by name: none is taken and forgotten. */
static void test_every_row(void **state)
{
    (void)state;
    for (unsigned i = 0; i < RUN_OPTION_COUNT; i++) {
        const struct option *o = &run_options[i];
        char word[64];
        struct run_args a;
        struct error err = {0};

        snprintf(word, sizeof(word), "--%.20s%s", o->name,
                 (o->flags & OPT_VALUE) && !(o->flags & OPT_OPTIONAL) ? "=\x01" : "");
        if (run_args_parse(&a, ARGS(word, "cmd"), &err) < 0) {
            assert_non_null(strstr(err.where, o->name));
            if (o->flags & OPT_LATER)
                assert_string_equal(err.message, "not built in yet");
            else if (strcmp(err.message, "not built in yet") == 0)
                fail_msg("--%s is in the table but nobody carries it out", o->name);
        } else {
            assert_false(o->flags & OPT_LATER);
        }
        run_args_fini(&a);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_spellings),     cmocka_unit_test(test_optional_values),
        cmocka_unit_test(test_usage),         cmocka_unit_test(test_status_fd),
        cmocka_unit_test(test_no_supervisor), cmocka_unit_test(test_every_row),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
