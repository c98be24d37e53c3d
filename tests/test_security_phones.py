"""Tests the claims of docs/security.md about phones: hostile names for a phone's shell, and hostile answers of a phone.

Uses the virtual phone and the one of genuine parts, whose daemon then is not root. Canaries are files that would exist
if any part of a name had been executed.
"""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath

import pytest

from bundler import layout
from bundler.bundle import Bundle, FileEntry
from bundler.cli import main
from bundler.device.blobs import Blob
from bundler.device.chunks import Chunk
from bundler.device.job import PhoneJob, Settings
from bundler.device.outputs import read_outputs
from bundler.device.phone import Phone
from bundler.device.probe import probe
from bundler.device.server import private_adb_server
from bundler.device.store import Store
from bundler.engines import ENGINES
from bundler.errors import BundleInvalid, OutputsInvalid, PhoneNotReady, PhoneRefused
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.resources import DEVICE_SCRIPTS
from bundler.scheduler.supply import base_files
from bundler.soc import known_socs
from bundler.types import Question, QuestionSet
from bundler.virtual import landlock
from bundler.virtual.phones import start_phone, stop_phone
from tests.deploying import deploy, fetch, quiet, sh
from tests.hostile import LONG, names
from tests.phones import TIMED_NET_RUN, genuine_phone, virtual_phone, why_no_genuine_phone
from tests.test_outputs import CHUNK, SPECS, announced, archive, good

pytestmark = pytest.mark.slow

CANARY = PurePosixPath("/data/local/tmp/mbqa-canary")
NAMES = names(CANARY)


@pytest.fixture(scope="module", params=["virtual", pytest.param("genuine", marks=pytest.mark.genuine)])
def phone(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Phone]:
    if request.param == "virtual":
        with virtual_phone(tmp_path_factory.mktemp("phone"), faults=["run-time:0"]) as made:
            yield made
        return
    if reason := why_no_genuine_phone():
        pytest.skip(reason)
    with genuine_phone(net_run=TIMED_NET_RUN, AS_SHELL="1") as made:
        yield made


