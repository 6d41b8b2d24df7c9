/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Whole-table sweep: what every call of every machine gets under a few policies, compared with the
 * tables beside this file. Usage: sim_table DIR [--update]. The kernel is imagined (ABI 7), so that
 * the tables are the same on every host.
 */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "plan/plan.h"
#include "supervisor/supervisor.h"

struct scenario {
    const char *name;
    void (*fill)(struct policy *p);
};

static void fill_default(struct policy *p)
{
    policy_add_fs_read(p, "-r", "/usr", false, NULL);
}

static void fill_write(struct policy *p)
{
    fill_default(p);
    policy_add_fs_write(p, "-w", "/tmp", false, NULL);
    policy_add_net_allow(p, "--net-allow", ":443", NULL);
}

static void fill_deny(struct policy *p)
{
    fill_write(p);
    policy_add_fs_deny(p, "--fs-deny", "/tmp/secret", NULL);
}

static void fill_hosts(struct policy *p)
{
    fill_default(p);
    policy_add_net_allow(p, "--net-allow", "10.0.0.1:443", NULL);
    policy_add_net_allow(p, "--net-allow", "icmp://10.0.0.1", NULL);
    policy_add_net_deny_bind(p, "--net-deny-bind", "80", NULL);
}

static void fill_bare(struct policy *p)
{
    fill_default(p);
    p->no_supervisor = true;
}

static const struct scenario scenarios[] = {
    {"default", fill_default}, /* -r /usr */
    {"write", fill_write},     /* -r /usr -w /tmp --net-allow :443 */
    {"deny", fill_deny},       /* the same and --fs-deny /tmp/secret */
    {"hosts", fill_hosts},     /* rules per host, UDP, ICMP, denied ports */
    {"no-supervisor", fill_bare},
};

static const struct kernel imagined = {
    .landlock_abi = 7,
    .seccomp_filter = true,
    .notify = true,
    .wait_killable = true,
    .addfd_send = true,
    .pidfd_open = true,
    .pidfd_getfd = true,
    .close_range = true,
    .openat2 = true,
    .fchmodat2 = true,
    .setxattrat = true,
    .proc = true,
};

/* The table, or -1. Also checks that the program says the same for every number. */
static int table(const struct scenario *s, const struct arch *a, struct buf *out)
{
    const struct feature *features[PLAN_MAX_FEATURES];
    struct filter_plan plan;
    struct filter_prog prog;
    struct policy p;
    struct error err = {0};
    int n, bad = 0;

    policy_init(&p);
    s->fill(&p);
    if (policy_validate(&p, &err) < 0)
        return -1;
    n = plan_features(&p, &imagined, features, &err);
    if (n < 0 || plan_filter(&p, &imagined, a, features, (size_t)n, &plan, &err) < 0 ||
        filter_compile(&plan, &prog, &err) < 0) {
        fprintf(stderr, "%s: %s: %s\n", s->name, err.where, err.message);
        return -1;
    }
    for (int nr = -1; nr < 1024; nr++) {
        struct seccomp_data d = {.nr = nr, .arch = a->audit_arch};

        bad |= filter_run(&prog, &d, NULL) != filter_eval(&plan, &d);
    }
    buf_addf(out, "# Under \"%s\"; active:", s->name);
    for (int i = 0; i < n; i++)
        buf_addf(out, " %s", features[i]->name);
    buf_addc(out, '\n');
    filter_print_table(&plan, true, out);
    filter_prog_fini(&prog);
    filter_plan_fini(&plan);
    policy_fini(&p);
    return bad ? -1 : buf_error(out);
}

static int save(const char *path, struct buf *b)
{
    FILE *f = fopen(path, "w");

    if (!f || fputs(buf_cstr(b), f) < 0 || fclose(f)) {
        perror(path);
        return -1;
    }
    return 0;
}

/* Says which lines differ. */
static int compare(const char *path, const char *have)
{
    static char want[4096], got[4096];
    FILE *f = fopen(path, "r");
    int differ = 0;

    if (!f) {
        perror(path);
        return -1;
    }
    while (fgets(want, sizeof(want), f)) {
        const char *end = strchr(have, '\n');
        size_t len = end ? (size_t)(end - have) + 1 : strlen(have);

        snprintf(got, sizeof(got), "%.*s", (int)len, have);
        have += len;
        if (strcmp(want, got)) {
            fprintf(stderr, "%s\n  want %s  have %s", path, want, got);
            differ++;
        }
    }
    fclose(f);
    return differ || *have ? -1 : 0;
}

int main(int argc, char **argv)
{
    int failed = argc < 2;

    for (size_t i = 0; i < ARRAY_SIZE(scenarios) && argc > 1; i++) {
        for (size_t m = 0; m < arch_count; m++) {
            struct buf b = {0};
            char path[512];

            snprintf(path, sizeof(path), "%s/%s-%s.txt", argv[1], scenarios[i].name,
                     arch_all[m]->name);
            if (table(&scenarios[i], arch_all[m], &b) < 0)
                failed = 1;
            else if (argc > 2 && strcmp(argv[2], "--update") == 0)
                failed |= save(path, &b) < 0;
            else
                failed |= compare(path, buf_cstr(&b)) < 0;
            buf_fini(&b);
        }
    }
    if (failed)
        fprintf(stderr, "tables differ; if that is meant: %s DIR --update\n", argv[0]);
    return failed;
}
