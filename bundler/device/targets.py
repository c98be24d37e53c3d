"""Selects phones: by serials, by `HOST:PORT/SERIAL` for another adb server, by the environment, or all."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

from bundler.device.limits import Limit
from bundler.device.phone import READY, AdbServer, Phone
from bundler.errors import NoPhone, UnknownPhone, UsageError

ELSEWHERE = re.compile(r"(?P<host>[^/:\s]+):(?P<port>\d{1,5})/(?P<serial>.+)", re.DOTALL)
SERIAL_VARIABLE = "ANDROID_SERIAL"


@dataclass(frozen=True)
class Target:
    """A phone by its serial at an adb server; `name` is its value for --device.

    `variable` is the environment variable that names it, or empty.
    """

    server: AdbServer
    serial: str
    name: str
    variable: str = field(default="", compare=False)
    host: ClassVar[str] = ""  # not of a cluster's host

    def find(self, limit: Limit) -> Phone:
        """Returns the phone, ready for commands.

        Raises:
            NoAdb, UnknownPhone, PhoneNotReady
        """
        try:
            return self.server.find(self.serial, limit)
        except UnknownPhone as error:
            raise UnknownPhone(error.serial, error.known, self.variable, error.reason) from None


def choose_targets(devices: Sequence[str], server: AdbServer, *, everything: bool = False) -> tuple[Target, ...]:
    """Returns the selected phones, each once.

    Raises:
        NoAdb, NoPhone, SeveralPhones, UnknownPhone, PhoneNotReady; UsageError
    """
    if everything:
        serials = sorted(phone.serial for phone in server.attached() if phone.state == READY)
        if not serials:
            raise NoPhone
        return tuple(Target(server, serial, serial) for serial in serials)
    named = list(devices) or [serial for serial in [os.environ.get(SERIAL_VARIABLE, "")] if serial]
    if not named:
        serial = server.find().serial
        return (Target(server, serial, serial),)
    if len(set(named)) < len(named):
        raise UsageError("--device: the same phone is given twice", "Give each phone once.")
    targets = tuple(target_of(name, server) for name in named)
    return targets if devices else tuple(replace(target, variable=SERIAL_VARIABLE) for target in targets)


def choose_target(devices: Sequence[str], server: AdbServer, refusal: str) -> Target:
    """Returns the only selected phone.

    Raises:
        As `choose_targets`; UsageError: several, with the message `refusal`
    """
    targets = choose_targets(devices, server)
    if len(targets) != 1:
        raise UsageError(refusal, "Give --device once.")
    return targets[0]


def target_of(name: str, server: AdbServer) -> Target:
    """Returns the phone with this name, at `server` unless the name contains another.

    Raises:
        UsageError: the name has an invalid port.
    """
    elsewhere = ELSEWHERE.fullmatch(name)
    if elsewhere is None:
        return Target(server, name, name)
    port = int(elsewhere["port"])
    if not 0 < port < 65536:
        raise UsageError(f"--device {name}: {port} is not a port", "Give HOST:PORT/SERIAL.")
    return Target(AdbServer(elsewhere["host"], port, server.patience), elsewhere["serial"], name)
