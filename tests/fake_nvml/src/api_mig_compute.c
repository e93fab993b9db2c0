/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Compute instances: what makes a GPU instance a MIG device.
 */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "mig.h"

/* Compute instance profiles: NVML_COMPUTE_INSTANCE_PROFILE_*, with ids of the same numbers. */
static const unsigned compute_profiles[] = {1, 2, 3, 4, 7};
#define N_COMPUTE_PROFILES (sizeof compute_profiles / sizeof compute_profiles[0])

/* Slices of a compute profile where a GPU instance can hold it, else 0. */
static unsigned slices_of(const struct target *t, unsigned id) {
    struct profile profile;
    if (id >= N_COMPUTE_PROFILES || !profile_by_name(t->gpu, t->instance->profile, &profile))
        return 0;
    return compute_profiles[id] <= profile.slices ? compute_profiles[id] : 0;
}

static unsigned instance_slices(const struct target *t) {
    struct profile profile;
    return profile_by_name(t->gpu, t->instance->profile, &profile) ? profile.slices : 0;
}

/* One bit for each compute slice of the GPU instance that a compute instance has. */
static unsigned used_slices(const struct target *t) {
    unsigned slices = 0;
    for (int i = 0; i < t->machine->n_devices; i++) {
        const struct device *one = &t->machine->devices[i];
        if (belongs(t, one))
            slices |= ((1u << compute_slices(t->gpu, t->instance, one)) - 1)
                      << (one->start.given ? one->start.value : 0);
    }
    return slices;
}

/* Where a compute instance of so many slices fits; instance_slices() where it does not. */
static unsigned free_place(const struct target *t, unsigned slices, unsigned used) {
    unsigned total = instance_slices(t);
    for (unsigned start = 0; start + slices <= total; start++)
        if (!(used & (((1u << slices) - 1) << start)))
            return start;
    return total;
}

static nvmlReturn_t compute_profile(const char *call, nvmlGpuInstance_t instance, unsigned id,
                                    unsigned engines, nvmlComputeInstanceProfileInfo_v2_t *info) {
    struct target t;
    nvmlReturn_t result = enter(call, instance, IS_INSTANCE, &t);
    if (!result && (id >= NVML_COMPUTE_INSTANCE_PROFILE_COUNT || engines))
        result = NVML_ERROR_INVALID_ARGUMENT;
    unsigned slices = result ? 0 : slices_of(&t, id);
    if (!result && !slices)
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result)
        return leave(result);
    unsigned total = instance_slices(&t);
    *info = (nvmlComputeInstanceProfileInfo_v2_t){
        .version = info->version,
        .id = id,
        .sliceCount = slices,
        .instanceCount = total / slices,
        .multiprocessorCount = SM_PER_SLICE * slices,
        .sharedCopyEngineCount = total,
    };
    if (slices == total)
        snprintf(info->name, sizeof info->name, "MIG %.60s", t.instance->profile);
    else
        snprintf(info->name, sizeof info->name, "MIG %uc.%.60s", slices, t.instance->profile);
    return leave(NVML_SUCCESS);
}

API nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfoV(
    nvmlGpuInstance_t instance, unsigned id, unsigned engines,
    nvmlComputeInstanceProfileInfo_v2_t *info) {
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != STRUCT_VERSION(nvmlComputeInstanceProfileInfo_v2_t, 2u))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return compute_profile(__func__, instance, id, engines, info);
}

API nvmlReturn_t nvmlGpuInstanceGetComputeInstanceProfileInfo(
    nvmlGpuInstance_t instance, unsigned id, unsigned engines,
    nvmlComputeInstanceProfileInfo_t *info) {
    nvmlComputeInstanceProfileInfo_v2_t all = {0};
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = compute_profile(__func__, instance, id, engines, &all);
    if (!result)
        *info = (nvmlComputeInstanceProfileInfo_t){
            .id = all.id,
            .sliceCount = all.sliceCount,
            .instanceCount = all.instanceCount,
            .multiprocessorCount = all.multiprocessorCount,
            .sharedCopyEngineCount = all.sharedCopyEngineCount,
        };
    return result;
}

API nvmlReturn_t nvmlGpuInstanceGetComputeInstanceRemainingCapacity(nvmlGpuInstance_t instance,
                                                                    unsigned id,
                                                                    unsigned *count) {
    struct target t;
    nvmlReturn_t result = enter(__func__, instance, IS_INSTANCE, &t);
    unsigned slices = result ? 0 : slices_of(&t, id);
    if (!result && (!count || !slices))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    unsigned used = used_slices(&t), start;
    for (*count = 0; (start = free_place(&t, slices, used)) < instance_slices(&t); ++*count)
        used |= ((1u << slices) - 1) << start;
    return leave(NVML_SUCCESS);
}

/* A MIG UUID that nothing had before. */
static bool new_uuid(char *uuid, size_t size) {
    unsigned char b[16];
    if (getrandom(b, sizeof b, 0) != sizeof b)
        return false;
    b[6] = (unsigned char)((b[6] & 0x0f) | 0x40);
    b[8] = (unsigned char)((b[8] & 0x3f) | 0x80);
    snprintf(uuid, size,
             "MIG-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x", b[0],
             b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13],
             b[14], b[15]);
    return true;
}

