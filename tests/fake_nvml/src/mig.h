/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What the files about MIG share.
 */
#ifndef FAKE_NVML_MIG_H
#define FAKE_NVML_MIG_H

#include "state.h"

#define SM_PER_SLICE 14u

/* Like enter(), for a GPU whose MIG mode is on; NOT_SUPPORTED otherwise. */
nvmlReturn_t enter_mig_on(const char *call, nvmlDevice_t device, struct target *target);

unsigned compute_slices(const struct gpu *gpu, const struct instance *instance,
                        const struct device *device);

/* Like enter() and leave(), with the machine's file locked and read afresh. */
nvmlReturn_t enter_change(const char *call, const void *handle, int kinds, struct target *target);
nvmlReturn_t leave_change(nvmlReturn_t result);

/* Whether a process runs on the MIG device; without one: anywhere on the GPU. */
bool busy(const struct target *target, const struct device *device);

/* Whether a MIG device is of the target's GPU instance. */
bool belongs(const struct target *target, const struct device *device);

#endif
