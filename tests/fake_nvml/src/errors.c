/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Numbers, names and texts of NVML's errors.
 */
#include <string.h>
#include <strings.h>

#include "machine.h"

static const struct {
    int code;
    const char *name, *text;
} errors[] = {
    {NVML_SUCCESS, "ready", "Success"},
    {NVML_ERROR_UNINITIALIZED, "uninitialized", "Uninitialized"},
    {NVML_ERROR_INVALID_ARGUMENT, "invalid_argument", "Invalid Argument"},
    {NVML_ERROR_NOT_SUPPORTED, "not_supported", "Not Supported"},
    {NVML_ERROR_NO_PERMISSION, "no_permission", "Insufficient Permissions"},
    {5, "already_initialized", "Already Initialized"},
    {NVML_ERROR_NOT_FOUND, "not_found", "Not Found"},
    {NVML_ERROR_INSUFFICIENT_SIZE, "insufficient_size", "Insufficient Size"},
    {8, "insufficient_power", "Insufficient External Power"},
    {NVML_ERROR_DRIVER_NOT_LOADED, "driver_not_loaded", "Driver Not Loaded"},
    {10, "timeout", "Timeout"},
    {11, "irq_issue", "Interrupt Request Issue"},
    {12, "library_not_found", "NVML Shared Library Not Found"},
    {13, "function_not_found", "Function Not Found"},
    {14, "corrupted_inforom", "Corrupted infoROM"},
    {NVML_ERROR_GPU_IS_LOST, "gpu_is_lost", "GPU is lost"},
    {16, "reset_required", "GPU requires reset"},
    {NVML_ERROR_OPERATING_SYSTEM, "operating_system",
     "GPU access blocked by the operating system"},
    {18, "lib_rm_version_mismatch", "Driver/library version mismatch"},
    {NVML_ERROR_IN_USE, "in_use", "In use by another client"},
    {NVML_ERROR_MEMORY, "memory", "Insufficient Memory"},
    {21, "no_data", "No data"},
    {NVML_ERROR_INSUFFICIENT_RESOURCES, "insufficient_resources", "Insufficient Resources"},
    {NVML_ERROR_ARGUMENT_VERSION_MISMATCH, "argument_version_mismatch",
     "Argument version mismatch"},
    {27, "not_ready", "System not ready"},
    {29, "invalid_state", "Invalid state"},
    {NVML_ERROR_UNKNOWN, "unknown", "Unknown Error"},
};

#define N_ERRORS (sizeof errors / sizeof errors[0])

int error_of(const char *name) {
    if (strncasecmp(name, "NVML_ERROR_", 11) == 0)
        name += 11;
    for (size_t i = 0; i < N_ERRORS; i++)
        if (strcasecmp(errors[i].name, name) == 0)
            return errors[i].code;
    return -1;
}

const char *error_text(int code) {
    for (size_t i = 0; i < N_ERRORS; i++)
        if (errors[i].code == code)
            return errors[i].text;
    return NULL;
}
