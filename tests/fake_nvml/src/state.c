/* Copyright: (c) 2026, ds01.infra maintainers
 * GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
 * SPDX-License-Identifier: GPL-3.0-or-later
 *
 * The lock, the machine as its file has it now, and the handles.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* A handle outlives what it means: it is kept by name, and what has gone is found by nothing. */
struct handle {
    int kind;
    char uuid[TEXT]; /* of the GPU or MIG device */
    unsigned instance, compute;
    struct handle *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned users; /* nvmlInit less nvmlShutdown */
static struct handle *handles;
static struct machine *machine;
static nvmlReturn_t reading; /* how the last reading of the file went */
static struct stat read_as;
static int lock_file = -1;

static const char *path(void) {
    const char *named = secure_getenv("FAKE_NVML_MACHINE");
    return named && *named ? named : "/etc/fake-nvml.conf";
}

static nvmlReturn_t complain(nvmlReturn_t result, const char *why) {
    if (getenv("FAKE_NVML_DEBUG"))
        fprintf(stderr, "fake NVML: %s: %s\n", path(), why);
    return result;
}

static char *slurp(int file, off_t size) {
    char *text = malloc((size_t)size + 1);
    size_t have = 0;
    while (text && have < (size_t)size) {
        ssize_t n = read(file, text + have, (size_t)size - have);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    if (text)
        text[have] = 0;
    /* A byte 0 would end the text for us and not for its author. */
    if (text && strlen(text) != have) {
        free(text);
        return NULL;
    }
    return text;
}

static bool same_file(const struct stat *a, const struct stat *b) {
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
           a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

/* The machine as the file has it now. Without a file there is no driver. */
static nvmlReturn_t reload(void) {
    struct stat now;
    char why[2 * TEXT + 64];
    if (stat(path(), &now) < 0 || !S_ISREG(now.st_mode)) {
        memset(&read_as, 0, sizeof read_as);
        return reading = complain(NVML_ERROR_DRIVER_NOT_LOADED, "is not there");
    }
    if (same_file(&now, &read_as))
        return reading;
    int file = open(path(), O_RDONLY | O_CLOEXEC);
    if (file < 0 || fstat(file, &now) < 0) {
        if (file >= 0)
            close(file);
        memset(&read_as, 0, sizeof read_as);
        return reading = complain(NVML_ERROR_UNKNOWN, strerror(errno));
    }
    char *text = now.st_size < 16 << 20 ? slurp(file, now.st_size) : NULL;
    close(file);
    struct machine *fresh = NULL;
    snprintf(why, sizeof why, "is too large, or no text");
    if (text)
        fresh = machine_parse(text, why, sizeof why);
    machine_free(machine);
    machine = fresh;
    read_as = now;
    return reading = fresh ? NVML_SUCCESS : complain(NVML_ERROR_UNKNOWN, why);
}

static nvmlReturn_t present(void) {
    nvmlReturn_t result = reload();
    return result ? result : (nvmlReturn_t)machine->driver.state.value;
}

nvmlReturn_t leave(nvmlReturn_t result) {
    pthread_mutex_unlock(&lock);
    return result;
}

nvmlReturn_t state_init(void) {
    pthread_mutex_lock(&lock);
    nvmlReturn_t result = present();
    if (result == NVML_SUCCESS) {
        struct target target = {.machine = machine};
        result = fault_of("nvmlInit", &target);
    }
    if (result == NVML_SUCCESS)
        users++;
    return leave(result);
}

nvmlReturn_t state_shutdown(void) {
    pthread_mutex_lock(&lock);
    if (!users)
        return leave(NVML_ERROR_UNINITIALIZED);
    users--;
    return leave(NVML_SUCCESS);
}

nvmlReturn_t enter_system(const char *call, struct target *target) {
    pthread_mutex_lock(&lock);
    memset(target, 0, sizeof *target);
    if (!users)
        return NVML_ERROR_UNINITIALIZED;
    nvmlReturn_t result = present();
    if (result)
        return result;
    target->machine = machine;
    return fault_of(call, target);
}

nvmlReturn_t enter(const char *call, const void *handle, int kinds, struct target *target) {
    nvmlReturn_t result = enter_system(call, target);
    if (!result)
        result = resolve(handle, kinds, target);
    return result ? result : fault_of(call, target);
}

nvmlReturn_t resolve(const void *handle, int kinds, struct target *target) {
    struct handle *known = handles;
    while (known && known != handle)
        known = known->next;
    memset(target, 0, sizeof *target);
    target->machine = machine;
    if (!known)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (known->kind == IS_MIG) {
        target->device = machine_device(machine, known->uuid);
        if (!target->device)
            return NVML_ERROR_INVALID_ARGUMENT;
        target->gpu = &machine->gpus[target->device->gpu.value];
        target->instance =
            machine_instance(machine, target->gpu, (unsigned)target->device->instance.value);
    } else {
        target->gpu = machine_gpu(machine, known->uuid);
        if (!target->gpu)
            return NVML_ERROR_GPU_IS_LOST;
    }
    if (target->gpu->lost.value)
        return NVML_ERROR_GPU_IS_LOST;
    if (known->kind & (IS_INSTANCE | IS_COMPUTE)) {
        target->instance = machine_instance(machine, target->gpu, known->instance);
        if (!target->instance)
            return NVML_ERROR_INVALID_ARGUMENT;
    }
    for (int i = 0; known->kind == IS_COMPUTE && i < machine->n_devices; i++) {
        struct device *one = &machine->devices[i];
        if (one->gpu.value == target->gpu->index.value &&
            one->instance.value == known->instance && one->compute.value == known->compute)
            target->device = one;
    }
    if (known->kind == IS_COMPUTE && !target->device)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (known->kind & kinds)
        return NVML_SUCCESS;
    bool device = (known->kind & IS_DEVICE) && (kinds & IS_DEVICE);
    return device ? NVML_ERROR_NOT_SUPPORTED : NVML_ERROR_INVALID_ARGUMENT;
}

/* A fault's call is a name without its version: nvmlDeviceGetCount is for …Count_v2 as well. */
nvmlReturn_t fault_of(const char *call, const struct target *target) {
    const struct machine *m = target->machine;
    for (int i = 0; i < m->n_faults; i++) {
        const struct fault *fault = &m->faults[i];
        size_t length = strlen(fault->call);
        if (strncmp(fault->call, call, length) != 0)
            continue;
        if (call[length] && strncmp(call + length, "_v", 2) != 0)
            continue;
        const char *here = target->device ? target->device->uuid
                           : target->gpu  ? target->gpu->uuid
                                          : "";
        if (*fault->on ? strcmp(fault->on, here) == 0 : true)
            return (nvmlReturn_t)fault->error.value;
    }
    return NVML_SUCCESS;
}

static const void *handle_of(int kind, const char *uuid, unsigned instance, unsigned compute) {
    struct handle *one = handles;
    while (one && !(one->kind == kind && one->instance == instance && one->compute == compute &&
                    strcmp(one->uuid, uuid) == 0))
        one = one->next;
    if (!one && (one = calloc(1, sizeof *one))) {
        one->kind = kind;
        one->instance = instance;
        one->compute = compute;
        snprintf(one->uuid, sizeof one->uuid, "%s", uuid);
        one->next = handles;
        handles = one;
    }
    return one;
}

const void *gpu_handle(const struct gpu *gpu) { return handle_of(IS_GPU, gpu->uuid, 0, 0); }

const void *mig_handle(const struct device *device) {
    return handle_of(IS_MIG, device->uuid, 0, 0);
}

const void *instance_handle(const struct gpu *gpu, unsigned id) {
    return handle_of(IS_INSTANCE, gpu->uuid, id, 0);
}

const void *compute_handle(const struct gpu *gpu, unsigned instance, unsigned compute) {
    return handle_of(IS_COMPUTE, gpu->uuid, instance, compute);
}

bool privileged(void) { return access(path(), W_OK) == 0; }

nvmlReturn_t begin_change(void) {
    char name[4096];
    if (!privileged())
        return NVML_ERROR_NO_PERMISSION;
    snprintf(name, sizeof name, "%s.lock", path());
    lock_file = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (lock_file < 0)
        return complain(NVML_ERROR_OPERATING_SYSTEM, "its lock file cannot be opened");
    while (flock(lock_file, LOCK_EX) < 0)
        if (errno != EINTR) {
            end_change();
            return complain(NVML_ERROR_OPERATING_SYSTEM, "its lock file cannot be locked");
        }
    return present();
}

void end_change(void) {
    if (lock_file >= 0)
        close(lock_file);
    lock_file = -1;
}

static bool spill(int file, const char *text) {
    for (size_t left = strlen(text); left;) {
        ssize_t n = write(file, text, left);
        if (n < 0 && errno != EINTR)
            return false;
        if (n > 0) {
            text += n;
            left -= (size_t)n;
        }
    }
    return true;
}

nvmlReturn_t commit(const struct edit *edit) {
    char name[4096];
    char *text = edited(machine, edit);
    if (!text)
        return NVML_ERROR_MEMORY;
    snprintf(name, sizeof name, "%s.XXXXXX", path());
    int file = mkostemp(name, O_CLOEXEC);
    bool done = file >= 0 && spill(file, text) && fchmod(file, read_as.st_mode & 07777) == 0;
    if (done && (read_as.st_uid != geteuid() || read_as.st_gid != getegid()))
        done = fchown(file, read_as.st_uid, read_as.st_gid) == 0;
    if (file >= 0 && close(file) < 0)
        done = false;
    if (done)
        done = rename(name, path()) == 0;
    if (!done && file >= 0)
        unlink(name);
    free(text);
    return done ? reload() : complain(NVML_ERROR_OPERATING_SYSTEM, "cannot be replaced");
}

nvmlReturn_t put_text(char *buffer, unsigned length, const char *text) {
    if (!buffer)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (strlen(text) >= length)
        return NVML_ERROR_INSUFFICIENT_SIZE;
    strcpy(buffer, text);
    return NVML_SUCCESS;
}

nvmlReturn_t put_count(unsigned long long *out, const struct number *number) {
    if (!out)
        return NVML_ERROR_INVALID_ARGUMENT;
    if (!number->given)
        return NVML_ERROR_NOT_SUPPORTED;
    *out = number->value;
    return NVML_SUCCESS;
}

nvmlReturn_t put_number(unsigned *out, const struct number *number) {
    unsigned long long value;
    nvmlReturn_t result = out ? put_count(&value, number) : NVML_ERROR_INVALID_ARGUMENT;
    if (!result)
        *out = (unsigned)value;
    return result;
}
