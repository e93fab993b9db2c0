/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What a device does at the moment. Power, energy, temperature, clocks and errors belong to the
 * whole GPU; utilisation is not known where MIG is on (MIG User Guide, NVML reference).
 */
#include <string.h>
#include <time.h>

#include "state.h"

static unsigned long long reserved(const struct gpu *gpu) { return gpu->reserved.value; }

static bool on_device(const struct target *t, const struct process *process) {
    if (t->device)
        return strcmp(process->on, t->device->uuid) == 0;
    if (strcmp(process->on, t->gpu->uuid) == 0)
        return true;
    const struct device *device = machine_device(t->machine, process->on);
    return device && device->gpu.value == t->gpu->index.value;
}

static void memory_of(const struct target *t, nvmlMemory_v2_t *memory) {
    struct profile profile;
    const struct number *fixed = t->device ? &t->device->used : &t->gpu->used;
    memory->total = t->gpu->memory.value;
    memory->reserved = reserved(t->gpu);
    if (t->device && profile_by_name(t->gpu, t->instance->profile, &profile)) {
        memory->total = profile.memory_mb << 20;
        memory->reserved = 0;
    }
    memory->used = fixed->value;
    for (int i = 0; !fixed->given && i < t->machine->n_processes; i++)
        if (on_device(t, &t->machine->processes[i]) && process_counts(&t->machine->processes[i]))
            memory->used += t->machine->processes[i].memory.value;
    unsigned long long most = memory->total - memory->reserved;
    if (memory->used > most)
        memory->used = most;
    memory->free = most - memory->used;
}

/* This version counts what the driver keeps for itself as used. */
API nvmlReturn_t nvmlDeviceGetMemoryInfo(nvmlDevice_t device, nvmlMemory_t *memory) {
    struct target t;
    nvmlMemory_v2_t all;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && !memory)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    memory_of(&t, &all);
    memory->total = all.total;
    memory->free = all.free;
    memory->used = all.used + all.reserved;
    return leave(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetMemoryInfo_v2(nvmlDevice_t device, nvmlMemory_v2_t *memory) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && !memory)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && memory->version != STRUCT_VERSION(nvmlMemory_v2_t, 2u))
        result = NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    if (!result)
        memory_of(&t, memory);
    return leave(result);
}

typedef struct {
    unsigned long long total, free, used;
} bar1_memory;

/* A MIG device has as many eighths of the GPU's BAR1 as of its memory. */
API nvmlReturn_t nvmlDeviceGetBAR1MemoryInfo(nvmlDevice_t device, bar1_memory *memory) {
    struct target t;
    struct profile profile;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && !memory)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        result = put_count(&memory->total, &t.gpu->bar1);
    if (!result) {
        memory->used = t.device ? 0 : t.gpu->bar1_used.value;
        if (t.device && profile_by_name(t.gpu, t.instance->profile, &profile))
            memory->total = memory->total / 8 * profile.memory_slices;
        memory->free = memory->total - memory->used;
    }
    return leave(result);
}

/* Utilisation: of a GPU that is not in MIG mode. */
static nvmlReturn_t enter_whole(const char *call, nvmlDevice_t device, struct target *t) {
    nvmlReturn_t result = enter(call, device, IS_GPU, t);
    return !result && t->gpu->mig.value == MIG_ON ? NVML_ERROR_NOT_SUPPORTED : result;
}

API nvmlReturn_t nvmlDeviceGetUtilizationRates(nvmlDevice_t device, nvmlUtilization_t *rates) {
    struct target t;
    nvmlReturn_t result = enter_whole(__func__, device, &t);
    if (!result)
        result = rates ? put_number(&rates->gpu, &t.gpu->utilisation) : NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        rates->memory = (unsigned)t.gpu->memory_utilisation.value;
    return leave(result);
}

static nvmlReturn_t engine(const char *call, nvmlDevice_t device, size_t offset, unsigned *rate,
                           unsigned *period_us) {
    struct target t;
    nvmlReturn_t result = enter_whole(call, device, &t);
    if (!result && !period_us)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        result = put_number(rate, (struct number *)((char *)t.gpu + offset));
    if (!result)
        *period_us = 167000;
    return leave(result);
}

