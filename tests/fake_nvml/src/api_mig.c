/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * MIG as it is: modes, devices, instances and profiles.
 */
#include <stdio.h>
#include <string.h>

#include "mig.h"

/* How many MIG devices the GPU can hold: as many as the smallest profile fits. */
#define MOST_MIG_DEVICES 7u

API nvmlReturn_t nvmlDeviceGetMigMode(nvmlDevice_t device, unsigned *now, unsigned *pending) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && (!now || !pending))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && (!t.gpu->mig.given || t.gpu->mig.value == MIG_NONE))
        result = NVML_ERROR_NOT_SUPPORTED;
    if (!result) {
        const struct number *next = t.gpu->mig_pending.given ? &t.gpu->mig_pending : &t.gpu->mig;
        *now = (unsigned)t.gpu->mig.value;
        *pending = (unsigned)next->value;
    }
    return leave(result);
}

/* 0 where MIG is off or not supported */
API nvmlReturn_t nvmlDeviceGetMaxMigDeviceCount(nvmlDevice_t device, unsigned *count) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && !count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *count = t.gpu->mig.value == MIG_ON ? MOST_MIG_DEVICES : 0;
    return leave(result);
}

/* Indices have holes: NOT_FOUND means that the next one may be there. */
API nvmlReturn_t nvmlDeviceGetMigDeviceHandleByIndex(nvmlDevice_t device, unsigned index,
                                                     nvmlDevice_t *mig) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && t.gpu->mig.value != MIG_ON)
        result = t.gpu->mig.given && t.gpu->mig.value == MIG_OFF ? NVML_ERROR_NOT_FOUND
                                                                 : NVML_ERROR_NOT_SUPPORTED;
    if (!result && (!mig || index >= MOST_MIG_DEVICES))
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; !result && i < t.machine->n_devices; i++) {
        struct device *one = &t.machine->devices[i];
        if (one->gpu.value != t.gpu->index.value || one->index.value != index)
            continue;
        t.device = one;
        result = fault_of(__func__, &t);
        if (!result && !(*mig = mig_handle(one)))
            result = NVML_ERROR_MEMORY;
        return leave(result);
    }
    return leave(result ? result : NVML_ERROR_NOT_FOUND);
}

API nvmlReturn_t nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nvmlDevice_t mig,
                                                              nvmlDevice_t *device) {
    struct target t;
    nvmlReturn_t result = enter(__func__, mig, IS_MIG, &t);
    if (!result && !device)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !(*device = gpu_handle(t.gpu)))
        result = NVML_ERROR_MEMORY;
    return leave(result == NVML_ERROR_NOT_SUPPORTED ? NVML_ERROR_INVALID_ARGUMENT : result);
}

API nvmlReturn_t nvmlDeviceIsMigDeviceHandle(nvmlDevice_t device, unsigned *is_mig) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && !is_mig)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *is_mig = t.device != NULL;
    return leave(result);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceId(nvmlDevice_t device, unsigned *id) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_MIG, &t);
    return leave(result ? result : put_number(id, &t.device->instance));
}

API nvmlReturn_t nvmlDeviceGetComputeInstanceId(nvmlDevice_t device, unsigned *id) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_MIG, &t);
    if (!result && !id)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *id = (unsigned)t.device->compute.value;
    return leave(result);
}

API nvmlReturn_t nvmlDeviceGetAttributes_v2(nvmlDevice_t device, nvmlDeviceAttributes_t *out) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter(__func__, device, IS_MIG, &t);
    if (!result && !out)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !profile_by_name(t.gpu, t.instance->profile, &profile))
        result = NVML_ERROR_UNKNOWN;
    if (result)
        return leave(result);
    memset(out, 0, sizeof *out);
    out->gpuInstanceSliceCount = profile.slices;
    out->computeInstanceSliceCount = compute_slices(t.gpu, t.instance, t.device);
    out->multiprocessorCount = SM_PER_SLICE * out->computeInstanceSliceCount;
    out->sharedCopyEngineCount = profile.slices;
    out->sharedDecoderCount = profile.engines;
    out->memorySizeMB = profile.memory_mb;
    return leave(NVML_SUCCESS);
}
API nvmlReturn_t nvmlDeviceGetAttributes(nvmlDevice_t device, nvmlDeviceAttributes_t *out) {
    return nvmlDeviceGetAttributes_v2(device, out);
}

unsigned compute_slices(const struct gpu *gpu, const struct instance *instance,
                        const struct device *device) {
    struct profile profile;
    if (device->slices.given)
        return (unsigned)device->slices.value;
    return profile_by_name(gpu, instance->profile, &profile) ? profile.slices : 0;
}

