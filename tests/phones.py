"""Provides phones for tests: virtual ones, and one of genuine parts if ../shared/tools/phone.sh exists."""

import fcntl
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
from bundler.virtual import shell
from bundler.virtual.phones import start_phone, stop_phone

ROOT = Path(__file__).resolve().parents[1]
PHONE_SH = ROOT.parent / "shared" / "tools" / "phone.sh"
SLOW_LINK = PHONE_SH.with_name("slow_link.py")
GENUINE_BASE = Path("/var/tmp/phones")
STARTING = Path("/var/tmp/mbqa-genuine-phone.lock")
BUILD_S = 600  # the first start builds adbd and toybox
WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
GENUINE_NUMBER = int(os.environ.get("MBQA_GENUINE_NUMBER", "8")) + WORKER  # what runs at once needs phones of its own


def cable(action: str) -> None:
    """Pulls the genuine phone's cable (cut), or plugs it in again (mend)."""
    subprocess.run(["bash", str(PHONE_SH), action, str(GENUINE_NUMBER)], timeout=30, check=True)


def why_no_genuine_phone() -> str | None:
    """Returns why the genuine phone is not available on this machine; None if it is."""
    if not PHONE_SH.exists():
        return f"{PHONE_SH} is not there"
    if os.geteuid() != 0:
        return "the genuine phone needs root"
    return None


def build_genuine_parts() -> "subprocess.Popen[bytes]":
    """Starts to build the parts of the genuine phone, which takes minutes on a new machine; does nothing if they are
    built. A phone that is started meanwhile waits for it."""
    script = 'exec 9>"$0"; flock 9; for build; do bash "$build"; done'
    builds = (str(PHONE_SH.with_name(f"build_{part}.sh")) for part in ("adbd", "toybox"))
    return subprocess.Popen(
        ["bash", "-c", script, str(STARTING), *builds],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


@contextmanager
def virtual_phone(folder: Path, soc: str = "SM8650", faults: Sequence[str] = ()) -> Iterator[Phone]:
    """Provides a virtual phone with these faults, at a private adb server."""
    phone = start_phone(known_socs()[soc], 0, folder, faults=faults)
    try:
        with private_adb_server() as server:
            yield server.find(phone.serial)
    finally:
        stop_phone(phone)


STAND_INS = {
    name: f'#!/system/bin/sh\nPYTHONPATH={ROOT} OPENBLAS_NUM_THREADS=1 exec {sys.executable} -m {module} "$@"\n'
    for name, module in shell.STAND_INS.items()
}
TIMED_NET_RUN = """#!/system/bin/sh
# takes 50 ms an inference and computes nothing: each output is a copy of the first input
while [ $# -gt 0 ]; do
  case $1 in
  --input_list) list=$2 ;;
  --output_dir) output=$2 ;;
  --set_output_tensors) names=$(echo "$2" | tr , ' ') ;;
  esac
  shift
done
number=0
while read -r first others; do
  case $first in %*) continue ;; esac
  echo "Processing DNN input(s):"
  sleep 0.05
  mkdir -p "$output/Result_$number" || exit 1
  for name in $names; do cat "${first#*:=}" >"$output/Result_$number/$name.raw" || exit 1; done
  number=$((number + 1))
done <"$list"
"""


@contextmanager
def genuine_phone(soc: str = "SM8650", net_run: str | None = None, **settings: str) -> Iterator[Phone]:
    """Provides genuine adbd, mksh and toybox, with stand-ins for the engines on the PATH, or only this snpe-net-run;
    wipes the phone at the end."""
    number = str(GENUINE_NUMBER)
    environment = {**os.environ, **settings}
    with STARTING.open("w") as lock:  # the first start installs and builds, which two cannot do at once
        fcntl.flock(lock, fcntl.LOCK_EX)
        started = subprocess.run(
            ["bash", str(PHONE_SH), "start", number, soc],
            env=environment, capture_output=True, text=True, timeout=BUILD_S, check=False,
        )  # fmt: skip
    assert started.returncode == 0, started.stderr
    try:
        for name, script in (STAND_INS if net_run is None else {"snpe-net-run": net_run}).items():
            program = GENUINE_BASE / number / "system/bin" / name
            program.write_text(script)
            program.chmod(0o755)
        with private_adb_server() as server:
            yield server.find(started.stdout.strip())
    finally:
        subprocess.run(["bash", str(PHONE_SH), "wipe", number], timeout=60, check=True, stdout=subprocess.DEVNULL)
        shutil.rmtree(GENUINE_BASE / number, ignore_errors=True)
