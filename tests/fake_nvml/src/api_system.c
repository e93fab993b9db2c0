/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The library itself, the driver, and which devices there are.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "state.h"

API nvmlReturn_t nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    return state_init();
}
API nvmlReturn_t nvmlInit_v2(void) { return state_init(); }
API nvmlReturn_t nvmlInit(void) { return state_init(); }
API nvmlReturn_t nvmlShutdown(void) { return state_shutdown(); }

API const char *nvmlErrorString(nvmlReturn_t result) {
    const char *text = error_text(result);
    return text ? text : "Unknown Error";
}

API nvmlReturn_t nvmlSystemGetDriverVersion(char *version, unsigned length) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    return leave(result ? result : put_text(version, length, t.machine->driver.version));
}

API nvmlReturn_t nvmlSystemGetNVMLVersion(char *version, unsigned length) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (result)
        return leave(result);
    const struct driver *driver = &t.machine->driver;
    char both[2 * TEXT];
    snprintf(both, sizeof both, "12.%s", driver->version);
    return leave(put_text(version, length, *driver->nvml ? driver->nvml : both));
}

/* 1000 × major + 10 × minor */
API nvmlReturn_t nvmlSystemGetCudaDriverVersion_v2(int *version) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    unsigned value = 0;
    if (!result)
        result = version ? put_number(&value, &t.machine->driver.cuda) : NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *version = (int)value;
    return leave(result);
}
API nvmlReturn_t nvmlSystemGetCudaDriverVersion(int *version) {
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* Cut to the buffer's length, as the reference says. */
API nvmlReturn_t nvmlSystemGetProcessName(unsigned pid, char *name, unsigned length) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (!result && (!name || !length))
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; !result && i < t.machine->n_processes; i++) {
        const struct process *one = &t.machine->processes[i];
        if (one->pid.value != pid || !process_counts(one))
            continue;
        snprintf(name, length, "%s", *one->name ? one->name : "[Not Found]");
        return leave(NVML_SUCCESS);
    }
    return leave(result ? result : NVML_ERROR_NOT_FOUND);
}

API nvmlReturn_t nvmlDeviceGetCount_v2(unsigned *count) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (!result && !count)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *count = (unsigned)t.machine->n_gpus;
    return leave(result);
}
API nvmlReturn_t nvmlDeviceGetCount(unsigned *count) { return nvmlDeviceGetCount_v2(count); }

/* The handle of the GPU or MIG device in `t`, unless it is lost or a fault is meant for it. */
static nvmlReturn_t give(const char *call, struct target *t, nvmlDevice_t *device) {
    nvmlReturn_t result = t->gpu->lost.value ? NVML_ERROR_GPU_IS_LOST : fault_of(call, t);
    if (result)
        return result;
    *device = t->device ? mig_handle(t->device) : gpu_handle(t->gpu);
    return *device ? NVML_SUCCESS : NVML_ERROR_MEMORY;
}

API nvmlReturn_t nvmlDeviceGetHandleByIndex_v2(unsigned index, nvmlDevice_t *device) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (!result && (!device || index >= (unsigned)t.machine->n_gpus))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    t.gpu = &t.machine->gpus[index];
    return leave(give(__func__, &t, device));
}
API nvmlReturn_t nvmlDeviceGetHandleByIndex(unsigned index, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

API nvmlReturn_t nvmlDeviceGetHandleByUUID(const char *uuid, nvmlDevice_t *device) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (!result && (!device || !uuid))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (result)
        return leave(result);
    t.device = machine_device(t.machine, uuid);
    t.gpu = t.device ? &t.machine->gpus[t.device->gpu.value] : machine_gpu(t.machine, uuid);
    return leave(t.gpu ? give(__func__, &t, device) : NVML_ERROR_NOT_FOUND);
}

struct place {
    unsigned domain, bus, slot, function;
};

static bool place_of(const char *text, struct place *place) {
    char more;
    place->function = 0;
    int n = sscanf(text, "%x:%x:%x.%x%c", &place->domain, &place->bus, &place->slot,
                   &place->function, &more);
    return n == 3 || n == 4;
}

