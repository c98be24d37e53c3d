"""Phones to test against: virtual ones, and the one of genuine parts where ../shared/tools/phone.sh is there."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bundler.device.phone import Phone
from bundler.device.server import private_adb_server
from bundler.soc import known_socs
from bundler.virtual.phones import start_phone, stop_phone

PHONE_SH = Path(__file__).resolve().parents[2] / "shared" / "tools" / "phone.sh"
GENUINE_BASE = Path("/var/tmp/phones")
BUILD_S = 600  # the first start builds adbd and toybox
GENUINE_NUMBER = int(os.environ.get("MBQA_GENUINE_NUMBER", "8"))  # two test runs at once need two phones


def why_no_genuine_phone() -> str | None:
    """Why the genuine phone cannot be had on this machine; None where it can."""
    if not PHONE_SH.exists():
        return f"{PHONE_SH} is not there"
    if os.geteuid() != 0:
        return "the genuine phone needs root"
    return None


@contextmanager
def virtual_phone(folder: Path, soc: str = "SM8650", faults: Sequence[str] = ()) -> Iterator[Phone]:
    """A virtual phone, misbehaving in this way, at an adb server of its own."""
    phone = start_phone(known_socs()[soc], 0, folder, faults=faults)
    try:
        with private_adb_server() as server:
            yield server.find(phone.serial)
    finally:
        stop_phone(phone)


@contextmanager
def genuine_phone(soc: str = "SM8650", **settings: str) -> Iterator[Phone]:
    """Genuine adbd, mksh and toybox, with our stand-in for snpe-net-run on the PATH; wiped at the end."""
    number = str(GENUINE_NUMBER)
    environment = {**os.environ, **settings}
    started = subprocess.run(
        ["bash", str(PHONE_SH), "start", number, soc],
        env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False,
    )  # fmt: skip
    assert started.returncode == 0, started.stderr
    try:
        wrapper = GENUINE_BASE / number / "system/bin/snpe-net-run"
        wrapper.write_text(f'#!/system/bin/sh\nexec {sys.executable} -m bundler.virtual.net_run "$@"\n')
        wrapper.chmod(0o755)
        with private_adb_server() as server:
            yield server.find(started.stdout.strip())
    finally:
        subprocess.run(["bash", str(PHONE_SH), "wipe", number], timeout=60, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(GENUINE_BASE / number, ignore_errors=True)
