# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What GPUs there are, asked of NVML through nvidia-ml-py.

One look is one connection: NVML is left at the end, so that the driver can be unloaded between
two looks. Nothing here decides anything; :func:`read` gives what the domain reads.
Source: NVML API reference, https://docs.nvidia.com/deploy/nvml-api/
"""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

READY = "ready"
DRIVER_ABSENT = "driver_absent"
DRIVER_RESTARTING = "driver_restarting"

_NO_INSTANCE = 0xFFFFFFFF
_ATTEMPTS = 3
# nvidia-ml-py keeps the library and its own count of users in globals of its module.
_one_look = threading.Lock()


class DriverAway(Exception):
    """NVML cannot be asked at all now.

    :param state: ``driver_absent`` or ``driver_restarting``.
    :param reason: NVML's own words.
    """

    def __init__(self, state: str, reason: str) -> None:
        self.state = state
        self.reason = reason
        super().__init__(reason)


def read() -> dict[str, Any]:
    """One look at all GPUs, in the form that ``gpus.inventory`` takes.

    A GPU that answers with an error has ``lost`` and ``reason`` in its row, and the UUID where it
    is still known; the other GPUs are as they are.

    Raises ImportError where nvidia-ml-py is not installed.
    """
    try:
        with session() as nvml:
            return _look(nvml)
    except DriverAway as away:
        return {"state": away.state, "reason": away.reason, "driver_version": "", "gpus": []}


@contextmanager
def session() -> Iterator[Any]:
    """A connection to NVML, left again whatever happens: the module ``pynvml``.

    The process has one at a time; another thread waits for it.

    Raises DriverAway when NVML cannot be asked, ImportError without nvidia-ml-py.
    """
    nvml = importlib.import_module("pynvml")
    with _one_look:
        _connect(nvml)
        try:
            yield nvml
        except nvml.NVMLError as error:
            if not _away(nvml, error):
                raise
            raise DriverAway(DRIVER_RESTARTING, str(error)) from error
        finally:
            with suppress(nvml.NVMLError):
                nvml.nvmlShutdown()


def mig_handles(nvml: Any, gpu: Any) -> list[Any]:
    """Handles of the MIG devices of a GPU in MIG mode. Their indices have holes.

    Raises pynvml.NVMLError.
    """
    found = []
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(gpu)):
        with suppress(nvml.NVMLError_NotFound):
            found.append(nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index))
    return found


def _connect(nvml: Any) -> None:
    """nvmlInit; with a library that was loaded before the driver was replaced, once more."""
    try:
        nvml.nvmlInit()
        return
    except nvml.NVMLError_LibraryNotFound as error:
        raise DriverAway(DRIVER_ABSENT, str(error)) from None
    except nvml.NVMLError:
        _forget_library(nvml)
    try:
        nvml.nvmlInit()
    except nvml.NVMLError_LibraryNotFound as error:
        raise DriverAway(DRIVER_ABSENT, str(error)) from None
    except nvml.NVMLError as error:
        _forget_library(nvml)
        raise DriverAway(DRIVER_RESTARTING, str(error)) from None


def _forget_library(nvml: Any) -> None:
    """Let the next nvmlInit load the library that is there then.

    A library stays mapped after its file was replaced, and the loader gives the mapped one again;
    nvidia-ml-py has no call for this.
    """
    library, nvml.nvmlLib = nvml.nvmlLib, None
    nvml._nvmlGetFunctionPointer_cache.clear()
    if library is not None:
        importlib.import_module("_ctypes").dlclose(library._handle)


def _away(nvml: Any, error: Exception) -> bool:
    """Whether an error says that the whole driver went, not one GPU."""
    kinds = (
        nvml.NVMLError_DriverNotLoaded,
        nvml.NVMLError_LibRmVersionMismatch,
        nvml.NVMLError_Uninitialized,
    )
    return isinstance(error, kinds)


def _look(nvml: Any) -> dict[str, Any]:
    try:
        version = nvml.nvmlSystemGetDriverVersion()
        count = nvml.nvmlDeviceGetCount()
    except nvml.NVMLError as error:
        raise DriverAway(DRIVER_RESTARTING, str(error)) from error
    gpus = [_gpu(nvml, index) for index in range(count)]
    return {"state": READY, "reason": "", "driver_version": version, "gpus": gpus}


def _gpu(nvml: Any, index: int) -> dict[str, Any]:
    """The row of one GPU. It is looked at again when it was partitioned anew meanwhile."""
    row: dict[str, Any] = {}
    last: Exception | None = None
    for _attempt in range(_ATTEMPTS):
        row = {"index": index, "lost": False}
        try:
            _fill(nvml, row)
            return row
        except (nvml.NVMLError_InvalidArgument, nvml.NVMLError_NotFound) as error:
            last = error
        except nvml.NVMLError as error:
            if _away(nvml, error):
                raise
            last = error
            break
    known = {"uuid": row["uuid"]} if "uuid" in row else {}
    return {"index": index, "lost": True, "reason": str(last), **known}


def _fill(nvml: Any, row: dict[str, Any]) -> None:
    gpu = nvml.nvmlDeviceGetHandleByIndex(row["index"])
    row["uuid"] = nvml.nvmlDeviceGetUUID(gpu)
    row["name"] = nvml.nvmlDeviceGetName(gpu)
    row["minor"] = nvml.nvmlDeviceGetMinorNumber(gpu)
    row["memory"] = nvml.nvmlDeviceGetMemoryInfo(gpu).total
    row["mig_enabled"] = _mig_enabled(nvml, gpu)
    row["mig"] = []
    row["processes"] = []
    if not row["mig_enabled"]:
        row["processes"] += _processes(nvml, gpu, row["uuid"])
        return
    for device in mig_handles(nvml, gpu):
        mig = _mig(nvml, device)
        row["mig"].append(mig)
        row["processes"] += _processes(nvml, device, mig["uuid"])
    row["processes"] += _processes(nvml, gpu, row["uuid"], outside_instances=True)


def _mig_enabled(nvml: Any, gpu: Any) -> bool:
    try:
        current, _pending = nvml.nvmlDeviceGetMigMode(gpu)
    except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
        return False
    return bool(current == nvml.NVML_DEVICE_MIG_ENABLE)


def _mig(nvml: Any, device: Any) -> dict[str, Any]:
    attributes = nvml.nvmlDeviceGetAttributes(device)
    return {
        "index": nvml.nvmlDeviceGetIndex(device),
        "uuid": nvml.nvmlDeviceGetUUID(device),
        "profile": _profile(nvml.nvmlDeviceGetName(device), attributes),
        "memory": nvml.nvmlDeviceGetMemoryInfo(device).total,
        "compute_slices": int(attributes.computeInstanceSliceCount),
    }


def _profile(name: str, attributes: Any) -> str:
    """The profile is the end of a MIG device's name; where a driver leaves it out, by its sizes."""
    _gpu_name, mark, profile = name.rpartition(" MIG ")
    if mark:
        return profile
    instance, compute = attributes.gpuInstanceSliceCount, attributes.computeInstanceSliceCount
    part = "" if compute == instance else f"{compute}c."
    # The memory is a little less than what the profile's name says.
    return f"{part}{instance}g.{-(-int(attributes.memorySizeMB) // 1024)}gb"