API nvmlReturn_t nvmlDeviceGetEncoderUtilization(nvmlDevice_t device, unsigned *rate,
                                                 unsigned *period) {
    return engine(__func__, device, offsetof(struct gpu, encoder), rate, period);
}
API nvmlReturn_t nvmlDeviceGetDecoderUtilization(nvmlDevice_t device, unsigned *rate,
                                                 unsigned *period) {
    return engine(__func__, device, offsetof(struct gpu, decoder), rate, period);
}

API nvmlReturn_t nvmlDeviceGetProcessUtilization(nvmlDevice_t device,
                                                 nvmlProcessUtilizationSample_t *samples,
                                                 unsigned *count, unsigned long long last_seen) {
    struct target t;
    struct timespec now;
    nvmlReturn_t result = enter_whole(__func__, device, &t);
    if (!result && !count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    clock_gettime(CLOCK_REALTIME, &now);
    unsigned long long stamp =
        (unsigned long long)now.tv_sec * 1000000 + (unsigned long long)now.tv_nsec / 1000;
    unsigned found = 0, room = *count;
    for (int i = 0; i < t.machine->n_processes; i++) {
        const struct process *one = &t.machine->processes[i];
        if (!on_device(&t, one) || !process_counts(one) || !one->utilisation.given)
            continue;
        if (samples && found < room)
            samples[found] = (nvmlProcessUtilizationSample_t){
                (unsigned)one->pid.value, stamp, (unsigned)one->utilisation.value, 0, 0, 0};
        found++;
    }
    *count = found;
    if (!found || stamp < last_seen)
        return leave(NVML_ERROR_NOT_FOUND);
    return leave(!samples || found > room ? NVML_ERROR_INSUFFICIENT_SIZE : NVML_SUCCESS);
}

/* One number of the whole GPU. */
static nvmlReturn_t number(const char *call, nvmlDevice_t device, size_t offset, unsigned *out) {
    struct target t;
    nvmlReturn_t result = enter(call, device, IS_GPU, &t);
    if (!result)
        result = put_number(out, (struct number *)((char *)t.gpu + offset));
    return leave(result);
}

#define NUMBER_CALL(name, member)                                                             \
    API nvmlReturn_t name(nvmlDevice_t device, unsigned *out) {                               \
        return number(__func__, device, offsetof(struct gpu, member), out);                   \
    }

NUMBER_CALL(nvmlDeviceGetFanSpeed, fan)
NUMBER_CALL(nvmlDeviceGetPowerUsage, power_mw)
NUMBER_CALL(nvmlDeviceGetPowerManagementLimit, power_limit_mw)
NUMBER_CALL(nvmlDeviceGetPowerManagementDefaultLimit, power_limit_mw)
NUMBER_CALL(nvmlDeviceGetEnforcedPowerLimit, power_limit_mw)
NUMBER_CALL(nvmlDeviceGetPerformanceState, performance_state)
NUMBER_CALL(nvmlDeviceGetPersistenceMode, persistence)

API nvmlReturn_t nvmlDeviceGetTotalEnergyConsumption(nvmlDevice_t device,
                                                     unsigned long long *energy_mj) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    return leave(result ? result : put_count(energy_mj, &t.gpu->energy_mj));
}

API nvmlReturn_t nvmlDeviceGetTemperature(nvmlDevice_t device, int sensor, unsigned *degrees) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && sensor != 0)
        result = NVML_ERROR_INVALID_ARGUMENT;
    return leave(result ? result : put_number(degrees, &t.gpu->temperature));
}

API nvmlReturn_t nvmlDeviceGetTemperatureV(nvmlDevice_t device, nvmlTemperature_v1_t *out) {
    unsigned degrees;
    if (!out)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (out->version != STRUCT_VERSION(nvmlTemperature_v1_t, 1u))
        return NVML_ERROR_ARGUMENT_VERSION_MISMATCH;
    nvmlReturn_t result = nvmlDeviceGetTemperature(device, out->sensorType, &degrees);
    if (!result)
        out->temperature = (int)degrees;
    return result;
}

