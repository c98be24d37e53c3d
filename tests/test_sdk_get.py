"""Tests `sdk get` and related commands with a local server on 127.0.0.1; no test uses the internet."""

import errno
import json
import os
import random
import signal
import socket
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import typer

from bundler import platforms
from bundler.cli import main
from bundler.engines import hexagons_in
from bundler.errors import BundlerError, SdkDamaged, SdkUnreachable, UsageError
from bundler.files import sha256_of
from bundler.model.sdk import device_parts, open_sdk
from bundler.sdk import cache as sdk_cache
from bundler.sdk import versions
from bundler.sdk.cache import default_sdk
from bundler.sdk.get import GetRequest, get_sdk
from bundler.sdk.selection import REQUESTS, is_wanted, joined
from bundler.sdk.versions import Known, address, checked_address, checked_version, known_versions
from bundler.soc import known_socs
from tests.fake_sdk import make_sdk
from tests.sdk_server import HEXAGONS, VERSION, SdkServer, sdk_files, sdk_server, write_archive

NET_RUN = "bin/aarch64-android/snpe-net-run"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy")
TAIL_BYTES = 20_000  # of archives that are as small as these; what is asked for first
Capture = pytest.CaptureFixture[str]


@pytest.fixture(autouse=True)
def first(isolated: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*PROXIES, "MBQA_SDK_MIRROR", "REQUESTS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("bundler.sdk.remote.PAUSE_S", 0.001)
    monkeypatch.setattr("bundler.sdk.remote.TAIL_BYTES", TAIL_BYTES)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_archive(tmp_path_factory.mktemp("archive") / "sdk.zip", unit=400)


@pytest.fixture
def server(archive: Path) -> Iterator[SdkServer]:
    with sdk_server(archive) as made:
        yield made


@pytest.fixture
def cache() -> Path:
    return Path(os.environ["MBQA_SDK_CACHE"])


@pytest.fixture
def scattered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disables the joining of near files, except to limit the number of requests."""
    monkeypatch.setattr("bundler.sdk.selection.ALWAYS_BYTES", 0)


def get(server: SdkServer, *options: str, version: str = VERSION) -> int:
    return main(["sdk", "get", version, "--accept-licence", "--mirror", server.mirror, *options])


def refused(capfd: Capture, code: int, said: str, *argv: str) -> str:
    """Runs a command that must fail, in two lines, without a usable SDK afterwards; returns the hint."""
    capfd.readouterr()
    assert main(argv) == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith(("error: ", "hint: "))]
    assert [line.partition(": ")[0] for line in lines] == ["error", "hint"]
    assert said in lines[0]
    assert sdk_cache.versions_in(sdk_cache.cache_folder()) == []
    return lines[1]


def get_refused(capfd: Capture, code: int, said: str, server: SdkServer, *options: str, version: str = VERSION) -> str:
    return refused(
        capfd, code, said, "sdk", "get", version, "--accept-licence", "--mirror", server.mirror, *options
    )  # fmt: skip


def request(server: SdkServer, cache: Path, **changes: Any) -> GetRequest:
    plain = GetRequest(
        cache=cache, agree=lambda _: None, warn=lambda _: None, version=VERSION, mirror=server.mirror, timeout_s=20
    )
    return replace(plain, **changes)


def files_in(folder: Path) -> dict[str, int]:
    return {path.relative_to(folder).as_posix(): path.stat().st_size for path in folder.rglob("*") if path.is_file()}


# --- what it brings ---


@pytest.mark.usefixtures("scattered")
def test_what_a_phone_needs_and_nothing_else(server: SdkServer, cache: Path, capfd: Capture) -> None:
    assert get(server, "--json") == 0
    document = json.loads(capfd.readouterr().out)
    root = cache / VERSION
    here = files_in(root)
    assert here.keys() - {"fetched.json"} == {path for path in sdk_files() if is_wanted(path, "run", None)}
    with zipfile.ZipFile(server.archive) as packed:
        assert all(
            (root / path).read_bytes() == packed.read(f"qairt/{VERSION}/{path}")
            for path in here
            if path != "fetched.json"
        )
    assert os.access(root / NET_RUN, os.X_OK)
    sdk = open_sdk(root)
    assert (sdk.version, sdk.hexagons) == (VERSION, HEXAGONS)
    assert hexagons_in(device_parts(sdk)) == set(HEXAGONS) - {66}
    assert {"LICENSE.pdf", "NOTICE.txt", "QNN_NOTICE.txt"} <= here.keys()
    assert sum(request.sent for request in server.requests) == document["received_bytes"] == server.sent
    assert len(server.requests) - 1 == document["requests"] - 1 <= REQUESTS + 4
    assert files_in(cache).keys() - {f"{VERSION}/{path}" for path in here} == {f".{VERSION}.lock"}


def test_it_asks_by_get_under_its_own_name_and_follows_one_redirect(server: SdkServer) -> None:
    assert get(server) == 0
    asked = server.requests
    assert {request.method for request in asked} == {"GET"}
    assert {request.agent for request in asked} == {"mbqa-bundle/0.1.0"}
    assert all(request.span for request in asked)
    where = [request.path.split("/")[1] for request in asked]
    assert where == ["front", *["gateway"] * (len(asked) - 1)]
    assert asked[0].path == f"/front/{VERSION}/v{VERSION}.zip"


def test_what_is_here_is_not_fetched_again(server: SdkServer, capfd: Capture) -> None:
    assert get(server) == 0
    before = len(server.requests)
    assert main(["sdk", "get", VERSION, "--mirror", server.mirror]) == 0  # and nothing is asked
    assert "nothing to fetch" in capfd.readouterr().out
    assert len(server.requests) == before


def test_more_of_a_version_is_fetched_beside_what_is_here(server: SdkServer, cache: Path) -> None:
    chips = known_socs()
    assert get(server, "--soc", "SM8650") == 0
    assert open_sdk(cache / VERSION).hexagons == (chips["SM8650"].hexagon,)
    before = server.sent
    assert get(server, "--soc", "SM8550") == 0
    assert open_sdk(cache / VERSION).hexagons == (73, 75)
    assert sdk_cache.read_fetched(cache, VERSION).chips == ("SM8550", "SM8650")
    assert server.sent - before < before
    assert get(server, "--for", "convert") == 0
    sdk = open_sdk(cache / VERSION)
    assert sdk.tool("snpe-onnx-to-dlc") is not None
    assert sdk.hexagons == HEXAGONS
    assert (cache / VERSION / "lib/python/qti/aisw/converters.py").is_file()
    assert not (cache / VERSION / "docs").exists()
    assert get(server, "--for", "all") == 0
    assert files_in(cache / VERSION).keys() == {*sdk_files(), "fetched.json"}
    assert get(server) == 0  # less is here already
    assert sdk_cache.read_fetched(cache, VERSION).purpose == "all"


def test_list_path_and_remove(server: SdkServer, cache: Path, capfd: Capture) -> None:
    assert refused(capfd, 4, "no SDK was fetched", "sdk", "path") == "hint: Fetch it: `mbqa-bundle sdk get`."
    assert get(server) == 0
    for version in ("2.9.0.240101", "2.100.0.270102"):
        assert (
            main(
                ["sdk", "get", version, "--zip", str(write_archive(Path("a.zip"), version=version)), "--accept-licence"]
            )
            == 0
        )
    capfd.readouterr()
    assert main(["sdk", "path"]) == 0
    assert capfd.readouterr().out == f"{cache / '2.100.0.270102'}\n"  # the newest by number
    assert main(["sdk", "path", f"v{VERSION}"]) == 0
    assert capfd.readouterr().out == f"{cache / VERSION}\n"
    assert main(["sdk", "list", "--json"]) == 0
    rows = {row["version"]: row for row in json.loads(capfd.readouterr().out)}
    assert list(rows)[:2] == ["2.100.0.270102", VERSION]
    assert rows[VERSION]["state"] == "for run"
    assert rows["2.50.0.260828"]["archive_bytes"] == 2601473189
    assert main(["sdk", "list"]) == 0
    assert main(["sdk", "remove", "2.100.0.270102"]) == 0
    assert main(["sdk", "path"]) == 0
    assert capfd.readouterr().out.endswith(f"{cache / VERSION}\n")
    assert main(["sdk", "remove", "2.100.0.270102"]) == 4
    assert main(["sdk", "path", "2.100.0.270102"]) == 4
    assert main(["sdk", "remove", "../here"]) == 2


def test_doctor_and_build_find_the_newest(server: SdkServer, cache: Path, capfd: Capture, tmp_path: Path) -> None:
    assert default_sdk() is None
    assert get(server) == 0
    assert default_sdk() == cache / VERSION
    named = make_sdk(tmp_path, "2.35")
    assert default_sdk({**os.environ, "SNPE_ROOT": str(named)}) == named
    capfd.readouterr()
    assert main(["doctor", "--json", "--adb-host", "127.0.0.2", "--adb-port", "9"]) == 4  # for want of adb
    rows = {row["what"]: row for row in json.loads(capfd.readouterr().out)["here"]}
    found = rows["Qualcomm's SDK (for a real phone)"]
    assert found["ok"]
    assert f"SDK {VERSION} in {cache / VERSION}" in found["found"]
    assert main(["build", "--limit", "1", "--soc", "SM8650"]) == 0
    shipped = Path("bundle/device/dsp/libSnpeHtpV75Skel.so").read_bytes()
    assert shipped == (cache / VERSION / "lib/hexagon-v75/unsigned/libSnpeHtpV75Skel.so").read_bytes()


# --- how much it takes ---


def sparse_archive(path: Path, *, shuffled: bool) -> Path:
    """Makes an archive of 2.6 GB, mostly holes for files that are not needed. A phone needs 96 MB of it, compressed."""
    made = random.Random(7)
    sizes = sdk_files(unit=240_000)
    names = list(sizes)
    if shuffled:  # as a file system lists a folder: its files in no order
        order = {name: (name.rpartition("/")[0], made.random()) for name in names}
        names.sort(key=lambda name: order[name])
    wanted = sum(sizes[name] for name in names if is_wanted(name, "run", None))
    big = [
        name
        for name in names
        if (name.endswith("libSNPE.so") and "android" not in name) or name == "docs/QNN/page_000.html"
    ]
    hole = (2_600_000_000 - wanted) // len(big)
    with zipfile.ZipFile(path, "w") as packed:
        assert packed.fp is not None
        for name in names:
            full = f"qairt/{VERSION}/{name}"
            if is_wanted(name, "run", None):
                packed.writestr(full, made.randbytes(sizes[name]))
            else:
                info = zipfile.ZipInfo(full)
                info.header_offset, info.CRC = packed.start_dir, 0
                info.file_size = info.compress_size = hole if name in big else sizes[name]
                packed.fp.seek(packed.start_dir)
                packed.fp.write(info.FileHeader(zip64=False))
                packed.filelist.append(info)
                packed.start_dir += 30 + len(full) + info.compress_size
    return path


@pytest.mark.parametrize("shuffled", [False, True])
def test_few_bytes_and_few_requests_of_a_large_archive(
    shuffled: bool, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = sparse_archive(tmp_path / "sdk.zip", shuffled=shuffled)
    assert path.stat().st_size > 2_590_000_000  # so that zipfile writes its directory as zip64
    monkeypatch.setattr("bundler.sdk.remote.TAIL_BYTES", 1 << 20)
    with sdk_server(path) as server:
        assert get(server) == 0
    assert server.sent <= 110_000_000
    assert len(server.requests) <= 25
    assert open_sdk(cache / VERSION).hexagons == HEXAGONS


def test_neighbours_are_one_range() -> None:
    assert joined([]) == []
    assert joined([(10, 20), (0, 10)]) == [(0, 20)]
    assert joined([(0, 10), (100_000, 100_010)]) == [(0, 100_010)]
    far = [(n * 1_000_000, n * 1_000_000 + 10) for n in range(40)]
    assert joined(far[:REQUESTS]) == far[:REQUESTS]
    assert len(joined(far)) <= REQUESTS
    apart = [(n * 100_000_000, n * 100_000_000 + 10) for n in range(40)]
    assert joined(apart) == apart  # rather many requests than gigabytes


@pytest.mark.parametrize(
    ("path", "run", "convert"),
    [
        ("LICENSE.pdf", True, True),
        ("SNPE_NOTICE.txt", True, True),
        ("sdk.yaml", True, True),
        ("examples/LICENSE.txt", False, False),
        ("bin/aarch64-android-clang8.0/snpe-net-run", True, True),
        ("bin/aarch64-android/qnn-net-run", True, True),
        ("bin/aarch64-android/genie-t2t-run", False, False),
        ("bin/aarch64-ubuntu-gcc9.4/snpe-net-run", False, False),
        ("lib/aarch64-android/libQnnModelDlc.so", True, True),
        ("lib/aarch64-android/libSnpeHtpV73CalculatorStub.so", True, True),
        ("lib/aarch64-android/libGenie.so", False, False),
        ("lib/dsp/libSnpeDspV66Skel.so", True, True),
        ("lib/hexagon-v73/unsigned/libQnnHtpV73.so", False, False),
        ("bin/x86_64-linux-clang/qairt-converter", False, True),
        ("bin/envsetup.sh", False, True),
        ("lib/python/qti/aisw/dlc.py", False, True),
        ("lib/x86_64-windows-msvc/SNPE.dll", False, False),
    ],
)
def test_what_is_wanted(path: str, run: bool, convert: bool) -> None:
    assert (is_wanted(path, "run", None), is_wanted(path, "convert", None), is_wanted(path, "all", None)) == (
        run,
        convert,
        True,
    )


def test_a_chip_narrows() -> None:
    chosen = {path for path in sdk_files() if is_wanted(path, "all", {73})}
    assert {path for path in chosen if "V75" in path or "hexagon-v75" in path} == set()
    assert "lib/hexagon-v73/unsigned/libSnpeHtpV73Skel.so" in chosen
    assert "lib/aarch64-android/libQnnHtpV73Stub.so" in chosen


# --- the licence ---


def test_the_licence_is_named_before_anything_is_fetched(
    server: SdkServer, cache: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    argv = ("sdk", "get", VERSION, "--mirror", server.mirror)
    assert "--accept-licence" in refused(capfd, 2, "no terminal", *argv)
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    answers: list[bool | type[BaseException]] = [False, typer.Abort, True]

    def confirm(text: str, err: bool) -> bool:
        shown = capfd.readouterr().out
        assert "AI Stack License of Qualcomm Technologies" in shown
        assert str(cache / VERSION / "LICENSE.pdf") in shown
        assert server.requests == []
        answer = answers.pop(0)
        if isinstance(answer, bool):
            return answer
        raise answer

    monkeypatch.setattr("typer.confirm", confirm)
    for _ in range(2):
        assert main(argv) == 2
        assert "was not accepted" in capfd.readouterr().err
    assert not (cache / VERSION).exists()
    assert main(argv) == 0
    assert (cache / VERSION / "LICENSE.pdf").is_file()


# --- where it is fetched from ---


def test_the_usual_place_is_qualcomms() -> None:
    usual = "https://softwarecenter.qualcomm.com/api/download/software"
    assert (
        address("2.50.0.260828", None)
        == f"{usual}/sdks/Qualcomm_AI_Runtime_Community/All/2.50.0.260828/v2.50.0.260828.zip"
    )
    assert address("2.22.6.240515", None) == f"{usual}/qualcomm_neural_processing_sdk/v2.22.6.240515.zip"
    assert address("2.22.6.240515", "https://a.b/c/") == "https://a.b/c/2.22.6.240515/v2.22.6.240515.zip"
    for each in known_versions():
        assert each.source
        assert checked_version(each.version) == each.version
        assert all(len(digest) == 64 for digest in each.sha256.values())


def test_the_mirror_may_be_a_variable(server: SdkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MBQA_SDK_MIRROR", f"{server.mirror}/")
    assert main(["sdk", "get", VERSION, "--accept-licence"]) == 0


@pytest.mark.parametrize("mirror", ["http://10.0.0.1/x", "http://localhost.evil.org", "http://127.0.0.1.evil.org/x"])
def test_http_is_for_this_computer(mirror: str, capfd: Capture) -> None:
    hint = refused(capfd, 2, "http, on another computer", "sdk", "get", VERSION, "--accept-licence", "--mirror", mirror)
    assert "--insecure" in hint
    assert checked_address(mirror, insecure=True) == mirror


@pytest.mark.parametrize("mirror", ["ftp://a.b/c", "/srv/sdk", "https://", "http://[::1", "https://a:b/"])
def test_what_is_no_address(mirror: str, capfd: Capture) -> None:
    refused(capfd, 2, "not an address", "sdk", "get", VERSION, "--accept-licence", "--mirror", mirror)


def test_names_and_passwords_are_not_shown(server: SdkServer, capfd: Capture, cache: Path) -> None:
    mirror = server.mirror.replace("http://", "http://me:secret@")
    assert main(["sdk", "get", VERSION, "--accept-licence", "--mirror", mirror]) == 0
    shown = capfd.readouterr()
    assert "secret" not in shown.out + shown.err + (cache / VERSION / "fetched.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("version", ["latest", "2.50", "../2.50.0.1", "2.50.0.260828/x"])
def test_what_is_no_version(version: str, server: SdkServer, capfd: Capture) -> None:
    get_refused(capfd, 2, "not a version", server, version=version)


def test_proxies(server: SdkServer, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url)
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    mirror = "http://mirror.invalid/front"
    server.front = (302, f"http://mirror.invalid/gateway/{VERSION}.zip")
    assert main(["sdk", "get", VERSION, "--accept-licence", "--insecure", "--mirror", mirror]) == 0
    assert server.requests[0].path == f"{mirror}/{VERSION}/v{VERSION}.zip"
    assert main(["sdk", "remove", VERSION]) == 0
    argv = ("sdk", "get", VERSION, "--accept-licence", "--mirror", "https://mirror.invalid/front")
    assert "HTTPS_PROXY" in refused(capfd, 4, "403", *argv)
    assert (server.requests[-1].method, server.requests[-1].path) == ("CONNECT", "mirror.invalid:443")


# --- a network and a server that misbehave ---


def test_no_network(server: SdkServer, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    argv = ("sdk", "get", VERSION, "--accept-licence", "--mirror")
    assert "--zip" in refused(capfd, 4, "refused", *argv, "http://127.0.0.1:9/x")

    def no_name(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("socket.getaddrinfo", no_name)
    assert "--mirror" in refused(capfd, 4, "Name or service not known", *argv, "https://mirror.invalid/x")


@pytest.mark.parametrize(
    ("status", "requests", "hint"),
    [(403, 2, "--user-agent"), (404, 2, "sdk list"), (410, 2, "--zip"), (416, 2, "--zip"), (503, 10, "goes on")],
)
def test_refusals(status: int, requests: int, hint: str, server: SdkServer, capfd: Capture) -> None:
    server.status = status
    assert hint in get_refused(capfd, 4, f"it answers {status}", server)
    assert len(server.requests) == requests


def test_a_user_agent_may_be_refused(server: SdkServer, capfd: Capture) -> None:
    assert "--user-agent" in get_refused(capfd, 4, "403", server, "--user-agent", "curl/8.5.0")
    assert get(server, "--user-agent", "Mozilla/5.0") == 0
    assert server.requests[-1].agent == "Mozilla/5.0"


def test_a_captive_portal(server: SdkServer, capfd: Capture) -> None:
    server.kind, server.page = "text/html; charset=utf-8", b"<html>Sign in"
    assert "sign in" in get_refused(capfd, 4, "a web page instead", server)
    server.kind = "application/octet-stream"
    get_refused(capfd, 3, "is not a zip archive", server)
    server.front = (302, "http://portal.example/login")
    assert "sign in" in get_refused(capfd, 4, "it leads to http://portal.example/login", server)


def test_it_follows_one_redirect_and_no_more(server: SdkServer, capfd: Capture) -> None:
    server.front = (302, f"/front/{VERSION}/again.zip")
    get_refused(capfd, 4, "too many redirects", server)
    assert len(server.requests) == 2


@pytest.mark.usefixtures("scattered")
def test_a_cut_in_the_middle_is_gone_on_from_there(server: SdkServer) -> None:
    server.cuts = [15_000, 0, 1_500]  # the first of them in the archive's end
    assert get(server) == 0
    spans = [request.span.removeprefix("bytes=").split("-") for request in server.requests]
    at = next(n for n, request in enumerate(server.requests) if request.sent == 15_000)
    assert int(spans[at + 1][0]) == int(spans[at][0]) + 15_000
    at = next(n for n, request in enumerate(server.requests) if request.sent == 1_500)
    again = next(span for span in spans[at + 1 :] if int(span[0]) == int(spans[at][0]) + 1_500)
    assert again[1] == spans[at][1]


@pytest.mark.usefixtures("scattered")
def test_tries_have_a_limit_and_what_has_come_stays(server: SdkServer, cache: Path, capfd: Capture) -> None:
    def fails_from_here(number: int) -> None:
        if number > 6:
            raise ConnectionError

    server.before_data = fails_from_here
    assert "goes on from there" in get_refused(capfd, 4, "(5 tries)", server)
    kept = files_in(cache / f".{VERSION}.part")
    assert len(kept) > 5
    before, server.before_data = server.sent, lambda _: None
    assert get(server) == 0
    wanted = sum(size for path, size in files_in(cache / VERSION).items() if path != "fetched.json")
    assert server.sent - before < wanted - sum(kept.values()) + 2 * TAIL_BYTES
    assert open_sdk(cache / VERSION).hexagons == HEXAGONS


@pytest.mark.parametrize(("slow_s", "limit_s"), [(3, 0.3), (0.2, 0.5)])
def test_deadlines(slow_s: float, limit_s: float, server: SdkServer, cache: Path) -> None:
    """Uses a silent server, and one that always sends some data in time."""
    ended = threading.Event()

    def wait(_: int) -> None:
        ended.wait(slow_s)

    server.before_data = wait
    began = time.monotonic()
    try:
        with pytest.raises(SdkUnreachable) as caught:
            get_sdk(request(server, cache, timeout_s=limit_s))
    finally:
        ended.set()
    assert time.monotonic() - began < 2.5
    assert f"{limit_s:g} s are over (--timeout)" in str(caught.value)
    assert main(["sdk", "path"]) == 4


def test_a_server_without_ranges(server: SdkServer, cache: Path, capfd: Capture) -> None:
    server.gives_ranges = False
    server.cuts = [100_000]
    assert get(server) == 0
    assert "gives no parts of the archive, so all of it is fetched" in capfd.readouterr().err
    assert files_in(cache / VERSION).keys() - {"fetched.json"} == {p for p in sdk_files() if is_wanted(p, "run", None)}
    assert not list(cache.rglob("*.zip"))


@pytest.mark.usefixtures("scattered")
def test_ctrl_c_in_the_middle(server: SdkServer, cache: Path, capfd: Capture) -> None:
    def interrupt(number: int) -> None:
        if number == 8:
            os.kill(os.getpid(), signal.SIGINT)

    server.before_data = interrupt
    assert "goes on from there" in get_refused(capfd, 130, "interrupted", server)
    assert refused(capfd, 4, "no SDK was fetched", "sdk", "path")
    kept = len(files_in(cache / f".{VERSION}.part"))
    assert kept > 5
    assert get(server) == 0
    assert open_sdk(cache / VERSION).hexagons == HEXAGONS


@pytest.mark.usefixtures("scattered")
def test_an_interrupted_one_is_removed(server: SdkServer, cache: Path, capfd: Capture) -> None:
    server.before_data = lambda number: os.kill(os.getpid(), signal.SIGINT) if number == 8 else None
    get_refused(capfd, 130, "interrupted", server)
    assert main(["sdk", "remove", VERSION]) == 0
    assert files_in(cache).keys() == {f".{VERSION}.lock"}


def test_two_at_once(server: SdkServer, cache: Path, capfd: Capture) -> None:
    second_ended, first_waits = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        first_waits.set()
        second_ended.wait(10)

    server.before_data = hold
    ended: list[object] = []
    thread = threading.Thread(target=lambda: ended.append(get_sdk(request(server, cache))))
    thread.start()
    try:
        assert first_waits.wait(10)
        get_refused(capfd, 4, "another `mbqa-bundle sdk` works on SDK", server)
        refused(capfd, 4, "another `mbqa-bundle sdk` works on SDK", "sdk", "remove", VERSION)
    finally:
        second_ended.set()
        thread.join()
    assert len(ended) == 1
    assert main(["sdk", "path"]) == 0


# --- the folder ---


def test_a_folder_of_another_user(
    server: SdkServer, capfd: Capture, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not platforms.is_of_others(Path.cwd())
    user = os.geteuid()
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: user + 1)
        assert "MBQA_SDK_CACHE" in get_refused(capfd, 4, "belongs to another user", server)
        patch.setattr(platforms, "told", lambda: ("Windows", "AMD64"))
        assert not platforms.is_of_others(Path.cwd())
    assert server.requests == []
    assert get(server) == 0
    monkeypatch.setattr(os, "geteuid", lambda: user + 1)
    for argv in (["sdk", "path"], ["sdk", "list"], ["build"]):
        assert main(argv) == 4
        assert "belongs to another user" in capfd.readouterr().err


def damage(root: Path, how: str) -> str:
    file = root / "lib/aarch64-android/libSNPE.so"
    content = bytearray(file.read_bytes())
    content[50] ^= 1
    match how:
        case "changed":
            file.write_bytes(content)
        case "cut":
            file.write_bytes(content[:-1])
        case "gone":
            file.unlink()
        case "link":
            file.rename(root / "other")
            file.symlink_to(root / "other")
        case "record":
            (root / "fetched.json").write_text("{", encoding="utf-8")
        case _:
            (root / "fetched.json").write_text(how, encoding="utf-8")
    return "fetched.json" if how not in ("changed", "cut", "gone", "link") else "libSNPE.so is not the file"


@pytest.mark.parametrize(
    "how", ["changed", "cut", "gone", "link", "record", "[]", '{"version": 1, "files": {"a": 1}}', "null"]
)
def test_a_damaged_cache(how: str, server: SdkServer, cache: Path, capfd: Capture) -> None:
    assert get(server) == 0
    said = damage(cache / VERSION, how)
    with pytest.raises(SdkDamaged, match=said) as caught:
        default_sdk()
    assert caught.value.exit_code == 4
    assert f"sdk get {VERSION}" in caught.value.hint
    assert main(["sdk", "path"]) == main(["build"]) == 4
    assert not Path("bundle").exists()
    assert main(["sdk", "list"]) == 0
    assert "damaged" in capfd.readouterr().out
    before = server.sent
    assert get(server) == 0
    assert server.sent - before < TAIL_BYTES + 20_000  # the archive's end and the file
    assert default_sdk() == cache / VERSION


def test_a_disk_without_room(server: SdkServer, cache: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: os.terminal_size((0, 0)) and type("Usage", (), {"free": 1000}))
        assert "MBQA_SDK_CACHE" in get_refused(capfd, 4, "are free", server)
    written = 0
    really = Path.open

    class Full:
        def __init__(self, file: Any) -> None:
            self._file = file

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self._file.close()

        def write(self, data: bytes) -> int:
            nonlocal written
            written += len(data)
            if written > 40_000:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return int(self._file.write(data))

    def open_(path: Path, mode: str = "r", *more: Any, **other: Any) -> Any:
        file = really(path, mode, *more, **other)
        return Full(file) if mode == "wb" and cache in path.parents else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_)
        assert "MBQA_SDK_CACHE" in get_refused(capfd, 4, "No space left on device", server)
    assert get(server) == 0
    assert open_sdk(cache / VERSION).hexagons == HEXAGONS


def test_a_folder_that_cannot_be(server: SdkServer, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").touch()
    monkeypatch.setenv("MBQA_SDK_CACHE", str(Path("file/sdks").absolute()))
    get_refused(capfd, 4, "cannot be written", server)


def test_the_usual_folder_is_the_systems(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert sdk_cache.cache_folder({}) == tmp_path / "mbqa-bundle/sdk"


def test_doctor_tells_of_a_damaged_cache(server: SdkServer, cache: Path, capfd: Capture) -> None:
    assert get(server) == 0
    said = damage(cache / VERSION, "changed")
    capfd.readouterr()
    main(["doctor", "--json", "--adb-host", "127.0.0.2", "--adb-port", "9"])
    rows = {row["what"]: row for row in json.loads(capfd.readouterr().out)["here"]}
    assert said in rows["Qualcomm's SDK (for a real phone)"]["found"]


# --- the archive ---


def test_an_archive_that_a_browser_brought(archive: Path, cache: Path, capfd: Capture) -> None:
    assert main(["sdk", "get", "--zip", str(archive), "--accept-licence"]) == 0  # its version is told by itself
    assert "nothing to fetch" in capfd.readouterr().out
    assert open_sdk(cache / VERSION).hexagons == HEXAGONS
    assert main(["sdk", "get", "2.98.0.261201", "--zip", str(archive), "--accept-licence"]) == 3
    assert f"is version {VERSION}, not 2.98.0.261201" in capfd.readouterr().err


@pytest.mark.parametrize("length", [100, 50_000, -1, -30])
def test_a_cut_off_archive(length: int, archive: Path, server: SdkServer, capfd: Capture) -> None:
    cut = Path("cut.zip")
    cut.write_bytes(archive.read_bytes()[:length])
    hint = refused(capfd, 3, "is cut off", "sdk", "get", "--zip", str(cut), "--accept-licence")
    assert "browser" in hint
    server.archive = cut
    get_refused(capfd, 3, "is cut off", server)


def test_what_is_no_archive(server: SdkServer, capfd: Capture) -> None:
    Path("page.zip").write_text("<html>Please sign in", encoding="utf-8")
    refused(capfd, 3, "is not a zip archive", "sdk", "get", "--zip", "page.zip", "--accept-licence")
    refused(capfd, 3, "cannot be read", "sdk", "get", "--zip", "none.zip", "--accept-licence")
    with zipfile.ZipFile("other.zip", "w") as other:
        other.writestr("readme.txt", "hello")
    refused(capfd, 4, "is not an SDK's archive", "sdk", "get", "--zip", "other.zip", "--accept-licence")
    with zipfile.ZipFile("bare.zip", "w") as bare:
        bare.writestr(NET_RUN, "hello")
    assert "sdk get VERSION" in refused(
        capfd, 3, "which version", "sdk", "get", "--zip", "bare.zip", "--accept-licence"
    )
    with zipfile.ZipFile("windows.zip", "w") as windows:
        windows.writestr(f"qairt/{VERSION}/bin/x86_64-windows-msvc/snpe-net-run.exe", "hello")
    server.archive = Path("windows.zip")
    assert "all hosts" in get_refused(capfd, 4, "other hosts: it has programs for x86_64-windows-msvc", server)


def test_another_file_than_the_known_one(
    server: SdkServer, cache: Path, capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    size, knows = server.archive.stat().st_size, Known(VERSION)

    def let_know(**facts: Any) -> None:
        monkeypatch.setattr("bundler.sdk.get.known", lambda version: replace(knows, **facts))

    by_hand = ("sdk", "get", VERSION, "--accept-licence", "--zip", str(server.archive))
    let_know(bytes=size + 1)
    get_refused(capfd, 3, f"is cut off: {size} bytes instead of {size + 1}", server)
    refused(capfd, 3, "is cut off", *by_hand)
    let_know(bytes=size - 1)
    get_refused(capfd, 3, "is another file than the one known", server)
    let_know(bytes=size, sha256_begins="0" * 16)
    refused(capfd, 3, "whose SHA-256 begins 0000000000000000", *by_hand)
    let_know(sha256={"LICENSE.pdf": "0" * 64})
    get_refused(capfd, 3, "LICENSE.pdf: is another file than the one known", server)
    assert not (cache / f".{VERSION}.part").exists()
    digest = sha256_of(server.archive)
    let_know(bytes=size, sha256_begins=digest[:16], sha256={"no/such/file": "0" * 64})
    assert main(by_hand) == 0


def test_what_was_recorded_is_a_pin_too(server: SdkServer, cache: Path, capfd: Capture) -> None:
    assert get(server, "--soc", "SM8650") == 0
    licence = (cache / VERSION / "LICENSE.pdf").read_bytes()
    server.archive = write_archive(Path("changed.zip"), {"LICENSE.pdf": b"other terms"}, unit=400)
    assert get(server) == 3
    assert "LICENSE.pdf: is another file than the one known" in capfd.readouterr().err
    assert (cache / VERSION / "LICENSE.pdf").read_bytes() == licence
    assert main(["sdk", "path"]) == 0


def hostile(path: Path, **change: Any) -> None:
    """Makes an archive with one invalid entry."""
    write_archive(path, unit=100)
    with zipfile.ZipFile(path, "a") as packed:
        info = zipfile.ZipInfo(change.pop("name", f"qairt/{VERSION}/lib/aarch64-android/libQnnHtpV99Stub.so"))
        info.compress_type = change.pop("kind", zipfile.ZIP_STORED)
        packed.writestr(info, change.pop("content", b"evil"))
        for name, value in change.items():
            setattr(info, name, value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"name": "/etc/evil"}, "would lie elsewhere"),
        ({"name": "qairt/../../evil"}, "would lie elsewhere"),
        ({"name": f"qairt/{VERSION}/lib/..\\evil"}, "would lie elsewhere"),
        ({"name": "C:/evil"}, "would lie elsewhere"),
        ({"name": f"qairt/{VERSION}/a\nb"}, "would lie elsewhere"),
        ({"external_attr": 0o120777 << 16}, "is a link"),
        ({"external_attr": 0o020777 << 16}, "is a link, or something else"),
        ({"kind": zipfile.ZIP_LZMA}, "not known here"),
        ({"flag_bits": 1}, "or encrypted"),
        ({"file_size": 1 << 30}, "declares 1074 MB"),
        ({"file_size": 1 << 60, "compress_size": 4}, "declares 1152921504607 MB"),
        ({"compress_size": 1 << 40}, "beyond the end"),
        ({"header_offset": 0}, "lies over another file"),
        ({"name": f"qairt/{VERSION}/LICENSE.pdf/x"}, "is a file, and a folder too"),
        ({"CRC": 5}, "is damaged"),
        ({"file_size": 3}, "is damaged"),
        ({"file_size": 400}, "is damaged"),
        ({"content": b"\0" * 300_000, "kind": zipfile.ZIP_DEFLATED, "file_size": 100}, "is damaged"),
        ({"name": f"qairt/{VERSION}/LICENSE.pdf"}, "is there twice"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_archives(change: dict[str, Any], said: str, server: SdkServer, capfd: Capture, tmp_path: Path) -> None:
    hostile(Path("evil.zip"), **change)
    before = {path for path in tmp_path.rglob("*") if tmp_path / "sdks" not in (path, *path.parents)}
    refused(capfd, 3, said, "sdk", "get", VERSION, "--zip", "evil.zip", "--accept-licence")
    server.archive = Path("evil.zip")
    get_refused(capfd, 3, said, server)
    assert {path for path in tmp_path.rglob("*") if tmp_path / "sdks" not in (path, *path.parents)} == before


def test_a_directory_without_end(server: SdkServer, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.sdk.remote.DIRECTORY_BYTES", 4000)
    monkeypatch.setattr("bundler.sdk.remote.TAIL_BYTES", 3000)
    get_refused(capfd, 3, "declares a directory of", server)


def test_a_long_directory_takes_one_request_more(server: SdkServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bundler.sdk.remote.TAIL_BYTES", 3000)
    assert get(server) == 0


def test_noise_for_an_archive(capfd: Capture) -> None:
    """Any change in the directory leads to a refusal with a message, or to the right files."""
    content, made = write_archive(Path("whole.zip"), unit=100).read_bytes(), random.Random(3)
    start = content.rindex(b"PK\x05\x06") - 9000
    for _ in range(15):
        changed = bytearray(content)
        for _ in range(3):
            changed[made.randrange(start, len(changed))] = made.randrange(256)
        Path("noise.zip").write_bytes(changed)
        assert main(["sdk", "get", VERSION, "--zip", "noise.zip", "--accept-licence", "--soc", "SM8650"]) in (0, 3, 4)
        assert "internal error" not in capfd.readouterr().err
        main(["sdk", "remove", VERSION])


def test_answers_that_are_wrong(server: SdkServer, capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong part is never accepted as the requested one."""
    from tests.sdk_server import Handler

    really = Handler.send_header
    for wrong in ("", "bytes */*", "bytes 5-8/100", "bytes 0-99/100", "bytes 0-3/2", "bytes 0-3/" + "9" * 5000):
        monkeypatch.setattr(
            Handler, "send_header",
            lambda self, name, value, wrong=wrong: really(self, name, wrong if name == "Content-Range" else value),
        )  # fmt: skip
        with pytest.raises(BundlerError) as caught:
            get_sdk(request(server, sdk_cache.cache_folder()))
        assert caught.value.exit_code in (3, 4)


def test_errors_of_usage_name_a_version() -> None:
    with pytest.raises(UsageError, match="not a version"):
        checked_version("x")
    assert versions.order("2.9.0") < versions.order("2.10.0")
