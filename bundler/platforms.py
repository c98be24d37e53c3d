"""Detects this computer's operating system and processor, with everything that depends on them. Tests replace parts.

Linux on x86-64 supports everything. Other platforms have no converter, no simulator and no virtual phone; they can
deploy, fetch and evaluate a bundle that was built on Linux.
"""

import ipaddress
import os
import platform
import signal
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

BINARY = getattr(os, "O_BINARY", 0)
"""For os.open: Windows would otherwise convert line ends."""
NAMES = {"Darwin": "macOS"}


@dataclass(frozen=True)
class Platform:
    """`system` and `machine` are Python's `platform` values: Linux, Darwin or Windows; x86_64, arm64, AMD64."""

    system: str
    machine: str

    def __str__(self) -> str:
        return f"{NAMES.get(self.system, self.system)} on {self.machine}"

    @property
    def has_simulator(self) -> bool:
        """Returns whether the onnxruntime-qnn wheel has Qualcomm's DLC tools and the DSP's simulator here."""
        return (self.system, self.machine) == ("Linux", "x86_64")

    @property
    def runs_sdk_tools(self) -> bool:
        """Returns whether the converters of Qualcomm's SDK for Linux may run here.

        On another processor they fail with their own message.
        """
        return self.system == "Linux"

    @property
    def runs_virtual_phones(self) -> bool:
        """Returns whether virtual phones run here: they fork, and find their processes in /proc."""
        return self.system == "Linux"


def told() -> tuple[str, str]:
    """Returns the system and the machine of this computer, as Python names them."""
    return platform.system(), platform.machine()


def this_platform() -> Platform:
    return Platform(*told())


def is_loopback(host: str) -> bool:
    """Returns whether a host, by its name or address, is this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def send_pieces(connection: socket.socket, pieces: Sequence[bytes | memoryview]) -> int:
    """Sends as much of the pieces as the connection accepts at once; returns the number of bytes.

    Raises:
        OSError
    """
    if this_platform().system == "Windows":  # which sends one piece at a time
        return connection.send(pieces[0])
    return connection.sendmsg(pieces)


def end_session(leader: "subprocess.Popen[bytes]") -> None:
    """Kills a process started with `start_new_session` and its process group; on Windows only the process.

    Ignores a process that has already ended.
    """
    if this_platform().system == "Windows":
        leader.kill()
        return
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def limit_memory(address_space_bytes: int) -> None:
    """Limits this process's memory and disables core files; does nothing on Windows, which lacks both."""
    if this_platform().system == "Windows":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def is_of_others(path: Path) -> bool:
    """Returns whether a file or folder belongs to another user than the current one; always False on Windows."""
    if this_platform().system == "Windows":
        return False
    return path.stat().st_uid != os.geteuid()
