"""Tests outputs in the phone's archive: only announced, valid files are kept, and none is written elsewhere."""

import hashlib
import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bundler.device import job
from bundler.device.chunks import Chunk
from bundler.device.job import Announced, _ChunkReader
from bundler.device.outputs import Unsound, keep, kept_chunks, load, most_bytes, read_outputs
from bundler.errors import OutputsInvalid
from bundler.types import TensorSpec

SPECS = (TensorSpec("start_logits", "float32", (1, 4)), TensorSpec("end_logits", "float32", (1, 4)))
CHUNK = Chunk(10, 12)


def good() -> dict[str, bytes]:
    return {
        f"./Result_{line}/{spec.name}.raw": np.arange(4, dtype="<f4").tobytes() + b"" if line else bytes(16)
        for line in range(2)
        for spec in SPECS
    }


def archive(files: dict[str, bytes], *special: tarfile.TarInfo) -> io.BytesIO:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as tar:
        for info in special:
            tar.addfile(info)
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    made.seek(0)
    return made


def announced(files: dict[str, bytes]) -> Announced:
    sums = {name.removeprefix("./"): hashlib.sha256(content).hexdigest() for name, content in files.items()}
    return Announced(1, sums, "cpu", "0", "1")


def read(files: dict[str, bytes], *special: tarfile.TarInfo, told: dict[str, bytes] | None = None) -> Any:
    logits, _ = read_outputs(archive(files, *special), announced(told or files), CHUNK, SPECS, "phone x")
    return logits


def test_outputs_become_arrays() -> None:
    logits = read(good())
    assert set(logits) == {"start_logits", "end_logits"}
    assert logits["end_logits"].dtype == np.float32
    assert logits["end_logits"].tolist() == [[[0, 0, 0, 0]], [[0, 1, 2, 3]]]


def test_names_with_a_suffix_are_known() -> None:
    renamed = {name.replace("start_logits", "start_logits:0"): content for name, content in good().items()}
    assert read(renamed)["start_logits"].tolist() == read(good())["start_logits"].tolist()


def test_other_files_are_passed_over() -> None:
    assert read({**good(), "./SNPEDiag_0.log": b"x" * 100, "./odd $(id)\nname": b"y"})["start_logits"].shape == (
        2,
        1,
        4,
    )


def test_the_engines_log_is_checked_too() -> None:
    files = {**good(), "./SNPEDiag_0.log": b"times"}
    damaged = {**files, "./SNPEDiag_0.log": b"Times"}
    assert read_outputs(archive(files), announced(files), CHUNK, SPECS, "phone x", "SNPEDiag_0.log")[1] == b"times"
    with pytest.raises(OutputsInvalid, match=r"SNPEDiag_0\.log is not what its checksum"):
        read_outputs(archive(damaged), announced(files), CHUNK, SPECS, "phone x", "SNPEDiag_0.log")


def entry(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    "hostile",
    [
        entry("/etc/passwd"),
        entry("../../escaped"),
        entry("Result_0/../../escaped"),
        entry("link", tarfile.SYMTYPE, "/etc/passwd"),
        entry("hard", tarfile.LNKTYPE, "/etc/passwd"),
        entry("device", tarfile.CHRTYPE),
        entry("pipe", tarfile.FIFOTYPE),
        entry("Result_0/start_logits.raw", tarfile.SYMTYPE, "/etc/passwd"),
    ],
    ids=lambda info: info.name,
)
def test_an_archive_built_to_escape_is_refused(hostile: tarfile.TarInfo, tmp_path: Path) -> None:
    with pytest.raises(OutputsInvalid, match="which is not a plain file of the outputs"):
        read(good(), hostile)
    assert list(tmp_path.iterdir()) == []


def test_an_archive_that_unpacks_to_more_than_it_should_is_refused() -> None:
    bomb = io.BytesIO()
    with tarfile.open(fileobj=bomb, mode="w:gz") as tar:
        for number in range(3):
            info = tarfile.TarInfo(f"zeros{number}")
            info.size = most_bytes(CHUNK, SPECS) // 2
            tar.addfile(info, io.BytesIO(bytes(info.size)))
    bomb.seek(0)
    with pytest.raises(OutputsInvalid, match="holds more than the outputs"):
        read_outputs(bomb, announced(good()), CHUNK, SPECS, "phone x")


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("./Result_1/end_logits.raw", b"123", r"output end_logits of line 11 has 3 bytes, not 16 \(4 float32 values\)"),
        ("./Result_0/start_logits.raw", np.array([1, np.nan, 2, 3], "<f4").tobytes(), "line 10: value 1 is nan, not a"),
        ("./Result_0/start_logits.raw", np.array([1, 1, 2, -np.inf], "<f4").tobytes(), "value 3 is -inf"),
        ("./Result_1/start_logits.raw", None, "output start_logits of line 11 is missing"),
    ],
)
def test_unsound_outputs_are_named(name: str, content: bytes | None, said: str) -> None:
    files = good()
    if content is None:
        del files[name]
    else:
        files[name] = content
    with pytest.raises(Unsound, match=said):
        read(files)


def test_what_differs_from_its_checksum_was_damaged() -> None:
    changed = {**good(), "./Result_1/end_logits.raw": np.ones(4, "<f4").tobytes()}
    with pytest.raises(OutputsInvalid, match="is not what its checksum on the phone says"):
        read(changed, told=good())
    with pytest.raises(OutputsInvalid, match="is not what its checksum"):
        read_outputs(archive(good()), Announced(1, {}, "", "", ""), CHUNK, SPECS, "phone x")


