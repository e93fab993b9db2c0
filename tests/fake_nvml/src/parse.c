/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Reads the machine's file: lines of `kind key=value …`, `#` starts a comment.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "machine.h"

enum form { WORD, NUMBER, SIZE, SWITCH, MODE, PROCESS, ERROR };

struct key {
    const char *name;
    enum form form;
    size_t offset;
    bool required;
};

#define N(type, member) {#member, NUMBER, offsetof(struct type, member), false}
#define KEY(type, member, form, required) {#member, form, offsetof(struct type, member), required}

static const struct key driver_keys[] = {
    KEY(driver, version, WORD, true), KEY(driver, nvml, WORD, false),
    KEY(driver, state, ERROR, false), N(driver, cuda), {0}};

static const struct key gpu_keys[] = {
    KEY(gpu, index, NUMBER, true), KEY(gpu, uuid, WORD, true), KEY(gpu, name, WORD, true),
    KEY(gpu, bus, WORD, true), KEY(gpu, memory, SIZE, true), KEY(gpu, serial, WORD, false),
    KEY(gpu, capability, WORD, false), KEY(gpu, reserved, SIZE, false),
    KEY(gpu, used, SIZE, false), KEY(gpu, bar1, SIZE, false), KEY(gpu, bar1_used, SIZE, false),
    KEY(gpu, lost, SWITCH, false), KEY(gpu, mig, MODE, false),
    KEY(gpu, mig_pending, MODE, false), KEY(gpu, ecc, SWITCH, false),
    KEY(gpu, persistence, SWITCH, false), KEY(gpu, remap_pending, SWITCH, false),
    KEY(gpu, remap_failed, SWITCH, false), N(gpu, minor), N(gpu, utilisation),
    N(gpu, memory_utilisation), N(gpu, encoder), N(gpu, decoder), N(gpu, fan),
    N(gpu, temperature), N(gpu, memory_temperature), N(gpu, slowdown_temperature),
    N(gpu, shutdown_temperature), N(gpu, power_mw), N(gpu, power_limit_mw), N(gpu, energy_mj),
    N(gpu, ecc_corrected), N(gpu, ecc_uncorrected), N(gpu, ecc_corrected_total),
    N(gpu, ecc_uncorrected_total), N(gpu, remapped_corrected), N(gpu, remapped_uncorrected),
    N(gpu, clock_graphics), N(gpu, clock_sm), N(gpu, clock_memory), N(gpu, clock_video),
    N(gpu, max_clock_graphics), N(gpu, max_clock_sm), N(gpu, max_clock_memory),
    N(gpu, max_clock_video), N(gpu, clock_event_reasons), N(gpu, performance_state),
    N(gpu, compute_mode), N(gpu, pcie_rx_kb), N(gpu, pcie_tx_kb), {0}};

static const struct key instance_keys[] = {
    KEY(instance, gpu, NUMBER, true), KEY(instance, id, NUMBER, true),
    KEY(instance, profile, WORD, true), KEY(instance, start, NUMBER, true), {0}};

static const struct key device_keys[] = {
    KEY(device, gpu, NUMBER, true), KEY(device, instance, NUMBER, true),
    KEY(device, index, NUMBER, true), KEY(device, uuid, WORD, true),
    KEY(device, used, SIZE, false), N(device, compute), N(device, slices), N(device, start), {0}};

static const struct key process_keys[] = {
    KEY(process, on, WORD, true), KEY(process, pid, NUMBER, true),
    KEY(process, memory, SIZE, false), KEY(process, type, PROCESS, false),
    KEY(process, name, WORD, false), KEY(process, follow, SWITCH, false),
    N(process, utilisation), {0}};

static const struct key fault_keys[] = {
    KEY(fault, call, WORD, true), KEY(fault, error, ERROR, true), KEY(fault, on, WORD, false),
    {0}};

/* A kind of line: where its records go. Each record starts with the number of its line. */
#define KIND(word, array, count, most)                                                        \
    {#word, word##_keys, offsetof(struct machine, array), sizeof(struct word),                 \
     offsetof(struct machine, count), most}

static const struct {
    const char *word;
    const struct key *keys;
    size_t offset, size, count;
    int most;
} kinds[] = {
    KIND(driver, driver, n_drivers, 1),
    KIND(gpu, gpus, n_gpus, MAX_GPUS),
    KIND(instance, instances, n_instances, MAX_INSTANCES),
    KIND(device, devices, n_devices, MAX_DEVICES),
    KIND(process, processes, n_processes, MAX_PROCESSES),
    KIND(fault, faults, n_faults, MAX_FAULTS),
};

