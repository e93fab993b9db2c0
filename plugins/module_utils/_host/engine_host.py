# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The engine's host side: its systemd service, its packages, and the files that configure it.

Source: systemctl(1), dockerd(8), dpkg-query(1), apt-cache(8).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

UNIT = "docker.service"
_SOCKET_UNIT = "docker.socket"
_JOURNAL_LINES = 15
_BACKUPS_KEPT = 5
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Runs a command and returns its exit code, output and errors; ``AnsibleModule.run_command`` fits.
Runner = Callable[[list[str]], tuple[int, str, str]]


class HostError(Exception):
    """A command or a file of the host failed.

    :param what: the fault in plain words.
    :param where: the command or the path.
    :param remedy: what the reader can do.
    """

    def __init__(self, what: str, where: str, remedy: str = "") -> None:
        self.what = what
        self.where = where
        self.remedy = remedy
        super().__init__(f"{where}: {what}. {remedy}" if remedy else f"{where}: {what}")


# --- service ------------------------------------------------------------------------------------


class DockerService:
    """docker.service through systemctl.

    :param run: see :data:`Runner`.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run

    def _ok(self, *words: str) -> bool:
        return self._run(["systemctl", *words])[0] == 0

    def show(self) -> dict[str, str]:
        """The unit's properties that the preflight reads; empty where systemd is not there."""
        names = "ActiveState,UnitFileState,FragmentPath,DropInPaths,EnvironmentFiles,Environment,ExecStart"
        code, out, _err = self._run(["systemctl", "show", UNIT, f"--property={names}"])
        return (
            dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
            if code == 0
            else {}
        )

    def active(self) -> bool:
        return self._ok("is-active", "--quiet", UNIT)

    def enable(self) -> bool:
        return self._ok("enable", "--quiet", UNIT)

    def start(self) -> bool:
        """Start; a unit that failed too often lately is given another try."""
        self._ok("reset-failed", UNIT, _SOCKET_UNIT)
        return self._ok("start", UNIT)

    def reload(self) -> bool:
        """Send SIGHUP; the engine works on it after this returned."""
        return self._ok("reload", UNIT)

    def restart(self) -> bool:
        self._ok("reset-failed", UNIT, _SOCKET_UNIT)
        return self._ok("restart", UNIT)

    def journal(self) -> str:
        """The last lines of the service's log."""
        command = ["journalctl", "-u", UNIT, "-n", str(_JOURNAL_LINES), "-o", "cat", "--no-pager"]
        return self._run(command)[1].strip() or "(no log lines)"


_ARGV = re.compile(r"argv\[\]=(.*?) ; ")


def exec_start_words(shown: str) -> list[str]:
    """The arguments in ``systemctl show -p ExecStart`` (``{ path=… ; argv[]=… ; … }``)."""
    match = _ARGV.search(shown)
    return match[1].split() if match else []


def environment_files(shown: str) -> list[str]:
    """The paths in ``systemctl show -p EnvironmentFiles`` (``/etc/default/docker (ignore_errors=yes)``)."""
    return re.findall(r"(/\S+)(?: \(ignore_errors=\w+\))?", shown)


# --- packages -----------------------------------------------------------------------------------


class Packages:
    """What dpkg and apt know. A host without them has no packages.

    :param run: see :data:`Runner`.
    """

    def __init__(self, run: Runner) -> None:
        self._run = run
        self._apt = shutil.which("dpkg-query", path=_PATH) is not None

    def missing(self, wanted: Sequence[str]) -> list[str]:
        """Those of the wanted packages that are not installed."""
        if not wanted or not self._apt:
            return list(wanted)
        _code, out, _err = self._run(
            ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package}\n", *wanted]
        )
        installed = {line.split()[1] for line in out.splitlines() if line.startswith("installed ")}
        return [name for name in wanted if name not in installed]

    def owner(self, path: str) -> str | None:
        """The package that installed a file."""
        if not self._apt:
            return None
        code, out, _err = self._run(["dpkg-query", "-S", path])
        return out.partition(":")[0].split(",")[0].strip() if code == 0 and out else None

    def candidates(self, wanted: Sequence[str]) -> dict[str, str | None]:
        """The version that an installation would bring, None where apt knows none (yet)."""
        found: dict[str, str | None] = dict.fromkeys(wanted)
        if not wanted or shutil.which("apt-cache", path=_PATH) is None:
            return found
        _code, out, _err = self._run(["apt-cache", "policy", *wanted])
        name = ""
        for line in out.splitlines():
            if line and not line[0].isspace():
                name = line.rstrip(":")
            elif line.strip().startswith("Candidate:"):
                version = line.split(":", 1)[1].strip()
                found[name] = None if version == "(none)" else version
        return found


