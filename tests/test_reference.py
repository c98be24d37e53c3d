"""Tests a bundle's float32 reference: the parts in the bundle, its cache, and the comparison of logits."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bundler import layout
from bundler.bundle import Bundle, read_bundle
from bundler.device.chunks import Chunk, chunks_of
from bundler.device.outputs import kept_chunks, load
from bundler.errors import BundleInvalid, DlcInvalid, ModelInvalid
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.runs import reference
from bundler.runs.comparison import MOST_DB, Comparison
from bundler.runs.reference import real_tokens, reference_logits, reference_name, verify_logits
from bundler.types import Question, QuestionSet
from tests.deploying import quiet

OUTPUTS = ("start_logits", "end_logits")


def of_all(bundle: Bundle, folder: Path) -> dict[str, np.ndarray]:
    """Returns all logits in a folder of chunks, (windows, length) by name."""
    chunks = sorted(kept_chunks(folder))
    loaded = [load(folder, chunk, bundle.manifest.outputs) for chunk in chunks]
    return {name: np.concatenate([one[name] for one in loaded])[:, 0] for name in OUTPUTS}


def by_hand(bundle: Bundle, model: Path) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    dtypes = {"tensor(int32)": np.int32, "tensor(int64)": np.int64}
    rows = []
    for window in bundle.manifest.windows:
        feed = {
            value.name: np.fromfile(bundle.path / layout.DEVICE / window.inputs[value.name], "<f4")[None].astype(
                dtypes[value.type]
            )
            for value in session.get_inputs()
        }
        rows.append(session.run(list(OUTPUTS), feed))
    return {name: np.concatenate([row[place] for row in rows]) for place, name in enumerate(OUTPUTS)}


def test_the_reference_is_the_exporters_model(bundle: Bundle, model_folder: Path) -> None:
    kept = onnx.load(bundle.path / layout.HOST / layout.REFERENCE)
    assert kept == onnx.load(model_folder / "model.onnx")
    assert reference_name(bundle) == "ONNX Runtime, float32"
    logits = of_all(bundle, reference_logits(bundle, quiet))
    exact = by_hand(bundle, model_folder / "model.onnx")
    for name in OUTPUTS:
        np.testing.assert_array_equal(logits[name], exact[name])


def test_a_few_windows_evenly_spread_are_kept(request_for: BuildRequest, tmp_path: Path) -> None:
    asked = tuple(Question(f"q{n}", "Who?", f"The bridge was built in {n}.") for n in range(100))
    bundle = build_bundle(replace(request_for, questions=QuestionSet(asked, False)), tmp_path / "bundle", quiet)
    lines, logits = verify_logits(bundle)
    assert lines.tolist()[:5] == [0, 3, 6, 10, 13]
    assert (len(lines), lines[-1]) == (32, 99)
    whole = of_all(bundle, reference_logits(bundle, quiet))
    for name in OUTPUTS:
        assert logits[name].shape == (32, 1, 384)
        np.testing.assert_array_equal(logits[name][:, 0], whole[name][lines])


def test_fewer_windows_are_all_kept(bundle: Bundle) -> None:
    assert verify_logits(bundle)[0].tolist() == [0, 1, 2, 3]


def test_a_model_in_two_files_is_kept_in_one(request_for: BuildRequest, model_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "apart"
    folder.mkdir()
    onnx.save(
        onnx.load(model_folder / "model.onnx"), folder / "model.onnx", save_as_external_data=True, location="weights",
        size_threshold=0,
    )  # fmt: skip
    built = build_bundle(replace(request_for, model=folder / "model.onnx"), tmp_path / "bundle", quiet)
    shutil.rmtree(folder)
    exact = by_hand(built, model_folder / "model.onnx")
    logits = of_all(built, reference_logits(built, quiet))
    np.testing.assert_array_equal(logits["start_logits"], exact["start_logits"])


def test_a_dlc_is_its_own_reference(bundle: Bundle, request_for: BuildRequest, tmp_path: Path) -> None:
    dlc = tmp_path / "given.dlc"
    shutil.copyfile(bundle.path / layout.DEVICE / layout.MODEL, dlc)
    request = replace(request_for, model=dlc, recipe=Recipe())
    taken = build_bundle(request, tmp_path / "taken", quiet)
    assert not (taken.path / layout.HOST / layout.REFERENCE).exists()
    assert "DLC" in reference_name(taken)
    one, other = (of_all(made, reference_logits(made, quiet)) for made in (bundle, taken))
    np.testing.assert_allclose(other["start_logits"], one["start_logits"], atol=1e-4)
    assert verify_logits(taken)[0].tolist() == [0, 1, 2, 3]


def test_what_is_cached_is_not_computed_again(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference, "CHUNK", 3)
    folder = reference_logits(bundle, quiet)
    assert folder == bundle.path / layout.RUNS / "reference" / bundle.id
    assert sorted(kept_chunks(folder)) == list(chunks_of(4, 3))
    exact = of_all(bundle, folder)
    (folder / layout.LOGITS / f"{Chunk(0, 3).name}.npz").write_bytes(b"damaged")
    asked: list[int] = []
    computed = reference._computed
    monkeypatch.setattr(reference, "_computed", lambda *a: (asked.append(len(a[3])), computed(*a))[1])
    np.testing.assert_array_equal(of_all(bundle, reference_logits(bundle, quiet))["end_logits"], exact["end_logits"])
    reference_logits(bundle, quiet)
    assert asked == [3]


def test_real_tokens_are_those_of_the_mask(bundle: Bundle) -> None:
    real = real_tokens(bundle, bundle.manifest.windows)
    assert real.shape == (4, 384)
    for row, offsets in zip(real, bundle.offsets, strict=True):
        assert row[0]
        assert row[offsets[:, 0] >= 0].all()
        assert row[: row.sum()].all()


def test_a_bundle_of_an_older_release_has_none(bundle: Bundle) -> None:
    files = {name: entry for name, entry in bundle.manifest.files.items() if not name.endswith(layout.VERIFY)}
    with pytest.raises(BundleInvalid, match="older release"):
        verify_logits(replace(bundle, manifest=replace(bundle.manifest, files=files)))


def test_a_changed_reference_is_named(bundle: Bundle) -> None:
    (bundle.path / layout.HOST / layout.VERIFY).write_bytes(b"other")
    with pytest.raises(BundleInvalid, match=layout.VERIFY):
        read_bundle(bundle.path)


def likeness_of(exact: np.ndarray, computed: np.ndarray, real: np.ndarray | None = None):  # type: ignore[no-untyped-def]
    comparison = Comparison()
    comparison.add(exact, computed, np.ones(exact.shape, bool) if real is None else real)
    return comparison.likeness()


def test_figures_worked_by_hand() -> None:
    same = likeness_of(np.array([[3.0, 4.0]]), np.array([[3.0, 4.0]]))
    assert (same.cosine, same.sqnr_db, same.largest_difference, same.correlation) == (1, MOST_DB, 0, 1)
    off = likeness_of(np.array([[3.0, 4.0], [1.0, 0.0]]), np.array([[3.0, 3.0], [0.0, 1.0]]))
    assert off.smallest_cosine == 0
    assert off.cosine == pytest.approx((9 + 12) / np.sqrt(26 * 19))
    assert off.sqnr_db == pytest.approx(10 * np.log10(26 / 3))
    assert off.largest_difference == 1
    assert likeness_of(np.zeros((1, 2)), np.ones((1, 2))).sqnr_db == -MOST_DB
    assert likeness_of(np.zeros((1, 2)), np.zeros((1, 2))).smallest_cosine == 1


def test_padding_does_not_count() -> None:
    real = np.array([[True, True, False]])
    padded = likeness_of(np.array([[3.0, 4.0, 9.0]]), np.array([[3.0, 4.0, -9.0]]), real)
    assert (padded.largest_difference, padded.smallest_cosine) == (0, 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 7))
def test_chunks_add_up(seed: int, rows: int, cut: int) -> None:
    random = np.random.default_rng(seed)
    exact = random.normal(0, 3, (rows, 9)).astype(np.float32)
    computed = (exact + random.normal(0, 0.1, exact.shape)).astype(np.float32)
    real = random.random(exact.shape) < 0.8
    pieces = Comparison()
    for start in range(0, rows, cut):
        part = slice(start, start + cut)
        pieces.add(exact[part], computed[part], real[part])
    whole, sums = likeness_of(exact, computed, real), pieces.likeness()
    assert vars(sums) == pytest.approx(vars(whole), abs=1e-9)
    chosen = exact[real].astype(float), computed[real].astype(float)
    if len(chosen[0]) > 2:
        assert sums.correlation == pytest.approx(np.corrcoef(*chosen)[0, 1], abs=1e-9)


def test_a_tokenizer_of_another_model_is_refused(request_for: BuildRequest, model_folder: Path, tmp_path: Path) -> None:
    """Its pieces have ids without an embedding in the model."""
    words = (model_folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    larger = tmp_path / "vocab.txt"
    larger.write_text(
        "\n".join([*words[:4], *(f"[unused{n}]" for n in range(500)), *words[4:]]) + "\n", encoding="utf-8"
    )
    with pytest.raises(ModelInvalid, match="has ids below") as caught:
        build_bundle(replace(request_for, tokenizer=larger), tmp_path / "bundle", quiet)
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["vocab.txt"]


def test_a_dlc_that_nothing_here_computes_is_taken_all_the_same(
    bundle: Bundle, request_for: BuildRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untranslatable(_: Path) -> None:
        raise DlcInvalid(tmp_path, "has an operator that is not known")

    monkeypatch.setattr(reference, "_network", untranslatable)
    dlc = bundle.path / layout.DEVICE / layout.MODEL
    built = build_bundle(replace(request_for, model=dlc, recipe=Recipe("fp32")), tmp_path / "taken", quiet)
    with pytest.raises(BundleInvalid, match="nothing here could compute its DLC"):
        verify_logits(built)
