"""Tests push, pull, list and stat: by the genuine adb and adbutils on a daemon, and by bytes on the service alone."""

import hashlib
import io
import os
import socket
import stat
import struct
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

import adbutils
import pytest

from bundler.virtual.storage import Storage
from bundler.virtual.sync import SyncService
from tests.virtual.conftest import DEADLINE_S, Adb, Daemon, wait_for

TMP = "/data/local/tmp"
THEN = 981173106  # 2001-02-03 04:05:06 UTC
ODD_NAMES = ["two  blanks", "ümläut ☃", "quote'\"s", "$dollar;&|<>*?", "-dash", "new\nline", ".hidden", "n" * 255]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    os.utime(path, (THEN, THEN))
    return path


@pytest.fixture(scope="module")
def device(any_adb: Adb, adb: Adb) -> adbutils.AdbDevice:
    return adbutils.AdbClient("127.0.0.1", any_adb.port).device(adb.serial)


def write_tree(root: Path) -> dict[str, bytes]:
    files = {f"{folder}/{name}": name.encode() for folder in ("top", "a b/c", "a b/ü") for name in ODD_NAMES}
    files["top/zero"] = b""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    (root / "empty").mkdir()
    return files


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class TestPush:
    def test_20_mb_there_and_back(self, adb: Adb, phone: Daemon, tmp_path: Path) -> None:
        (tmp_path / "big").write_bytes(os.urandom(20 * 1024 * 1024))
        digest = hashlib.sha256((tmp_path / "big").read_bytes()).digest()
        assert adb.run("push", tmp_path / "big", TMP).returncode == 0
        assert hashlib.sha256((phone.tmp / "big").read_bytes()).digest() == digest
        assert adb.run("pull", f"{TMP}/big", tmp_path / "back").returncode == 0
        assert hashlib.sha256((tmp_path / "back").read_bytes()).digest() == digest

    def test_a_tree_there_and_back(self, adb: Adb, phone: Daemon, tmp_path: Path) -> None:
        files = write_tree(tmp_path / "tree")
        assert adb.run("push", tmp_path / "tree", f"{TMP}/").returncode == 0
        assert files_below(phone.tmp / "tree") == files
        assert not (phone.tmp / "tree/empty").exists()
        assert adb.run("pull", f"{TMP}/tree", tmp_path / "back").returncode == 0
        assert files_below(tmp_path / "back") == files

    def test_missing_folders_are_made(self, adb: Adb, phone: Daemon, file: Path) -> None:
        assert adb.run("push", file, f"{TMP}/new/deep/er/file").returncode == 0
        assert (phone.tmp / "new/deep/er/file").read_bytes() == b"content"
        assert stat.S_IMODE((phone.tmp / "new/deep").stat().st_mode) == 0o775

    @pytest.mark.parametrize(
        ("mode", "seen"), [(0o400, 0o444), (0o640, 0o666), (0o751, 0o777), (0o644, 0o666), (0o755, 0o777)]
    )
    def test_the_owners_rights_are_everybodys(self, adb: Adb, phone: Daemon, file: Path, mode: int, seen: int) -> None:
        file.chmod(mode)
        adb.run("push", file, f"{TMP}/mode")
        assert stat.S_IMODE((phone.tmp / "mode").stat().st_mode) == seen

    def test_the_time_is_kept(self, adb: Adb, phone: Daemon, file: Path) -> None:
        adb.run("push", file, f"{TMP}/time")
        assert (phone.tmp / "time").stat().st_mtime == THEN

    def test_a_new_file_takes_the_place_of_an_old_one(self, adb: Adb, phone: Daemon, file: Path) -> None:
        with (phone.tmp / "old").open("w+") as running:
            running.write("running")
            running.flush()
            adb.run("push", file, f"{TMP}/old")
            running.seek(0)
            assert running.read() == "running"
        assert (phone.tmp / "old").read_bytes() == b"content"

    def test_a_link_is_replaced_where_it_points_nowhere(self, adb: Adb, phone: Daemon, file: Path) -> None:
        (phone.tmp / "dangling").symlink_to("/nowhere")
        assert adb.run("push", file, f"{TMP}/dangling").returncode == 0
        assert not (phone.tmp / "dangling").is_symlink()

    def test_a_link_to_a_folder_is_followed_inside_the_phone(self, adb: Adb, phone: Daemon, file: Path) -> None:
        (phone.tmp / "folder").mkdir()
        (phone.tmp / "link").symlink_to(f"{TMP}/folder")
        assert adb.run("push", file, f"{TMP}/link/").returncode == 0
        assert (phone.tmp / "folder/file").read_bytes() == b"content"

    def test_links_arrive_as_links(self, adb: Adb, phone: Daemon, tmp_path: Path) -> None:
        (tmp_path / "links").mkdir()
        (tmp_path / "links/to").symlink_to("/data/local/tmp/any where")
        assert adb.run("push", tmp_path / "links", f"{TMP}/").returncode == 0
        assert os.readlink(phone.tmp / "links/to") == "/data/local/tmp/any where"  # noqa: PTH115  (as it was sent)

    @pytest.mark.parametrize(
        ("target", "reason"),
        [
            ("/system/bin/file", "couldn't create file: Read-only file system"),
            ("/system/new/file", "secure_mkdirs failed: Read-only file system"),
            ("/file", "couldn't create file: Read-only file system"),
            (f"{TMP}/../../../system/file", "couldn't create file: Read-only file system"),
            (f"{TMP}/{'n' * 256}", "stat failed when trying to push to"),
            (f"{TMP}/{'p/' * 600}", "path too long"),
        ],
    )
    def test_refusals(self, adb: Adb, phone: Daemon, file: Path, target: str, reason: str) -> None:
        before = sorted(phone.root.rglob("*"))
        file.write_bytes(bytes(3_000_000))
        done = adb.run("push", file, target)
        assert done.returncode == 1
        assert reason in (done.stdout + done.stderr).decode()
        assert sorted(phone.root.rglob("*")) == before

    def test_links_lead_nowhere_outside(self, adb: Adb, phone: Daemon, file: Path, tmp_path: Path) -> None:
        (tmp_path / "outside").mkdir()
        (phone.tmp / "escape").symlink_to(tmp_path / "outside")
        adb.run("push", file, f"{TMP}/escape/file")
        adb.run("push", file, f"{TMP}/escape/../../file")
        assert list((tmp_path / "outside").iterdir()) == []
        assert not (tmp_path.parent / "file").exists()

    def test_a_killed_push_leaves_nothing(self, adb: Adb, phone: Daemon) -> None:
        target = phone.tmp / "partial"
        with device_push(adb, target.name) as client:
            client.sendall(struct.pack("<4sI", b"DATA", 1000) + bytes(1000))
            wait_for(lambda: target.exists() and target.stat().st_size == 1000)
        wait_for(lambda: not target.exists())

    def test_eight_at_once(self, adb: Adb, phone: Daemon, tmp_path: Path) -> None:
        for n in range(8):
            (tmp_path / f"p{n}").write_bytes(os.urandom(2_000_000))
        clients = [adb.start("push", tmp_path / f"p{n}", TMP, stdout=subprocess.DEVNULL) for n in range(8)]
        assert [client.wait(DEADLINE_S) for client in clients] == [0] * 8
        for n in range(8):
            assert (phone.tmp / f"p{n}").read_bytes() == (tmp_path / f"p{n}").read_bytes()

    def test_into_a_device(self, adb: Adb, phone: Daemon, file: Path) -> None:
        before = Path("/dev/null").stat()
        assert adb.run("push", file, "/dev/null").returncode == 0
        assert Path("/dev/null").stat().st_mode == before.st_mode
        assert Path("/dev/null").stat().st_mtime != THEN


