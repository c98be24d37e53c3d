"""Tests the probe: reported and missing facts, and that it leaves nothing on the phone."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import pytest

from bundler import layout
from bundler.device.phone import Phone
from bundler.device.probe import PhoneFacts, probe, read_facts
from bundler.errors import PhoneRefused
from bundler.resources import DEVICE_SCRIPTS
from tests.phones import genuine_phone, virtual_phone, why_no_genuine_phone

SAID = """\
clock=1700000000
soc=SM8750-AC
soc_maker=QTI
platform=sun
abi=arm64-v8a
model=A phone = a model
android=15
net_run=
writable=yes
free_kb=104857600
runs_programs=yes
tar_gzip=yes
gzip=no
sha256sum=yes
setsid=no
selinux=Enforcing
battery_percent=87
battery_percent=3
battery_tenths=314
zone=45600 cpu-0-0-usr
zone=51200 gpuss-0
zone=4100000 vbat
zone=99000 soc
zone=-274000 nspss-0
"""


def sh(phone: Phone, script: str) -> str:
    return phone.run(["sh", "-c", script], doing="a test's script", timeout_s=30).stdout.decode()


def test_a_phone_tells_what_it_is_and_can_do(phone: Phone) -> None:
    facts = probe(phone)
    assert facts.soc is not None
    assert (facts.soc.name, facts.soc.hexagon) == ("SM8650", 75)
    assert (facts.soc_maker, facts.platform) == ("QTI", "pineapple")
    assert (facts.abi, facts.android) == ("arm64-v8a", "14")
    assert facts.free_bytes is not None
    assert facts.free_bytes > 1 << 20
    assert facts.net_run.endswith("/snpe-net-run")
    assert facts.runs_programs
    assert (facts.tar_gzip, facts.gzip, facts.sha256sum, facts.setsid) == (True, True, True, True)
    assert facts.clock_skew_s is not None
    assert abs(facts.clock_skew_s) <= 5


def test_what_is_readable_only_sometimes_is_sensible_or_unknown(phone: Phone) -> None:
    facts = probe(phone)
    assert facts.selinux in ("", "Enforcing", "Permissive", "Disabled")
    assert facts.battery_percent is None or 0 <= facts.battery_percent <= 100
    for celsius in (facts.battery_celsius, facts.hottest_celsius):
        assert celsius is None or 0 < celsius < 150


def test_nothing_of_the_probe_stays_behind(phone: Phone) -> None:
    sh(phone, f"rm -rf {layout.REMOTE_ROOT}")
    probe(phone)
    assert sh(phone, f"ls -A {layout.REMOTE_ROOT}") == ""


def test_a_folder_that_cannot_be_made_is_refused(phone: Phone) -> None:
    sh(phone, f"rm -rf {layout.REMOTE_ROOT} && touch {layout.REMOTE_ROOT}")
    try:
        with pytest.raises(PhoneRefused, match=r"making .* failed: a file lies in its place$"):
            probe(phone)
        sh(phone, f"rm -f {layout.REMOTE_ROOT} && ln -s /nowhere/at/all {layout.REMOTE_ROOT}")
        with pytest.raises(PhoneRefused, match=r"a link lies in its place, to /nowhere/at/all, which is not a folder$"):
            probe(phone)
    finally:
        sh(phone, f"rm -f {layout.REMOTE_ROOT}")


def test_every_fact_is_read() -> None:
    facts = read_facts(SAID, 1700000100.4)
    assert facts == PhoneFacts(
        soc_model="SM8750-AC",
        abi="arm64-v8a",
        model="A phone = a model",
        android="15",
        free_bytes=100 << 30,  # more than mksh could count in bytes
        net_run="",
        soc_maker="QTI",
        platform="sun",
        runs_programs=True,
        tar_gzip=True,
        gzip=False,
        sha256sum=True,
        setsid=False,
        selinux="Enforcing",
        battery_percent=87,
        battery_celsius=31.4,
        hottest_celsius=51.2,
        clock_skew_s=-100,
    )
    assert facts.soc is not None
    assert facts.soc.hexagon == 79


@pytest.mark.parametrize("said", ["", "clock=\nsoc=\nplatform=\nfree_kb=-\nzone=\nzone= \nbattery_percent=many\n=\nx"])
def test_what_is_not_told_is_unknown(said: str) -> None:
    facts = read_facts(said, 0)
    known = {field.name for field in fields(facts) if getattr(facts, field.name) not in (None, "")}
    assert known == {"soc_model"}
    assert facts.soc_model == "unknown SoC"
    assert facts.soc is None


def test_before_android_12_the_platform_tells_the_chip() -> None:
    facts = read_facts("soc=\nplatform=kona\n", 0)
    assert facts.soc is not None
    assert (facts.soc_model, facts.soc.name) == ("kona", "SM8250")


@pytest.mark.parametrize(
    ("zones", "celsius"),
    [
        (("38 cpu0", "41000 cpu1"), 41.0),  # degrees beside millidegrees
        (("0 cpu0", "-274000 cpu1", "2147483647 cpu2"), None),
        (("97000 soc", "3900 pm8550-ibat-lvl0"), None),  # the battery's charge and current, not temperatures
    ],
)
def test_temperatures_of_processors_only(zones: tuple[str, ...], celsius: float | None) -> None:
    assert read_facts("".join(f"zone={zone}\n" for zone in zones), 0).hottest_celsius == celsius


def test_a_virtual_phone_tells_its_sensors_and_its_faults(tmp_path: Path) -> None:
    faults = ["lacks:tar-z", "lacks:setsid", "lacks:sha256sum", "lacks:dumpsys", "clock:-86400"]
    with virtual_phone(tmp_path / "whole") as phone:
        whole = probe(phone)
    with virtual_phone(tmp_path / "lacking", faults=faults) as phone:
        lacking = probe(phone)
    assert whole.selinux == "Enforcing"
    assert None not in (whole.battery_percent, whole.battery_celsius)
    assert (lacking.tar_gzip, lacking.gzip, lacking.sha256sum, lacking.setsid) == (False, True, False, False)
    assert (lacking.battery_percent, lacking.battery_celsius) == (None, None)
    assert lacking.clock_skew_s is not None
    assert abs(lacking.clock_skew_s + 86400) <= 5


@contextmanager
def genuine(**settings: str) -> Iterator[Phone]:
    reason = why_no_genuine_phone()
    if reason:
        pytest.skip(reason)
    with genuine_phone(**settings) as phone:
        yield phone


def give(phone: Phone, name: str, script: str) -> None:
    """Puts a program of the test on the phone's PATH."""
    command = ["sh", "-c", f"rm -f /system/bin/{name}; cat >/system/bin/{name}; chmod 755 /system/bin/{name}"]
    phone.run(command, doing="x", timeout_s=30, stdin=[f"#!/system/bin/sh\n{script}\n".encode()])