static bool choose(struct number *out, const char *value, const char *const *words) {
    for (unsigned i = 0; words[i]; i++)
        if (strcmp(words[i], value) == 0) {
            out->value = i;
            return true;
        }
    return false;
}

/* A whole number; a size may end in KiB, MiB or GiB. */
static bool count(struct number *out, const char *value, bool size) {
    char *end;
    errno = 0;
    if (!isdigit((unsigned char)value[0]))
        return false;
    out->value = strtoull(value, &end, 0);
    if (errno)
        return false;
    int shift = !size || !*end         ? 0
                : !strcmp(end, "KiB") ? 10
                : !strcmp(end, "MiB") ? 20
                : !strcmp(end, "GiB") ? 30
                                      : -1;
    if (shift < 0 || (shift == 0 && *end) || out->value > (~0ull >> shift))
        return false;
    out->value <<= shift;
    return true;
}

/* What names and UUIDs are made of: clients decode them. */
static const char printable[] =
    " !#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[]^_`abcdefghijklmnopqrstuvwxyz{|}~";

static bool store(void *record, const struct key *key, const char *value) {
    static const char *const switches[] = {"off", "on", NULL};
    static const char *const answers[] = {"no", "yes", NULL};
    static const char *const modes[] = {"off", "on", "none", NULL};
    static const char *const types[] = {"compute", "graphics", "mps", NULL};
    char *place = (char *)record + key->offset;
    if (key->form == WORD) {
        if (!*value || strlen(value) >= TEXT || value[strspn(value, printable)])
            return false;
        strcpy(place, value);
        return true;
    }
    struct number *out = (struct number *)place;
    out->given = true;
    switch (key->form) {
    case NUMBER:
    case SIZE:
        return count(out, value, key->form == SIZE);
    case SWITCH:
        return choose(out, value, switches) || choose(out, value, answers);
    case MODE:
        return choose(out, value, modes);
    case PROCESS:
        return choose(out, value, types);
    case ERROR: {
        int code = error_of(value);
        out->value = (unsigned long long)code;
        return code >= 0;
    }
    default:
        return false;
    }
}

static bool given(const void *record, const struct key *key) {
    const char *place = (const char *)record + key->offset;
    return key->form == WORD ? *place != 0 : ((const struct number *)place)->given;
}

/* Cuts the next word off, with "…" taken as one. Returns NULL at the end or at a comment. */
static char *next_word(char **rest) {
    char *in = *rest;
    while (isspace((unsigned char)*in))
        in++;
    if (!*in || *in == '#')
        return NULL;
    char *word = in, *out = in;
    bool quoted = false;
    for (; *in && (quoted || !isspace((unsigned char)*in)); in++) {
        if (*in == '"')
            quoted = !quoted;
        else
            *out++ = *in;
    }
    *rest = *in ? in + 1 : in;
    *out = 0;
    return word;
}

/* For the message: the word at fault, as far as it can be printed. */
static void name_fault(char *about, const char *word) {
    snprintf(about, TEXT, "%s", word);
    about[strspn(about, printable)] = 0;
}

static const char *read_line(struct machine *machine, char *line, int number, char *about) {
    char *rest = line, *word = next_word(&rest);
    if (!word)
        return NULL;
    size_t k = 0, n_kinds = sizeof kinds / sizeof kinds[0];
    while (k < n_kinds && strcmp(kinds[k].word, word) != 0)
        k++;
    name_fault(about, word);
    if (k == n_kinds)
        return "no such kind of line";
    int *n = (int *)((char *)machine + kinds[k].count);
    if (*n == kinds[k].most)
        return "too many lines of this kind";
    char *record = (char *)machine + kinds[k].offset + (size_t)*n * kinds[k].size;
    *(int *)record = number;
    while ((word = next_word(&rest))) {
        char *value = strchr(word, '=');
        if (value)
            *value++ = 0;
        name_fault(about, word);
        if (!value)
            return "not key=value";
        const struct key *key = kinds[k].keys;
        while (key->name && strcmp(key->name, word) != 0)
            key++;
        if (!key->name)
            return "no such key";
        if (given(record, key))
            return "given twice";
        if (!store(record, key, value))
            return "not a value that it can have";
    }
    for (const struct key *key = kinds[k].keys; key->name; key++)
        if (key->required && !given(record, key)) {
            name_fault(about, key->name);
            return "missing";
        }
    ++*n;
    return NULL;
}

