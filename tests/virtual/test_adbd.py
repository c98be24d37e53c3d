"""Tests the daemon with the genuine adb, adbutils and bare sockets."""

import contextlib
import hashlib
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import adbutils
import pytest

from bundler.virtual.sessions import CLOSE_STDIN, STDIN, WINDOW_SIZE, FrameReader, Service
from tests.virtual.conftest import DEADLINE_S, Adb, Daemon, StartDaemon, wait_for

VERSION, OLD_VERSION = 0x01000001, 0x01000000


def alive(pid: int) -> bool:
    """Returns whether the process runs; a zombie does not."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it ends while it is read
        return False


def pid_in(file: Path) -> int:
    return wait_for(lambda: int(file.read_text() or 0) if file.exists() else 0)


class TestShell:
    def test_output_error_and_exit_code_are_apart(self, adb: Adb) -> None:
        done = adb.run("shell", "echo out; echo err >&2; exit 7")
        assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)

    @pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143), ("HUP", 129)])
    def test_a_signal_shows_in_the_exit_code(self, adb: Adb, signal: str, code: int) -> None:
        assert adb.run("shell", f"kill -{signal} $$").returncode == code

    def test_stdin_reaches_the_command_and_ends(self, adb: Adb) -> None:
        data = os.urandom(3_000_000)
        assert adb.run("shell", "-T", "cat", stdin=data).stdout == data

    def test_a_command_may_leave_its_stdin_unread(self, adb: Adb) -> None:
        done = adb.run("shell", "-T", "head -c 3; exec <&-; sleep 0.1; exit 4", stdin=b"abc" * 2_000_000)
        assert (done.stdout, done.returncode) == (b"abc", 4)

    def test_without_shell_protocol_all_goes_to_stdout(self, adb: Adb) -> None:
        done = adb.run("shell", "-x", "read x; echo got $x; echo err >&2; exit 3", stdin=b"line\n")
        assert (done.stdout, done.stderr, done.returncode) == (b"got line\nerr\n", b"", 0)

    def test_without_a_command_the_shell_reads_its_input(self, adb: Adb) -> None:
        done = adb.run("shell", "-T", stdin=b"echo hello\nexit 6\n")
        assert (done.stdout, done.returncode) == (b"hello\n", 6)

    def test_a_terminal_where_one_is_asked_for(self, adb: Adb) -> None:
        done = adb.run("shell", "-tt", "[ -t 0 ] && [ -t 2 ] && echo $TERM; exit 9")
        assert (done.stdout.strip(), done.returncode) == (os.environ.get("TERM", "dumb").encode(), 9)
        assert adb.run("shell", "-T", "[ -t 0 ] || [ -t 1 ] || exit 5").returncode == 5

    def test_the_environment_is_the_phones(self, adb: Adb) -> None:
        line = adb.run("shell", "umask; echo $USER $HOSTNAME").stdout.split()
        assert line == [b"0000", b"shell", b"pineapple"]

    def test_nothing_of_the_daemon_is_open_in_a_session(self, adb: Adb) -> None:
        assert adb.run("shell", "-T", "ls -v /proc/$$/fd").stdout.split()[:3] == [b"0", b"1", b"2"]
        assert len(adb.run("shell", "-T", "ls /proc/$$/fd").stdout.split()) == 3

    def test_a_background_job_holds_the_session_by_its_output(self, adb: Adb) -> None:
        begin = time.monotonic()
        done = adb.run("shell", "(sleep 0.7; echo late) & echo early")
        assert done.stdout == b"early\nlate\n"
        assert time.monotonic() - begin > 0.7

    def test_a_command_that_closes_its_output_still_tells_its_exit_code(self, adb: Adb) -> None:
        assert adb.run("shell", "exec >&- 2>&-; sleep 0.3; exit 3").returncode == 3

    def test_eight_clients_at_once(self, adb: Adb) -> None:
        data = [os.urandom(1_000_000) for _ in range(8)]
        clients = [
            adb.start("shell", "-T", f"sleep 0.2; cat; exit {n}", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            for n in range(8)
        ]
        for client, sent in zip(clients, data, strict=True):
            assert client.communicate(sent, DEADLINE_S)[0] == sent
        assert [client.returncode for client in clients] == list(range(8))

    def test_a_slow_reader_does_not_fill_the_daemons_memory(self, adb: Adb, phone: Daemon) -> None:
        client = adb.start("shell", "-T", "sleep 1.5; wc -c", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        before = resident_kib(phone)
        out, _ = client.communicate(bytes(60_000_000), DEADLINE_S)
        assert int(out) == 60_000_000
        assert resident_kib(phone) - before < 20_000

    def test_through_adbutils(self, any_adb: Adb, adb: Adb, phone: Daemon) -> None:
        device = adbutils.AdbClient("127.0.0.1", any_adb.port).device(phone.serial)
        done = device.shell2("echo out; echo err >&2; exit 3", v2=True)
        assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
        assert device.shell("echo plain") == "plain"


class TestOwnShell:
    """The phone's shell in the daemon's sessions: the host's, confined."""

    def test_where_it_is(self, adb: Adb, phone: Daemon) -> None:
        done = adb.run("shell", "pwd; echo $HOME $TMPDIR $PATH; cd /data/local/tmp && pwd; echo x/data/local/tmp")
        root, tmp = f"{phone.root}", f"{phone.tmp}"
        assert done.stdout.decode().split() == [root, root, tmp, f"{root}/system/bin", tmp, "x/data/local/tmp"]

    def test_streams_and_exit_code(self, adb: Adb, phone: Daemon) -> None:
        done = adb.run("shell", "echo out; echo err >&2; exit 7")
        assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)

    def test_data_there_and_back(self, adb: Adb, phone: Daemon) -> None:
        data = os.urandom(3_000_000)
        assert adb.run("shell", "-T", "cat > /data/local/tmp/data", stdin=data).returncode == 0
        assert adb.run("exec-out", "cat /data/local/tmp/data").stdout == data
        digest = hashlib.sha256(data).hexdigest().encode()
        assert adb.run("shell", "sha256sum /data/local/tmp/data").stdout.split()[0] == digest

    def test_a_pushed_script_runs(self, adb: Adb, phone: Daemon, tmp_path: Path) -> None:
        (tmp_path / "script").write_text("#!/bin/sh\necho $1 $(pwd)\nexit 4\n")
        (tmp_path / "script").chmod(0o755)
        adb.run("push", tmp_path / "script", "/data/local/tmp/script")
        done = adb.run("shell", "cd /data/local/tmp && ./script 'a b'")
        assert (done.stdout, done.returncode) == (f"a b {phone.tmp}\n".encode(), 4)

    def test_a_killed_client_ends_all_that_it_waited_for(self, adb: Adb, phone: Daemon) -> None:
        client = adb.start("shell", "echo $$ > /data/local/tmp/pid; (sleep 1000); echo no > /data/local/tmp/after")
        pid = pid_in(phone.tmp / "pid")
        client.kill()
        client.wait()
        wait_for(lambda: not alive(pid))
        assert not (phone.tmp / "after").exists()

    def test_detached_jobs_survive_their_session(self, adb: Adb, phone: Daemon) -> None:
        job = "nohup setsid sh -c 'sleep 0.5; echo over > /data/local/tmp/over' </dev/null >/dev/null 2>&1 &"
        assert adb.run("shell", job).returncode == 0
        wait_for((phone.tmp / "over").exists)