@pytest.mark.parametrize("cut", [0, 10, 50, 100])
def test_an_archive_cut_short_is_no_traceback(cut: int) -> None:
    whole = archive(good()).getvalue()
    with pytest.raises((OutputsInvalid, Unsound)):
        read_outputs(io.BytesIO(whole[:cut]), announced(good()), CHUNK, SPECS, "phone x")


def test_any_flipped_bit_is_noticed() -> None:
    whole, expected = archive(good()).getvalue(), read(good())
    for position in range(0, 8 * len(whole), 7):
        changed = bytearray(whole)
        changed[position // 8] ^= 1 << position % 8
        try:
            logits, _ = read_outputs(io.BytesIO(changed), announced(good()), CHUNK, SPECS, "phone x")
        except (OutputsInvalid, Unsound):
            continue
        assert all(np.array_equal(logits[name], expected[name]) for name in expected)  # a header's time, say


def test_chunks_are_kept_whole(tmp_path: Path) -> None:
    logits = read(good())
    keep(logits, tmp_path, CHUNK)
    assert kept_chunks(tmp_path) == {CHUNK}
    again = load(tmp_path, CHUNK, SPECS)
    assert all(np.array_equal(again[name], logits[name]) for name in logits)


@pytest.mark.parametrize("content", [b"", b"no archive", None])
def test_a_kept_chunk_that_was_damaged_is_said(content: bytes | None, tmp_path: Path) -> None:
    keep({"start_logits": np.zeros((1, 1, 4), np.float32)}, tmp_path, CHUNK)
    (path,) = (tmp_path / "logits").iterdir()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(OutputsInvalid, match=path.name):
        load(tmp_path, CHUNK, SPECS)


HEADER = b"#bytes=5\n#runtime=dsp\n#begin=1\n#end=2\n" + b"a" * 64 + b"  ./Result_0/x y.raw\n\n"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_what_is_announced_is_read_however_it_is_cut(step: int) -> None:
    sink = io.BytesIO()
    reader = _ChunkReader("phone x", sink, 100)
    data = HEADER + b"12345"
    for at in range(0, len(data), step):
        reader.take(data[at : at + step])
    assert reader.announced == Announced(5, {"Result_0/x y.raw": "a" * 64}, "dsp", "1", "2")
    assert sink.getvalue() == b"12345"


def test_times_and_memory_are_read_where_they_are_told() -> None:
    told = HEADER[:-1] + b"#time=1700000000.5 ./Result_0/x y.raw\n#time=0.000000007 b\n#time=1. c\n#peak_kb=77\n\n"
    reader = _ChunkReader("phone x", io.BytesIO(), 5)
    reader.take(told)
    assert reader.announced is not None
    assert reader.announced.times == {"Result_0/x y.raw": 1_700_000_000 * 10**9 + 5, "b": 7}
    assert reader.announced.peak_kb == 77
    assert reader.announced.sums == {"Result_0/x y.raw": "a" * 64}
    bare = _ChunkReader("phone x", io.BytesIO(), 5)
    bare.take(b"#bytes=0\n#peak_kb=?\n\n")
    assert bare.announced == Announced(0, {}, "", "", "", {}, None)


def test_more_bytes_than_announced_are_refused() -> None:
    with pytest.raises(OutputsInvalid, match=r"^phone x: more bytes came than were announced$"):
        _ChunkReader("phone x", io.BytesIO(), 100).take(HEADER + b"123456")
    cut = _ChunkReader("phone x", io.BytesIO(), 100)
    for data in (HEADER + b"123", b"45"):
        cut.take(data)
    with pytest.raises(OutputsInvalid, match="more bytes came"):
        cut.take(b"6")
    with pytest.raises(OutputsInvalid, match=r"^phone x: announces 5 bytes, too many for its outputs$"):
        _ChunkReader("phone x", io.BytesIO(), 4).take(HEADER)
    for header in (b"#runtime=x\n\n", b"#bytes=no\n\n"):
        with pytest.raises(
            OutputsInvalid, match=r"^phone x: announces no( number of)? bytes, too many for its outputs$"
        ):
            _ChunkReader("phone x", io.BytesIO(), 4).take(header)


def test_announcements_without_an_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(job, "HEADER_LIMIT", 100)
    reader = _ChunkReader("phone x", io.BytesIO(), 4)
    reader.take(b"x" * 100)
    with pytest.raises(OutputsInvalid, match=r"^phone x: announces too many files$"):
        reader.take(b"x")


def test_the_engine_s_log_of_times_comes_with_the_outputs(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**good(), "./SNPEDiag_0.log": b"log"}
    for name, expected in (("SNPEDiag_0.log", b"log"), ("other", b""), ("", b"")):
        logits, log = read_outputs(archive(files), announced(files), CHUNK, SPECS, "phone x", name)
        assert (set(logits), log) == ({spec.name for spec in SPECS}, expected)
    monkeypatch.setattr("bundler.device.outputs.LARGEST_LOG", 2)
    assert read_outputs(archive(files), announced(files), CHUNK, SPECS, "phone x", "SNPEDiag_0.log")[1] == b""
