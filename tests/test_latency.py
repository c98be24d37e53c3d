"""Tests latencies: the times of a phone's files, SNPE's log, and the figures from them."""

import io
from pathlib import Path

import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.chunks import Chunk
from bundler.device.job import Announced, _ChunkReader
from bundler.device.phone import Phone
from bundler.device.timings import (
    ChunkTimes,
    chunk_times,
    keep_times,
    kept_times,
)
from bundler.errors import OutputsInvalid, VendorToolFailed
from bundler.evaluation.latency import MOST_VALUES, latency_of, memory_of, read_diagview
from bundler.pipeline.evaluate import EvaluateRequest, evaluate_bundles
from tests.deploying import deploy, quiet

BEGIN = 1_795_556_838_000_000_000
CSV = """\
SNPE Diagview,,,
Index,Message Name,Unit,Value
0,Load,us,811
1,Init,us,443264
2,Create,us,168956
3,De-Init,us,27397
4,avg_Total_Inference_Time,us,13567.5
5,Layer,cycles,
"""
DIAGVIEW = """#!/bin/sh
[ "$1 $3" = "--input_log --output" ] || exit 2
[ -s "$2" ] || { echo "cannot open $2" >&2; exit 1; }
cp "$(dirname "$0")/recorded.csv" "$4"
"""


def announced(ends: dict[str, int], begin: str = str(BEGIN), seconds: float = 2.0) -> Announced:
    end = str(int(begin) + (int(seconds * 1e9) if int(begin) > 10**15 else int(seconds)))
    return Announced(1, {}, "cpu", begin, end, ends)


def ends_of(*milliseconds: float) -> dict[str, int]:
    """Returns the times of two outputs for each inference, the second slightly later."""
    return {
        f"Result_{number}/{name}.raw": BEGIN + round(1e6 * (ms - late))
        for number, ms in enumerate(milliseconds)
        for name, late in (("start_logits", 0.1), ("end_logits", 0.0))
    }


@pytest.fixture
def diagview(tmp_path: Path) -> Path:
    """Writes a stand-in for snpe-diagview, whose output was recorded beside it."""
    folder = tmp_path / "sdk"
    folder.mkdir()
    (folder / "recorded.csv").write_text(CSV)
    tool = folder / "snpe-diagview"
    tool.write_text(DIAGVIEW)
    tool.chmod(0o755)
    return tool


def test_memory_is_the_most_of_any_chunk(tmp_path: Path) -> None:
    keep(tmp_path, *(ChunkTimes("a", "cpu", 1, 1.0, (), True, peak) for peak in (None, 5000, 2000)))
    assert memory_of(tmp_path, "cpu") == 5.1
    assert memory_of(tmp_path, "gpu") is None


def test_toybox_does_not_pad_its_nanoseconds() -> None:
    reader = _ChunkReader("phone x", io.BytesIO(), 100)
    header = "#bytes=2\n#runtime=cpu\n#begin=1\n#end=2\n#time=1767225600.12345 ./Result_0/a b.raw\n#time=x ./y\n"
    reader.take(f"{header}{'a' * 64}  ./Result_0/a b.raw\n\nxy".encode())
    assert reader.announced is not None
    assert reader.announced.times == {"Result_0/a b.raw": 1767225600_000012345}
    assert reader.announced.sums == {"Result_0/a b.raw": "a" * 64}


def test_an_inference_ends_with_its_last_output() -> None:
    times = chunk_times(announced(ends_of(500, 520, 545)), Chunk(7, 10), "phone")
    assert times == ChunkTimes("phone", "cpu", 3, 2.0, (0.5, 0.52, 0.545), True)


def test_files_may_be_a_little_behind_the_clock() -> None:
    assert chunk_times(announced(ends_of(-4, 3)), Chunk(0, 2), "phone").results_s == (0.0, 0.003)


@pytest.mark.parametrize("ends", [ends_of(-500, 520), ends_of(500, 2500), ends_of(500, 9e9)])
def test_times_that_cannot_be_are_not_used(ends: dict[str, int]) -> None:
    """The clock was set during the run, or a program copied files with their times."""
    times = chunk_times(announced(ends), Chunk(0, 2), "phone")
    assert (times.results_s, times.seconds) == ((), 2.0)


def test_a_clock_of_whole_seconds_tells_no_beginning() -> None:
    times = chunk_times(announced(ends_of(500, 520), begin="1795556838"), Chunk(0, 2), "phone")
    assert (times.results_s, times.from_begin, times.seconds) == ((0.0, 0.02), False, 2.0)


@pytest.mark.parametrize("ends", [{}, ends_of(500), {"Result_99999/x.raw": 5, "../Result_0/x.raw": 5}])
def test_what_is_not_told_of_every_inference_is_not_used(ends: dict[str, int]) -> None:
    assert chunk_times(announced(ends), Chunk(0, 2), "phone").results_s == ()