class TestPull:
    @pytest.mark.parametrize(
        ("path", "reason"),
        [(f"{TMP}/nothing", "No such file or directory"), (f"{TMP}/loop", "Too many levels of symbolic links")],
    )
    def test_refusals(self, adb: Adb, phone: Daemon, tmp_path: Path, path: str, reason: str) -> None:
        if not (phone.tmp / "loop").is_symlink():
            (phone.tmp / "loop").symlink_to("loop")
        done = adb.run("pull", path, tmp_path / "got")
        assert done.returncode == 1
        assert reason in done.stderr.decode()
        assert not (tmp_path / "got").exists()

    def test_what_links_point_at_comes_from_inside(self, adb: Adb, phone: Daemon, tmp_path: Path) -> None:
        (phone.tmp / "hosts").symlink_to("/etc/passwd")
        assert adb.run("pull", f"{TMP}/hosts", tmp_path / "got").returncode == 1
        (phone.tmp / "real").write_text("real")
        (phone.tmp / "to-real").symlink_to(f"{TMP}/real")
        assert adb.run("pull", f"{TMP}/to-real", tmp_path / "got").returncode == 0
        assert (tmp_path / "got").read_text() == "real"

    def test_a_device(self, adb: Adb, tmp_path: Path) -> None:
        assert adb.run("pull", "/dev/null", tmp_path / "got").returncode == 0
        assert (tmp_path / "got").read_bytes() == b""