@pytest.fixture(autouse=True)
def untouched(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Checks that no canary exists on the phone or here, in a separate current folder."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield
    assert not Path(CANARY).exists()
    assert not list(tmp_path.rglob("mbqa-canary"))
    assert list((tmp_path / "here").iterdir()) == []
    if "phone" in request.fixturenames:
        made = request.getfixturevalue("phone")
        found = sh(
            made, f"find /data/local /{CANARY.name} -name {CANARY.name} 2>/dev/null; rm -rf {layout.REMOTE_ROOT}"
        )
        assert found == ""


def test_a_canary_is_seen(phone: Phone) -> None:
    """Proves that the tests can fail: the same words, unquoted, create the file."""
    for words in (*NAMES[:3], NAMES[5], f"'{NAMES[6]}'", f'"{NAMES[7]}"', f'"{NAMES[0]}"'):
        sh(phone, f"echo {words}\ntrue")
        assert sh(phone, f"ls {CANARY} && rm {CANARY}").strip().endswith(str(CANARY)), words


def test_arguments_come_as_they_are(phone: Phone) -> None:
    argv = [*names(PurePosixPath("/mbqa-canary")), LONG, ""]
    done = phone.run(["sh", "-c", "printf '%s\\0' \"$@\"", "sh", *argv], doing="echoing")
    assert done.stdout.decode() == "".join(f"{each}\0" for each in argv)


def test_a_null_byte_is_refused(phone: Phone) -> None:
    with pytest.raises(ValueError, match="null byte"):
        phone.run(["echo", f"a\0; touch {CANARY}"], doing="echoing")


def test_settings_of_a_run(phone: Phone) -> None:
    """Job ids, runtimes, profiles, platform options are refused here, and by the phone's script if they get there (each
    name in one of them; the runtime is an argument: test_arguments_come_as_they_are)."""
    script = Blob.of(DEVICE_SCRIPTS / layout.JOB)
    store = Store(phone, quiet)
    store.push([script], None)
    store.link("bundle", {layout.JOB: script})
    job, good = PhoneJob(phone, "bundle", "cpu"), Settings("0123", "cpu")
    odd = [name for name in NAMES if not all(char.isalnum() or char in "_:;.,=+-" for char in name)]
    assert len(odd) > 20
    texts = [each.name for each in fields(Settings) if each.name != "chunk"]
    for number, name in enumerate(odd):
        for field in texts:
            with pytest.raises(ValueError, match="is not a setting of a run"):
                replace(good, **{field: name})  # type: ignore[arg-type]
        unchecked = replace(good)
        object.__setattr__(unchecked, [field for field in texts if field != "runtime"][number % 4], name)
        with pytest.raises(PhoneRefused, match="starting the run failed"):
            job.start(unchecked, [Chunk(0, 1)])
        assert job.status().settings is None
    assert sh(phone, f"cd {layout.remote_bundle('bundle')} && ls") == f"{layout.JOB}\n"


def test_settings_that_a_phone_tells(phone: Phone) -> None:
    """Settings that a phone reports for our run are not trusted, and none of them are sent back."""
    script = Blob.of(DEVICE_SCRIPTS / layout.JOB)
    Store(phone, quiet).push([script], None)
    Store(phone, quiet).link("bundle", {layout.JOB: script})
    folder = layout.remote_bundle("bundle") / "jobs/cpu"
    sh(
        phone,
        f"mkdir -p {folder} && cd {folder} && echo \"run='0123'\nprofile='\\$(touch x)'\nchunk_size='5'\" >settings",
    )
    assert PhoneJob(phone, "bundle", "cpu").status().settings is None


def test_names_of_files_and_bundles_on_the_phone(phone: Phone, bundle: Bundle, tmp_path: Path) -> None:
    """Custom libraries and other names in a foreign manifest are refused here, and harmless on the phone."""
    facts, blob = probe(phone), Blob.of(DEVICE_SCRIPTS / layout.JOB)
    for name in [*(f"lib/{name}" for name in NAMES), *NAMES]:
        files = {**bundle.manifest.files, f"device/{name}": FileEntry(blob.size, blob.sha256)}
        foreign = replace(bundle, manifest=replace(bundle.manifest, files=files))
        with pytest.raises(BundleInvalid, match="has a name that cannot go to a phone"):
            base_files(foreign, facts, Settings("0123", "cpu"), tmp_path)
    store = Store(phone, quiet)
    store.push([blob], None)
    for name in NAMES:
        try:
            store.link(name.replace("/", "").replace("..", "x"), {f"lib/{name.replace('/', '')}": blob})
        except PhoneRefused:
            continue


def test_hostile_texts_and_folders_from_end_to_end(
    phone: Phone, request_for: BuildRequest, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Question ids, questions, titles, contexts and the bundle's folder return unchanged, and are only text."""
    texts = names(tmp_path / "mbqa-canary")
    asked = tuple(Question(text, f"Who {text}?", f"The bridge {text} was built.", text) for text in texts)
    for folder in (f"$(touch {CANARY.name}) `touch {CANARY.name}` '\" ; -x", "-rf"):
        out = tmp_path / folder / "bundle"
        bundle = build_bundle(replace(request_for, questions=QuestionSet(asked, False)), out, quiet)
        run = deploy(phone, bundle)
        fetched = fetch(phone, bundle)
        assert [answer.question_id for answer in fetched.answers] == list(texts)
        assert main(["evaluate", str(out)]) == 0
        said = capfd.readouterr()
        assert "\x1b" not in said.out + said.err
        told = json.loads(fetched.path.read_text(encoding="utf-8"))["answers"]
        assert [row["question"] for row in told] == [question.text for question in asked]
        assert all(layout.file_safe(path.name) == path.name for path in run.folder(out).rglob("*"))
        assert {path.name for path in out.iterdir()} <= {
            layout.MANIFEST, layout.DEVICE, layout.HOST, layout.RUNS, "manifest.sha256",
        }  # fmt: skip


@pytest.mark.parametrize("option", ["--device", "--runtime", "--perf-profile", "--fallback", "--adb-host"])
def test_options_of_the_command_line(
    option: str, bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str], nobody: tuple[str, ...]
) -> None:
    for name in [*names(tmp_path / "mbqa-canary"), LONG]:
        code = main(["deploy", "--bundle", str(bundle.path), *nobody, f"{option}={name}"])
        said = capfd.readouterr()
        assert code in (2, 4, 5), (name, said.err)
        assert "\x1b" not in said.out + said.err
        assert "Traceback" not in said.err


@pytest.fixture
def nobody() -> tuple[str, ...]:
    """Returns options for an unreachable adb server of another computer, which cannot be started."""
    return ("--adb-host", "192.0.2.1", "--adb-port", "1", "--timeout", "1")


def test_serials_are_only_names(phone: Phone, bundle: Bundle, tmp_path: Path) -> None:
    """A serial becomes part of files' names: always a single name, and no other folder."""
    for serial in [*NAMES, LONG]:
        folder = layout.run_folder(bundle.path, "cpu", [serial])
        assert folder.parent == bundle.path / layout.RUNS
        assert layout.file_safe(folder.name.replace("+", "")) == folder.name.replace("+", "")
        assert len(folder.name) < 255
        for path in (layout.log_of(serial), layout.bench_file(bundle.path, "cpu", serial).name):
            assert "/" not in path


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


ESCAPES: dict[str, Callable[[Path], tarfile.TarInfo]] = {
    "an absolute path": lambda canary: special(str(canary), tarfile.REGTYPE),
    "a path upwards": lambda canary: special("../../canary", tarfile.REGTYPE),
    "a path upwards inside": lambda canary: special("Result_0/../../../canary", tarfile.REGTYPE),
    "a link": lambda canary: special("Result_0/start_logits.raw", tarfile.SYMTYPE, str(canary)),
    "a hard link": lambda canary: special("Result_0/start_logits.raw", tarfile.LNKTYPE, str(canary)),
    "a device": lambda canary: special("canary", tarfile.CHRTYPE),
    "a pipe": lambda canary: special("canary", tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("way", ESCAPES)
def test_nothing_from_a_phone_is_written_by_its_own_name(way: str, tmp_path: Path) -> None:
    info = ESCAPES[way](tmp_path / "mbqa-canary")
    with pytest.raises(OutputsInvalid, match="which is not a plain file of the outputs"):
        read_outputs(archive(good(), info), announced(good()), CHUNK, SPECS, "phone x", ENGINES["snpe"].time_log)


def test_sizes_that_a_phone_makes_up(tmp_path: Path) -> None:
    """Uses an entry of many terabytes in a small archive, and an archive that unpacks to more than is allowed."""
    huge = special("Result_0/other", tarfile.REGTYPE)
    huge.size = 1 << 32
    bare = io.BytesIO(huge.tobuf(tarfile.USTAR_FORMAT))
    with pytest.raises(OutputsInvalid, match="archive"):
        read_outputs(bare, announced(good()), CHUNK, SPECS, "phone x")
    with pytest.raises(OutputsInvalid, match="archive"):
        read_outputs(archive({**good(), "Result_0/zeros": bytes(100_000_000)}), announced(good()), CHUNK, SPECS, "x")


def test_another_users_adb_is_unauthorized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = start_phone(known_socs()["SM8650"], 0, tmp_path / "phone")
    try:
        monkeypatch.setenv("HOME", str(tmp_path / "stranger"))
        monkeypatch.delenv("ADB_VENDOR_KEYS", raising=False)
        with private_adb_server() as server, pytest.raises(PhoneNotReady, match="unauthorized"):
            server.find(phone.serial)
    finally:
        stop_phone(phone)


@pytest.mark.skipif(not landlock.version(), reason="this kernel has no Landlock")
def test_the_virtual_phone_reaches_nothing_here(tmp_path: Path) -> None:
    """It cannot reach this computer's files, also through links and upwards, or other processes."""
    secret, out, up = tmp_path / "secret", tmp_path / "out", "../" * 40
    secret.write_text("secret")
    with virtual_phone(tmp_path / "phone") as phone:
        sh(phone, f"cd /data/local/tmp && ln -s {secret} file && ln -s {tmp_path} folder")
        for script in (
            f"cat {secret}", f"cat {up}{secret}", f"cat <{secret}", "cat file", "cat folder/secret", "cat <folder/s*",
            f"cp {secret} c; cat c", f"tar -c {secret} | tar -x -O", f"sha256sum {secret}", f"echo x >{out}",
            f"echo x >{up}{out}", "echo x >folder/out", "touch folder/out", f"mkdir -p {out}", f"touch {out}",
            f"/usr/bin/touch {out}", f"/bin/sh -c 'touch {out}'", f"{sys.executable} -c 'open(\"{out}\", \"w\")'",
            f"echo x | tee {out}", f"dd if=/dev/zero of={out} count=1", f"rm -rf {secret}", f"mv {secret} m; cat m",
        ):  # fmt: skip
            done = phone.run(["sh", "-c", f"cd /data/local/tmp; {script}"], doing="trying", check=False)
            assert b"secret" not in done.stdout, script
            assert {path.name for path in tmp_path.iterdir()} == {"here", "phone", "secret"}, script
        outside = subprocess.Popen(["sleep", "60"])
        try:
            sh(phone, f"kill {outside.pid} || true; kill -9 {outside.pid} || true")
            assert outside.poll() is None or landlock.version() < 6
        finally:
            outside.kill()
            outside.wait()
        with pytest.raises(PhoneRefused):
            phone.send(f"/data/local/tmp/folder/{out.name}", [b"x"], doing="sending", stall_s=5.0)
    assert secret.read_text() == "secret"
    assert {path.name for path in tmp_path.iterdir()} == {"here", "phone", "secret"}