/* The lowest MIG index, and the lowest id in the GPU instance, that no device has. */
static void numbers(const struct target *t, unsigned *index, unsigned *compute) {
    bool again = true;
    for (*index = *compute = 0; again;) {
        again = false;
        for (int i = 0; i < t->machine->n_devices; i++) {
            const struct device *one = &t->machine->devices[i];
            if (one->gpu.value == t->gpu->index.value && one->index.value == *index) {
                ++*index;
                again = true;
            }
            if (belongs(t, one) && one->compute.value == *compute) {
                ++*compute;
                again = true;
            }
        }
    }
}

/* With its compute instance a GPU instance becomes a MIG device. */
API nvmlReturn_t nvmlGpuInstanceCreateComputeInstance(nvmlGpuInstance_t instance, unsigned id,
                                                      nvmlComputeInstance_t *made) {
    struct target t;
    char line[4 * TEXT], uuid[TEXT];
    unsigned index, compute;
    nvmlReturn_t result = enter_change(__func__, instance, IS_INSTANCE, &t);
    unsigned slices = result ? 0 : slices_of(&t, id);
    if (!result && (!made || !slices))
        result = NVML_ERROR_INVALID_ARGUMENT;
    unsigned start = result ? 0 : free_place(&t, slices, used_slices(&t));
    if (!result && (start == instance_slices(&t) || t.machine->n_devices == MAX_DEVICES))
        result = NVML_ERROR_INSUFFICIENT_RESOURCES;
    if (!result && !new_uuid(uuid, sizeof uuid))
        result = NVML_ERROR_OPERATING_SYSTEM;
    if (result)
        return leave_change(result);
    numbers(&t, &index, &compute);
    snprintf(line, sizeof line,
             "device gpu=%llu instance=%llu compute=%u index=%u uuid=%s slices=%u start=%u",
             t.gpu->index.value, t.instance->id.value, compute, index, uuid, slices, start);
    result = commit(&(struct edit){.append = line});
    if (!result)
        result = resolve(instance, IS_INSTANCE, &t);
    if (!result)
        *made = compute_handle(t.gpu, (unsigned)t.instance->id.value, compute);
    return leave_change(result);
}

API nvmlReturn_t nvmlComputeInstanceDestroy(nvmlComputeInstance_t compute) {
    struct target t;
    nvmlReturn_t result = enter_change(__func__, compute, IS_COMPUTE, &t);
    if (!result && busy(&t, t.device))
        result = NVML_ERROR_IN_USE;
    if (!result)
        result = commit(&(struct edit){.drop_line = t.device->line});
    return leave_change(result);
}

API nvmlReturn_t nvmlGpuInstanceGetComputeInstances(nvmlGpuInstance_t instance, unsigned id,
                                                    nvmlComputeInstance_t *list,
                                                    unsigned *count) {
    struct target t;
    nvmlReturn_t result = enter(__func__, instance, IS_INSTANCE, &t);
    unsigned slices = result ? 0 : slices_of(&t, id);
    if (!result && (!list || !count || !slices))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    *count = 0;
    for (int i = 0; i < t.machine->n_devices; i++) {
        const struct device *one = &t.machine->devices[i];
        if (belongs(&t, one) && compute_slices(t.gpu, t.instance, one) == slices)
            list[(*count)++] = compute_handle(t.gpu, (unsigned)t.instance->id.value,
                                              (unsigned)one->compute.value);
    }
    return leave(NVML_SUCCESS);
}

API nvmlReturn_t nvmlGpuInstanceGetComputeInstanceById(nvmlGpuInstance_t instance, unsigned id,
                                                       nvmlComputeInstance_t *compute) {
    struct target t;
    nvmlReturn_t result = enter(__func__, instance, IS_INSTANCE, &t);
    if (!result && !compute)
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; !result && i < t.machine->n_devices; i++) {
        const struct device *one = &t.machine->devices[i];
        if (!belongs(&t, one) || one->compute.value != id)
            continue;
        *compute = compute_handle(t.gpu, (unsigned)t.instance->id.value, id);
        return leave(NVML_SUCCESS);
    }
    return leave(result ? result : NVML_ERROR_NOT_FOUND);
}

API nvmlReturn_t nvmlComputeInstanceGetInfo_v2(nvmlComputeInstance_t compute,
                                               nvmlComputeInstanceInfo_t *info) {
    struct target t;
    nvmlReturn_t result = enter(__func__, compute, IS_COMPUTE, &t);
    if (!result && !info)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    unsigned slices = compute_slices(t.gpu, t.instance, t.device), id = 0;
    while (id < N_COMPUTE_PROFILES - 1 && compute_profiles[id] != slices)
        id++;
    *info = (nvmlComputeInstanceInfo_t){
        gpu_handle(t.gpu),
        instance_handle(t.gpu, (unsigned)t.instance->id.value),
        (unsigned)t.device->compute.value,
        id,
        {(unsigned)t.device->start.value, slices}};
    return leave(NVML_SUCCESS);
}
API nvmlReturn_t nvmlComputeInstanceGetInfo(nvmlComputeInstance_t compute,
                                            nvmlComputeInstanceInfo_t *info) {
    return nvmlComputeInstanceGetInfo_v2(compute, info);
}