def _processes(
    nvml: Any, device: Any, slot: str, outside_instances: bool = False
) -> list[dict[str, Any]]:
    """Processes on a GPU or MIG device, each once, whatever kinds of context it has.

    :param outside_instances: of a GPU in MIG mode only what runs on none of its instances; NVML
        gives the processes of its MIG devices too, and only to root.
    """
    found: dict[int, int] = {}
    kinds: tuple[Callable[[Any], list[Any]], ...] = (
        nvml.nvmlDeviceGetComputeRunningProcesses,
        nvml.nvmlDeviceGetGraphicsRunningProcesses,
        nvml.nvmlDeviceGetMPSComputeRunningProcesses,
    )
    for ask in kinds:
        try:
            rows = _ask_again(nvml, ask, device)
        except (nvml.NVMLError_NotSupported, nvml.NVMLError_FunctionNotFound):
            continue
        except nvml.NVMLError_NoPermission:
            if not outside_instances:
                raise
            continue
        for row in rows:
            if outside_instances and row.gpuInstanceId != _NO_INSTANCE:
                continue
            found[row.pid] = max(found.get(row.pid, 0), row.usedGpuMemory or 0)
    return [{"pid": pid, "slot": slot, "memory": memory} for pid, memory in found.items()]


def _ask_again(nvml: Any, ask: Callable[[Any], list[Any]], device: Any) -> list[Any]:
    """More processes may start between NVML's two answers than nvidia-ml-py keeps room for."""
    for _attempt in range(_ATTEMPTS - 1):
        with suppress(nvml.NVMLError_InsufficientSize):
            return ask(device)
    return ask(device)
