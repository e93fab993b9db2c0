/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * Questions to the machine, MIG profiles, and changes of the file's text.
 */
#include "machine.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct gpu *machine_gpu(struct machine *machine, const char *uuid) {
    for (int i = 0; i < machine->n_gpus; i++)
        if (strcmp(machine->gpus[i].uuid, uuid) == 0)
            return &machine->gpus[i];
    return NULL;
}

struct device *machine_device(struct machine *machine, const char *uuid) {
    for (int i = 0; i < machine->n_devices; i++)
        if (strcmp(machine->devices[i].uuid, uuid) == 0)
            return &machine->devices[i];
    return NULL;
}

struct instance *machine_instance(struct machine *machine, const struct gpu *gpu, unsigned id) {
    for (int i = 0; i < machine->n_instances; i++) {
        struct instance *one = &machine->instances[i];
        if (one->gpu.value == gpu->index.value && one->id.value == id)
            return one;
    }
    return NULL;
}

/* A process that is to be followed is there as long as the kernel has it. */
bool process_counts(const struct process *process) {
    char path[64];
    if (!process->follow.value)
        return true;
    snprintf(path, sizeof path, "/proc/%llu", process->pid.value);
    return access(path, F_OK) == 0;
}

/* GPU instance profiles of the A100: MIG User Guide, "Supported MIG profiles". The memory of the
 * GPU has 8 slices; `unit` is what one of them is called in the profile's name. */
static const struct {
    unsigned index, id, slices, memory_slices, instances, engines, first_id;
    unsigned long long memory_mb;
    unsigned n_placements, placements[8];
} a100[] = {
    {0, 19, 1, 1, 7, 0, 7, 4864, 7, {0, 1, 2, 3, 4, 5, 6}},
    {1, 14, 2, 2, 3, 1, 3, 9856, 3, {0, 2, 4}},
    {2, 9, 3, 4, 2, 2, 1, 19968, 2, {0, 4}},
    {3, 5, 4, 4, 1, 2, 1, 19968, 1, {0}},
    {4, 0, 7, 8, 1, 5, 0, 40192, 1, {0}},
};
#define N_PROFILES (sizeof a100 / sizeof a100[0])

static void describe(const struct gpu *gpu, size_t i, struct profile *profile) {
    bool big = gpu->memory.value > 60ull << 30;
    unsigned unit = big ? 10 : 5;
    profile->index = a100[i].index;
    profile->id = a100[i].id;
    profile->slices = a100[i].slices;
    profile->memory_slices = a100[i].memory_slices;
    profile->instances = a100[i].instances;
    profile->engines = a100[i].engines;
    profile->first_id = a100[i].first_id;
    profile->memory_mb = a100[i].memory_mb * (big ? 2 : 1);
    profile->n_placements = a100[i].n_placements;
    memcpy(profile->placements, a100[i].placements, sizeof profile->placements);
    snprintf(profile->name, sizeof profile->name, "%ug.%ugb", profile->slices,
             profile->memory_slices * unit);
}

bool profile_by_index(const struct gpu *gpu, unsigned index, struct profile *profile) {
    for (size_t i = 0; i < N_PROFILES; i++)
        if (a100[i].index == index) {
            describe(gpu, i, profile);
            return true;
        }
    return false;
}

bool profile_by_id(const struct gpu *gpu, unsigned id, struct profile *profile) {
    for (size_t i = 0; i < N_PROFILES; i++)
        if (a100[i].id == id) {
            describe(gpu, i, profile);
            return true;
        }
    return false;
}

bool profile_by_name(const struct gpu *gpu, const char *name, struct profile *profile) {
    for (size_t i = 0; i < N_PROFILES; i++) {
        describe(gpu, i, profile);
        if (strcmp(profile->name, name) == 0)
            return true;
    }
    return false;
}

static bool is_set(const struct edit *edit, const char *word, size_t left) {
    for (int i = 0; i < 2 && edit->set[i].key; i++) {
        size_t key = strlen(edit->set[i].key);
        if (left > key && !strncmp(word, edit->set[i].key, key) && word[key] == '=')
            return true;
    }
    return false;
}

/* Copies a line: the keys to set are left out where they stand and added at its end. */
static char *set_keys(char *out, const char *line, size_t length, const struct edit *edit) {
    const char *end = line + length, *comment = memchr(line, '#', length);
    const char *stop = comment ? comment : end;
    for (const char *in = line; in < stop;) {
        bool starts = in == line || in[-1] == ' ' || in[-1] == '\t';
        if (!starts || !is_set(edit, in, (size_t)(stop - in))) {
            *out++ = *in++;
            continue;
        }
        while (in < stop && *in != ' ' && *in != '\t')
            in++;
        while (in < stop && (*in == ' ' || *in == '\t'))
            in++;
    }
    while (out[-1] == ' ' || out[-1] == '\t')
        out--;
    for (int i = 0; i < 2 && edit->set[i].key; i++)
        if (edit->set[i].value)
            out += sprintf(out, " %s=%s", edit->set[i].key, edit->set[i].value);
    if (comment) {
        *out++ = ' ';
        memcpy(out, comment, (size_t)(end - comment));
        out += end - comment;
    }
    return out;
}

char *edited(const struct machine *machine, const struct edit *edit) {
    size_t extra = 4 + (edit->append ? strlen(edit->append) : 0);
    for (int i = 0; i < 2 && edit->set[i].key; i++)
        if (edit->set[i].value)
            extra += strlen(edit->set[i].key) + strlen(edit->set[i].value) + 4;
    char *text = malloc(strlen(machine->text) + extra), *out = text;
    if (!text)
        return NULL;
    const char *line = machine->text;
    for (int number = 1; *line; number++) {
        size_t length = strcspn(line, "\n");
        if (number != edit->drop_line) {
            if (number == edit->set_line)
                out = set_keys(out, line, length, edit);
            else {
                memcpy(out, line, length);
                out += length;
            }
            *out++ = '\n';
        }
        line += length + (line[length] == '\n');
    }
    if (edit->append)
        out += sprintf(out, "%s\n", edit->append);
    *out = 0;
    return text;
}
