"""Tests foreign adb clients: the pure Python adb-shell with the user's key, and Debian's adb with a server."""

import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from adb_shell.adb_device import AdbDeviceTcp
from adb_shell.auth.sign_pythonrsa import PythonRSASigner
from adb_shell.exceptions import DeviceAuthError, TcpTimeoutException

from bundler.device.server import user_key
from bundler.soc import known_socs
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from tests.virtual.conftest import DEADLINE_S, wait_for

DEBIANS = Path("/usr/lib/android-sdk/platform-tools/adb")
DATA = os.urandom(300_000)


@pytest.fixture(scope="module")
def phone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[VirtualPhone]:
    user_key()
    started = start_phone(known_socs()["SM8650"], 0, tmp_path_factory.mktemp("phone"))
    yield started
    stop_phone(started)


@contextmanager
def connected(phone: VirtualPhone, key: Path) -> Iterator[AdbDeviceTcp]:
    device = AdbDeviceTcp("127.0.0.1", phone.port, default_transport_timeout_s=DEADLINE_S)
    signer = PythonRSASigner(key.with_name(f"{key.name}.pub").read_text(), key.read_text())
    try:
        device.connect(rsa_keys=[signer], auth_timeout_s=2)
        yield device
    finally:
        device.close()


def test_adb_shell(phone: VirtualPhone, tmp_path: Path) -> None:
    with connected(phone, user_key()) as device:
        assert device.shell("getprop ro.soc.model; echo $((6 * 7))") == "SM8650\n42\n"
        (tmp_path / "data").write_bytes(DATA)
        device.push(str(tmp_path / "data"), "/data/local/tmp/folder/data")
        device.pull("/data/local/tmp/folder/data", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == DATA
        names = {bytes(entry.filename): entry.size for entry in device.list("/data/local/tmp/folder")}
        assert names[b"data"] == len(DATA)
        mode, size, _ = device.stat("/data/local/tmp/folder/data")
        assert (stat.S_ISREG(mode), size) == (True, len(DATA))


@pytest.mark.slow
def test_adb_shell_with_another_key(phone: VirtualPhone, tmp_path: Path) -> None:
    from adb_shell.auth.keygen import keygen

    keygen(str(tmp_path / "stranger"))
    with pytest.raises((DeviceAuthError, TcpTimeoutException)), connected(phone, tmp_path / "stranger"):
        pass


@pytest.mark.skipif(not DEBIANS.exists(), reason="Debian's adb is not installed (apt-get install adb)")
def test_debians_adb(phone: VirtualPhone, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": str(port), "ADB_VENDOR_KEYS": str(user_key())}

    def adb(*arguments: str) -> str:
        command = [str(DEBIANS), *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
        return done.stdout

    (tmp_path / "data").write_bytes(DATA)
    try:
        adb("connect", phone.serial)
        wait_for(lambda: f"{phone.serial}\tdevice" in adb("devices"))
        on_phone = ("-s", phone.serial)
        assert adb(*on_phone, "shell", "echo $((6 * 7)); exit 3") == "42\n"
        adb(*on_phone, "push", str(tmp_path / "data"), "/data/local/tmp/debian/data")
        adb(*on_phone, "pull", "/data/local/tmp/debian/data", str(tmp_path / "back"))
        assert (tmp_path / "back").read_bytes() == DATA
        assert " data\n" in adb(*on_phone, "ls", "/data/local/tmp/debian")
    finally:
        adb("kill-server")
