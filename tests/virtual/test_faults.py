"""Tests each fault of the virtual phone with the genuine adb."""

import contextlib
import math
import re
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from bundler.cli import main
from bundler.device.server import user_key
from bundler.errors import UsageError, VirtualPhoneFailed
from bundler.soc import known_socs
from bundler.virtual.faults import KINDS, Faults, parse_faults
from bundler.virtual.life import Life
from bundler.virtual.link import Way
from bundler.virtual.phones import VirtualPhone, start_phone, stop_phone
from bundler.virtual.processes import descendants
from tests.virtual.conftest import ADB, DEADLINE_S, Adb, adb_servers, wait_for

DOCS = Path(__file__).parents[2] / "docs/virtual-phone.md"
INPUTS = 3
RUN = "cd /data/local/tmp; snpe-net-run --container m.dlc --input_list list --set_output_tensors start,end"


@dataclass(frozen=True)
class Faulty:
    """A running phone with faults, and adb for it."""

    phone: VirtualPhone
    adb: Adb

    @property
    def tmp(self) -> Path:
        """Returns the host's folder that is the phone's /data/local/tmp, in its daemon's view."""
        return Path(f"/proc/{self.phone.pid}/root{self.phone.state.resolve()}/storage/data/local/tmp")

    def sh(self, script: str, stdin: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        return self.adb.run("shell", "-T", script, stdin=stdin)

    def connect(self) -> "Faulty":
        """Connects again, until that works."""

        def works() -> bool:
            self.adb.run("disconnect", self.phone.serial)
            self.adb.run("connect", self.phone.serial)
            return self.state() == "device"

        wait_for(works)
        return self

    def state(self) -> str:
        """Returns its state in `adb devices`."""
        found = re.search(rf"^{self.phone.serial}\t(\w+)$", self.adb.text("devices"), re.MULTILINE)
        return found[1] if found else ""

    def with_inputs(self) -> "Faulty":
        """Writes files that snpe-net-run reads."""
        (self.tmp / "m.dlc").write_bytes(b"PK")
        for number in range(INPUTS):
            (self.tmp / f"in{number}").write_bytes(bytes([number]) * 16)
        (self.tmp / "list").write_text("".join(f"ids:=in{number}\n" for number in range(INPUTS)))
        return self

    def outputs(self) -> dict[str, bytes]:
        """Returns the existing output files."""
        folder = self.tmp / "output"
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.raw"))}


Start = Callable[..., Faulty]


@pytest.fixture
def start(any_adb: Adb, tmp_path: Path) -> Iterator[Start]:
    """Starts phones with these faults, connected unless `connect` is False; all end with the test."""
    phones: list[VirtualPhone] = []

    def begin(*faults: str, connect: bool = True) -> Faulty:
        phone = start_phone(known_socs()["SM8650"], 0, tmp_path / f"phone{len(phones)}", faults=faults)
        phones.append(phone)
        faulty = Faulty(phone, Adb(any_adb.port, any_adb.home, phone.serial))
        return faulty.connect().with_inputs() if connect else faulty

    try:
        yield begin
    finally:
        for phone in phones:
            any_adb.run("disconnect", phone.serial)
            stop_phone(phone)


class TestSpecs:
    @pytest.mark.parametrize(
        "spec",
        [
            "bla",
            "cut-in",
            "cut-in:x",
            "cut-in:-1",
            "cut-in:1:2",
            "run-fail:1:never",
            "lacks:tarz",
            "lacks:kill",
            "clock:",
            "",
        ],
    )
    def test_a_bad_one_is_refused(self, spec: str) -> None:
        with pytest.raises(UsageError) as caught:
            parse_faults([spec])
        assert spec in str(caught.value)
        assert any(kind.form in caught.value.hint for kind in KINDS)

    def test_all_forms_can_be_parsed(self) -> None:
        examples = {"TOOL": "tar", "always": "always"}
        for kind in KINDS:
            specs = [":".join((kind.name, *(examples.get(p, "7") for p in kind.parameters)))]
            specs.append(":".join((kind.name, *(examples.get(p, "7") for p in kind.parameters[: kind.needed]))))
            assert [str(fault) for fault in parse_faults(specs).faults] == specs

    def test_the_documents_list_them(self) -> None:
        rows = re.findall(r"^\| `(.+?)` \| (.+) \|$", DOCS.read_text(encoding="utf-8"), re.MULTILINE)
        assert rows == [(kind.form, kind.description) for kind in KINDS]

    def test_none_is_no_fault(self) -> None:
        assert parse_faults([]) == Faults()

    def test_the_command_line_refuses_a_bad_one(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["phone", "start", "--port", "0", "--fault", "run-time:10", "--fault", "cut:5"]) == 2
        said = capsys.readouterr().err
        assert "--fault cut:5: no such fault" in said
        assert all(kind.form in said.replace("\n", " ") for kind in KINDS)

    def test_help_lists_them(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["phone", "start", "--help"]) == 0
        said = capsys.readouterr().out
        assert all(kind.name in said for kind in KINDS)


class TestLife:
    """Tests the state shared by all processes of a phone."""

    def test_each_of_many_counts_once_and_one_is_the_first(self, tmp_path: Path) -> None:
        script = (
            "import sys; from pathlib import Path; from bundler.virtual.life import Life\n"
            "life = Life(Path(sys.argv[1]), 0)\n"
            "print(*[life.count('inference') for _ in range(50)], life.once('fault'))"
        )
        Life.begin(tmp_path / "life")
        command = [sys.executable, "-c", script, str(tmp_path / "life")]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
        words = " ".join(process.communicate(timeout=DEADLINE_S)[0] for process in processes).split()
        assert sorted(int(word) for word in words if word.isdigit()) == list(range(150))
        assert words.count("True") == 1

    def test_a_new_one_remembers_nothing(self, tmp_path: Path) -> None:
        assert Life.begin(tmp_path / "life").once("x")
        again = Life.begin(tmp_path / "life")
        assert again.once("x")
        assert not again.once("x")


class TestRuns:
    def test_time_and_made_up_answers(self, start: Start) -> None:
        phone = start("run-time:100")
        begin = time.monotonic()
        assert phone.sh(RUN).returncode == 0
        assert 0.3 <= time.monotonic() - begin < 3
        outputs = phone.outputs()
        assert sorted(outputs) == sorted(f"Result_{n}/{name}.raw" for n in range(INPUTS) for name in ("start", "end"))
        assert len(set(outputs.values())) == len(outputs)
        assert all(len(data) == 16 and all(abs(value) <= 8 for value in array("f", data)) for data in outputs.values())
        assert phone.sh(RUN).returncode == 0
        assert phone.outputs() == outputs

    def test_failure(self, start: Start) -> None:
        phone = start("run-time:0", "run-fail:1")
        failed = phone.sh(RUN)
        assert failed.returncode == 1
        assert re.match(rb"error_code=\d+; error_message=.*; error_component=.*; line_no=\d+; ", failed.stderr)
        assert {name[:8] for name in phone.outputs()} == {"Result_0"}
        assert phone.sh(RUN).returncode == 0

    def test_failure_for_ever(self, start: Start) -> None:
        phone = start("run-time:0", "run-fail:3:always")
        assert [phone.sh(RUN).returncode for _ in range(3)] == [0, 1, 1]

    def test_crash(self, start: Start) -> None:
        phone = start("run-time:0", "run-crash:2")
        crashed = phone.sh(f"{RUN}; exit $?")
        assert crashed.returncode == 139
        assert {name[:8] for name in phone.outputs()} == {"Result_0", "Result_1"}
        assert phone.sh(RUN).returncode == 0

    def test_short_file(self, start: Start) -> None:
        phone = start("run-time:0", "run-short:1")
        assert phone.sh(RUN).returncode == 0
        assert [name for name, data in phone.outputs().items() if len(data) != 16] == ["Result_1/start.raw"]

    def test_not_a_number(self, start: Start) -> None:
        phone = start("run-time:0", "run-nan:1")
        assert phone.sh(RUN).returncode == 0
        bad = [name for name, data in phone.outputs().items() for value in array("f", data) if math.isnan(value)]
        assert bad == ["Result_1/start.raw"]

    def test_killed_in_a_session_that_waits_for_it(self, start: Start) -> None:
        phone = start("run-time:0", "kill-run:0")
        assert phone.sh(f"{RUN}; echo after").returncode == 137
        assert phone.sh(f"{RUN} >/dev/null; echo after").stdout == b"after\n"

    def test_killed_with_the_script_that_runs_it(self, start: Start) -> None:
        phone = start("run-time:0", "kill-run:1")
        (phone.tmp / "job.sh").write_text(f"{RUN}\necho $? >ended\n")
        phone.sh("cd /data/local/tmp; setsid sh job.sh </dev/null >/dev/null 2>&1 & echo $! >/data/local/tmp/pid")
        wait_for(lambda: phone.sh("kill -0 $(cat /data/local/tmp/pid)").returncode)
        assert {name[:8] for name in phone.outputs()} == {"Result_0"}
        assert not (phone.tmp / "ended").exists()
        assert phone.sh(RUN).returncode == 0


class TestCuts:
    def test_while_data_comes(self, start: Start) -> None:
        phone = start("cut-in:1000000")
        data = bytes(3_000_000)
        assert phone.sh("cat >/data/local/tmp/data", data).returncode != 0
        written = phone.tmp / "data"
        assert not written.exists() or written.stat().st_size <= 1_000_000
        assert phone.connect().sh("cat >/data/local/tmp/data", data).returncode == 0
        assert (phone.tmp / "data").read_bytes() == data

    def test_while_data_goes(self, start: Start) -> None:
        phone = start("cut-out:1000000")
        (phone.tmp / "data").write_bytes(bytes(3_000_000))
        cut = phone.sh("cat /data/local/tmp/data")
        assert cut.returncode != 0
        assert len(cut.stdout) == 1_000_000
        assert len(phone.connect().sh("cat /data/local/tmp/data").stdout) == 3_000_000

    def test_while_a_file_is_pushed(self, start: Start, tmp_path: Path) -> None:
        phone = start("cut-in:500000")
        (tmp_path / "file").write_bytes(bytes(2_000_000))
        assert phone.adb.run("push", tmp_path / "file", "/data/local/tmp/file").returncode != 0
        assert phone.connect().adb.run("push", tmp_path / "file", "/data/local/tmp/file").returncode == 0
        assert (phone.tmp / "file").stat().st_size == 2_000_000

    def test_while_a_client_waits_for_a_run(self, start: Start) -> None:
        phone = start("run-time:200", "cut-run:1")
        assert phone.sh(f"{RUN}; echo after >ended").returncode != 0
        phone.connect()
        wait_for(lambda: not descendants(phone.phone.pid))
        assert not (phone.tmp / "ended").exists()

    def test_while_it_runs(self, start: Start) -> None:
        phone = start("run-time:50", "cut-run:1")
        assert phone.sh(f"setsid sh -c '{RUN}; echo $? >ended' >/dev/null 2>&1 </dev/null & sleep 20").returncode != 0
        wait_for((phone.tmp / "ended").exists)
        assert phone.connect().sh("cat /data/local/tmp/ended").stdout == b"0\n"
        assert len(phone.outputs()) == 2 * INPUTS


class TestRestart:
    def test_processes_die_and_files_stay(self, start: Start) -> None:
        phone = start("run-time:0", "restart:1:0.3")
        (phone.tmp / "job.sh").write_text(f"{RUN}\necho $? >ended\n")
        job = "setsid sh job.sh </dev/null >/dev/null 2>&1 & sleep 20; echo $? >waited"
        begin = time.monotonic()
        assert phone.sh(f"cd /data/local/tmp; {job}").returncode != 0
        assert time.monotonic() - begin < 10
        phone.connect()
        assert descendants(phone.phone.pid) == []
        assert {name[:8] for name in phone.outputs()} == {"Result_0"}
        assert not (phone.tmp / "ended").exists()
        assert not (phone.tmp / "waited").exists()
        assert phone.sh(RUN).returncode == 0


class TestLink:
    def test_a_bit_changes_on_the_way_in(self, start: Start) -> None:
        phone = start("flip-in:70000")
        data = bytes(200_000)
        changed = []
        for _ in range(2):
            assert phone.sh("cat >/data/local/tmp/data", data).returncode == 0
            arrived = (phone.tmp / "data").read_bytes()
            assert len(arrived) == len(data)
            changed.append([place for place, byte in enumerate(arrived) if byte])
        assert changed == [[70_000], []]

    def test_a_bit_changes_on_the_way_out(self, start: Start) -> None:
        phone = start("flip-out:70000")
        (phone.tmp / "data").write_bytes(bytes(200_000))
        first, second = (phone.sh("cat /data/local/tmp/data") for _ in range(2))
        assert [place for place, byte in enumerate(first.stdout) if byte] == [70_000]
        assert second.stdout == bytes(200_000)
        assert first.returncode == 0

    def test_a_slow_one(self, start: Start) -> None:
        phone = start("slow:400000")
        begin = time.monotonic()
        assert phone.sh("cat >/data/local/tmp/data", bytes(300_000)).returncode == 0
        assert phone.sh("cat /data/local/tmp/data").stdout == bytes(300_000)
        assert 1.5 <= time.monotonic() - begin < 15

    def test_a_far_one(self, start: Start) -> None:
        phone = start("slow:50000000:100")
        begin = time.monotonic()
        assert phone.sh("head -c 3000000 /dev/zero").stdout == bytes(3_000_000)
        assert 0.8 <= time.monotonic() - begin < 15  # it opens, sends three packets and their receipts come back

    def test_a_way_counts_to_the_byte(self) -> None:
        way = Way([10, 25], [3, 12], None)
        assert way.carry(bytes(8)) == (bytes([0, 0, 0, 1, 0, 0, 0, 0]), False)
        assert way.carry(bytes(8)) == (bytes(2), True)
        assert way.carry(bytes(8)) == (bytes([0, 0, 1, 0, 0, 0, 0, 0]), False)
        assert way.carry(bytes(7)) == (bytes(7), True)
        assert way.carry(b"abc") == (b"abc", False)


class TestStates:
    def test_unauthorized_until_its_owner_allows_it(self, start: Start) -> None:
        phone = start("unauthorized:1.5", connect=False)
        phone.adb.run("connect", phone.phone.serial)
        assert phone.state() == "unauthorized"
        assert phone.sh("true").returncode != 0
        wait_for(lambda: phone.state() == "device")
        assert phone.sh("echo hi").stdout == b"hi\n"

    @pytest.mark.slow
    def test_a_client_with_many_keys(self, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """adb sends its keys in random order: the trusted one is seldom the last of six."""
        trusted, others = user_key(), [tmp_path / f"key{number}" for number in range(5)]
        for other in others:
            subprocess.run([ADB, "keygen", other], check=True, capture_output=True, timeout=DEADLINE_S)
        monkeypatch.setattr("tests.virtual.conftest.user_key", lambda: ":".join(map(str, [trusted, *others])))
        phone = start("unauthorized:3", connect=False)
        (tmp_path / "home").mkdir()
        with adb_servers(tmp_path / "home") as adb:
            theirs = Faulty(phone.phone, Adb(adb.port, adb.home, phone.phone.serial))
            theirs.adb.run("connect", phone.phone.serial)
            assert theirs.state() == "unauthorized"
            wait_for(lambda: theirs.state() == "device")

    def test_offline_for_a_while(self, start: Start) -> None:
        phone = start("offline:1", connect=False)
        connecting = phone.adb.start("connect", phone.phone.serial, stdout=subprocess.DEVNULL)
        try:
            wait_for(lambda: phone.state() == "offline")
            wait_for(lambda: phone.state() == "device")
        finally:
            connecting.kill()
            connecting.wait()
        assert phone.sh("echo hi").stdout == b"hi\n"

    def test_a_shell_that_does_not_answer(self, start: Start) -> None:
        phone = start("mute-shell:1", connect=False).connect()
        assert phone.sh("echo one").stdout == b"one\n"
        mute = phone.adb.start("shell", "echo two", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            mute.communicate(timeout=0.5)
        assert phone.sh("echo three").stdout == b"three\n"
        mute.kill()
        assert mute.communicate()[0] == b""

    def test_shells_that_never_answer(self, start: Start) -> None:
        phone = start("mute-shell")
        mute = phone.adb.start("shell", "echo", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        with contextlib.suppress(subprocess.TimeoutExpired):
            mute.communicate(timeout=0.5)
            pytest.fail("it answered")
        mute.kill()
        mute.communicate()
        assert b"list" in phone.adb.run("ls", "/data/local/tmp").stdout


class TestTools:
    def test_a_tool_that_is_missing(self, start: Start) -> None:
        phone = start("lacks:gzip", "lacks:setsid")
        done = phone.sh(
            "gzip -c list; echo $?; setsid true; echo $?; command -v gzip setsid; zcat --help >/dev/null; echo $?"
        )
        assert done.stdout.split() == [b"127", b"127", b"0"]

    def test_options_that_are_missing(self, start: Start) -> None:
        phone = start("lacks:tar-z", "lacks:sha256sum-c")
        work = "cd /data/local/tmp;"
        for command in ("tar -czf x list", "tar czf x list"):
            done = phone.sh(f"{work} {command}")
            assert (done.returncode, done.stderr) == (1, b"tar: Unknown option 'z' (see \"tar --help\")\n")
        assert phone.sh(f"{work} tar -cf x list && gzip x").returncode == 0
        assert phone.sh(f"{work} sha256sum list | sha256sum -c -").stderr.startswith(b"sha256sum: Unknown option 'c'")
        assert b"Unknown option 'check'" in phone.sh(f"{work} sha256sum --check list").stderr
        assert phone.sh(f"{work} gzip -dc x.gz | tar -xf - && sha256sum list").returncode == 0

    def test_they_are_back_without_the_fault(self, start: Start) -> None:
        phone = start("lacks:gzip")
        stop_phone(phone.phone)
        again = start_phone(known_socs()["SM8650"], 0, phone.phone.state)
        try:
            assert (
                Faulty(again, Adb(phone.adb.port, phone.adb.home, again.serial)).connect().sh("gzip </dev/null").stdout
            )
        finally:
            phone.adb.run("disconnect", again.serial)
            stop_phone(again)

    @pytest.mark.parametrize("seconds", [1_000_000, -86_400])
    def test_a_wrong_clock(self, start: Start, seconds: int) -> None:
        told = int(start(f"clock:{seconds}").sh("date +%s").stdout)
        assert abs(told - seconds - time.time()) < 10


def small_disks() -> bool:
    """Returns whether this computer allows its user a small disk."""
    script = (
        "import sys; from pathlib import Path; from bundler.virtual.disk import make_small\n"
        "make_small(Path(sys.argv[1]), 1)"
    )
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "disk").mkdir()
        return (
            subprocess.run(
                [sys.executable, "-c", script, f"{folder}/disk"], capture_output=True, check=False
            ).returncode
            == 0
        )


@pytest.mark.skipif(not small_disks(), reason="this computer allows nobody but root a mount namespace")
class TestDisk:
    """Tests a tmpfs: the tools fail as on any full disk. It counts in pages of 4 KiB."""

    @pytest.mark.parametrize(
        "command", ["cat >x", "cat >>x", "dd of=x status=none", "gzip -1 | gzip -dc >x", "tee x >y"]
    )
    def test_what_is_written_ends_there(self, start: Start, command: str) -> None:
        phone = start("disk:65536", connect=False).connect()
        done = phone.sh(f"cd /data/local/tmp; {command}", bytes(200_000))
        assert done.returncode != 0
        assert b"No space left on device" in done.stderr
        assert sum(path.stat().st_size for path in phone.tmp.iterdir()) <= 65_536
        assert phone.sh("cd /data/local/tmp; df -k .").stdout.split()[10] == b"0"
        assert phone.sh("cd /data/local/tmp; rm -f x y; echo hi >e; cat e").stdout == b"hi\n"

    def test_what_was_there_stays(self, start: Start, tmp_path: Path) -> None:
        tmp = tmp_path / "phone0/storage/data/local/tmp"
        (tmp / "folder").mkdir(parents=True)
        (tmp / "folder/file").write_bytes(bytes(10_000))
        phone = start("disk:8192", connect=False).connect()
        assert (
            phone.sh("cd /data/local/tmp; wc -c <folder/file; head -c 8192 /dev/zero >x && echo fits").stdout
            == b"10000\nfits\n"
        )
        assert phone.sh("cd /data/local/tmp; echo more >y").returncode != 0

    def test_push(self, start: Start, tmp_path: Path) -> None:
        phone = start("disk:300000", connect=False).connect()
        (tmp_path / "file").write_bytes(bytes(200_000))
        assert phone.adb.run("push", tmp_path / "file", "/data/local/tmp/one").returncode == 0
        refused = phone.adb.run("push", tmp_path / "file", "/data/local/tmp/two")
        assert refused.returncode == 1
        assert b"No space left on device" in refused.stdout + refused.stderr
        assert [path.name for path in phone.tmp.iterdir()] == ["one"]

    def test_outputs_of_a_run(self, start: Start) -> None:
        phone = start("disk:30000", "run-time:0", connect=False).connect().with_inputs()
        done = phone.sh(RUN)
        assert done.returncode == 1
        assert b"No space left on device" in done.stderr
        assert len(phone.outputs()) < INPUTS * 2


def test_a_small_disk_that_cannot_be_had_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import bundler.virtual.disk as disk\n"
        "def refuse(*_):\n    raise PermissionError(1, 'Operation not permitted')\n"
        "disk.make_small = refuse\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(VirtualPhoneFailed, match="needs a mount namespace"):
        start_phone(known_socs()["SM8650"], 0, tmp_path / "phone", faults=["disk:1000"])