def find_dockerd() -> str | None:
    """Path of the installed engine."""
    return shutil.which("dockerd", path=_PATH)


def dockerd_version(run: Runner, path: str) -> str:
    """Version of an installed dockerd (``Docker version 26.1.5+dfsg1, build a72d7cd``).

    :raises HostError: the program does not say.
    """
    code, out, err = run([path, "--version"])
    match = re.search(r"version ([^\s,]+)", out)
    if code != 0 or not match:
        raise HostError(
            f"it does not tell its version: {(err or out).strip()}", path, "reinstall it"
        )
    return match[1]


def process_arguments(proc: str = "/proc") -> list[list[str]]:
    """The arguments of every process; kernel threads have none."""
    found = []
    for entry in os.listdir(proc):
        if entry.isdigit():
            try:
                data = Path(proc, entry, "cmdline").read_bytes()
            except OSError:
                continue
            found.append(data.decode(errors="replace").rstrip("\0").split("\0"))
    return found


# --- files --------------------------------------------------------------------------------------


def read_text(path: str) -> str | None:
    """Content of a file, None where there is none.

    :raises HostError: it is there and cannot be read as UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise HostError(
            f"cannot be read ({error})", path, "correct it by hand; nothing was changed"
        ) from error


def replace_file(
    path: str, text: str, mode: int, check: Callable[[str], None] | None = None
) -> None:
    """Write beside the file, check, sync, rename: a reader sees the old text or the new one."""
    folder = os.path.dirname(path)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=f".{os.path.basename(path)}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)
        if check:
            check(temporary)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder_handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_handle)
    finally:
        os.close(folder_handle)


class EngineFiles:
    """daemon.json and the record of what is ours in it.

    :param argv: dockerd's arguments in the unit; the new file is validated together with them.
    :param dockerd: the program, None before it is installed (then dockerd checks at its first start).
    """

    def __init__(
        self,
        run: Runner,
        config: str,
        record: str,
        dockerd: str | None,
        argv: Sequence[str] = (),
    ) -> None:
        self._run = run
        self.config = config
        self.record = record
        self._dockerd = dockerd
        self._argv = list(argv)

    def validate(self, path: str) -> None:
        """Let dockerd itself judge a configuration file.

        :raises HostError: it refuses the file; the message is dockerd's.
        """
        if self._dockerd is None:
            return
        code, out, err = self._run(
            [self._dockerd, *self._argv, "--validate", f"--config-file={path}"]
        )
        if code != 0:
            reason = (err or out).strip().replace(path, self.config)
            raise HostError(
                f"dockerd refuses the new content: {reason}",
                self.config,
                "correct docker_engine_settings or the foreign keys in the file; nothing was changed",
            )

    def judge(self, text: str) -> None:
        """Validate a content without touching the file; raises as :meth:`validate`."""
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", prefix="ds01-daemon-") as stream:
            stream.write(text)
            stream.flush()
            self.validate(stream.name)

    def write_config(self, text: str) -> str | None:
        """Validate and replace daemon.json; the old one is kept beside it, with its time."""
        backup = None
        old = read_text(self.config)
        mode = os.stat(self.config).st_mode & 0o777 if old is not None else 0o644
        if old is not None:
            backup = f"{self.config}.{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}.bak"
        replace_file(self.config, text, mode, lambda path: self._checked(path, backup))
        self._forget_old_backups()
        return backup

    def _checked(self, path: str, backup: str | None) -> None:
        self.validate(path)
        if backup:
            shutil.copy2(self.config, backup)

    def _forget_old_backups(self) -> None:
        folder, name = os.path.split(self.config)
        backups = sorted(Path(folder).glob(f"{name}.*Z.bak"))
        for path in backups[:-_BACKUPS_KEPT]:
            path.unlink()

    def write_record(self, text: str) -> None:
        replace_file(self.record, text, 0o644)

    def restore(self, config: str | None, record: str | None) -> None:
        """Put both files back; None removes the file."""
        for path, text in ((self.config, config), (self.record, record)):
            if text is None:
                Path(path).unlink(missing_ok=True)
            else:
                replace_file(
                    path, text, os.stat(path).st_mode & 0o777 if os.path.exists(path) else 0o644
                )