class TestListAndStat:
    def test_names_of_all_kinds(self, adb: Adb, phone: Daemon) -> None:
        folder = phone.tmp / "odd names"
        folder.mkdir()
        for name in ODD_NAMES:
            (folder / name).write_bytes(b"12345")
        listed = adb.run("ls", f"{TMP}/odd names").stdout.decode()
        for name in ODD_NAMES:
            assert f"00000005 {format(int((folder / name).stat().st_mtime), '08x')} {name}\n" in listed

    def test_a_folder_that_is_not_there(self, adb: Adb) -> None:
        assert adb.run("ls", "/nothing").stdout == b""

    def test_devices_are_devices(self, adb: Adb) -> None:
        modes = {
            line.split()[-1]: int(line.split()[0], 16) for line in adb.run("ls", "/dev").stdout.decode().splitlines()
        }
        assert stat.S_ISCHR(modes["null"])


class TestAdbutils:
    def test_push_stat_list_and_pull(self, device: adbutils.AdbDevice, file: Path, tmp_path: Path) -> None:
        device.sync.push(file, f"{TMP}/utils/file", mode=0o600)
        found = device.sync.stat(f"{TMP}/utils/file")
        assert (found.size, stat.S_IMODE(found.mode)) == (7, 0o666)
        assert [entry.path for entry in device.sync.list(f"{TMP}/utils") if entry.path[0] != "."] == ["file"]
        device.sync.pull_file(f"{TMP}/utils/file", tmp_path / "got")
        assert (tmp_path / "got").read_bytes() == b"content"

    def test_what_is_missing(self, device: adbutils.AdbDevice) -> None:
        assert device.sync.stat(f"{TMP}/missing").mode == 0
        with pytest.raises(adbutils.AdbError, match="No such file or directory"):
            device.sync.read_bytes(f"{TMP}/missing")

    def test_a_tree_of_small_files(self, device: adbutils.AdbDevice, adb: Adb, tmp_path: Path) -> None:
        (tmp_path / "many").mkdir()
        for n in range(300):
            (tmp_path / f"many/{n}").write_bytes(os.urandom(1536))
        begin = time.monotonic()
        adb.run("push", tmp_path / "many", f"{TMP}/")
        adb.run("pull", f"{TMP}/many", tmp_path / "back")
        assert files_below(tmp_path / "back") == files_below(tmp_path / "many")
        assert time.monotonic() - begin < DEADLINE_S / 2


def device_push(adb: Adb, name: str) -> socket.socket:
    """Opens a sync session and begins a push in it."""
    connection = adbutils.AdbClient("127.0.0.1", adb.port).device(adb.serial).open_transport()
    connection.send_command("sync:")
    connection.check_okay()
    spec = f"{TMP}/{name},33188".encode()
    connection.conn.sendall(struct.pack("<4sI", b"SEND", len(spec)) + spec)
    return cast(socket.socket, connection.conn)


Session = Callable[[bytes], bytes]


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Returns a function that gives the service's answer to these bytes."""
    storage = Storage(tmp_path / "root")
    storage.create()

    def run(requests: bytes) -> bytes:
        answer = io.BytesIO()
        SyncService(storage, io.BytesIO(requests), answer).run()
        return answer.getvalue()

    return run


def request(command: bytes, payload: bytes) -> bytes:
    return struct.pack("<4sI", command, len(payload)) + payload


def failure(message: bytes) -> bytes:
    return struct.pack("<4sI", b"FAIL", len(message)) + message


SEND = request(b"SEND", f"{TMP}/x,33188".encode())
DONE = struct.pack("<4sI", b"DONE", THEN)
OKAY = struct.pack("<4sI", b"OKAY", 0)


