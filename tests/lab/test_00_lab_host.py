"""The lab host is what the other tests take it for: a proof on anything less proves nothing."""

from __future__ import annotations

import pytest
import yaml
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


def devices_of(spec: str) -> dict[str, list[str]]:
    """Device names of a CDI spec → nodes."""
    return {
        device["name"]: [node["path"] for node in device["containerEdits"]["deviceNodes"]]
        for device in yaml.safe_load(spec)["devices"]
    }


def test_the_vendor_spec_has_whole_gpus_and_mig_devices_by_index_and_uuid(lab: Lab) -> None:
    spec = lab.run("cat /etc/cdi/nvidia.yaml").stdout
    assert "kind: nvidia.com/gpu" in spec
    devices = devices_of(spec)
    indices = {name for name in devices if name[0].isdigit()}
    assert indices == {"0", "1", "2:0", "2:2", "2:3", *(f"3:{mig}" for mig in range(7))}
    assert devices["0"] == ["/dev/nvidia0"]
    by_uuid = {name: nodes for name, nodes in devices.items() if name.startswith(("GPU-", "MIG-"))}
    assert sorted(by_uuid.values()) == sorted(devices[index] for index in indices)
    assert {f"/dev/nvidia{gpu}" for gpu in range(4)} <= set(devices["all"])


def test_each_mig_device_has_capability_nodes_of_its_own(lab: Lab) -> None:
    devices = devices_of(lab.run("cat /etc/cdi/nvidia.yaml").stdout)
    nodes = [devices[index] for index in devices if ":" in index]
    assert all(len(of_one) == 3 for of_one in nodes)
    caps = [cap for of_one in nodes for cap in of_one[1:]]
    assert len(caps) == len(set(caps)) == 2 * 10
    done = lab.run(f"stat -c %F {' '.join(caps)}; cat {caps[0]}", as_user="alice", check=False)
    assert done.stdout.splitlines() == ["character special file"] * len(caps)
    assert "No such device or address" in done.stderr


def test_what_stands_in_for_the_vendors_tool_writes_the_spec_from_nvml(lab: Lab) -> None:
    """Also with the machine changed: the library reads it anew at each call."""
    machine = "sed '/index=2 uuid=MIG-/d' /etc/fake-nvml.conf > /tmp/other.conf"
    write = "/usr/local/sbin/ds01-lab-cdi cdi generate"
    same = lab.run(
        f"{write} --output=/tmp/nvidia.yaml && cmp /tmp/nvidia.yaml /etc/cdi/nvidia.yaml"
    )
    assert same.rc == 0
    other = lab.run(f"{machine} && FAKE_NVML_MACHINE=/tmp/other.conf {write}").stdout
    assert "2:2" not in devices_of(other) and "3:2" not in devices_of(other)
    gone = lab.run(f"FAKE_NVML_MACHINE=/nothing {write} --output=/tmp/none", check=False)
    assert gone.rc == 1 and "Driver Not Loaded" in gone.stderr
    lab.run("test ! -e /tmp/none && rm /tmp/other.conf /tmp/nvidia.yaml")


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
