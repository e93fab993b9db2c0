"""The command line of the lab."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from . import ssh, vm
from .errors import LabError
from .image import ensure_image
from .needs import ensure_packages
from .progress import say
from .settings import Settings
from .summary import print_summary

NOT_RUNNING = 3


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="lab", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    commands.add_parser("needs", help="install the Debian packages the lab needs")
    image = commands.add_parser("image", help="build the image, if it is not in the cache")
    image.add_argument("--rebuild", action="store_true", help="build it in any case")
    up = commands.add_parser("up", help="boot the lab host")
    up.add_argument("--fresh", action="store_true", help="from the image, never provisioned")
    down = commands.add_parser("down", help="stop it and throw its disk away")
    down.add_argument("--keep", action="store_true", help="shut down in order, keep the disk")
    commands.add_parser("reboot", help="reboot in order and wait")
    commands.add_parser("kill", help="cut the power; `up` boots the same disk again")
    commands.add_parser("status", help=f"what runs; exit code {NOT_RUNNING} when nothing does")
    commands.add_parser("ssh-config", help="print the path of the ssh_config")
    commands.add_parser("summary", help="what is enforced on it now, and what to try")
    commands.add_parser("console", help="print the serial console's log")
    shell = commands.add_parser("ssh", help="a shell in the guest, or a command: ssh -- COMMAND")
    shell.add_argument("--as", dest="user", default="root", help="alice, bob, carol, dana, …")
    shell.add_argument("remote", nargs=argparse.REMAINDER, help="command line for the guest")
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code (that of the remote command for ``ssh``)."""
    options = parser().parse_args(arguments)
    settings = Settings.from_environment()
    try:
        return dispatch(settings, options)
    except (LabError, OSError) as error:
        say(f"lab: {error}")
        return 1
    except subprocess.TimeoutExpired as error:
        say(f"lab: no answer within {error.timeout:.0f} s from the guest.")
        say(vm.console_tail(settings))
        return 1
    except KeyboardInterrupt:
        say("lab: interrupted")
        return 130


def dispatch(settings: Settings, options: argparse.Namespace) -> int:
    settings.prepare()
    match options.command:
        case "needs":
            ensure_packages()
        case "image":
            print(ensure_image(settings, options.rebuild).directory)
        case "up":
            started = time.monotonic()
            vm.up(settings, options.fresh)
            say(f"lab: up after {time.monotonic() - started:.0f} s")
        case "down":
            vm.down(settings, options.keep)
        case "reboot":
            vm.reboot(settings)
        case "kill":
            vm.need_running(settings)
            vm.cut_power(settings)
        case "status":
            return status(settings)
        case "ssh-config":
            vm.need_running(settings)
            print(settings.ssh_config)
        case "summary":
            vm.need_running(settings)
            print_summary(settings)
        case "console":
            print(vm.console_tail(settings, lines=2000))
        case _:
            return shell(settings, options.user, options.remote)
    return 0


def status(settings: Settings) -> int:
    record = vm.running(settings)
    if record is None:
        print("down")
        return NOT_RUNNING
    size = settings.disk.stat().st_blocks * 512 / 2**20
    print(
        f"up: pid {record.pid}, ssh port {record.port}, {record.accelerator}, "
        f"image {record.image}, disk {size:.0f} MiB"
    )
    return 0


def shell(settings: Settings, user: str, remote: list[str]) -> int:
    """Hand over to ssh; does not return when it works."""
    vm.need_running(settings)
    if remote[:1] == ["--"]:
        remote = remote[1:]
    tty = sys.stdin.isatty() and not remote
    line = ssh.command(settings, user, remote, tty)
    sys.stdout.flush()
    os.execvp(line[0], line)