class TestByHand:
    def test_requests_follow_each_other(self, session: Session) -> None:
        push = SEND + request(b"DATA", b"abc") + DONE
        pull = request(b"RECV", f"{TMP}/x".encode())
        quit_and_more = struct.pack("<4sI", b"QUIT", 0) + pull
        assert session(push + pull + quit_and_more) == OKAY + request(b"DATA", b"abc") + request(b"DONE", b"")

    def test_the_newer_push_and_pull(self, session: Session) -> None:
        path = f"{TMP}/v2".encode()
        push = request(b"SND2", path) + struct.pack("<4sII", b"SND2", 0o100640, 0) + request(b"DATA", b"abc") + DONE
        pull = request(b"RCV2", path) + struct.pack("<4sI", b"RCV2", 0)
        assert session(push + pull) == OKAY + request(b"DATA", b"abc") + request(b"DONE", b"")
        assert session(request(b"RCV2", path) + struct.pack("<4sI", b"RCV2", 4)) == failure(b"unsupported flags 0x4")

    @pytest.mark.parametrize(
        ("requests", "answer"),
        [
            (request(b"NOPE", b"/"), b"unknown command 45504f4e"),
            (request(b"STAT", b"x" * 1025), b"path too long"),
            (request(b"SEND", b"/data/local/tmp/x"), b"missing , in ID_SEND"),
            (request(b"SEND", b"/data/local/tmp/x,rw"), b"bad mode"),
            (SEND + request(b"STAT", b""), b"invalid data message"),
            (SEND + struct.pack("<4sI", b"DATA", 65537) + bytes(65537), b"oversize data message"),
            (request(b"RECV", b"/none"), b"open failed: No such file or directory"),
            (request(b"RECV", b"/data"), b"read failed: Is a directory"),
            (
                request(b"SEND", b"/x,33188") + request(b"DATA", b"a") + DONE,
                b"couldn't create file: Read-only file system",
            ),
            (request(b"SEND", b"/x,41471") + request(b"DATA", b"a\0") + DONE, b"symlink failed: Read-only file system"),
            (request(b"SEND", f"{TMP},33188".encode()) + DONE, b"couldn't create file: Is a directory"),
        ],
    )
    def test_refusals_end_the_session(self, session: Session, requests: bytes, answer: bytes) -> None:
        assert session(requests + request(b"STAT", b"/")) == failure(answer)

    def test_an_end_in_the_midst_leaves_nothing(self, session: Session, tmp_path: Path) -> None:
        assert session(SEND + struct.pack("<4sI", b"DATA", 100) + b"abc") == b""
        assert session(SEND + request(b"DATA", b"abc")) == b""
        assert list((tmp_path / "root/data/local/tmp").iterdir()) == []

    def test_a_link(self, session: Session, tmp_path: Path) -> None:
        push = request(b"SEND", f"{TMP}/new/link,41471".encode()) + request(b"DATA", b"/some/where\0") + DONE
        assert session(push + push) == OKAY + OKAY
        link = tmp_path / "root/data/local/tmp/new/link"
        assert os.readlink(link) == "/some/where"  # noqa: PTH115  (as it was sent)
        assert link.lstat().st_mtime == THEN

    def test_stat_of_all_kinds(self, session: Session, tmp_path: Path) -> None:
        tmp = tmp_path / "root/data/local/tmp"
        (tmp / "f").write_bytes(b"12345")
        (tmp / "l").symlink_to("f")
        (tmp / "loop").symlink_to("loop")

        def ask(command: bytes, name: str) -> tuple[int, ...]:
            return struct.unpack("<4xIQQIIIIQqqq", session(request(command, f"{TMP}/{name}".encode())))

        assert ask(b"STA2", "l")[7] == 5
        assert stat.S_ISREG(ask(b"STA2", "l")[3])
        assert stat.S_ISLNK(ask(b"LST2", "l")[3])
        assert ask(b"STA2", "none")[0] == 2
        assert ask(b"STA2", "loop")[0] == 40
        assert ask(b"LST2", "f/x")[0] == 20
        _, mode, size, _ = struct.unpack("<4sIII", session(request(b"STAT", f"{TMP}/l".encode())))
        assert (stat.S_ISLNK(mode), size) == (True, 1)
        assert session(request(b"STAT", b"/none")) == b"STAT" + bytes(12)

    def test_lists(self, session: Session, tmp_path: Path) -> None:
        (tmp_path / "root/data/local/tmp/f").write_bytes(b"12345")
        old = session(request(b"LIST", TMP.encode()))
        new = session(request(b"LIS2", TMP.encode()))
        assert (len(old), len(new)) == (3 * 20 + len("...f") + 20, 3 * 76 + len("...f") + 76)
        assert old.endswith(b"f" + b"DONE" + bytes(16))
        assert new.endswith(b"f" + b"DONE" + bytes(72))