nvmlReturn_t enter_mig_on(const char *call, nvmlDevice_t device, struct target *t) {
    nvmlReturn_t result = enter(call, device, IS_GPU, t);
    return !result && t->gpu->mig.value != MIG_ON ? NVML_ERROR_NOT_SUPPORTED : result;
}

static nvmlReturn_t profile_info(const char *call, nvmlDevice_t device, unsigned index,
                                 nvmlGpuInstanceProfileInfo_v2_t *info) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter_mig_on(call, device, &t);
    if (!result && index >= NVML_GPU_INSTANCE_PROFILE_COUNT)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !profile_by_index(t.gpu, index, &profile))
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result)
        return leave(result);
    *info = (nvmlGpuInstanceProfileInfo_v2_t){
        .version = info->version,
        .id = profile.id,
        .sliceCount = profile.slices,
        .instanceCount = profile.instances,
        .multiprocessorCount = SM_PER_SLICE * profile.slices,
        .copyEngineCount = profile.slices,
        .decoderCount = profile.engines,
        .memorySizeMB = profile.memory_mb,
    };
    snprintf(info->name, sizeof info->name, "MIG %.80s", profile.name);
    return leave(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfoV(nvmlDevice_t device, unsigned index,
                                                      nvmlGpuInstanceProfileInfo_v2_t *info) {
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (info->version != STRUCT_VERSION(nvmlGpuInstanceProfileInfo_v2_t, 2u))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    return profile_info(__func__, device, index, info);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceProfileInfo(nvmlDevice_t device, unsigned index,
                                                     nvmlGpuInstanceProfileInfo_t *info) {
    nvmlGpuInstanceProfileInfo_v2_t all = {0};
    if (!info)
        return NVML_ERROR_INVALID_ARGUMENT;
    nvmlReturn_t result = profile_info(__func__, device, index, &all);
    if (!result)
        *info = (nvmlGpuInstanceProfileInfo_t){
            all.id,           all.isP2pSupported, all.sliceCount, all.instanceCount,
            all.multiprocessorCount, all.copyEngineCount, all.decoderCount, all.encoderCount,
            all.jpegCount,    all.ofaCount,       all.memorySizeMB};
    return result;
}

/* All placements of a profile, whether taken or not. */
API nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements_v2(nvmlDevice_t device, unsigned id,
                                                               nvmlPlacement_t *placements,
                                                               unsigned *count) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter_mig_on(__func__, device, &t);
    if (!result && (!count || !profile_by_id(t.gpu, id, &profile)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (unsigned i = 0; !result && placements && i < profile.n_placements; i++)
        placements[i] = (nvmlPlacement_t){profile.placements[i], profile.memory_slices};
    if (!result)
        *count = profile.n_placements;
    return leave(result);
}
API nvmlReturn_t nvmlDeviceGetGpuInstancePossiblePlacements(nvmlDevice_t device, unsigned id,
                                                            nvmlPlacement_t *placements,
                                                            unsigned *count) {
    return nvmlDeviceGetGpuInstancePossiblePlacements_v2(device, id, placements, count);
}

/* `list` has room for as many as the profile allows on a GPU. */
API nvmlReturn_t nvmlDeviceGetGpuInstances(nvmlDevice_t device, unsigned id,
                                           nvmlGpuInstance_t *list, unsigned *count) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter_mig_on(__func__, device, &t);
    if (!result && (!count || !list || !profile_by_id(t.gpu, id, &profile)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    *count = 0;
    for (int i = 0; i < t.machine->n_instances; i++) {
        const struct instance *one = &t.machine->instances[i];
        if (one->gpu.value == t.gpu->index.value && !strcmp(one->profile, profile.name))
            list[(*count)++] = instance_handle(t.gpu, (unsigned)one->id.value);
    }
    return leave(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetGpuInstanceById(nvmlDevice_t device, unsigned id,
                                              nvmlGpuInstance_t *instance) {
    struct target t;
    nvmlReturn_t result = enter_mig_on(__func__, device, &t);
    if (!result && !instance)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !machine_instance(t.machine, t.gpu, id))
        result = NVML_ERROR_NOT_FOUND;
    if (!result)
        *instance = instance_handle(t.gpu, id);
    return leave(result);
}

API nvmlReturn_t nvmlGpuInstanceGetInfo(nvmlGpuInstance_t instance, nvmlGpuInstanceInfo_t *info) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter(__func__, instance, IS_INSTANCE, &t);
    if (!result && !info)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !profile_by_name(t.gpu, t.instance->profile, &profile))
        result = NVML_ERROR_UNKNOWN;
    if (!result)
        *info = (nvmlGpuInstanceInfo_t){gpu_handle(t.gpu),
                                        (unsigned)t.instance->id.value,
                                        profile.id,
                                        {(unsigned)t.instance->start.value, profile.memory_slices}};
    return leave(result);
}