def resident_kib(daemon: Daemon) -> int:
    status = Path(f"/proc/{daemon.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0])


class TestExec:
    def test_exec_out_is_raw(self, adb: Adb, phone: Daemon) -> None:
        data = os.urandom(2_000_000)
        (phone.tmp / "raw").write_bytes(data)
        done = adb.run("exec-out", "cat /data/local/tmp/raw; echo err >&2; exit 3")
        assert (done.stdout, done.returncode) == (data + b"err\n", 0)

    def test_exec_in_delivers_all(self, adb: Adb, phone: Daemon) -> None:
        data = os.urandom(3_000_000)
        assert (
            adb.run("exec-in", "cd /data/local/tmp; sleep 0.2; cat > received; mv received done", stdin=data).returncode
            == 0
        )
        wait_for((phone.tmp / "done").exists)
        assert (phone.tmp / "done").read_bytes() == data

    @pytest.mark.slow
    def test_a_command_that_reads_nothing_ends_soon_after_its_client(self, adb: Adb, phone: Daemon) -> None:
        adb.run("exec-in", "echo $$ > /data/local/tmp/in-pid; exec sleep 1000", stdin=b"x")
        pid = pid_in(phone.tmp / "in-pid")
        wait_for(lambda: not alive(pid))


class TestEnds:
    @pytest.mark.parametrize("arguments", [["shell", "-T"], ["shell", "-x"], ["exec-out"], ["shell", "-tt"]])
    def test_a_killed_client_ends_the_command(self, adb: Adb, phone: Daemon, arguments: list[str]) -> None:
        file = phone.tmp / "-".join(["killed", *arguments])
        client = adb.start(
            *arguments,
            f"echo $$ > {file}; sleep 1000; echo no > /data/local/tmp/after",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        pid = pid_in(file)
        assert alive(pid)
        client.kill()
        client.communicate()
        wait_for(lambda: not alive(pid))
        assert not (phone.tmp / "after").exists()

    def test_a_killed_client_ends_a_command_that_writes(self, adb: Adb, phone: Daemon) -> None:
        client = adb.start("shell", "echo $$ > /data/local/tmp/writer; exec cat /dev/zero", stdout=subprocess.PIPE)
        pid = pid_in(phone.tmp / "writer")
        assert client.stdout
        client.stdout.read(1000)
        client.kill()
        client.communicate()
        wait_for(lambda: not alive(pid))

    def test_a_redirected_job_does_not_hold_the_session_and_survives_it(self, adb: Adb, phone: Daemon) -> None:
        begin = time.monotonic()
        assert (
            adb.run("shell", "(sleep 1; touch /data/local/tmp/survived) </dev/null >/dev/null 2>&1 & true").returncode
            == 0
        )
        assert time.monotonic() - begin < 0.9
        wait_for((phone.tmp / "survived").exists)

    def test_the_daemons_end_hangs_up_on_running_sessions(self, any_adb: Adb, start_daemon: StartDaemon) -> None:
        daemon = start_daemon()
        adb = any_adb.connect(daemon)
        command = "echo $$ > /data/local/tmp/running; sleep 1000"
        client = adb.start("shell", command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        pid = pid_in(daemon.tmp / "running")
        daemon.stop()
        wait_for(lambda: not alive(pid))
        client.communicate(timeout=DEADLINE_S)
        wait_for(lambda: not alive(daemon.pid))

    def test_no_process_and_no_file_remains_of_sessions(self, any_adb: Adb, start_daemon: StartDaemon) -> None:
        daemon = start_daemon()
        adb = any_adb.connect(daemon)
        adb.run("shell", "true")
        here = Path(f"/proc/{daemon.pid}")
        before = len(list((here / "fd").iterdir()))
        for command in (["shell", "true"], ["shell", "-tt", "true"], ["exec-out", "echo"], ["ls", "/data"]):
            adb.run(*command)
        wait_for(lambda: len(list((here / "fd").iterdir())) == before)
        assert not (here / f"task/{daemon.pid}/children").read_text()


class TestConnection:
    def test_the_phone_introduces_itself(self, adb: Adb) -> None:
        line = next(line for line in adb.text("devices", "-l").splitlines() if adb.serial in line)
        assert "product:pineapple model:Virtual_Snapdragon_8_Gen_3 device:pineapple" in line
        assert "shell_v2" in adb.text("features").split()
        assert adb.text("get-state").strip() == "device"

    def test_services_that_it_lacks_are_closed(self, adb: Adb) -> None:
        assert "closed" in adb.text("reverse", "tcp:5000", "tcp:6000")
        assert "closed" in adb.text("root")
        assert adb.run("shell", "true").returncode == 0

    def test_reconnecting_works(self, any_adb: Adb, start_daemon: StartDaemon) -> None:
        daemon = start_daemon()
        for _ in range(3):
            adb = any_adb.connect(daemon)
            assert adb.run("shell", "echo hi").stdout == b"hi\n"
            adb.run("disconnect", daemon.serial)

    def test_unauthorized(self, any_adb: Adb, start_daemon: StartDaemon) -> None:
        daemon = start_daemon("unauthorized")
        assert "failed to authenticate" in any_adb.text("connect", daemon.serial)
        assert f"{daemon.serial}\tunauthorized" in any_adb.text("devices")
        done = any_adb.of(daemon).run("shell", "true")
        assert done.returncode != 0
        assert b"unauthorized" in done.stderr

    def test_offline(self, any_adb: Adb, start_daemon: StartDaemon) -> None:
        daemon = start_daemon("offline")
        connecting = any_adb.start("connect", daemon.serial, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: f"{daemon.serial}\toffline" in any_adb.text("devices"))
        finally:
            connecting.kill()
            connecting.wait()


class Packets:
    """A client that sends adb's packets, correct or malformed."""

    def __init__(self, daemon: Daemon, version: int = VERSION) -> None:
        self.socket = socket.create_connection(("127.0.0.1", daemon.port), DEADLINE_S)
        self.version = version

    def send(self, command: bytes, arg0: int = 0, arg1: int = 0, payload: bytes = b"", **wrong: int) -> None:
        number = int.from_bytes(command, "little")
        check = sum(payload) if self.version == OLD_VERSION else 0
        fields = {"length": len(payload), "check": check, "magic": number ^ 0xFFFFFFFF, **wrong}
        self.socket.sendall(struct.pack("<6I", number, arg0, arg1, *fields.values()) + payload)

    def receive(self) -> tuple[bytes, int, int, bytes]:
        number, arg0, arg1, length, check, magic = struct.unpack("<6I", self._exactly(24))
        payload = self._exactly(length)
        assert magic == number ^ 0xFFFFFFFF
        assert check == (sum(payload) if self.version == OLD_VERSION else 0)
        return number.to_bytes(4, "little"), arg0, arg1, payload

    def connect(self) -> bytes:
        self.send(b"CNXN", self.version, 256 * 1024, b"host::features=shell_v2")
        command, _, _, banner = self.receive()
        assert command == b"CNXN"
        return banner

    def is_closed(self) -> bool:
        try:
            return not self.socket.recv(1)
        except ConnectionResetError:
            return True

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.socket.recv(size - len(data))
            assert more, "closed"
            data += more
        return data


@pytest.fixture(params=[VERSION], ids=[""])
def packets(phone: Daemon, request: pytest.FixtureRequest) -> Iterator[Packets]:
    """Provides a separate client for a test, with the newest protocol version by default."""
    client = Packets(phone, request.param)
    yield client
    client.socket.close()


class TestPackets:
    @pytest.mark.parametrize(
        "wrong",
        [
            {"command": b"WRTE", "magic": 1},
            {"command": b"CNXN", "length": 2**31},
            {"command": b"HELO"},
            {"command": b"STLS"},
            {"command": b"GET "},
        ],
        ids=str,
    )
    def test_nonsense_closes_the_connection_only(
        self, packets: Packets, adb: Adb, phone: Daemon, wrong: dict[str, bytes | int]
    ) -> None:
        packets.send(**wrong)  # type: ignore[arg-type]
        assert packets.is_closed()
        assert "connection closed: " in phone.log
        assert adb.run("shell", "echo alive").stdout == b"alive\n"

    def test_random_bytes_close_the_connection(self, packets: Packets) -> None:
        packets.socket.sendall(b"\xa5" * 5000)
        assert packets.is_closed()

    def test_a_connection_cut_in_a_packet_harms_nobody(self, packets: Packets, adb: Adb) -> None:
        packets.connect()
        packets.send(b"WRTE", 1, 1, b"x" * 10, length=100)
        packets.socket.close()
        assert adb.run("shell", "echo alive").stdout == b"alive\n"

    @pytest.mark.parametrize("packets", [OLD_VERSION], indirect=True)
    def test_checksums_with_an_old_client(self, packets: Packets) -> None:
        packets.connect()
        packets.send(b"OPEN", 5, 0, b"shell:echo old\0")
        command, local, _, _ = packets.receive()
        assert command == b"OKAY"
        assert packets.receive()[3] == b"old\n"
        packets.send(b"OKAY", 5, local)
        assert packets.receive()[0] == b"CLSE"
        packets.send(b"OPEN", 6, 0, b"shell:true\0", check=1)
        assert packets.is_closed()

    def test_nothing_is_served_before_the_handshake(self, packets: Packets) -> None:
        packets.send(b"OPEN", 5, 0, b"shell:echo no\0")
        assert b"features=" in packets.connect()

    def test_one_packet_at_a_time_until_it_is_acknowledged(self, packets: Packets) -> None:
        packets.connect()
        packets.send(b"OPEN", 5, 0, b"exec:cat /dev/zero\0")
        command, local, remote, _ = packets.receive()
        assert (command, remote) == (b"OKAY", 5)
        assert packets.receive()[:3] == (b"WRTE", local, 5)
        packets.socket.settimeout(0.3)
        with pytest.raises(TimeoutError):
            packets.receive()
        packets.socket.settimeout(DEADLINE_S)
        packets.send(b"OKAY", 5, local)
        assert packets.receive()[0] == b"WRTE"
        packets.send(b"CLSE", 5, local)
        assert packets.receive()[:3] == (b"CLSE", local, 5)

    def test_packets_keep_within_the_clients_limit(self, packets: Packets) -> None:
        packets.send(b"CNXN", VERSION, 4096, b"host::")
        packets.receive()
        packets.send(b"OPEN", 5, 0, b"exec:head -c 100000 /dev/zero\0")
        local, total = packets.receive()[1], 0
        while total < 100_000:
            payload = packets.receive()[3]
            assert 0 < len(payload) <= 4096
            total += len(payload)
            packets.send(b"OKAY", 5, local)

    def test_data_without_end_for_a_deaf_command_closes_the_connection(self, packets: Packets) -> None:
        packets.connect()
        packets.send(b"OPEN", 5, 0, b"exec:sleep 1000\0")
        local = packets.receive()[1]
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(100):
                packets.send(b"WRTE", 5, local, bytes(256 * 1024))
            pytest.fail("the daemon took it all")

    def test_strangers_to_a_stream_are_not_heard(self, packets: Packets) -> None:
        packets.connect()
        packets.send(b"WRTE", 7, 99, b"x")
        packets.send(b"CLSE", 7, 99)
        packets.send(b"OKAY", 7, 99)
        assert packets.receive()[:3] == (b"CLSE", 99, 7)


class TestShellProtocol:
    @pytest.mark.parametrize("cut", [1, 2, 3, 5, 7, 1000])
    def test_packets_are_found_however_they_are_cut(self, cut: int) -> None:
        sent = [(STDIN, b"abc"), (STDIN, b""), (WINDOW_SIZE, b"24x80,0x0\0"), (STDIN, b"d" * 50), (CLOSE_STDIN, b"")]
        wire = b"".join(struct.pack("<BI", kind, len(data)) + data for kind, data in sent)
        reader, got = FrameReader(), list[tuple[int, bytes]]()
        for start in range(0, len(wire), cut):
            got += [frame for frame in reader.feed(bytearray(wire[start : start + cut])) if frame != (STDIN, b"")]
        stdin = b"".join(data for kind, data in got if kind == STDIN)
        assert stdin == b"abc" + b"d" * 50
        assert [frame for frame in got if frame[0] != STDIN] == [sent[2], sent[4]]
        assert got[-1] == (CLOSE_STDIN, b"")

    def test_a_packet_without_end_is_refused(self) -> None:
        with pytest.raises(ValueError, match="4294967295 bytes"):
            list(FrameReader().feed(bytearray(struct.pack("<BI", STDIN, 0xFFFFFFFF))))

    @pytest.mark.parametrize(
        ("name", "service"),
        [
            ("shell:ls", Service("shell", "ls")),
            ("shell,v2,TERM=xterm,raw:a:b", Service("shell", "a:b", framed=True, term="xterm")),
            ("shell,v2,pty:", Service("shell", "", framed=True, terminal=True)),
            ("shell:", Service("shell", "", terminal=True)),
            ("exec:x", Service("exec", "x")),
            ("sync:", Service("sync", "")),
            ("tcp:5000", None),
            ("sync", None),
            ("exec,v2:x", None),
        ],
    )
    def test_service_names(self, name: str, service: Service | None) -> None:
        assert Service.parse(name) == service
