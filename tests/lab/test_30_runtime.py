# Copyright: (c) 2026, ds01.infra maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The runtime on a real host: delivery survives SIGKILL, upgrades roll back, doctor sees."""

from __future__ import annotations

import base64
import gzip
import hashlib
import importlib.util
import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from labhost.guest import Done, Lab

REPO = Path(__file__).resolve().parents[2]
INVENTORY = REPO / "inventories/lab/hosts.yml"
STEPS = ("clean", "unpack", "venv", "packages", "stamp", "sync", "rename", "check", "history")
LATE_STEPS = ("switch", "links", "prune")
TRIAL = "/opt/ds01-trial"
WORK = "/root/ds01-trial"
STUDENT = "ds01-student-alice.slice"
STUDENT_PATH = f"/sys/fs/cgroup/ds01.slice/ds01-student.slice/{STUDENT}"


def _payload_of(collection: Path) -> dict[str, Any]:
    path = REPO / "plugins/plugin_utils/runtime_payload.py"
    spec = importlib.util.spec_from_file_location("runtime_payload", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    made: dict[str, Any] = module.runtime_payload(str(collection))
    return made


def _put(lab: Lab, text: str, path: str) -> None:
    """Lay a text on the lab host."""
    encoded = base64.b64encode(gzip.compress(text.encode())).decode()
    for start in range(0, len(encoded), 60_000):
        mark = ">" if start == 0 else ">>"
        lab.run(f"printf %s {encoded[start : start + 60_000]} {mark} {path}.b64")
    lab.run(f"base64 -d {path}.b64 | gunzip > {path} && rm {path}.b64")


def _current(lab: Lab, root: str = "/opt/ds01") -> str:
    return lab.run(f"readlink {root}/current").stdout.strip()


def _doctor(lab: Lab) -> dict[str, str]:
    """What is wrong by its place. What the lab's disk cannot do (io_weight) is but a warning."""
    done = lab.run("ds01 doctor --json", check=False)
    findings = json.loads(done.stdout)["findings"]
    assert done.rc == int(any(f["severity"] != "notice" for f in findings))
    return {f["where"]: f["what"] for f in findings if f["severity"] == "error"}


# --- delivery ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trial(lab: Lab) -> Iterator[Lab]:
    """A second root for releases, with a driver that can be killed at any step.

    The release in force lends its packages, so that no trial asks a package index.
    """
    current = _current(lab)
    lab.run(f"rm -rf {TRIAL} {TRIAL}-bin {WORK}; mkdir -p {WORK} {TRIAL}")
    lab.run(f"cp -a /opt/ds01/{current}/lib {WORK}/lib && cp -a /opt/ds01/{current} {TRIAL}/")
    driver = (REPO / "tests/lab/release_driver.py").read_text(encoding="utf-8")
    _put(lab, driver, f"{WORK}/driver.py")
    payload = _payload_of(REPO)
    _put(lab, json.dumps(_changed(payload, "one")), f"{WORK}/one.json")
    _put(lab, json.dumps(_changed(payload, "two")), f"{WORK}/two.json")
    _put(
        lab,
        json.dumps(_changed(payload, "broken", "import nothing_of_that_name")),
        f"{WORK}/broken.json",
    )
    yield lab
    lab.run(f"rm -rf {TRIAL} {TRIAL}-bin {WORK}")


def _changed(payload: dict[str, Any], mark: str, line: str = "") -> dict[str, Any]:
    """The payload with another last line in one of its modules."""
    before = io.BytesIO(gzip.decompress(base64.b64decode(payload["content"])))
    after = io.BytesIO()
    with tarfile.open(fileobj=before) as source, tarfile.open(fileobj=after, mode="w") as target:
        for member in source:
            stream = source.extractfile(member)
            content = stream.read() if stream else b""
            if member.name == "lib/ds01/limits_yaml.py":
                content += f"\n{line}  # {mark}\n".encode()
                member.size = len(content)
            target.addfile(member, io.BytesIO(content))
    data = after.getvalue()
    return {
        **payload,
        "sha256": hashlib.sha256(data).hexdigest(),
        "content": base64.b64encode(gzip.compress(data)).decode(),
    }


def _drive(lab: Lab, payload: str, step: str = "") -> Done:
    command = f"PYTHONPATH={WORK}/lib python3 {WORK}/driver.py {TRIAL} {WORK}/{payload}.json {step}"
    # The shell stays, so that a death by signal reaches us as 137 and not as ssh's 255.
    return lab.run(f"{command}; exit $?", check=False, timeout=300)


def test_killed_before_any_step_the_old_release_answers_and_the_last_run_finishes(
    trial: Lab,
) -> None:
    first = _drive(trial, "one").stdout.strip()
    assert _current(trial, TRIAL) == first
    for step in STEPS:
        assert _drive(trial, "two", step).rc == 137, step
        assert _current(trial, TRIAL) == first, step
        assert trial.run(f"{TRIAL}-bin/ds01 --version").stdout.split()[-1] == f"({first})", step
    for step in LATE_STEPS:
        assert _drive(trial, "two", step).rc == 137, step
        assert trial.run(f"{TRIAL}-bin/ds01 doctor --self").rc == 0, step
    second = _drive(trial, "two").stdout.strip()
    assert second != first
    assert _current(trial, TRIAL) == second
    left = trial.run(f"ls -A {TRIAL}").stdout.split()
    assert [name for name in left if name.startswith(".")] == [".lock"]
    assert trial.run(f"cat {TRIAL}/history").stdout.split() == [first, second]


def test_a_release_that_fails_its_check_is_not_switched_to(trial: Lab) -> None:
    before = _current(trial, TRIAL)
    done = _drive(trial, "broken")
    assert done.rc == 1
    assert "fails its own check" in done.stderr
    assert "nothing_of_that_name" in done.stderr
    assert _current(trial, TRIAL) == before


# --- upgrade and roll-back by the playbooks -------------------------------------------------------


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A collections path with this collection in a newer version."""
    top = tmp_path_factory.mktemp("collections")
    copy = top / "ansible_collections/ds01/infra"
    for part in ("files", "meta", "playbooks", "plugins", "roles"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(REPO / part, copy / part, symlinks=True, ignore=ignore)
    text = (REPO / "galaxy.yml").read_text(encoding="utf-8")
    (copy / "galaxy.yml").write_text(text.replace("version: 0.1.0", "version: 0.1.1"))
    return top


def _play(playbook: Path, *options: str, collections: Path = REPO / ".cache/collections") -> str:
    return _ansible("ansible-playbook", str(playbook), *options, collections=collections)


def _ansible(program: str, *options: str, collections: Path = REPO / ".cache/collections") -> str:
    done = subprocess.run(
        [str(Path(sys.executable).parent / program), "-i", str(INVENTORY), *options],
        cwd=REPO,
        env={**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(collections), "ANSIBLE_NOCOLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_an_upgrade_switches_and_the_roll_back_returns(lab: Lab, newer: Path) -> None:
    old = _current(lab)
    site, back = REPO / "playbooks/site.yml", REPO / "playbooks/rollback_runtime.yml"
    _play(site, "--tags", "runtime", collections=newer)
    new = _current(lab)
    assert new.startswith("0.1.1-")
    assert lab.run("ds01 --version", as_user="alice").stdout.strip() == f"ds01 0.1.1 ({new})"
    _play(back)
    assert _current(lab) == old
    events = lab.run("ds01 events --type runtime --json").stdout.splitlines()
    last = [json.loads(line) for line in events[-2:]]
    assert [event["event_type"] for event in last] == ["runtime.installed", "runtime.rolled_back"]
    assert last[1]["details"]["release"] == old
    again = _play(site, "--tags", "runtime")
    assert "changed=0" in again
    assert _current(lab) == old


# --- the command ---------------------------------------------------------------------------------


def test_a_user_sees_his_limits_beside_the_kernels_without_root(lab: Lab) -> None:
    lab.run(f"systemctl start {STUDENT}")
    shown = lab.run("ds01 limits show --json", as_user="alice")
    view = json.loads(shown.stdout)
    rows = {row["key"]: row for row in view["containers"]["rows"]}
    kernel = int(lab.run(f"cat {STUDENT_PATH}/memory.max").stdout)
    assert view["user"] == "alice"
    assert rows["memory_max"]["limit"] == kernel
    assert rows["memory_max"]["where"].startswith("inventories/lab/limits.yml:")
    wrong = [key for key, row in rows.items() if row["agrees"] is False]
    assert wrong == []


def test_events_are_not_for_every_user(lab: Lab) -> None:
    assert lab.run("ds01 events", as_user="alice", check=False).rc == 4
    assert lab.run("stat -c '%a %U:%G' /var/log/ds01/events.jsonl").stdout.strip() == "640 root:adm"


def test_a_play_can_record_an_event_of_its_own(lab: Lab) -> None:
    arguments = {
        "event_type": "storage.disk_replaced",
        "user": "alice",
        "details": {"note": "a\nb"},
    }
    call = ("ds01_hosts", "-b", "-m", "ds01.infra.ds01_event", "-a", json.dumps(arguments))
    read = "ds01 events --type storage.disk_replaced --user alice --json"
    before = len(lab.run(read).stdout.splitlines())
    _ansible("ansible", *call, "--check")
    assert len(lab.run(read).stdout.splitlines()) == before
    _ansible("ansible", *call)
    events = [json.loads(line) for line in lab.run(read).stdout.splitlines()]
    assert len(events) == before + 1
    assert (events[-1]["source"], events[-1]["details"]) == ("ansible", {"note": "a\nb"})


def test_the_manual_page_is_found(lab: Lab) -> None:
    path = lab.run("readlink -f /usr/local/share/man/man1/ds01.1").stdout.strip()
    assert path == f"/opt/ds01/{_current(lab)}/man/ds01.1"
    assert ".TH DS01 1" in lab.run(f"cat {path}").stdout


# --- the doctor ----------------------------------------------------------------------------------

TAMPER = f"""
set -e
cp -a /etc/systemd/system/ds01-student-.slice.d/60-ds01-group.conf /root/kept.conf
cp -a /etc/docker/daemon.json /root/kept.json
sed -i 's/^TasksMax=.*/TasksMax=9999/' /etc/systemd/system/ds01-student-.slice.d/60-ds01-group.conf
python3 - <<'END'
import json
path = "/etc/docker/daemon.json"
tree = json.load(open(path))
tree["live-restore"] = False
json.dump(tree, open(path, "w"))
END
mkdir -p /etc/systemd/system/ds01-researcher-.slice.d
printf '[Slice]\\nMemoryMax=infinity\\n' > /etc/systemd/system/ds01-researcher-.slice.d/99-mine.conf
systemctl start {STUDENT}
echo max > {STUDENT_PATH}/memory.max
rm /etc/logrotate.d/ds01
"""
MEND = """
cp -a /root/kept.json /etc/docker/daemon.json
rm -f /etc/systemd/system/ds01-researcher-.slice.d/99-mine.conf
ds01 limits apply
"""


def test_doctor_finds_what_was_tampered_with_and_the_remedies_mend_it(lab: Lab) -> None:
    assert _doctor(lab) == {}, "before"
    lab.run("cp -a /etc/logrotate.d/ds01 /root/kept.rotate")
    try:
        lab.run(TAMPER)
        found = _doctor(lab)
    finally:
        lab.run(MEND)
        lab.run("cp -a /root/kept.rotate /etc/logrotate.d/ds01; rm -f /root/kept.*")
    etc = "/etc/systemd/system"
    assert found[f"{etc}/ds01-student-.slice.d/60-ds01-group.conf"] == "the drop-in was changed"
    assert "live-restore is False" in found["/etc/docker/daemon.json"]
    assert "sets MemoryMax" in found[f"{etc}/ds01-researcher-.slice.d/99-mine.conf"]
    assert "the kernel has memory_max unlimited" in found[STUDENT]
    assert "not rotated" in found["/etc/logrotate.d/ds01"]
    assert len(found) == 5
    assert _doctor(lab) == {}, "after"


# --- the timer and the log -----------------------------------------------------------------------

END_OVERRIDE = """
import json
path = "/etc/ds01/limits.json"
record = json.load(open(path))
record["overrides"]["bob"]["expires"] = "2020-01-01"
json.dump(record, open(path, "w"))
"""


def test_the_timers_service_ends_an_expired_override_in_file_and_kernel(lab: Lab) -> None:
    unit, drop_in = "ds01-student-bob.slice", "/etc/systemd/system/ds01-student-bob.slice.d"
    tasks = f"cat /sys/fs/cgroup/ds01.slice/ds01-student.slice/{unit}/pids.max"
    lab.run(f"systemctl start {unit}; cp -a /etc/ds01/limits.json /root/kept.limits")
    assert lab.run("systemctl is-active ds01-limits.timer").stdout.strip() == "active"
    assert lab.run(tasks).stdout.strip() == "256"
    try:
        lab.run(f"python3 - <<'END'\n{END_OVERRIDE}END")
        lab.run("systemctl start ds01-limits.service")
        after = lab.run(tasks).stdout.strip()
        files = lab.run(f"ls {drop_in}", check=False)
    finally:
        lab.run("mv /root/kept.limits /etc/ds01/limits.json && ds01 limits apply")
    assert after == "128"
    assert files.rc != 0, files.stdout
    assert lab.run(tasks).stdout.strip() == "256"


def test_events_are_kept_and_read_across_rotation(lab: Lab) -> None:
    lab.run(f"systemctl start {STUDENT}")
    before = len(lab.run("ds01 events --json").stdout.splitlines())
    for _turn in range(2):
        lab.run("logrotate --force /etc/logrotate.d/ds01")
        lab.run(f"echo 3000000 > {STUDENT_PATH}/pids.max && ds01 limits apply")
    names = lab.run("ls /var/log/ds01").stdout.split()
    assert {"events.jsonl", "events.jsonl.1", "events.jsonl.2.gz"} <= set(names)
    assert len(lab.run("ds01 events --json").stdout.splitlines()) > before
    assert lab.run("stat -c '%a %U:%G' /var/log/ds01/events.jsonl").stdout.strip() == "640 root:adm"
