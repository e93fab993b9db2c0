"""The lab host is what the other tests take it for: a proof on anything less proves nothing."""

from __future__ import annotations

import pytest
from labhost.guest import Lab

USERS = {
    "alice": 1001,
    "bob": 1002,
    "carol": 1003,
    "dana": 1004,
    "h.baker@hertie-school.lan": 1005,
}
GPUS = ("nvidia0", "nvidia1", "nvidia2", "nvidia3", "nvidiactl")


def test_systemd_is_the_init_of_a_debian_13(lab: Lab) -> None:
    assert lab.run("cat /proc/1/comm").stdout.strip() == "systemd"
    assert lab.run(". /etc/os-release; echo $ID $VERSION_ID").stdout.strip() == "debian 13"


def test_no_unit_of_the_host_has_failed(lab: Lab) -> None:
    failed = lab.run("systemctl --failed --no-legend --plain").stdout
    assert failed == "", lab.journal_of_failed_units()


def test_cgroup_v2_has_every_controller_that_limits_need(lab: Lab) -> None:
    assert lab.run("stat -fc %T /sys/fs/cgroup").stdout.strip() == "cgroup2fs"
    controllers = set(lab.run("cat /sys/fs/cgroup/cgroup.controllers").stdout.split())
    assert {"cpu", "cpuset", "io", "memory", "pids"} <= controllers


@pytest.mark.parametrize(("user", "uid"), USERS.items())
def test_a_user_logs_in_and_lands_in_the_login_slice_of_that_uid(
    lab: Lab, user: str, uid: int
) -> None:
    lines = lab.run("id -u; id -nG; cat /proc/self/cgroup", as_user=user).stdout.splitlines()
    assert lines[0] == str(uid)
    assert "docker" in lines[1].split()
    assert f"/user.slice/user-{uid}.slice/" in lines[2]


def test_unix_groups_have_the_members_that_the_limits_count_on(lab: Lab) -> None:
    assert lab.run("getent group ds01-students").stdout.strip().endswith(":bob")
    assert lab.run("getent group ds01-admins").stdout.strip().endswith(":dana")


@pytest.mark.parametrize("name", GPUS)
def test_a_gpu_node_is_open_to_all_and_has_no_device_behind_it(lab: Lab, name: str) -> None:
    minor = "255" if name == "nvidiactl" else name.removeprefix("nvidia")
    kind = lab.run(f"stat -c '%F %Hr:%Lr %a' /dev/{name}").stdout.strip()
    assert kind == f"character special file 195:{minor} 666"
    done = lab.run(f"cat /dev/{name}", as_user="alice", check=False)
    assert done.rc == 1
    # ENXIO: the kernel let alice through and then found nobody there
    assert "No such device or address" in done.stderr


def test_the_vendor_spec_names_each_gpu_node(lab: Lab) -> None:
    spec = lab.run("cat /etc/cdi/nvidia.yaml").stdout
    assert "kind: nvidia.com/gpu" in spec
    assert all(f"path: /dev/{name}" in spec for name in GPUS)


def test_the_container_image_writes_past_the_page_cache(lab: Lab) -> None:
    """The I/O proofs need a `dd` with O_DIRECT inside the image."""
    lab.run("rm -rf /var/tmp/base && mkdir /var/tmp/base")
    lab.run("tar -xf /usr/share/ds01-lab/lab-base.tar -C /var/tmp/base")
    write = "dd if=/bin/busybox of=/out bs=64k count=4 oflag=direct"
    done = lab.run(f"chroot /var/tmp/base sh -c '{write} && stat -c %s /out'")
    lab.run("rm -rf /var/tmp/base")
    assert done.stdout.strip() == str(4 * 64 * 1024)


def test_the_guests_apt_knows_its_packages_without_a_download(lab: Lab) -> None:
    listing = lab.run("apt-cache policy docker.io").stdout
    assert "Candidate: " in listing and "Candidate: (none)" not in listing


def test_the_log_of_an_earlier_boot_is_kept(lab: Lab) -> None:
    assert lab.run("ls /var/log/journal/$(cat /etc/machine-id)/system.journal").rc == 0