/* Puts the GPUs in the order of their indices. Returns the line at fault, 0 when all is well. */
static int order_gpus(struct machine *m) {
    for (int i = 0; i < m->n_gpus; i++)
        while (m->gpus[i].index.value != (unsigned)i) {
            struct gpu out_of_place = m->gpus[i];
            unsigned long long to = out_of_place.index.value;
            if (to >= (unsigned)m->n_gpus || m->gpus[to].index.value == to)
                return out_of_place.line;
            m->gpus[i] = m->gpus[to];
            m->gpus[to] = out_of_place;
        }
    return 0;
}

static bool instance_is_well(struct machine *m, struct instance *one) {
    struct profile profile, other;
    if (one->gpu.value >= (unsigned)m->n_gpus)
        return false;
    struct gpu *gpu = &m->gpus[one->gpu.value];
    if (gpu->mig.value != MIG_ON || !profile_by_name(gpu, one->profile, &profile) ||
        one->id.value >= MAX_INSTANCE_ID || one->start.value + profile.memory_slices > 8)
        return false;
    for (struct instance *before = m->instances; before < one; before++) {
        if (before->gpu.value != one->gpu.value)
            continue;
        bool apart = profile_by_name(gpu, before->profile, &other) &&
                     (before->start.value + other.memory_slices <= one->start.value ||
                      one->start.value + profile.memory_slices <= before->start.value);
        if (before->id.value == one->id.value || !apart)
            return false;
    }
    return true;
}

static bool device_is_well(struct machine *m, struct device *one) {
    struct profile profile;
    if (one->gpu.value >= (unsigned)m->n_gpus)
        return false;
    struct gpu *gpu = &m->gpus[one->gpu.value];
    struct instance *instance = machine_instance(m, gpu, (unsigned)one->instance.value);
    if (!instance || one->index.value > 6 || one->compute.value > 7 ||
        machine_device(m, one->uuid) != one)
        return false;
    profile_by_name(gpu, instance->profile, &profile);
    unsigned long long slices = one->slices.given ? one->slices.value : profile.slices;
    if (!slices || one->start.value > 7 || one->start.value + slices > profile.slices)
        return false;
    for (struct device *before = m->devices; before < one; before++)
        if (before->gpu.value == one->gpu.value &&
            (before->index.value == one->index.value ||
             (before->instance.value == one->instance.value &&
              before->compute.value == one->compute.value)))
            return false;
    return true;
}

/* What the lines say to each other. Returns the line at fault, 0 when all is well. */
static int at_odds(struct machine *m, const char **why) {
    *why = "index: GPUs are numbered from 0, each once";
    int line = order_gpus(m);
    *why = line ? *why : "uuid: another GPU has it";
    for (int i = 0; !line && i < m->n_gpus; i++)
        if (machine_gpu(m, m->gpus[i].uuid) != &m->gpus[i])
            line = m->gpus[i].line;
    *why = line ? *why : "no such GPU in MIG mode, no such profile, or its id or place is taken";
    for (int i = 0; !line && i < m->n_instances; i++)
        if (!instance_is_well(m, &m->instances[i]))
            line = m->instances[i].line;
    *why = line ? *why : "no such GPU instance, no room in it, or its index, id or UUID is taken";
    for (int i = 0; !line && i < m->n_devices; i++)
        if (!device_is_well(m, &m->devices[i]))
            line = m->devices[i].line;
    *why = line ? *why : "on: no GPU or MIG device has this UUID";
    for (int i = 0; !line && i < m->n_processes; i++)
        if (!machine_gpu(m, m->processes[i].on) && !machine_device(m, m->processes[i].on))
            line = m->processes[i].line;
    return line;
}

struct machine *machine_parse(char *text, char *why, size_t size) {
    struct machine *machine = calloc(1, sizeof *machine);
    char *copy = machine ? strdup(text) : NULL;
    if (!copy) {
        free(machine);
        free(text);
        snprintf(why, size, "out of memory");
        return NULL;
    }
    machine->text = text;
    char about[TEXT] = "", *line = copy;
    const char *fault = NULL;
    int number = 0;
    while (line && !fault) {
        char *end = strchr(line, '\n');
        if (end)
            *end = 0;
        fault = read_line(machine, line, ++number, about);
        line = end ? end + 1 : NULL;
    }
    if (fault)
        snprintf(why, size, "line %d: %s: %s", number, about, fault);
    else if (!machine->n_drivers) {
        fault = "driver";
        snprintf(why, size, "there is no line that starts with driver");
    } else if ((number = at_odds(machine, &fault)))
        snprintf(why, size, "line %d: %s", number, fault);
    else
        fault = NULL;
    free(copy);
    if (fault) {
        machine_free(machine);
        return NULL;
    }
    return machine;
}

void machine_free(struct machine *machine) {
    if (machine)
        free(machine->text);
    free(machine);
}