API nvmlReturn_t nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvmlDevice_t *device) {
    struct target t;
    struct place wanted, place;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (!result && (!device || !bus || !place_of(bus, &wanted)))
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; !result && i < t.machine->n_gpus; i++) {
        t.gpu = &t.machine->gpus[i];
        if (place_of(t.gpu->bus, &place) && !memcmp(&place, &wanted, sizeof place))
            return leave(give(__func__, &t, device));
    }
    return leave(result ? result : NVML_ERROR_NOT_FOUND);
}
API nvmlReturn_t nvmlDeviceGetHandleByPciBusId(const char *bus, nvmlDevice_t *device) {
    return nvmlDeviceGetHandleByPciBusId_v2(bus, device);
}

API nvmlReturn_t nvmlDeviceGetHandleBySerial(const char *serial, nvmlDevice_t *device) {
    struct target t;
    nvmlReturn_t result = enter_system(__func__, &t);
    if (!result && (!device || !serial || !*serial))
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; !result && i < t.machine->n_gpus; i++) {
        t.gpu = &t.machine->gpus[i];
        if (!strcmp(t.gpu->serial, serial))
            return leave(give(__func__, &t, device));
    }
    return leave(result ? result : NVML_ERROR_NOT_FOUND);
}

API nvmlReturn_t nvmlDeviceGetName(nvmlDevice_t device, char *name, unsigned length) {
    struct target t;
    char full[2 * TEXT + 32];
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (result)
        return leave(result);
    struct profile profile;
    snprintf(full, sizeof full, "%s", t.gpu->name);
    if (t.device && profile_by_name(t.gpu, t.instance->profile, &profile)) {
        unsigned long long slices = t.device->slices.value;
        if (t.device->slices.given && slices < profile.slices)
            snprintf(full, sizeof full, "%s MIG %lluc.%s", t.gpu->name, slices, profile.name);
        else
            snprintf(full, sizeof full, "%s MIG %s", t.gpu->name, profile.name);
    }
    return leave(put_text(name, length, full));
}

API nvmlReturn_t nvmlDeviceGetUUID(nvmlDevice_t device, char *uuid, unsigned length) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (result)
        return leave(result);
    return leave(put_text(uuid, length, t.device ? t.device->uuid : t.gpu->uuid));
}

/* Of a MIG device: what nvmlDeviceGetMigDeviceHandleByIndex wants. */
API nvmlReturn_t nvmlDeviceGetIndex(nvmlDevice_t device, unsigned *index) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    return leave(result ? result
                        : put_number(index, t.device ? &t.device->index : &t.gpu->index));
}

API nvmlReturn_t nvmlDeviceGetMinorNumber(nvmlDevice_t device, unsigned *minor) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (result)
        return leave(result);
    return leave(put_number(minor, t.gpu->minor.given ? &t.gpu->minor : &t.gpu->index));
}

API nvmlReturn_t nvmlDeviceGetSerial(nvmlDevice_t device, char *serial, unsigned length) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && !*t.gpu->serial)
        result = NVML_ERROR_NOT_SUPPORTED;
    return leave(result ? result : put_text(serial, length, t.gpu->serial));
}

API nvmlReturn_t nvmlDeviceGetPciInfo_v3(nvmlDevice_t device, nvmlPciInfo_t *pci) {
    struct target t;
    struct place place;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && !pci)
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !place_of(t.gpu->bus, &place))
        result = NVML_ERROR_UNKNOWN;
    if (result)
        return leave(result);
    memset(pci, 0, sizeof *pci);
    pci->domain = place.domain;
    pci->bus = place.bus;
    pci->device = place.slot;
    snprintf(pci->busId, sizeof pci->busId, "%08X:%02X:%02X.%X", place.domain, place.bus & 0xff,
             place.slot & 0xff, place.function & 0xf);
    snprintf(pci->busIdLegacy, sizeof pci->busIdLegacy, "%04X:%02X:%02X.%X",
             place.domain & 0xffff, place.bus & 0xff, place.slot & 0xff, place.function & 0xf);
    return leave(NVML_SUCCESS);
}

API nvmlReturn_t nvmlDeviceGetCudaComputeCapability(nvmlDevice_t device, int *major, int *minor) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && (!major || !minor))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && sscanf(t.gpu->capability, "%d.%d", major, minor) != 2)
        result = NVML_ERROR_NOT_SUPPORTED;
    return leave(result);
}
