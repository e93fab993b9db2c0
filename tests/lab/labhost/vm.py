"""Start, watch, stop the lab's virtual machine."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from . import ssh
from .errors import LabError
from .image import Image, digest, ensure_image
from .needs import find_mirror
from .progress import Step, say
from .settings import HOST_ALIAS, Settings

MEMORY = "4G"
CPUS = 2
# Generous: a machine busy with other work boots several times slower
BOOT_TIMEOUT = 600.0
STOP_TIMEOUT = 120.0


@dataclass(frozen=True)
class Record:
    """What `up` leaves for the commands that follow: written to lab.json in the state."""

    pid: int
    port: int
    image: str
    accelerator: str

    @classmethod
    def load(cls, settings: Settings) -> Record | None:
        try:
            return cls(**json.loads(settings.record.read_text()))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError):
            raise LabError(f"{settings.record} is damaged: run `lab up --fresh`") from None

    def save(self, settings: Settings) -> None:
        settings.record.write_text(json.dumps(asdict(self), indent=2) + "\n")

    def alive(self, settings: Settings) -> bool:
        """Whether the process is still there and still this lab's qemu (pids come again)."""
        try:
            line = Path(f"/proc/{self.pid}/cmdline").read_bytes()
        except OSError:
            return False
        return str(settings.disk).encode() in line


def running(settings: Settings) -> Record | None:
    """The record of the lab when its machine runs."""
    record = Record.load(settings)
    return record if record and record.alive(settings) else None


def accelerator() -> str:
    """``kvm`` where processor and device have it, otherwise emulation.

    The device alone proves nothing: one can exist on a machine whose processor hides its
    virtualisation, and then never boots a guest.
    """
    flags = Path("/proc/cpuinfo").read_text().split()
    usable = os.access("/dev/kvm", os.R_OK | os.W_OK)
    return "kvm" if usable and ("vmx" in flags or "svm" in flags) else "tcg"


def up(settings: Settings, fresh: bool = False) -> Record:
    """Boot the lab, or leave it alone when it runs; ``fresh`` starts from the image again.

    Raises LabError when it does not come up.
    """
    present = running(settings)
    if present and not fresh:
        say(f"lab: already up (ssh port {present.port})")
        return present
    previous = Record.load(settings)
    if previous and settings.disk.exists() and not fresh:
        image = _image_of_disk(settings, previous)
    else:
        image = ensure_image(settings)
        cut_power(settings)
        _new_disk(settings, image)
    settings.console.unlink(missing_ok=True)
    record = _start(settings, image, previous.port if previous else 0)
    ssh.write_config(settings, image, record.port)
    expect = "10 s" if record.accelerator == "kvm" else "30 s"
    with Step(f"booting with {record.accelerator}", expect):
        _wait_booted(settings, record)
    return record


def _image_of_disk(settings: Settings, previous: Record) -> Image:
    """The image a kept disk stands on, which need not be the newest definition's.

    Raises LabError when it is gone.
    """
    image = Image(settings.cache / previous.image)
    if not image.complete:
        raise LabError(f"the image below {settings.disk} is gone: run `lab up --fresh`")
    if previous.image != digest(find_mirror()):
        say("lab: the image's definition has changed since; `lab up --fresh` takes the new one")
    return image


