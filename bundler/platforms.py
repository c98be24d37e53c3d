"""The operating system and processor of this computer, and what depends on them. Tests replace what is here.

Linux on x86-64 does everything. Elsewhere there is no converter, no simulator and no virtual phone: a bundle that was
built on Linux is deployed, fetched and evaluated there.
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
"""For os.open: Windows would otherwise change the line ends of what is read and written."""
NAMES = {"Darwin": "macOS"}


@dataclass(frozen=True)
class Platform:
    """`system` and `machine` as Python's `platform` tells them: Linux, Darwin or Windows; x86_64, arm64, AMD64."""

    system: str
    machine: str

    def __str__(self) -> str:
        return f"{NAMES.get(self.system, self.system)} on {self.machine}"

    @property
    def has_simulator(self) -> bool:
        """Whether the onnxruntime-qnn wheel brings Qualcomm's DLC writer and reader and the DSP's simulator here."""
        return (self.system, self.machine) == ("Linux", "x86_64")

    @property
    def runs_sdk_tools(self) -> bool:
        """Whether the converters of Qualcomm's SDK for Linux may run here.

        On another processor they fail with a message of their own.
        """
        return self.system == "Linux"

    @property
    def runs_virtual_phones(self) -> bool:
        """A virtual phone forks, and finds its processes in /proc."""
        return self.system == "Linux"


def told() -> tuple[str, str]:
    """The system and the machine of this computer, as Python names them."""
    return platform.system(), platform.machine()


def this_platform() -> Platform:
    return Platform(*told())


def is_loopback(host: str) -> bool:
    """Whether a host, by its name or address, is this computer."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def send_pieces(connection: socket.socket, pieces: Sequence[bytes | memoryview]) -> int:
    """Sends as much of the pieces as the connection takes at once; returns how many bytes.

    Raises:
        OSError
    """
    if this_platform().system == "Windows":  # which sends one at a time
        return connection.send(pieces[0])
    return connection.sendmsg(pieces)


def end_session(leader: "subprocess.Popen[bytes]") -> None:
    """Kills a process that was started with `start_new_session`, and with it all that it started; on Windows it only.

    One that has ended is no error.
    """
    if this_platform().system == "Windows":
        leader.kill()
        return
    try:
        os.killpg(leader.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def limit_memory(address_space_bytes: int) -> None:
    """Holds this process to so much memory, and lets it leave no core file; on Windows, which lacks both, nothing."""
    if this_platform().system == "Windows":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (address_space_bytes, address_space_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def is_of_others(path: Path) -> bool:
    """Whether a file or folder belongs to another user than the one who runs this; on Windows, nobody asks."""
    if this_platform().system == "Windows":
        return False
    return path.stat().st_uid != os.geteuid()