def test_times_are_kept(tmp_path: Path) -> None:
    kept = [chunk_times(announced(ends_of(500, 520)), chunk, "phone") for chunk in (Chunk(0, 2), Chunk(2, 4))]
    for chunk, times in zip((Chunk(2, 4), Chunk(0, 2)), reversed(kept), strict=True):
        keep_times(times, tmp_path, chunk)
    assert kept_times(tmp_path) == kept
    (tmp_path / layout.TIMES / "0000000-0000002.json").write_text("{}")
    with pytest.raises(OutputsInvalid):
        kept_times(tmp_path)


def keep(folder: Path, *chunks: ChunkTimes) -> None:
    begin = 0
    for times in chunks:
        keep_times(times, folder, Chunk(begin, begin + times.windows))
        begin += times.windows


def test_figures_worked_by_hand(tmp_path: Path) -> None:
    keep(
        tmp_path,
        ChunkTimes("a", "cpu", 4, 1.0, (0.5, 0.51, 0.53, 0.56), True),  # 10, 20, 30 ms
        ChunkTimes("a", "cpu", 3, 1.0, (0.7, 0.74, 0.79), True),  # 40, 50 ms
        ChunkTimes("a", "gpu", 2, 9.0, (5.0, 9.0), True),  # a fallback: not what was asked for
    )
    found = latency_of([tmp_path], "cpu")
    assert found is not None
    assert found["source"] == "times of the output files"
    assert found["init_ms"] == pytest.approx((500 + 700) / 2 - 30)
    distribution = found["inference_ms"]
    assert {key: distribution[key] for key in ("count", "mean", "p50", "values")} == {
        "count": 5, "mean": 30.0, "p50": 30.0, "values": [10, 20, 30, 40, 50],
    }  # fmt: skip
    assert (distribution["p90"], distribution["p99"]) == (46, 49.6)
    assert latency_of([tmp_path], "dsp") is None


def test_without_times_of_files_the_job_is_what_is_known(tmp_path: Path) -> None:
    keep(tmp_path, ChunkTimes("a", "cpu", 4, 1.0, (), True), ChunkTimes("a", "cpu", 1, 0.5, (0.4,), True))
    found = latency_of([tmp_path], "cpu")
    assert found is not None
    assert (found["source"], found["init_ms"]) == ("job", None)
    assert found["inference_ms"]["values"] == [250, 250, 250, 250, 500]


def test_of_many_values_some_are_kept(tmp_path: Path) -> None:
    keep(tmp_path, ChunkTimes("a", "cpu", 5001, 9.0, tuple(n * n / 1e6 for n in range(5001)), True))
    found = latency_of([tmp_path], "cpu")
    assert found is not None
    values = found["inference_ms"]["values"]
    assert (found["inference_ms"]["count"], len(values)) == (5000, MOST_VALUES)
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.001, 9.999)


def test_snpe_diagview_tells_init_and_mean(tmp_path: Path, diagview: Path) -> None:
    keep(tmp_path, ChunkTimes("a", "dsp", 3, 1.0, (0.5, 0.52, 0.55), True))
    assert latency_of([tmp_path], "dsp", diagview)["source"] == "times of the output files"  # type: ignore[index]
    (tmp_path / layout.DIAGNOSTICS).mkdir()
    (tmp_path / layout.DIAGNOSTICS / "0000000-0000003.log").write_bytes(b"SNPE")
    found = latency_of([tmp_path], "dsp", diagview)
    assert found is not None
    assert (found["source"], found["init_ms"]) == ("snpe-diagview", 443.264)
    assert (found["inference_ms"]["mean"], found["inference_ms"]["p50"]) == (13.568, 25.0)


def test_what_snpe_diagview_does_not_read_is_told(tmp_path: Path, diagview: Path) -> None:
    (tmp_path / layout.DIAGNOSTICS).mkdir()
    (tmp_path / layout.DIAGNOSTICS / "0000000-0000003.log").write_bytes(b"")
    with pytest.raises(VendorToolFailed, match="cannot open"):
        latency_of([tmp_path], "dsp", diagview)
    diagview.chmod(0o644)
    with pytest.raises(VendorToolFailed, match="Permission denied"):
        latency_of([tmp_path], "dsp", diagview)


def test_its_csv() -> None:
    assert read_diagview(CSV) == {
        "load": 0.811, "init": 443.264, "create": 168.956, "de-init": 27.397, "avg_total_inference_time": 13.5675,
    }  # fmt: skip
    assert read_diagview("") == read_diagview("a,b\n\n1,x,us,much\n") == {}


@pytest.mark.slow
def test_a_phone_tells_when_its_inferences_ended(phone: Phone, bundle: Bundle) -> None:
    run = deploy(phone, bundle, chunk=3)
    first, last = kept_times(run.folder(bundle.path))
    assert (first.windows, len(first.results_s), len(last.results_s)) == (3, 3, 1)
    assert first.from_begin
    assert 0 < first.results_s[0] <= first.results_s[1] <= first.results_s[2] <= first.seconds + 0.05
    (measured,) = evaluate_bundles(EvaluateRequest(bundles=[bundle.path]), quiet).document["runs"]
    assert measured["latency"]["source"] == "times of the output files"
    assert measured["latency"]["inference_ms"]["count"] == 2
    assert measured["memory_mb"] > 0
