"""Starts a private adb server on a free port and ends it after use."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bundler.device.phone import AdbServer, adb_program
from bundler.errors import NoAdb, NoAdbKey

START_S = 20.0
STOP_S = 5.0
KEYGEN_S = 30.0
ALONE = {"ADB_MDNS": "0", "ADB_USB": "0", "ADB_EMU": "0"}  # it must not look for phones by itself


@contextmanager
def private_adb_server() -> Iterator[AdbServer]:
    """Provides a private adb server, with the user's key but without the phones that others attached.

    Raises:
        NoAdb: the adb program does not run; NoAdbKey
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        adb = adb_program()
    except FileNotFoundError as error:
        raise NoAdb(f"127.0.0.1:{port}", str(error)) from error
    command = [adb, "-L", f"tcp:localhost:{port}", "server", "nodaemon"]
    with tempfile.TemporaryDirectory(prefix="mbqa-adb-") as home, (Path(home) / "log").open("w+b") as log:
        keys = ":".join(filter(None, (os.environ.get("ADB_VENDOR_KEYS"), str(user_key()))))
        environment = {**os.environ, **ALONE, "HOME": home, "ADB_VENDOR_KEYS": keys}
        try:
            process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        except OSError as error:
            raise NoAdb(f"127.0.0.1:{port}", f"{command[0]}: {error.strerror}") from error
        try:
            if not _comes_up(port, process):
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines()
                raise NoAdb(f"127.0.0.1:{port}", f"the adb program did not start it: {(said or ['no message'])[-1]}")
            yield AdbServer("127.0.0.1", port)
        finally:
            _end(process)


def user_key() -> Path:
    """Returns the private key that the user's adb uses; makes it as adb does if it is missing.

    Raises:
        NoAdbKey: adb does not run, or the key cannot be written.
    """
    key = Path.home() / ".android" / "adbkey"
    public = key.with_name("adbkey.pub")
    if key.exists() and public.exists():
        return key
    try:
        key.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".mbqa-", dir=key.parent) as folder:
            made = Path(folder) / "adbkey"
            if not key.exists():
                _adb("keygen", str(made))
                with suppress(FileExistsError):  # another process made one meanwhile
                    key.hardlink_to(made)
            draft = Path(folder) / "public"
            draft.write_bytes(_adb("pubkey", str(key)))
            draft.replace(public)
    except (OSError, subprocess.SubprocessError) as error:
        raise NoAdbKey(key, str(error)) from error
    return key


def _adb(*arguments: str) -> bytes:
    command = [adb_program(), *arguments]
    return subprocess.run(command, capture_output=True, timeout=KEYGEN_S, check=True).stdout


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(STOP_S)


def _comes_up(port: int, process: "subprocess.Popen[bytes]") -> bool:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as probe:
            probe.settimeout(1.0)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return True
        time.sleep(0.02)
    return False