API nvmlReturn_t nvmlDeviceGetTemperatureThreshold(nvmlDevice_t device, int kind,
                                                   unsigned *degrees) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && (kind < 0 || kind > 7))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && kind > 1)
        result = NVML_ERROR_NOT_SUPPORTED;
    if (result)
        return leave(result);
    return leave(
        put_number(degrees, kind ? &t.gpu->slowdown_temperature : &t.gpu->shutdown_temperature));
}

/* Kinds of clocks: graphics, streaming multiprocessors, memory, video. */
static nvmlReturn_t clock_of(const char *call, nvmlDevice_t device, bool most, int kind,
                             unsigned *mhz) {
    struct target t;
    nvmlReturn_t result = enter(call, device, IS_GPU, &t);
    if (!result && (kind < 0 || kind > 3))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    const struct gpu *g = t.gpu;
    const struct number *now[] = {&g->clock_graphics, &g->clock_sm, &g->clock_memory,
                                  &g->clock_video};
    const struct number *top[] = {&g->max_clock_graphics, &g->max_clock_sm, &g->max_clock_memory,
                                  &g->max_clock_video};
    return leave(put_number(mhz, most ? top[kind] : now[kind]));
}
API nvmlReturn_t nvmlDeviceGetClockInfo(nvmlDevice_t device, int kind, unsigned *mhz) {
    return clock_of(__func__, device, false, kind, mhz);
}
API nvmlReturn_t nvmlDeviceGetMaxClockInfo(nvmlDevice_t device, int kind, unsigned *mhz) {
    return clock_of(__func__, device, true, kind, mhz);
}

API nvmlReturn_t nvmlDeviceGetCurrentClocksEventReasons(nvmlDevice_t device,
                                                        unsigned long long *reasons) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    return leave(result ? result : put_count(reasons, &t.gpu->clock_event_reasons));
}
API nvmlReturn_t nvmlDeviceGetCurrentClocksThrottleReasons(nvmlDevice_t device,
                                                           unsigned long long *reasons) {
    return nvmlDeviceGetCurrentClocksEventReasons(device, reasons);
}

/* Bytes to (0) or from (1) the device, in KB/s */
API nvmlReturn_t nvmlDeviceGetPcieThroughput(nvmlDevice_t device, int way, unsigned *kb) {
    struct target t;
    nvmlReturn_t result = enter_whole(__func__, device, &t);
    if (!result && way != 0 && way != 1)
        result = NVML_ERROR_INVALID_ARGUMENT;
    return leave(result ? result : put_number(kb, way ? &t.gpu->pcie_rx_kb : &t.gpu->pcie_tx_kb));
}

API nvmlReturn_t nvmlDeviceGetComputeMode(nvmlDevice_t device, unsigned *mode) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && !mode)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *mode = (unsigned)t.gpu->compute_mode.value;
    return leave(result);
}

/* No monitor is ever connected to what is played here. */
API nvmlReturn_t nvmlDeviceGetDisplayMode(nvmlDevice_t device, unsigned *on) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && !on)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *on = 0;
    return leave(result);
}
API nvmlReturn_t nvmlDeviceGetDisplayActive(nvmlDevice_t device, unsigned *on) {
    return nvmlDeviceGetDisplayMode(device, on);
}

/* Driver models exist on Windows only. */
API nvmlReturn_t nvmlDeviceGetDriverModel_v2(nvmlDevice_t device, unsigned *now,
                                             unsigned *pending) {
    struct target t;
    (void)now;
    (void)pending;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    return leave(result ? result : NVML_ERROR_NOT_SUPPORTED);
}
API nvmlReturn_t nvmlDeviceGetDriverModel(nvmlDevice_t device, unsigned *now, unsigned *pending) {
    return nvmlDeviceGetDriverModel_v2(device, now, pending);
}
