# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Splitting GPUs by MIG, through NVML.

A GPU instance is a share of memory and compute slices; with a compute instance in it, it is a MIG
device. One compute instance with all the slices is made in each.
Source: NVML API reference, Multi Instance GPU Management,
https://docs.nvidia.com/deploy/nvml-api/group__nvmlMultiInstanceGPU.html
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import byref, c_uint
from typing import Any

from . import nvml

_OPENERS = (
    "Stop what has the GPU open (nvidia-persistenced, DCGM, exporters, a display) and run again"
)


class MigError(Exception):
    """The driver refused.

    :param what: the fault in plain words; :param where: GPU; :param remedy: what the reader can do.
    """

    def __init__(self, what: str, where: str, remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(f"{where}: {what}. {remedy}" if remedy else f"{where}: {what}")


@contextmanager
def _told(nvml: Any, where: str, doing: str) -> Iterator[None]:
    try:
        yield
    except nvml.NVMLError_InUse as error:
        raise MigError(f"{doing}: something has it open ({error})", where, _OPENERS) from error
    except nvml.NVMLError_NoPermission as error:
        raise MigError(f"{doing}: {error}", where, "Run it as root") from error
    except nvml.NVMLError as error:
        remedy = "See dmesg; what was not finished is finished by the next run"
        raise MigError(f"{doing}: {error}", where, remedy) from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


class Mig:
    """The GPUs of this host. Each verb is a connection of its own, as each look of :mod:`.nvml` is.

    All raise MigError where the driver does not answer or refuses.
    """

    def read(self) -> list[dict[str, Any]]:
        """Every GPU, in the form that ``mig.gpus_from`` of the domain takes."""
        with _connected() as library:
            return library.read()

    def set_mode(self, uuid: str, on: bool) -> None:
        """Turn MIG on or off; a mode that is not in force afterwards is an error."""
        with _connected() as library:
            library.set_mode(uuid, on)

    def destroy(self, uuid: str, instance: int) -> None:
        """Take a GPU instance away, its compute instances first."""
        with _connected() as library:
            library.destroy(uuid, instance)

    def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None:
        """Make a GPU instance with one compute instance that has all of it.

        :param placement: first memory slice and their number; None leaves it to the driver.
        """
        with _connected() as library:
            library.create(uuid, profile, placement)


@contextmanager
def _connected() -> Iterator[_Library]:
    try:
        with nvml.session() as library:
            yield _Library(library)
    except nvml.DriverAway as away:
        raise MigError(f"the driver does not answer ({away.reason})", "NVML", "See dmesg") from away


class _Library:
    """NVML while it is connected.

    :param nvml: the module pynvml.
    """

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        # What a driver says of a number, or a function, that it does not have.
        self._unknown = (
            nvml.NVMLError_NotSupported,
            nvml.NVMLError_InvalidArgument,
            nvml.NVMLError_FunctionNotFound,
        )

    def read(self) -> list[dict[str, Any]]:
        with _told(self._nvml, "NVML", "reading the GPUs"):
            return [self._gpu(index) for index in range(self._nvml.nvmlDeviceGetCount())]

    def set_mode(self, uuid: str, on: bool) -> None:
        nvml = self._nvml
        doing = f"turning MIG {'on' if on else 'off'}"
        with _told(nvml, uuid, doing):
            # The status tells of the activation; what counts is the mode afterwards.
            status = nvml.nvmlDeviceSetMigMode(self._device(uuid), int(on))
            current, _pending = nvml.nvmlDeviceGetMigMode(self._device(uuid))
        if bool(current) == on:
            return
        if status == nvml.NVML_ERROR_IN_USE:
            raise MigError(f"{doing}: something has it open", uuid, _OPENERS)
        raise MigError(
            f"{doing}: it waits for a reset of the GPU",
            uuid,
            f"nvidia-smi --gpu-reset -i {uuid} with nothing running on it, or reboot; then run again",
        )

    def destroy(self, uuid: str, instance: int) -> None:
        nvml = self._nvml
        with _told(nvml, uuid, f"destroying GPU instance {instance}"):
            handle = nvml.nvmlDeviceGetGpuInstanceById(self._device(uuid), instance)
            for compute, _slices in self._computes(handle):
                nvml.nvmlComputeInstanceDestroy(compute)
            nvml.nvmlGpuInstanceDestroy(handle)

    def create(self, uuid: str, profile: str, placement: tuple[int, int] | None) -> None:
        nvml = self._nvml
        with _told(nvml, uuid, f"creating {profile}"):
            device = self._device(uuid)
            found = [row for row in self._profiles(device) if row["name"] == profile]
            if not found:
                raise MigError(f"the GPU has no MIG profile {profile!r}", uuid)
            handle = self._instance(device, found[0]["id"], placement)
            try:
                number = self._whole_compute_profile(handle, found[0]["slices"])
                nvml.nvmlGpuInstanceCreateComputeInstance(handle, number)
            except nvml.NVMLError:
                nvml.nvmlGpuInstanceDestroy(handle)
                raise

    def _device(self, uuid: str) -> Any:
        return self._nvml.nvmlDeviceGetHandleByUUID(uuid)

    def _gpu(self, index: int) -> dict[str, Any]:
        nvml = self._nvml
        try:
            device = nvml.nvmlDeviceGetHandleByIndex(index)
            row: dict[str, Any] = {
                "index": index,
                "uuid": _text(nvml.nvmlDeviceGetUUID(device)),
                "model": _text(nvml.nvmlDeviceGetName(device)),
                "memory": int(nvml.nvmlDeviceGetMemoryInfo(device).total),
            }
        except nvml.NVMLError:
            # The others are still there to be split.
            return {"index": index, "lost": True}
        try:
            current, pending = nvml.nvmlDeviceGetMigMode(device)
        except self._unknown:
            return {**row, "capable": False}
        profiles = self._profiles(device)
        for profile in profiles:
            profile["placements"] = self._placements(device, profile["id"])
        return {
            **row,
            "capable": True,
            "mode": bool(current),
            "pending": bool(pending),
            "profiles": profiles,
            "instances": self._instances(device, profiles) if current else [],
        }

    def _profiles(self, device: Any) -> list[dict[str, Any]]:
        """What sizes the GPU gives; NVML's table has holes."""
        nvml = self._nvml
        found = []
        for number in range(nvml.NVML_GPU_INSTANCE_PROFILE_COUNT):
            try:
                info = nvml.nvmlDeviceGetGpuInstanceProfileInfo(device, number)
            except self._unknown:
                continue
            found.append(
                {
                    "name": _text(info.name).removeprefix("MIG "),
                    "id": int(info.id),
                    "slices": int(info.sliceCount),
                    "model": _text(nvml.nvmlDeviceGetName(device)),
                    "memory": int(info.memorySizeMB) * 2**20,
                    "most": int(info.instanceCount),
                }
            )
        return found

    def _placements(self, device: Any, profile: int) -> list[tuple[int, int]]:
        nvml = self._nvml
        count = c_uint()
        try:
            nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile, None, byref(count))
            rows = (nvml.c_nvmlGpuInstancePlacement_t * count.value)()
            nvml.nvmlDeviceGetGpuInstancePossiblePlacements(device, profile, rows, byref(count))
        except self._unknown:
            return []
        return [(int(row.start), int(row.size)) for row in rows[: count.value]]

    def _instances(self, device: Any, profiles: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nvml = self._nvml
        found = []
        for profile in profiles:
            rows = (nvml.c_nvmlGpuInstance_t * max(profile["most"], 1))()
            count = c_uint(len(rows))
            nvml.nvmlDeviceGetGpuInstances(device, profile["id"], rows, byref(count))
            for handle in rows[: count.value]:
                slices = [number for _compute, number in self._computes(handle)]
                found.append(
                    {
                        "id": int(nvml.nvmlGpuInstanceGetInfo(handle).id),
                        "profile": profile["name"],
                        "whole": slices == [profile["slices"]],
                    }
                )
        return sorted(found, key=lambda row: int(row["id"]))

    def _compute_profiles(self, instance: Any) -> Iterator[tuple[int, int, int]]:
        """Number, compute slices and greatest count of each compute profile."""
        nvml = self._nvml
        shared = nvml.NVML_COMPUTE_INSTANCE_ENGINE_PROFILE_SHARED
        for number in range(nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT):
            try:
                info = nvml.nvmlGpuInstanceGetComputeInstanceProfileInfo(instance, number, shared)
            except self._unknown:
                continue
            yield int(info.id), int(info.sliceCount), int(info.instanceCount)

    def _computes(self, instance: Any) -> list[tuple[Any, int]]:
        """The compute instances with their slices."""
        nvml = self._nvml
        found = []
        for number, slices, most in self._compute_profiles(instance):
            rows = (nvml.c_nvmlComputeInstance_t * max(most, 1))()
            count = c_uint(len(rows))
            nvml.nvmlGpuInstanceGetComputeInstances(instance, number, rows, byref(count))
            found += [(handle, slices) for handle in rows[: count.value]]
        return found

    def _whole_compute_profile(self, instance: Any, slices: int) -> int:
        for number, has, _most in self._compute_profiles(instance):
            if has == slices:
                return number
        raise self._nvml.NVMLError(self._nvml.NVML_ERROR_NOT_SUPPORTED)

    def _instance(self, device: Any, profile: int, placement: tuple[int, int] | None) -> Any:
        nvml = self._nvml
        if placement is None:
            return nvml.nvmlDeviceCreateGpuInstance(device, profile)
        wanted = nvml.c_nvmlGpuInstancePlacement_t(*placement)
        return nvml.nvmlDeviceCreateGpuInstanceWithPlacement(device, profile, byref(wanted))
