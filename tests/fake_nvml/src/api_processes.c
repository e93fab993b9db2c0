/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Processes. A query with too little room says how many there are (INSUFFICIENT_SIZE). On a GPU in
 * MIG mode the answer is for all its instances together, and only for the privileged.
 */
#include <string.h>

#include "state.h"

struct wanted {
    enum process_type type;
    int version;
};

static void put(void *list, unsigned at, const struct target *t, const struct process *one,
                int version) {
    const struct device *device = machine_device(t->machine, one->on);
    unsigned long long memory = one->memory.given ? one->memory.value : ~0ull;
    unsigned pid = (unsigned)one->pid.value;
    if (version == 1)
        ((nvmlProcessInfo_v1_t *)list)[at] = (nvmlProcessInfo_v1_t){pid, memory};
    else
        ((nvmlProcessInfo_v2_t *)list)[at] = (nvmlProcessInfo_v2_t){
            pid, memory, device ? (unsigned)device->instance.value : NVML_NO_INSTANCE,
            device ? (unsigned)device->compute.value : NVML_NO_INSTANCE};
}

static bool is_here(const struct target *t, const struct process *one) {
    if (t->device)
        return strcmp(one->on, t->device->uuid) == 0;
    const struct device *device = machine_device(t->machine, one->on);
    return device ? device->gpu.value == t->gpu->index.value : !strcmp(one->on, t->gpu->uuid);
}

static nvmlReturn_t processes(const char *call, nvmlDevice_t device, unsigned *count, void *list,
                              struct wanted wanted) {
    struct target t;
    nvmlReturn_t result = enter(call, device, IS_DEVICE, &t);
    if (!result && (!count || (*count && !list)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !t.device && t.gpu->mig.value == MIG_ON && !privileged())
        result = NVML_ERROR_NO_PERMISSION;
    if (result)
        return leave(result);
    unsigned found = 0, room = *count;
    for (int i = 0; i < t.machine->n_processes; i++) {
        const struct process *one = &t.machine->processes[i];
        if (one->type.value != wanted.type || !is_here(&t, one) || !process_counts(one))
            continue;
        if (found < room)
            put(list, found, &t, one, wanted.version);
        found++;
    }
    *count = found;
    return leave(found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

#define PROCESS_CALL(name, type, version)                                                     \
    API nvmlReturn_t name(nvmlDevice_t device, unsigned *count, void *list) {                 \
        return processes(__func__, device, count, list, (struct wanted){type, version});      \
    }

PROCESS_CALL(nvmlDeviceGetComputeRunningProcesses, COMPUTE, 1)
PROCESS_CALL(nvmlDeviceGetComputeRunningProcesses_v2, COMPUTE, 2)
PROCESS_CALL(nvmlDeviceGetComputeRunningProcesses_v3, COMPUTE, 2)
PROCESS_CALL(nvmlDeviceGetGraphicsRunningProcesses, GRAPHICS, 1)
PROCESS_CALL(nvmlDeviceGetGraphicsRunningProcesses_v2, GRAPHICS, 2)
PROCESS_CALL(nvmlDeviceGetGraphicsRunningProcesses_v3, GRAPHICS, 2)
PROCESS_CALL(nvmlDeviceGetMPSComputeRunningProcesses, MPS, 1)
PROCESS_CALL(nvmlDeviceGetMPSComputeRunningProcesses_v2, MPS, 2)
PROCESS_CALL(nvmlDeviceGetMPSComputeRunningProcesses_v3, MPS, 2)
