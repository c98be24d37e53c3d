"""Starts, finds and stops virtual phones. A phone's state folder holds its record while it runs, log and storage."""

import contextlib
import ipaddress
import json
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bundler.errors import UsageError, VirtualPhoneFailed
from bundler.platforms import this_platform
from bundler.soc import Soc
from bundler.virtual.faults import State, parse_faults

HOST = "127.0.0.1"
RECORD = "phone.json"  # in the state folder while the phone runs
START_S = 20.0
STOP_S = 10.0
LOG = "log.txt"
POLL_S = 0.02


@dataclass(frozen=True)
class VirtualPhone:
    """A running virtual phone."""

    pid: int
    port: int
    soc: str
    state: Path
    address: str = HOST

    @property
    def serial(self) -> str:
        """Returns the name for `adb connect` and `--device`, on this computer."""
        return f"{_reached_at(self.address)}:{self.port}"


def default_state_root() -> Path:
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "mbqa-bundle" / "phones"


def is_remote(address: str, *, allowed: bool) -> bool:
    """Returns whether other computers may reach a listener on this IPv4 address.

    Raises:
        UsageError: it is not an IPv4 address; or others may reach it, and that is not allowed
    """
    try:
        remote = not ipaddress.IPv4Address(address).is_loopback
    except ValueError as error:
        hint = f"Give one of this computer's, such as {HOST}."
        raise UsageError(f"{address!r} is not an IPv4 address", hint) from error
    if remote and not allowed:
        raise UsageError(
            f"{address}: others could reach the virtual phone there",
            f"Listen on {HOST} and reach it through `ssh -L`, or add --allow-remote.",
        )
    return remote


def start_phone(
    soc: Soc,
    port: int,
    state: Path,
    *,
    faults: Sequence[str] = (),
    adb_state: State = "device",
    address: str = HOST,
    allow_remote: bool = False,
    open_to_all: bool = False,
) -> VirtualPhone:
    """Starts a phone in the background and waits until it answers; port 0 takes a free one.

    `faults` are specs (see faults.py); `adb_state` is a permanent state in `adb devices`. The phone listens on
    `address`, which must be loopback unless `allow_remote`. It asks clients for a key of this computer's user, unless
    `open_to_all`.

    Raises:
        UsageError: an unknown fault, or an address that is none or not loopback;
        VirtualPhoneFailed: the port is in use, or the phone does not come up.
    """
    if is_remote(address, allowed=allow_remote) and open_to_all:
        raise UsageError(f"{address}: --open is for 127.0.0.1 only", "Leave it out: the phone then asks for adb's key.")
    specs = [*faults, *([adb_state] if adb_state != "device" else [])]
    small = parse_faults(specs).of("disk")
    here = this_platform()
    if not here.runs_virtual_phones:
        raise VirtualPhoneFailed(f"it runs on Linux only, and this is {here}", "Use Linux, or attach a real phone.")
    if port and _answers(address, port):
        raise VirtualPhoneFailed(
            f"port {port} of {address} is in use", "Choose another with --port, or see `mbqa-bundle phone list`."
        )
    state.mkdir(parents=True, exist_ok=True)
    (state / RECORD).unlink(missing_ok=True)
    options = [*(["--open"] if open_to_all else []), *specs]
    daemon = [sys.executable, "-P", "-m", "bundler.virtual.daemon"]
    pid = _spawn([*daemon, str(state.resolve()), soc.name, address, str(port), *options], state / LOG)
    deadline = time.monotonic() + START_S
    ended = False
    while not ended and time.monotonic() < deadline:
        phone = read_phone(state)
        if phone is not None:
            return phone
        time.sleep(POLL_S)
        ended = os.waitpid(pid, os.WNOHANG) != (0, 0)
    if not ended:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    last = (state / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    if small and "not permitted" in "".join(last):
        raise VirtualPhoneFailed(
            "a small disk (disk:BYTES) needs a mount namespace, which this computer allows nobody but root",
            "Leave the fault out, run as root, or allow unprivileged user namespaces.",
        )
    raise VirtualPhoneFailed(f"did not start: {''.join(last) or 'no message'}", f"Its log is {state / LOG}.")


def _spawn(command: list[str], log: Path) -> int:
    """Starts a process that outlives this one, in its own session; returns its id."""
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    return os.posix_spawn(command[0], command, os.environ, file_actions=actions, setsid=True)


def read_phone(state: Path) -> VirtualPhone | None:
    """Returns the running phone of this state folder, or None."""
    if not this_platform().runs_virtual_phones:
        return None
    try:
        record = json.loads((state / RECORD).read_text(encoding="utf-8"))
        pid, port, soc, address = (record[key] for key in ("pid", "port", "soc", "address"))
        phone = VirtualPhone(int(pid), int(port), str(soc), state, str(address))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return phone if _lives(phone.pid) else None


def list_phones(root: Path) -> list[VirtualPhone]:
    """Returns the running phones whose state folders are in `root`, by port."""
    found = (read_phone(record.parent) for record in root.glob(f"*/{RECORD}"))
    return sorted((phone for phone in found if phone), key=lambda phone: phone.port)


def stop_phone(phone: VirtualPhone, *, wipe: bool = False) -> None:
    """Ends the phone and all its processes; keeps its storage unless `wipe`. Ignores one that has just ended."""
    deadline = time.monotonic() + STOP_S
    _signal(phone.pid, signal.SIGTERM)
    while _lives(phone.pid) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    _signal(phone.pid, signal.SIGKILL)
    (phone.state / RECORD).unlink(missing_ok=True)
    if wipe:
        shutil.rmtree(phone.state, ignore_errors=True)


def _reached_at(address: str) -> str:
    """Returns the address at which this computer reaches a listener."""
    return HOST if ipaddress.IPv4Address(address).is_unspecified else address


def _answers(address: str, port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((_reached_at(address), port)) == 0


def _signal(pid: int, number: signal.Signals) -> None:
    """Sends a signal to a running daemon of ours only."""
    if _lives(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _lives(pid: int) -> bool:
    """Returns whether the process exists, is no zombie, and is a daemon of ours (pids are reused)."""
    try:
        lives = b"bundler.virtual.daemon" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        lives = False
    if not lives:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # a child of ours that has ended lingers until then
    return lives
