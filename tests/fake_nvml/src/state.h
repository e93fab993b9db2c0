/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * What all calls share: one lock, the machine as the file has it now, the handles given out.
 */
#ifndef FAKE_NVML_STATE_H
#define FAKE_NVML_STATE_H

#include "machine.h"

/* Kinds of handles, to be combined. */
enum { IS_GPU = 1, IS_MIG = 2, IS_INSTANCE = 4, IS_COMPUTE = 8, IS_DEVICE = IS_GPU | IS_MIG };

/* What a handle means at this moment. `instance` and `device` are set for MIG only. */
struct target {
    struct machine *machine;
    struct gpu *gpu;
    struct instance *instance;
    struct device *device;
};

/* Every call starts with one of these, which take the lock, and ends with leave(), which gives it
 * back. `call` is the caller's own name: a fault in the machine file may be meant for it. */
nvmlReturn_t enter(const char *call, const void *handle, int kinds, struct target *target);
nvmlReturn_t enter_system(const char *call, struct target *target);
nvmlReturn_t leave(nvmlReturn_t result);

nvmlReturn_t state_init(void);
nvmlReturn_t state_shutdown(void);

/* The fault that the file wants for this call on this device; NVML_SUCCESS when there is none. */
nvmlReturn_t fault_of(const char *call, const struct target *target);

const void *gpu_handle(const struct gpu *gpu);
const void *mig_handle(const struct device *device);
const void *instance_handle(const struct gpu *gpu, unsigned id);
const void *compute_handle(const struct gpu *gpu, unsigned instance, unsigned compute);

/* Whoever may write the machine's file is its root. */
bool privileged(void);

/* A change of the machine: begin_change() takes the file's lock and reads it afresh, so `target`
 * must be found again with resolve(); commit() writes the edited text. Both within enter/leave. */
nvmlReturn_t begin_change(void);
nvmlReturn_t resolve(const void *handle, int kinds, struct target *target);
nvmlReturn_t commit(const struct edit *edit);
void end_change(void);

nvmlReturn_t put_text(char *buffer, unsigned length, const char *text);
nvmlReturn_t put_number(unsigned *out, const struct number *number);
nvmlReturn_t put_count(unsigned long long *out, const struct number *number);

#endif
