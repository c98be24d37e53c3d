"""Tests platforms other than Linux on x86-64, simulated by patches: what they refuse, and what still works.

On a simulated Windows, `os`, `signal` and `socket` lack the names that Windows lacks.
"""

import ast
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import bundler
from bundler import layout
from bundler.bundle import Bundle
from bundler.cli import main
from bundler.device.phone import Phone
from bundler.platforms import Platform, end_session, this_platform
from bundler.sdk.cache import default_sdk
from bundler.virtual.phones import list_phones
from tests.fake_sdk import make_sdk
from tests.phones import virtual_phone
from tests.sdk_server import VERSION, sdk_server, write_archive

MAC, WINDOWS, ARM = ("Darwin", "arm64"), ("Windows", "AMD64"), ("Linux", "aarch64")
SHOWN = {MAC: "macOS on arm64", WINDOWS: "Windows on AMD64", ARM: "Linux on aarch64"}
OTHERS = pytest.mark.parametrize("other", [MAC, WINDOWS, ARM], ids=lambda told: told[0])
ELSEWHERE = pytest.mark.parametrize("other", [MAC, WINDOWS], ids=lambda told: told[0])
ROOT = Path(bundler.__file__).parent
POSIX_MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "syslog", "termios", "tty")
LACKS = {
    "os": (
        "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "WNOHANG", "fchmod", "fork", "geteuid", "getpgid", "getsid",
        "getuid", "killpg", "mkfifo", "posix_spawn", "pread", "sched_getaffinity", "sendfile", "setpgid", "setsid",
        "statvfs", "sysconf", "uname", "waitid",
    ),
    "signal": ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGKILL", "SIGPIPE", "SIGUSR1", "SIGUSR2", "pthread_sigmask"),
    "socket": ("AF_UNIX", "socketpair"),
}  # fmt: skip
LIMIT_S = 120


class Lacking:
    """A module without some of its names."""

    def __init__(self, module: Any, names: tuple[str, ...]) -> None:
        self.__dict__.update({key: value for key, value in vars(module).items() if key not in names})


class SocketOfWindows(socket.socket):
    @property
    def sendmsg(self) -> Any:  # type: ignore[override]
        raise AttributeError("Windows has no sendmsg")


@pytest.fixture(autouse=True)
def first(isolated: None) -> None:
    """Isolates the test before any fixture that writes into the current folder."""


def ours(*, besides: tuple[str, ...] = ()) -> list[str]:
    """Returns the full names of the package's modules, except the virtual phone's and `besides`."""
    found = [each.name for each in pkgutil.walk_packages([str(ROOT)], "bundler.")]
    return [name for name in found if not name.startswith("bundler.virtual") and name not in besides]


def pretend(monkeypatch: pytest.MonkeyPatch, told: tuple[str, str]) -> None:
    """Makes the package detect another platform from now on."""
    monkeypatch.setattr("bundler.platforms.told", lambda: told)
    if told[0] != "Windows":
        return
    monkeypatch.setattr(socket, "socket", SocketOfWindows)
    real = {"os": os, "signal": signal, "socket": socket}
    lacking = {name: Lacking(module, LACKS[name]) for name, module in real.items()}
    for module in map(importlib.import_module, ours()):
        for name, copy in lacking.items():
            if getattr(module, name, None) is real[name]:
                monkeypatch.setattr(module, name, copy)


def refused(capfd: pytest.CaptureFixture[str], code: int, *argv: str) -> tuple[str, str]:
    """Runs a command that must fail with `code`, in two lines; returns its message and its hint."""
    capfd.readouterr()
    assert main(argv) == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    error, hint = lines
    return error, hint


def test_this_computer_does_everything() -> None:
    here = this_platform()
    assert here == Platform("Linux", "x86_64")
    assert (here.has_simulator, here.runs_sdk_tools, here.runs_virtual_phones) == (True, True, True)


