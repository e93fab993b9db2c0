/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * MIG modes and GPU instances, changed: the calls write the machine's file anew.
 */
#include <stdio.h>
#include <string.h>

#include "mig.h"

#define MEMORY_SLICES 8u

nvmlReturn_t enter_change(const char *call, const void *handle, int kinds, struct target *t) {
    nvmlReturn_t result = enter(call, handle, kinds, t);
    if (!result)
        result = begin_change();
    return result ? result : resolve(handle, kinds, t);
}

nvmlReturn_t leave_change(nvmlReturn_t result) {
    end_change();
    return leave(result);
}

bool busy(const struct target *t, const struct device *device) {
    for (int i = 0; i < t->machine->n_processes; i++) {
        const struct process *one = &t->machine->processes[i];
        const struct device *on = machine_device(t->machine, one->on);
        bool here = on ? on->gpu.value == t->gpu->index.value : !strcmp(one->on, t->gpu->uuid);
        if (here && (!device || on == device) && process_counts(one))
            return true;
    }
    return false;
}

static bool has_instances(const struct target *t) {
    for (int i = 0; i < t->machine->n_instances; i++)
        if (t->machine->instances[i].gpu.value == t->gpu->index.value)
            return true;
    return false;
}

/* The mode changes at once on a GPU that nothing uses; else it is pending, and `activation` says
 * that the GPU is in use. */
API nvmlReturn_t nvmlDeviceSetMigMode(nvmlDevice_t device, unsigned mode,
                                      nvmlReturn_t *activation) {
    struct target t;
    nvmlReturn_t result = enter_change(__func__, device, IS_GPU, &t);
    if (!result && (!activation || mode > 1))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && (!t.gpu->mig.given || t.gpu->mig.value == MIG_NONE))
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result)
        return leave_change(result);
    bool in_use = t.gpu->mig.value != mode && (busy(&t, NULL) || has_instances(&t));
    const char *word = mode ? "on" : "off";
    struct edit edit = {.set_line = t.gpu->line};
    edit.set[0].key = in_use ? "mig_pending" : "mig";
    edit.set[0].value = word;
    if (!in_use)
        edit.set[1].key = "mig_pending";
    *activation = in_use ? NVML_ERROR_IN_USE : NVML_SUCCESS;
    return leave_change(commit(&edit));
}

/* One bit for each memory slice that an instance of the GPU has. */
static unsigned taken(const struct target *t) {
    unsigned slices = 0;
    struct profile profile;
    for (int i = 0; i < t->machine->n_instances; i++) {
        const struct instance *one = &t->machine->instances[i];
        if (one->gpu.value == t->gpu->index.value &&
            profile_by_name(t->gpu, one->profile, &profile))
            slices |= ((1u << profile.memory_slices) - 1) << one->start.value;
    }
    return slices;
}

static bool fits(const struct profile *profile, unsigned start, unsigned slices) {
    return !(slices & (((1u << profile->memory_slices) - 1) << start));
}

/* How many more of a profile fit when they are placed one by one. */
API nvmlReturn_t nvmlDeviceGetGpuInstanceRemainingCapacity(nvmlDevice_t device, unsigned id,
                                                           unsigned *count) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter_mig_on(__func__, device, &t);
    if (!result && (!count || !profile_by_id(t.gpu, id, &profile)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    unsigned slices = taken(&t);
    *count = 0;
    for (unsigned i = 0; i < profile.n_placements; i++)
        if (fits(&profile, profile.placements[i], slices)) {
            slices |= ((1u << profile.memory_slices) - 1) << profile.placements[i];
            ++*count;
        }
    return leave(NVML_SUCCESS);
}

static nvmlReturn_t create_instance(const char *call, nvmlDevice_t device, unsigned profile_id,
                                    const nvmlPlacement_t *wanted, nvmlGpuInstance_t *instance) {
    struct target t;
    struct profile profile;
    char line[3 * TEXT];
    nvmlReturn_t result = enter_change(call, device, IS_GPU, &t);
    if (!result && t.gpu->mig.value != MIG_ON)
        result = NVML_ERROR_NOT_SUPPORTED;
    if (!result && (!instance || !profile_by_id(t.gpu, profile_id, &profile)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && wanted && wanted->size != profile.memory_slices)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave_change(result);
    unsigned slices = taken(&t), start = MEMORY_SLICES;
    for (unsigned i = 0; start == MEMORY_SLICES && i < profile.n_placements; i++) {
        bool chosen = !wanted || wanted->start == profile.placements[i];
        if (chosen && fits(&profile, profile.placements[i], slices))
            start = profile.placements[i];
    }
    if (start == MEMORY_SLICES || t.machine->n_instances == MAX_INSTANCES)
        return leave_change(NVML_ERROR_INSUFFICIENT_RESOURCES);
    unsigned id = profile.first_id;
    while (machine_instance(t.machine, t.gpu, id))
        id++;
    snprintf(line, sizeof line, "instance gpu=%llu id=%u profile=%s start=%u",
             t.gpu->index.value, id, profile.name, start);
    result = commit(&(struct edit){.append = line});
    if (!result)
        result = resolve(device, IS_GPU, &t);
    if (!result)
        *instance = instance_handle(t.gpu, id);
    return leave_change(result);
}

API nvmlReturn_t nvmlDeviceCreateGpuInstance(nvmlDevice_t device, unsigned profile_id,
                                             nvmlGpuInstance_t *instance) {
    return create_instance(__func__, device, profile_id, NULL, instance);
}

API nvmlReturn_t nvmlDeviceCreateGpuInstanceWithPlacement(nvmlDevice_t device,
                                                          unsigned profile_id,
                                                          const nvmlPlacement_t *placement,
                                                          nvmlGpuInstance_t *instance) {
    if (!placement)
        return NVML_ERROR_INVALID_ARGUMENT;
    return create_instance(__func__, device, profile_id, placement, instance);
}

bool belongs(const struct target *t, const struct device *device) {
    return device->gpu.value == t->gpu->index.value &&
           device->instance.value == t->instance->id.value;
}

API nvmlReturn_t nvmlGpuInstanceDestroy(nvmlGpuInstance_t instance) {
    struct target t;
    nvmlReturn_t result = enter_change(__func__, instance, IS_INSTANCE, &t);
    for (int i = 0; !result && i < t.machine->n_devices; i++)
        if (belongs(&t, &t.machine->devices[i]))
            result = NVML_ERROR_IN_USE;
    if (!result)
        result = commit(&(struct edit){.drop_line = t.instance->line});
    return leave_change(result);
}