@pytest.mark.slow
@pytest.mark.genuine
def test_tools_that_are_there_in_name_only_do_not_count() -> None:
    """The folder is noexec, tar has no -z, gzip and setsid are missing, sha256sum has another format."""
    with genuine() as phone:
        give(phone, "getenforce", "echo Permissive")
        give(
            phone,
            "dumpsys",
            r'[ "$1" = battery ] && printf "Battery:\n  AC powered: false\n  level: 55\n  temperature: 287\n"',
        )
        facts = probe(phone)
        assert (facts.selinux, facts.battery_percent, facts.battery_celsius) == ("Permissive", 55, 28.7)
        sh(phone, f"mkdir -p {layout.REMOTE_ROOT} && mount -t tmpfs -o noexec none {layout.REMOTE_ROOT}")
        give(phone, "tar", "echo 'tar: Unknown option z' >&2; exit 1")
        give(phone, "sha256sum", "cat >&2; echo SHA256=1")
        give(phone, "dumpsys", "echo '  level: many'; exec sleep 60")
        sh(phone, "rm /system/bin/gzip /system/bin/setsid /system/bin/getprop")
        give(phone, "timeout", 'shift; exec /system/bin/toybox timeout 0.5 "$@"')
        facts = probe(phone)
    assert facts.runs_programs is False
    assert (facts.tar_gzip, facts.gzip, facts.sha256sum, facts.setsid) == (False, False, False, False)
    assert (facts.soc_model, facts.abi, facts.battery_percent) == ("unknown SoC", "", None)


@pytest.mark.genuine
def test_a_full_disk_leaves_open_what_the_tools_can() -> None:
    with genuine(SIZE="100k") as phone:
        sh(phone, "cat /system/bin/toybox >/data/local/tmp/filling 2>/dev/null; true")
        facts = probe(phone)
    assert facts.free_bytes == 0
    assert (facts.runs_programs, facts.tar_gzip, facts.sha256sum) == (None, None, True)
    assert facts.setsid


def test_the_script_is_clean() -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    subprocess.run([shellcheck, "-s", "sh", DEVICE_SCRIPTS / "probe.sh"], timeout=60, check=True)