@OTHERS
def test_build_names_the_computer_and_the_way_out(
    other: tuple[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, model_folder: Path
) -> None:
    pretend(monkeypatch, other)
    model = str(model_folder / "model.onnx")
    for argv in (("build",), ("build", "--model", model), ("build", "--converter", "built-in"), ("demo",)):
        error, hint = refused(capfd, 4, *argv)
        assert f"no DLC converter and no DSP simulator on this machine: this is {SHOWN[other]}" in error
        assert "Linux on x86-64" in hint
        assert "--sdk" in hint
        assert "deploy, fetch-answers and evaluate" in hint
    assert list(Path().iterdir()) == []


@ELSEWHERE
def test_build_with_the_sdk_of_linux(
    other: tuple[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sdk = make_sdk(tmp_path, "2.25")
    pretend(monkeypatch, other)
    error, hint = refused(capfd, 4, "build", "--sdk", str(sdk))
    assert f"the SDK's converters run on Linux, and this is {SHOWN[other]}" in error
    assert "Linux on x86-64" in hint
    assert list(Path().iterdir()) == []


@OTHERS
def test_a_dlc_cannot_be_read(
    other: tuple[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bundle: Bundle
) -> None:
    dlc = str(bundle.path / layout.DEVICE / layout.MODEL)
    pretend(monkeypatch, other)
    assert SHOWN[other] in refused(capfd, 4, "inspect", dlc)[0]
    tokenizer = str(bundle.path / layout.HOST / layout.TOKENIZER)
    assert SHOWN[other] in refused(capfd, 4, "build", "--model", dlc, "--tokenizer", tokenizer)[0]


@ELSEWHERE
def test_virtual_phones_are_for_linux(
    other: tuple[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with virtual_phone(tmp_path / "state/mbqa-bundle/phones/0") as phone:
        assert [each.serial for each in list_phones(tmp_path / "state/mbqa-bundle/phones")] == [phone.serial]
        pretend(monkeypatch, other)
        error, hint = refused(capfd, 5, "phone", "start", "--port", "0")
        assert error == f"error: virtual phone: it runs on Linux only, and this is {SHOWN[other]}"
        assert hint == "hint: Use Linux, or attach a real phone."
        assert main(["phone", "list", "--json"]) == 0
        assert json.loads(capfd.readouterr().out) == []
        refused(capfd, 5, "phone", "stop")
        monkeypatch.undo()


@pytest.fixture(scope="module")
def attached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    """Provides a phone at an adb server that was started before the platform changes."""
    with virtual_phone(tmp_path_factory.mktemp("phone")) as phone:
        yield phone


@OTHERS
def test_doctor_tells_what_the_computer_can_do(
    other: tuple[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, attached: Phone
) -> None:
    adb = ("--adb-host", attached.server.host, "--adb-port", str(attached.server.port))
    assert main(["doctor", "--json", *adb]) == 0
    here = {row["what"]: row for row in json.loads(capfd.readouterr().out)["here"]}
    assert (here["computer"]["ok"], here["computer"]["found"]) == (True, "Linux on x86_64")
    pretend(monkeypatch, other)
    assert main(["doctor", "--json", *adb]) == 0  # nothing is missing for what can be done here
    here = {row["what"]: row for row in json.loads(capfd.readouterr().out)["here"]}
    computer, libraries = here["computer"], here["Qualcomm's libraries (DLC writer, DSP simulator)"]
    assert not computer["ok"]
    assert computer["found"].startswith(f"{SHOWN[other]}: ")
    assert ("runs no virtual phone" in computer["found"]) == (other is not ARM)
    assert computer["remedy"] == "To build, use Linux on x86-64."
    assert (libraries["ok"], libraries["needed"]) == (False, False)
    assert "Linux on x86-64" in libraries["remedy"]


def answered(bundle: Path, phone: Phone, capfd: pytest.CaptureFixture[str]) -> tuple[bytes, Any]:
    """Deploys, fetches and evaluates; returns answers.json without the run's times, and the scores."""
    adb = ("--bundle", str(bundle), "--adb-host", phone.server.host, "--adb-port", str(phone.server.port))
    capfd.readouterr()
    assert main(["deploy", "--device", phone.serial, "--runtime", "cpu", "--chunk", "2", "--verify", *adb]) == 0
    capfd.readouterr()
    assert main(["fetch-answers", "--json", *adb]) == 0
    document = json.loads(capfd.readouterr().out)
    assert main(["evaluate", str(bundle), "--json"]) == 0
    (run,) = json.loads(capfd.readouterr().out)["runs"]
    assert (bundle / layout.RUNS / layout.REPORT).is_file()
    return json.dumps(document["answers"]).encode(), run["agreement"]


@pytest.mark.slow
@OTHERS
def test_a_bundle_from_linux_is_deployed_fetched_and_evaluated(
    other: tuple[str, str], capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, bundle: Bundle,
    attached: Phone, tmp_path: Path,
) -> None:  # fmt: skip
    bundle.path.rename(tmp_path / "here/carried")
    pretend(monkeypatch, other)
    there = answered(Path("carried"), attached, capfd)
    written = {
        path.relative_to("carried").as_posix(): path.read_bytes()
        for path in Path("carried/runs").rglob("*.json")
    }  # fmt: skip
    monkeypatch.undo()
    assert written
    assert [name for name, content in written.items() if b"\r" in content or b"\\\\" in content] == []
    monkeypatch.chdir(tmp_path / "here")
    assert main(["clean", "--device", attached.serial, "--all", *("--adb-port", str(attached.server.port))]) == 0
    assert answered(Path("carried"), attached, capfd) == there


@ELSEWHERE
def test_the_sdk_is_fetched_there_too(
    other: tuple[str, str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with sdk_server(write_archive(tmp_path / "sdk.zip")) as server:
        pretend(monkeypatch, other)
        argv = ["sdk", "get", VERSION, "--accept-licence", "--mirror", server.mirror, "--json"]
        assert main(argv) == 0
    fetched = json.loads(capfd.readouterr().out)
    assert (Path(fetched["path"]) / "bin/aarch64-android/snpe-net-run").is_file()
    assert default_sdk() == Path(fetched["path"])


@ELSEWHERE
def test_try_says_where_it_can_build(
    other: tuple[str, str], phone: Phone, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    pretend(monkeypatch, other)
    adb = ("--device", phone.serial, "--adb-host", phone.server.host, "--adb-port", str(phone.server.port))
    assert main(["try", "--yes", *adb]) == 6
    said = capfd.readouterr().out
    assert "built-in-build: no DLC converter" in said
    assert "  next: Build on Linux on x86-64" in said
    assert Path("report.zip").is_file()


def test_nothing_imports_what_windows_lacks() -> None:
    """The modules are hidden from the package only: its dependencies handle their absence."""
    code = f"""
import builtins, importlib
real = builtins.__import__
def refuse(name, globals=None, *rest):
    if name.partition(".")[0] in {POSIX_MODULES} and (globals or {{}}).get("__name__", "").startswith("bundler"):
        raise ModuleNotFoundError(f"no {{name}} on Windows, for {{globals['__name__']}}")
    return real(name, globals, *rest)
builtins.__import__ = refuse
for name in {[*ours(), "bundler.virtual.faults", "bundler.virtual.phones"]}:
    importlib.import_module(name)
try:
    import bundler.virtual.life
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert (done.returncode, done.stdout) == (0, "no fcntl on Windows, for bundler.virtual.life\n"), done.stderr


def text_writers(tree: ast.AST) -> Iterator[ast.Call]:
    """Returns calls that write text: write_text, and open with a mode for text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            modes = [arg.value for arg in node.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
            opened = node.func.attr == "open" and any(set(mode) & set("wax") and "b" not in mode for mode in modes)
            if node.func.attr == "write_text" or opened:
                yield node


def test_text_is_written_with_the_same_line_ends_and_encoding_everywhere() -> None:
    count = 0
    for name in ours():
        path = Path(str(importlib.import_module(name).__file__))
        for call in text_writers(ast.parse(path.read_text(encoding="utf-8"))):
            count += 1
            said = {word.arg: word.value.value for word in call.keywords if isinstance(word.value, ast.Constant)}
            assert (said.get("newline"), said.get("encoding")) == ("\n", "utf-8"), f"{path.name}:{call.lineno}"
    assert count > 10


def test_what_a_console_cannot_show_is_no_failure() -> None:
    """Uses Windows' encodings, which pipes get there: text is escaped, and JSON stays JSON."""
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "bundler.cli", "build", "--questions", "橋.json"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith(rb"error: \u6a4b.json: cannot be read: ")
    code = "from bundler.console import Console\nConsole(as_json=True).document({'caf\u00e9': '橋'})"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, timeout=LIMIT_S, check=True
    )
    assert json.loads(done.stdout.decode("ascii")) == {"café": "橋"}


def test_no_adb_program(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """adbutils includes one for some platforms only; elsewhere it may be on the PATH, or missing."""
    monkeypatch.setattr("adbutils._utils._is_valid_exe", lambda _: False)
    monkeypatch.delenv("ADBUTILS_ADB_PATH", raising=False)
    error, hint = refused(capfd, 4, "demo")
    assert "No adb exe could be found" in error
    assert "platform tools" in hint
    assert main(["doctor", "--json", "--adb-port", "9"]) == 4
    rows = {row["what"]: row for row in json.loads(capfd.readouterr().out)["here"]}
    assert not rows["adb server"]["ok"]
    assert "platform tools" in rows["adb server"]["remedy"]


def test_ending_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ends all its processes, or on Windows what Windows supports; an ended session is no error."""
    parent = "import subprocess, sys; p = subprocess.Popen(['sleep', '600']); print(p.pid, flush=True); p.wait()"
    for told in (("Linux", "x86_64"), WINDOWS):
        leader = subprocess.Popen([sys.executable, "-c", parent], stdout=subprocess.PIPE, start_new_session=True)
        assert leader.stdout
        child = int(leader.stdout.readline())
        try:
            pretend(monkeypatch, told)
            end_session(leader)
            assert leader.wait(LIMIT_S) == -signal.SIGKILL
            end_session(leader)
            monkeypatch.undo()
            if told != WINDOWS:
                assert leader.stdout.read() == b""  # the child held it too
        finally:
            leader.stdout.close()
            if told == WINDOWS:
                os.kill(child, signal.SIGKILL)


@pytest.mark.slow
def test_memory_is_limited_where_it_can_be() -> None:
    code = (
        "from bundler import platforms\n"
        "platforms.told = lambda: ({system!r}, '')\n"
        "platforms.limit_memory(1 << 30)\n"
        "try:\n    bytearray(2 << 30)\nexcept MemoryError:\n    print('limited')\n"
    )
    for system, said in (("Linux", "limited\n"), ("Windows", "")):
        command = [sys.executable, "-c", code.format(system=system)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=True)
        assert done.stdout == said


@pytest.mark.parametrize("port", ["", "abc", "70000", "-1"])
def test_a_port_of_adb_that_is_none_does_not_hinder_what_needs_no_adb(port: str) -> None:
    """adbutils reads the variable at its import."""
    code = (
        "import os, bundler.device.server; from bundler.cli import main;"
        f"assert os.environ['ANDROID_ADB_SERVER_PORT'] == {port!r}; raise SystemExit(main(['inspect', 'nowhere']))"
    )
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": port}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert done.stderr.startswith("error: nowhere")
