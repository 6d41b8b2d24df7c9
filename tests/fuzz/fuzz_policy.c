/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzzes every text parser of the policy. The first byte chooses the setter, the rest is its text;
 * newlines separate further texts for the same policy. Checked: no crash, a refusal has a message
 * and leaves the policy valid, what was accepted survives validation and release.
 * With libFuzzer: clang -fsanitize=fuzzer. Without: replay.c gives it a main().
 */
#include <string.h>

#include "policy/internal.h"
#include "policy/suggest.h"

#include "fuzz.h"

static int apply(struct policy *p, unsigned which, const char *text, struct error *err)
{
    switch (which) {
    case 0: return policy_add_fs_read(p, "--f", text, false, err);
    case 1: return policy_add_fs_write(p, "--f", text, true, err);
    case 2: return policy_add_fs_deny(p, "--f", text, err);
    case 3: return policy_add_net_allow(p, "--f", text, err);
    case 4: return policy_add_net_allow_bind(p, "--f", text, err);
    case 5: return policy_set_timeout(p, "--f", text, err);
    case 6: return policy_add_env(p, "--f", text, err);
    case 7: return policy_set_cwd(p, "--f", text, err);
    case 8: return policy_set_user(p, "--f", text, err);
    case 9: return policy_set_max_open_files(p, "--f", text, err);
    case 10: return policy_set_cpu_cores(p, "--f", text, err);
    case 11: return policy_set_gpu(p, "--f", text, err);
    case 12: return policy_add_deny_syscall(p, "--f", text, err);
    case 13: return policy_add_allow_syscall(p, "--f", text, err);
    case 14: return policy_set_protection(p, "--f", text, PROTECTION_DEGRADED, err);
    case 15: return policy_set_protection(p, "--f", text, PROTECTION_DISABLED, err);
    case 16: return policy_set_name(p, "--f", text, err);
    case 17: return policy_set_stop_grace(p, "--f", text, err);
    case 18: return policy_add_net_deny(p, "--f", text, err);
    case 19: return policy_add_net_deny_bind(p, "--f", text, err);
    case 20: return policy_set_dns_refresh(p, "--f", text, err);
    case 21: return policy_set_time_start(p, "--f", text, err);
    case 22: return policy_set_random_seed(p, "--f", text, err);
    case 23: return policy_set_chroot(p, "--f", text, err);
    case 24: return policy_add_fs_mount(p, "--f", text, err);
    case 25: return policy_set_workdir(p, "--f", text, err);
    case 26: return policy_set_fs_storage(p, "--f", text, err);
    case 27: return policy_set_stage_action(&p->on_exit, "--f", text, err);
    case 28: return policy_set_max_memory(p, "--f", text, err);
    case 29: return policy_set_max_processes(p, "--f", text, err);
    case 30: return policy_set_max_cpu(p, "--f", text, err);
    case 31: return policy_set_num_cpus(p, "--f", text, err);
    default: return policy_set_stop_signal(p, "--f", text, err);
    }
}

static void check_numbers(const char *text)
{
    uint64_t ns = 0;
    uint64_t bytes = 0;
    int64_t time = 0;
    uint32_t n = 0;
    int sig = parse_signal(text);

    CHECK(sig < 0 || (sig >= 1 && sig <= 64));
    CHECK(parse_seconds(text, &ns) < 0 || ns <= (SECONDS_MAX + 1ull) * 1000000000);
    CHECK(parse_size(text, &bytes) < 0 || bytes > 0);
    CHECK(parse_time(text, &time) < 0 || time >= 0);
    (void)parse_u32(text, &n);
    (void)suggest_distance(text, "fs-read");
}

/* Sorted, disjoint, not touching. */
static void check_ports(const struct port_set *s)
{
    for (size_t i = 0; i < s->n; i++) {
        CHECK(s->ranges[i].lo <= s->ranges[i].hi);
        CHECK(i == 0 || s->ranges[i].lo > s->ranges[i - 1].hi + 1u);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct policy p;
    struct error err = {0};
    char *text;
    char *save = NULL;

    if (size == 0)
        return 0;
    text = malloc(size);
    CHECK(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    policy_init(&p);
    for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
        memset(&err, 0, sizeof(err));
        if (apply(&p, data[0] % 33, line, &err) < 0)
            CHECK(err.kind != ERROR_NONE && *err.message && !strcmp(err.where, "--f"));
        check_numbers(line);
        check_ports(&p.net_connect);
        check_ports(&p.net_bind);
    }
    memset(&err, 0, sizeof(err));
    if (policy_validate(&p, &err) < 0)
        CHECK(*err.message);
    policy_fini(&p);
    free(text);
    return 0;
}
