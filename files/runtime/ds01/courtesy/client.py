# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real client: called in this process's place, or as its child with all signals passed on."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from typing import NoReturn

_SETPRIV = "/usr/bin/setpriv"
# Stops and continues are the terminal's and reach both; SIGPIPE and faults concern one process alone.
_PASSED_ON = frozenset(
    {
        signal.SIGHUP,
        signal.SIGINT,
        signal.SIGQUIT,
        signal.SIGTERM,
        signal.SIGUSR1,
        signal.SIGUSR2,
        signal.SIGALRM,
        signal.SIGWINCH,
    }
)


class Client:
    """The docker client.

    :param path: where it is.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.environment = _environment()

    def become(self, words: Sequence[str]) -> NoReturn:
        """Call it as if this program had never been."""
        _as_python_found_them()
        os.execve(self.path, [self.path, *words], self.environment)

    def run(self, words: Sequence[str]) -> int:
        """Call it as a child in the same process group and wait.

        What a terminal sends reaches it by itself; what somebody sends to this process alone is passed
        on. Killed (SIGKILL), this process takes it along, as if there were one process.

        :returns: its exit code; 128 + n where signal n ended it.
        """
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        awaited = {*_PASSED_ON, signal.SIGCHLD}
        before = signal.pthread_sigmask(signal.SIG_BLOCK, awaited)
        child = os.fork()
        if child == 0:
            self._in_child(words, before)
        while True:
            info = signal.sigwaitinfo(awaited)
            # Above 0 it is the kernel that speaks: SI_KERNEL for Ctrl-C, CLD_EXITED; see sigaction(2).
            if info.si_signo != signal.SIGCHLD and info.si_code <= 0:
                os.kill(child, info.si_signo)
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code

    def _in_child(self, words: Sequence[str], mask: set[signal.Signals | int]) -> NoReturn:
        command = [self.path, *words]
        try:
            _as_python_found_them()
            if signal.getsignal(signal.SIGINT) == signal.default_int_handler:
                # Until the call below replaces it, Python would take a Ctrl-C for itself.
                signal.signal(signal.SIGINT, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            if os.access(_SETPRIV, os.X_OK):
                command = [_SETPRIV, "--pdeathsig", "KILL", "--", *command]
            os.execve(command[0], command, self.environment)
        except OSError as error:
            os.write(2, f"docker: {self.path}: {error.strerror}\n".encode())
        finally:
            os._exit(126)


def _environment() -> dict[bytes, bytes]:
    """The environment that this process was given; Python may have put LC_CTYPE into it (PEP 538)."""
    with open("/proc/self/environ", "rb") as stream:
        rows = [row.partition(b"=") for row in stream.read().split(b"\0") if row]
    return {name: value for name, _equals, value in rows}


def _as_python_found_them() -> None:
    """Python ignores two signals (signal(3) of its documentation), which would be handed down."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
