/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Memory errors, and the numbered fields that some clients ask for in bulk.
 */
#include "state.h"

API nvmlReturn_t nvmlDeviceGetEccMode(nvmlDevice_t device, unsigned *now, unsigned *pending) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result)
        result = put_number(now, &t.gpu->ecc);
    if (!result)
        result = put_number(pending, &t.gpu->ecc);
    return leave(result);
}

/* `kind`: corrected 0, uncorrected 1. `counter`: since the driver was loaded 0, ever 1. */
static const struct number *errors_of(const struct gpu *gpu, int kind, int counter) {
    if (counter == 0)
        return kind ? &gpu->ecc_uncorrected : &gpu->ecc_corrected;
    return kind ? &gpu->ecc_uncorrected_total : &gpu->ecc_corrected_total;
}

API nvmlReturn_t nvmlDeviceGetTotalEccErrors(nvmlDevice_t device, int kind, int counter,
                                             unsigned long long *count) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && (kind < 0 || kind > 1 || counter < 0 || counter > 1))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result && !t.gpu->ecc.value)
        result = NVML_ERROR_NOT_SUPPORTED;
    return leave(result ? result : put_count(count, errors_of(t.gpu, kind, counter)));
}

/* All errors are in the device's memory (location 2). */
API nvmlReturn_t nvmlDeviceGetMemoryErrorCounter(nvmlDevice_t device, int kind, int counter,
                                                 int location, unsigned long long *count) {
    if (location == 2)
        return nvmlDeviceGetTotalEccErrors(device, kind, counter, count);
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    return leave(result ? result : NVML_ERROR_NOT_SUPPORTED);
}

API nvmlReturn_t nvmlDeviceGetRemappedRows(nvmlDevice_t device, unsigned *corrected,
                                           unsigned *uncorrected, unsigned *pending,
                                           unsigned *failed) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_GPU, &t);
    if (!result && (!uncorrected || !pending || !failed))
        result = NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        result = put_number(corrected, &t.gpu->remapped_corrected);
    if (!result) {
        *uncorrected = (unsigned)t.gpu->remapped_uncorrected.value;
        *pending = (unsigned)t.gpu->remap_pending.value;
        *failed = (unsigned)t.gpu->remap_failed.value;
    }
    return leave(result);
}

/* NVML_FI_DEV_*: the numbers of these fields. */
enum {
    FI_ECC_CURRENT = 1,
    FI_ECC_SBE_VOL_TOTAL = 3,
    FI_ECC_DBE_VOL_TOTAL = 4,
    FI_ECC_SBE_AGG_TOTAL = 5,
    FI_ECC_DBE_AGG_TOTAL = 6,
    FI_MEMORY_TEMP = 82,
    FI_TOTAL_ENERGY = 83
};

static const struct number *field(const struct gpu *gpu, unsigned id) {
    static const struct number unknown;
    switch (id) {
    case FI_ECC_CURRENT:
        return &gpu->ecc;
    case FI_ECC_SBE_VOL_TOTAL:
        return &gpu->ecc_corrected;
    case FI_ECC_DBE_VOL_TOTAL:
        return &gpu->ecc_uncorrected;
    case FI_ECC_SBE_AGG_TOTAL:
        return &gpu->ecc_corrected_total;
    case FI_ECC_DBE_AGG_TOTAL:
        return &gpu->ecc_uncorrected_total;
    case FI_MEMORY_TEMP:
        return &gpu->memory_temperature;
    case FI_TOTAL_ENERGY:
        return &gpu->energy_mj;
    default:
        return &unknown;
    }
}

/* Each field carries its own answer; the call succeeds. */
API nvmlReturn_t nvmlDeviceGetFieldValues(nvmlDevice_t device, int count,
                                          nvmlFieldValue_t *values) {
    struct target t;
    nvmlReturn_t result = enter(__func__, device, IS_DEVICE, &t);
    if (!result && (count < 1 || !values))
        result = NVML_ERROR_INVALID_ARGUMENT;
    for (int i = 0; !result && i < count; i++) {
        nvmlFieldValue_t *one = &values[i];
        bool small = one->fieldId == FI_ECC_CURRENT || one->fieldId == FI_MEMORY_TEMP;
        one->timestamp = one->latencyUsec = 0;
        one->value.ullVal = 0;
        one->valueType = small ? 1 : 3;
        one->nvmlReturn = t.device
                              ? NVML_ERROR_NOT_SUPPORTED
                              : put_count(&one->value.ullVal, field(t.gpu, one->fieldId));
    }
    return leave(result);
}
