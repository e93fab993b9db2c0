# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Does to a running container what NVIDIA's legacy hook does; runs as root on the lab host.

Usage: legacy_hook.py PID

The hook binds the host's device nodes into the container's mount namespace and puts a device program
of its own in the place of the one that runc and systemd attached to the container's cgroup. systemd
hears of neither. Here the nodes are /dev/nvidia0 and /dev/nvidiactl.

Source: bpf(2), open_tree(2) and move_mount(2), linux/bpf.h (struct bpf_cgroup_dev_ctx), and
libnvidia-container's nvcgo.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys

NODES = ("/dev/nvidia0", "/dev/nvidiactl")
GPU_MAJOR = 195
GPU_MINORS = (0, 255)
# What every container may use: null, zero, random (1), tty and console (5), its terminals (136).
COMMON_MAJORS = (1, 5, 136)

SYS_BPF, SYS_OPEN_TREE, SYS_MOVE_MOUNT = 321, 428, 429
AT_FDCWD, AT_EMPTY_PATH = -100, 0x1000
OPEN_TREE_CLONE, MOVE_MOUNT_F_EMPTY_PATH = 1, 4
BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_DETACH = 5, 8, 9
BPF_PROG_GET_FD_BY_ID, BPF_PROG_QUERY = 13, 16
BPF_PROG_TYPE_CGROUP_DEVICE, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI = 15, 6, 2
BPF_DEVCG_ACC_MKNOD = 1

libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long


def checked(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def syscall(number: int, what: str, *arguments: object) -> int:
    return checked(libc.syscall(ctypes.c_long(number), *arguments), what)


def bpf(command: int, what: str, attributes: bytes) -> tuple[int, bytes]:
    buffer = ctypes.create_string_buffer(attributes.ljust(128, b"\0"), 128)
    result = syscall(SYS_BPF, what, ctypes.c_int(command), ctypes.byref(buffer), ctypes.c_uint(128))
    return result, buffer.raw


def instruction(code: int, registers: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("<BBhi", code, registers, offset, value)


RETURN_1 = (instruction(0xB7, 0x00, 0, 1), instruction(0x95))


def device_program() -> bytes:
    """Allow making any node, and opening the common ones and the GPU's; refuse everything else."""
    allowed: list[tuple[int, int | None]] = [(major, None) for major in COMMON_MAJORS]
    allowed += [(GPU_MAJOR, minor) for minor in GPU_MINORS]
    # r4 = access (upper half of the first word), r2 = major, r3 = minor
    program = [instruction(0x61, 0x14, 0), instruction(0x77, 0x04, 0, 16)]
    program += [instruction(0x61, 0x12, 4), instruction(0x61, 0x13, 8)]
    program += [instruction(0x55, 0x04, 2, BPF_DEVCG_ACC_MKNOD), *RETURN_1]
    for major, minor in allowed:
        # Not equal: jump over what follows, to the next device.
        steps: list[bytes] = [] if minor is None else [instruction(0x55, 0x03, 2, minor)]
        program.append(instruction(0x55, 0x02, 2 + len(steps), major))
        program += steps
        program += RETURN_1
    return b"".join([*program, instruction(0xB7, 0x00, 0, 0), instruction(0x95)])  # return 0


def load(program: bytes) -> int:
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"GPL")
    attributes = struct.pack(
        "<IIQQ",
        BPF_PROG_TYPE_CGROUP_DEVICE,
        len(program) // 8,
        ctypes.addressof(code),
        ctypes.addressof(licence),
    )
    return bpf(BPF_PROG_LOAD, "load a device program", attributes)[0]


def attached(cgroup: int) -> list[int]:
    ids = (ctypes.c_uint32 * 16)()
    attributes = struct.pack("<IIIIQI", cgroup, BPF_CGROUP_DEVICE, 0, 0, ctypes.addressof(ids), 16)
    _unused, answer = bpf(BPF_PROG_QUERY, "list the cgroup's device programs", attributes)
    return list(ids[: struct.unpack_from("<I", answer, 24)[0]])


def replace_program(cgroup_directory: str) -> None:
    cgroup = os.open(cgroup_directory, os.O_RDONLY)
    old = attached(cgroup)
    new = load(device_program())
    attach = struct.pack("<IIII", cgroup, new, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)
    bpf(BPF_PROG_ATTACH, "attach", attach)
    for program in old:
        descriptor, _unused = bpf(
            BPF_PROG_GET_FD_BY_ID, "open a program", struct.pack("<I", program)
        )
        detach = struct.pack("<IIII", cgroup, descriptor, BPF_CGROUP_DEVICE, 0)
        bpf(BPF_PROG_DETACH, "detach", detach)


def bind_nodes(pid: int) -> None:
    """Clone the mounts here, enter the container's namespace, and put them in place there."""
    trees = {
        node: syscall(
            SYS_OPEN_TREE,
            f"open_tree {node}",
            ctypes.c_int(AT_FDCWD),
            ctypes.c_char_p(node.encode()),
            ctypes.c_uint(OPEN_TREE_CLONE),
        )
        for node in NODES
    }
    namespace = os.open(f"/proc/{pid}/ns/mnt", os.O_RDONLY)
    checked(libc.setns(namespace, 0), "setns")
    for node, tree in trees.items():
        os.close(os.open(node, os.O_CREAT | os.O_WRONLY, 0o666))
        syscall(
            SYS_MOVE_MOUNT,
            f"move_mount {node}",
            ctypes.c_int(tree),
            ctypes.c_char_p(b""),
            ctypes.c_int(AT_FDCWD),
            ctypes.c_char_p(node.encode()),
            ctypes.c_uint(MOVE_MOUNT_F_EMPTY_PATH),
        )


def main() -> None:
    pid = int(sys.argv[1])
    with open(f"/proc/{pid}/cgroup", encoding="ascii") as stream:
        relative = stream.read().strip().removeprefix("0::")
    replace_program(f"/sys/fs/cgroup{relative}")
    bind_nodes(pid)


if __name__ == "__main__":
    main()
