/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Device nodes of --gpu, see gpu.h. A list names devices by index: with NVIDIA's driver those are
 * its minors and the control nodes; otherwise render nodes, whose minors start at 128.
 */
#include "plan/gpu.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define RENDER_MINOR 128

/* Control nodes go with any device; the others belong to `all` alone. */
static const char *const control_nodes[] = {"nvidiactl", "nvidia-uvm", "nvidia-uvm-tools",
                                            "nvidia-modeset"};
static const char *const other_nodes[] = {
    "nvidia-caps", "dri", "kfd", "nvmap", "nvgpu", "nvhost-ctrl", "nvhost-gpu",
};
#define NVIDIA_MAX 64

static bool add_if_there(const char *dev, const char *name, struct strv *ret, int *status)
{
    char path[256];

    if (snprintf(path, sizeof(path), "%s/%s", dev, name) >= (int)sizeof(path) ||
        access(path, F_OK) < 0)
        return false;
    if (*status == 0)
        *status = strv_add(ret, path);
    return true;
}

static bool add_numbered(const char *dev, const char *prefix, unsigned n, struct strv *ret,
                         int *status)
{
    char name[64];

    snprintf(name, sizeof(name), "%s%u", prefix, n);
    return add_if_there(dev, name, ret, status);
}

int gpu_nodes(const struct policy *p, const char *dev, struct strv *ret, struct error *err)
{
    int status = 0;
    bool nvidia = false;

    if (p->gpu == GPU_NONE)
        return 0;
    for (size_t i = 0; i < ARRAY_SIZE(control_nodes); i++)
        nvidia |= add_if_there(dev, control_nodes[i], ret, &status);
    if (p->gpu == GPU_ALL) {
        for (size_t i = 0; i < ARRAY_SIZE(other_nodes); i++)
            add_if_there(dev, other_nodes[i], ret, &status);
        for (unsigned i = 0; i < NVIDIA_MAX; i++)
            add_numbered(dev, "nvidia", i, ret, &status);
    } else if (!nvidia) {
        add_if_there(dev, "kfd", ret, &status);
    }
    for (size_t i = 0; p->gpu == GPU_LIST && i < p->n_gpu_devices; i++) {
        uint32_t n = p->gpu_devices[i];
        bool found =
            nvidia ? add_numbered(dev, "nvidia", n, ret, &status)
                   : n <= 255 && add_numbered(dev, "dri/renderD", RENDER_MINOR + n, ret, &status);

        if (!found)
            return error_set(err, ERROR_POLICY, -ENODEV, "--gpu",
                             "device %u does not exist (looked for %s/%s%u)", n, dev,
                             nvidia ? "nvidia" : "dri/renderD", nvidia ? n : RENDER_MINOR + n);
    }
    return status < 0 ? error_set(err, ERROR_SETUP, status, "--gpu", "out of memory") : 0;
}
