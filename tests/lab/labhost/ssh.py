"""Reach the guest with plain ssh; one connection a user is kept open and shared."""

from __future__ import annotations

import socket
import subprocess
from pathlib import Path

from .errors import LabError
from .image import Image
from .settings import HOST_ALIAS, Settings

LOOPBACK = "127.0.0.1"
# Long: each probe given up makes a busy guest start another session that nobody waits for
PROBE_TIMEOUT = 60.0


def write_config(settings: Settings, image: Image, port: int) -> Path:
    """Write ssh_config(5) and known_hosts of this lab, and return the config's path.

    Ansible, testinfra and people use the same file: `ssh -F …/ssh_config ds01-lab`.
    """
    known_hosts = settings.state / "known_hosts"
    known_hosts.write_text(f"[{LOOPBACK}]:{port} {image.host_key}")
    lines = [
        f"Host {HOST_ALIAS}",
        f"    HostName {LOOPBACK}",
        f"    Port {port}",
        "    User root",
        f'    IdentityFile "{image.key}"',
        "    IdentitiesOnly yes",
        f'    UserKnownHostsFile "{known_hosts}"',
        "    StrictHostKeyChecking yes",
        "    BatchMode yes",
        "    LogLevel ERROR",
        # Encryption between a machine and itself costs emulated CPU: take the cheapest
        "    Ciphers aes128-gcm@openssh.com,chacha20-poly1305@openssh.com",
        "    ConnectTimeout 60",
        "    ServerAliveInterval 15",
        "    ServerAliveCountMax 12",
        "    ControlMaster auto",
        "    ControlPersist 15m",
        f"    ControlPath {settings.runtime}/%r",
    ]
    settings.ssh_config.write_text("\n".join(lines) + "\n")
    return settings.ssh_config


def command(settings: Settings, user: str, remote: list[str], tty: bool = False) -> list[str]:
    """The ssh command line that runs ``remote`` as ``user`` (a shell when it is empty)."""
    line = ["ssh", "-F", str(settings.ssh_config), "-l", user]
    if tty:
        line.append("-t")
    return [*line, HOST_ALIAS, *(["--", *remote] if remote else [])]


def run(
    settings: Settings, remote: str, user: str = "root", timeout: float = 120.0
) -> subprocess.CompletedProcess[str]:
    """Run a shell command line in the guest and wait at most ``timeout`` seconds.

    Raises subprocess.TimeoutExpired.
    """
    return subprocess.run(
        command(settings, user, [remote]),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout,
        check=False,
    )


def answers(port: int) -> bool:
    """Whether the guest's sshd greets; qemu itself accepts connections long before."""
    try:
        with socket.create_connection((LOOPBACK, port), PROBE_TIMEOUT) as probe:
            probe.settimeout(PROBE_TIMEOUT)
            return probe.recv(4) == b"SSH-"
    except OSError:
        return False


def free_port() -> int:
    """A TCP port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def close_connections(settings: Settings) -> None:
    """End the shared connections: after a reboot they would hang until their time-out."""
    for path in settings.runtime.glob("*"):
        if path == settings.monitor or not path.is_socket():
            continue
        end = ["ssh", "-F", "none", "-S", str(path), "-O", "exit", HOST_ALIAS]
        subprocess.run(end, capture_output=True, check=False, timeout=10)
        path.unlink(missing_ok=True)


def boot_id(settings: Settings) -> str:
    """The kernel's random id of the present boot (random(4)).

    Raises LabError when the guest cannot be asked.
    """
    answer = run(settings, "cat /proc/sys/kernel/random/boot_id", timeout=60.0)
    if answer.returncode:
        raise LabError(f"the lab does not answer over ssh: {answer.stderr.strip()}")
    return answer.stdout.strip()
