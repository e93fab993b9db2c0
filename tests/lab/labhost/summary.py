"""What `make lab` shows at its end: what the host enforces now, and what to try on it."""

from __future__ import annotations

from . import ssh
from .errors import LabError
from .settings import Settings

REPORTS = (
    ("What is enforced (ds01 limits show)", "ds01 limits show"),
    ("Is the host as it was made (ds01 doctor)", "ds01 doctor"),
)
# A command of the guest's answers slowly under emulation
REPORT_TIMEOUT = 120.0

TRY = """\
What to try
  make lab-ssh AS=alice RUN='ds01 limits show alice'
      alice's limits, where each comes from, and what the kernel says
  make lab-ssh RUN='docker run -d --name work --cgroup-parent ds01-student-alice.slice lab/base sleep 3600'
  make lab-ssh RUN='systemd-cgls --no-pager /ds01.slice'
      a container in alice's slice (in later releases the gateway puts it there by itself)
  make lab-ssh RUN='docker run --rm --cgroup-parent ds01-student-alice.slice lab/base tail /dev/zero'
      it eats memory until the kernel ends it at her memory_max (exit code 137)
  change memory_max of a group in inventories/lab/limits.yml, then: make lab
      live in the running slices, without a daemon-reload
  make lab-ssh RUN='ds01 doctor'        does the host still match
  make lab-ssh AS=carol                 a shell
  make lab-down                         the end"""


def print_summary(settings: Settings) -> None:
    """Run the host's own reports and print them, then the suggestions.

    Raises LabError when a report fails: then the host is not as site.yml should have left it.
    """
    _ensure_base_image(settings)
    failed = []
    for title, command in REPORTS:
        answer = ssh.run(settings, command, timeout=REPORT_TIMEOUT)
        print(f"\n== {title}\n{(answer.stdout + answer.stderr).rstrip()}", flush=True)
        if _is_bad(answer.returncode, answer.stdout):
            failed.append(f"`{command}` ended with {answer.returncode}")
    print(f"\n== {TRY}", flush=True)
    if failed:
        raise LabError("; ".join(failed))


def _is_bad(status: int, text: str) -> bool:
    """Whether a report says that the host is not as it was made.

    Findings give exit code 1. Warnings are among them, such as a disk on which weights have no
    effect, which is true of the lab's; errors are not to be expected after site.yml.
    """
    return status not in (0, 1) or any(line.startswith("error") for line in text.splitlines())


def _ensure_base_image(settings: Settings) -> None:
    """Give the engine the image that the suggestions use.

    Raises LabError when the engine refuses it.
    """
    script = (
        "docker image inspect lab/base > /dev/null 2>&1 || "
        "docker import /usr/share/ds01-lab/lab-base.tar lab/base"
    )
    answer = ssh.run(settings, script, timeout=REPORT_TIMEOUT)
    if answer.returncode:
        raise LabError(f"no image lab/base on the lab host: {answer.stderr.strip()}")
