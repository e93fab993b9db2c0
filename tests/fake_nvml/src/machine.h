/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The machine that the fake plays, read from a file of lines: `kind key=value …`.
 */
#ifndef FAKE_NVML_MACHINE_H
#define FAKE_NVML_MACHINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "nvml.h"

#define MAX_GPUS 32
#define MAX_INSTANCES 256
#define MAX_DEVICES 256
#define MAX_PROCESSES 2048
#define MAX_FAULTS 64
#define TEXT 96
#define MAX_INSTANCE_ID 15 /* ids of GPU instances on an A100 are below */

/* A number that a line may leave out; what is left out is NOT_SUPPORTED by this hardware. */
struct number {
    bool given;
    unsigned long long value;
};

enum mig_mode { MIG_OFF = 0, MIG_ON = 1, MIG_NONE = 2 };
enum process_type { COMPUTE = 0, GRAPHICS = 1, MPS = 2 };

struct driver {
    int line;
    char version[TEXT], nvml[TEXT];
    struct number cuda, state; /* state: what every call answers, NVML_SUCCESS when ready */
};

struct gpu {
    int line;
    struct number index, minor, lost, mig, mig_pending;
    char uuid[TEXT], name[TEXT], bus[TEXT], serial[TEXT], capability[TEXT];
    struct number memory, reserved, used, bar1, bar1_used;
    struct number utilisation, memory_utilisation, encoder, decoder, fan;
    struct number temperature, memory_temperature, slowdown_temperature, shutdown_temperature;
    struct number power_mw, power_limit_mw, energy_mj;
    struct number ecc, ecc_corrected, ecc_uncorrected, ecc_corrected_total, ecc_uncorrected_total;
    struct number remapped_corrected, remapped_uncorrected, remap_pending, remap_failed;
    struct number clock_graphics, clock_sm, clock_memory, clock_video;
    struct number max_clock_graphics, max_clock_sm, max_clock_memory, max_clock_video;
    struct number clock_event_reasons, performance_state, persistence, compute_mode;
    struct number pcie_rx_kb, pcie_tx_kb;
};

/* A GPU instance. */
struct instance {
    int line;
    struct number gpu, id, start;
    char profile[TEXT];
};

/* A MIG device, which is a compute instance of a GPU instance. */
struct device {
    int line;
    struct number gpu, instance, compute, index, slices, start, used;
    char uuid[TEXT];
};

struct process {
    int line;
    struct number pid, memory, type, follow, utilisation;
    char on[TEXT], name[TEXT];
};

struct fault {
    int line;
    char call[TEXT], on[TEXT];
    struct number error;
};

struct machine {
    char *text; /* the file as it was read; record.line counts its lines from 1 */
    struct driver driver;
    struct gpu gpus[MAX_GPUS];
    struct instance instances[MAX_INSTANCES];
    struct device devices[MAX_DEVICES];
    struct process processes[MAX_PROCESSES];
    struct fault faults[MAX_FAULTS];
    int n_drivers, n_gpus, n_instances, n_devices, n_processes, n_faults;
};

/* Returns NULL and puts the reason, with its line, into `why` when the text makes no machine.
 * Takes over `text`, which was allocated with malloc. */
struct machine *machine_parse(char *text, char *why, size_t size);
void machine_free(struct machine *machine);

struct gpu *machine_gpu(struct machine *machine, const char *uuid);
struct device *machine_device(struct machine *machine, const char *uuid);
struct instance *machine_instance(struct machine *machine, const struct gpu *gpu, unsigned id);
bool process_counts(const struct process *process);

/* Numbers and names of NVML's errors; -1 and NULL for an unknown one. */
int error_of(const char *name);
const char *error_text(int code);

/* What one GPU instance profile of this GPU is. `index` is NVML_GPU_INSTANCE_PROFILE_*. */
struct profile {
    unsigned index, id, slices, memory_slices, instances, engines, first_id;
    unsigned long long memory_mb;
    unsigned placements[8], n_placements;
    char name[TEXT];
};
bool profile_by_index(const struct gpu *gpu, unsigned index, struct profile *profile);
bool profile_by_id(const struct gpu *gpu, unsigned id, struct profile *profile);
bool profile_by_name(const struct gpu *gpu, const char *name, struct profile *profile);

/* Changes of the file's text: a line to leave out, keys to set in a line (without a value: to take
 * out), a line to add. */
struct edit {
    int drop_line, set_line;
    struct {
        const char *key, *value;
    } set[2];
    const char *append;
};
char *edited(const struct machine *machine, const struct edit *edit);

#endif