def _new_disk(settings: Settings, image: Image) -> None:
    """A disk that holds only what differs from the image: made in no time."""
    settings.disk.unlink(missing_ok=True)
    make = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", str(image.disk)]
    answer = subprocess.run(
        [*make, str(settings.disk)], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise LabError(f"no disk for the lab: {answer.stderr.strip()}")


def _start(settings: Settings, image: Image, wanted_port: int) -> Record:
    """Start qemu in the background; a port that somebody took meanwhile is replaced once."""
    kind = accelerator()
    error = ""
    for port in (wanted_port or ssh.free_port(), ssh.free_port()):
        settings.monitor.unlink(missing_ok=True)
        answer = subprocess.run(
            _qemu(settings, image, kind, port), capture_output=True, text=True, check=False
        )
        if answer.returncode == 0:
            pid = int((settings.runtime / "pid").read_text())
            record = Record(pid, port, image.directory.name, kind)
            record.save(settings)
            return record
        error = answer.stderr.strip()
    raise LabError(f"qemu does not start: {error}")


def _qemu(settings: Settings, image: Image, kind: str, port: int) -> list[str]:
    accel = "kvm" if kind == "kvm" else "tcg,thread=multi"
    # Emulated, page tables of five levels only make each walk longer
    cpu = "host" if kind == "kvm" else "max,-la57"
    forward = f"user,id=net,hostfwd=tcp:{ssh.LOOPBACK}:{port}-:22"
    # What the guest flushes is handed to this machine's kernel before the guest hears of it, and
    # outlives a qemu that is killed. "unsafe" only spares the wait for this machine's own disk.
    drive = (
        f"file={_escaped(settings.disk)},if=none,id=disk,format=qcow2,discard=unmap,cache=unsafe"
    )
    return [
        "qemu-system-x86_64",
        *("-name", HOST_ALIAS),
        *("-accel", accel, "-cpu", cpu, "-smp", str(CPUS), "-m", MEMORY),
        *("-nodefaults", "-display", "none", "-vga", "none"),
        *("-kernel", str(image.kernel), "-initrd", str(image.initrd)),
        *("-append", _kernel_command_line(kind)),
        *("-drive", drive, "-device", "virtio-blk-pci,drive=disk"),
        *("-netdev", forward, "-device", "virtio-net-pci,netdev=net,romfile="),
        *("-device", "virtio-rng-pci"),
        *("-chardev", f"file,id=console,path={_escaped(settings.console)},append=on"),
        *("-serial", "chardev:console"),
        *("-qmp", f"unix:{settings.monitor},server=on,wait=off"),
        *("-pidfile", str(settings.runtime / "pid"), "-daemonize"),
    ]


def _kernel_command_line(kind: str) -> str:
    """The guest kernel's parameters (kernel-parameters.txt of the kernel's documentation)."""
    words = [
        "root=/dev/vda rw console=ttyS0 systemd.show_status=true panic=-1 audit=0",
        # The image's network file names eth0
        "net.ifnames=0",
        # Hardware of qemu's that the lab does not use but udev would load drivers for
        "module_blacklist=ata_piix,ata_generic,floppy,i2c_piix4,kvm,kvm_amd,kvm_intel,powernow_k8",
    ]
    if kind == "tcg":
        # Emulation pays for each of these. Above all, a busy machine makes the kernel distrust
        # the TSC and read the time from the HPET instead, which stops the whole emulator.
        words += ["tsc=reliable", "mitigations=off", "init_on_alloc=0"]
    return " ".join(words)


def _escaped(path: Path) -> str:
    """A path inside one of qemu's comma-separated options."""
    return str(path).replace(",", ",,")


def _wait_booted(settings: Settings, record: Record) -> None:
    """Wait for sshd, then for systemd to have finished.

    Raises LabError with the end of the console when either does not happen.
    """
    deadline = time.monotonic() + BOOT_TIMEOUT
    while not ssh.answers(record.port):
        if not record.alive(settings):
            raise LabError(f"qemu ended while booting.\n{console_tail(settings)}")
        if time.monotonic() > deadline:
            raise LabError(
                f"no ssh after {BOOT_TIMEOUT:.0f} s; `lab up --fresh` starts over.\n"
                f"{console_tail(settings)}"
            )
        time.sleep(0.5)
    remaining = max(deadline - time.monotonic(), 30.0)
    try:
        answer = ssh.run(settings, "systemctl is-system-running --wait", timeout=remaining)
    except subprocess.TimeoutExpired:
        raise LabError(f"the boot does not end.\n{console_tail(settings)}") from None
    if answer.returncode == 255:
        raise LabError(f"ssh is refused: {answer.stderr.strip()}\n{console_tail(settings)}")
    if answer.stdout.strip() != "running":
        failed = ssh.run(settings, "systemctl --failed --no-legend --plain").stdout.strip()
        say(f"lab:   note: the guest is {answer.stdout.strip()}: {failed}")


def console_tail(settings: Settings, lines: int = 25) -> str:
    """The end of what the guest wrote to its serial console."""
    try:
        text = settings.console.read_text(errors="replace")
    except FileNotFoundError:
        return f"(no console log in {settings.console})"
    return "\n".join([f"The end of {settings.console}:", *text.splitlines()[-lines:]])


def need_running(settings: Settings) -> Record:
    """The running lab's record.

    Raises LabError when it is down.
    """
    record = running(settings)
    if record is None:
        raise LabError(f"the lab in {settings.state} is not up: start it with `make lab-up`")
    return record


def reboot(settings: Settings) -> None:
    """Reboot the guest in order and wait until it is back.

    Raises LabError when it does not come back.
    """
    record = need_running(settings)
    before = ssh.boot_id(settings)
    with Step("rebooting", "45 s"):
        ssh.run(settings, "systemctl reboot", timeout=60.0)
        ssh.close_connections(settings)
        deadline = time.monotonic() + STOP_TIMEOUT + BOOT_TIMEOUT
        while True:
            try:
                _wait_booted(settings, record)
                if ssh.boot_id(settings) != before:
                    return
            except LabError:
                # Its sshd is going down, and refused us on the way.
                if time.monotonic() > deadline or not record.alive(settings):
                    raise
            if time.monotonic() > deadline:
                raise LabError(f"the guest did not reboot.\n{console_tail(settings)}")
            ssh.close_connections(settings)
            time.sleep(1.0)


def cut_power(settings: Settings) -> None:
    """End the machine as a power cut does: what the guest had not flushed is gone."""
    record = running(settings)
    if record is None:
        return
    os.kill(record.pid, signal.SIGKILL)
    _wait_gone(settings, record, 10.0)
    ssh.close_connections(settings)


def down(settings: Settings, keep: bool = False) -> None:
    """Shut the guest down in order; its disk is thrown away unless ``keep``."""
    record = running(settings)
    if record is None:
        say("lab: not up")
    elif keep:
        with Step("shutting down", "15 s"):
            ssh.close_connections(settings)
            _monitor(settings, "system_powerdown")
            if not _wait_gone(settings, record, STOP_TIMEOUT):
                say("lab:   it does not shut down by itself: cutting its power")
                cut_power(settings)
    else:
        # Nobody will read this disk again
        cut_power(settings)
        say("lab: stopped, its disk thrown away")
    if not keep:
        settings.disk.unlink(missing_ok=True)
        settings.record.unlink(missing_ok=True)


def _wait_gone(settings: Settings, record: Record, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while record.alive(settings):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _monitor(settings: Settings, command: str) -> None:
    """Send one command over QMP (qemu-qmp-ref(7)): greeting, capabilities, command."""
    with socket.socket(socket.AF_UNIX) as link:
        link.settimeout(10.0)
        link.connect(str(settings.monitor))
        with link.makefile("rw") as stream:
            stream.readline()
            for name in ("qmp_capabilities", command):
                stream.write(json.dumps({"execute": name}) + "\n")
                stream.flush()
                stream.readline()
