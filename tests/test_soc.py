"""Tests the table of chips, and its lookup by a phone's properties."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest

from bundler.errors import DlcInvalid, SocUnfit
from bundler.model.calibrate import calibrate, measure_mask
from bundler.model.convert import onnx_to_dlc
from bundler.model.graph import fit_for_htp, runner
from bundler.model.half import in_float16
from bundler.model.make import PRECISIONS
from bundler.model.mask import set_mask_size
from bundler.model.quantize import Scheme, quantize
from bundler.model.simulate import check_simulated, run_on_simulator
from bundler.model.vendor_plan import BITS
from bundler.resources import SOCS
from bundler.soc import DEFAULT, find_soc, judge_for, known_socs
from bundler.virtual.net_files import World
from bundler.virtual.net_run import NAME, run
from tests import styles
from tests.conftest import quiet


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("SM8650", "SM8650"),
        ("sm8650", "SM8650"),
        ("SM8650-AB", "SM8650"),
        ("SM8750P", "SM8750"),
        ("SM8350P ", "SM8350"),
        ("SA8295P", "SA8295"),
        ("SXR2230P", "SXR2230"),
        ("QCS6490", "QCS6490"),
        ("QCM6490", "QCM6490"),
        ("QCS8550", "QCS8550"),
    ],
)
def test_a_model_name_may_carry_a_suffix(model: str, name: str) -> None:
    found = find_soc(model)
    assert found is not None
    assert found.name == name


@pytest.mark.parametrize("model", ["", "SM86505", "MT6989", "SM8735", "SM865", "unknown SoC"])
def test_what_is_not_in_the_table_is_not_guessed(model: str) -> None:
    assert find_soc(model) is None


@pytest.mark.parametrize(("platform", "hexagon"), [("kona", 66), ("lahaina", 68), ("taro", 69), ("sun", 79)])
def test_an_older_android_tells_its_platform_only(platform: str, hexagon: int) -> None:
    for found in (find_soc("", platform), find_soc(platform), find_soc("nonsense", platform.upper())):
        assert found is not None
        assert found.hexagon == hexagon


def test_a_platform_of_several_hexagon_versions_tells_nothing() -> None:
    assert {soc.hexagon for soc in known_socs().values() if soc.platform == "pineapple"} == {73, 75}
    assert find_soc("", "pineapple") is None
    assert find_soc("SM8650", "pineapple") is known_socs()["SM8650"]


def test_what_the_chips_can() -> None:
    socs = known_socs()
    assert not socs["SM8250"].has_htp
    assert not socs["SM8250"].takes_float16
    assert socs["SM8350"].has_htp
    assert not socs["SM8350"].takes_float16
    assert not socs["SM7350"].takes_float16
    assert socs["SA8295"].hexagon == 68
    assert socs["SA8295"].takes_float16  # AI Hub runs float models on it
    assert socs["SM8450"].takes_float16
    assert not socs["SM7475"].takes_float16  # Qualcomm's library refuses its float operators
    assert socs["SM8650"].takes("w16a16")
    assert socs["SM8450"].takes("w8a16")
    assert not socs["SM8450"].takes("w16a16")
    assert not socs["SM8250"].takes("w8a8")


@pytest.mark.parametrize(
    ("name", "precision", "judge"),
    [
        ("SM8450", "fp16", "SM8450"),
        ("SM8450", "w16a16", DEFAULT),
        ("SM7325", "fp32", DEFAULT),
        ("SM7325", "w8a8", "SM7325"),
        ("SM8250", "w8a8", DEFAULT),
    ],
)
def test_a_chip_judges_what_its_dsp_takes(name: str, precision: str, judge: str) -> None:
    assert judge_for(known_socs()[name], precision).name == judge


def test_every_row_says_where_it_comes_from() -> None:
    table = json.loads(SOCS.read_text(encoding="utf-8"))
    left_out = {name for names in table["left_out"] for name in names.split()}
    assert not left_out & known_socs().keys()
    for soc in known_socs().values():
        assert soc.source.split()
        assert set(soc.source.split()) <= table["sources"].keys()
        assert soc.sure in ("H", "M")
        assert soc.name == soc.name.upper()
    assert DEFAULT in known_socs()
    assert len(known_socs()) == len(table["socs"])


def test_every_tensor_processor_is_simulated_at_every_precision_that_it_takes() -> None:
    """The simulator supports more in one case: documents deny SM8350 float16, which its library computes."""
    kinder = {}
    for soc in known_socs().values():
        taken = {precision for precision in PRECISIONS if soc.takes(precision)}
        assert taken <= set(soc.simulated.split()) <= set(PRECISIONS)
        if more := set(soc.simulated.split()) - taken:
            kinder[soc.name] = more
    assert kinder == {"SM8350": {"fp16"}}


def test_what_is_not_simulated_is_told_with_what_is() -> None:
    check_simulated(known_socs()["SM7325"], "w8a8")
    for name, precision, said, hint in (
        ("SM8250", "fp16", "SM8250 (Snapdragon 865): its HTP takes no fp16", "without --check and --prepare"),
        ("SM8450", "w16a16", "its HTP takes no w16a16", "SM8550"),
        ("SM7325", "fp32", "its HTP takes no fp32", "SA8295"),
    ):
        with pytest.raises(SocUnfit) as caught:
            check_simulated(known_socs()[name], precision)
        assert said in str(caught.value)
        assert hint in caught.value.hint


@pytest.fixture(scope="module")
def dlcs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Makes a small model at every precision."""
    folder = tmp_path_factory.mktemp("dlcs")
    fit = fit_for_htp(styles.styled("ours"), styles.LENGTH)
    set_mask_size(fit.model, measure_mask(fit, FEEDS))
    calibration = calibrate(fit, FEEDS)
    graphs = {"fp32": fit.model, "fp16": in_float16(fit)}
    graphs |= {kind: quantize(fit, calibration, Scheme(*bits)).model for kind, bits in BITS.items()}
    for kind, graph in graphs.items():
        onnx.save(graph, folder / f"{kind}.onnx")
        onnx_to_dlc(folder / f"{kind}.onnx", folder / f"{kind}.dlc", known_socs()[DEFAULT])
    onnx.save(fit.model, folder / "float.onnx")
    return {kind: folder / f"{kind}.dlc" for kind in graphs}


FEEDS = [styles.feed(tokens, seed=seed) for seed, tokens in enumerate((48, 40, 30, 12))]
KINDS_OF_CHIPS = {(soc.hexagon, soc.simulated): soc.name for soc in known_socs().values() if soc.simulated}


@pytest.mark.slow
@pytest.mark.parametrize("name", KINDS_OF_CHIPS.values())
def test_the_simulator_runs_what_the_table_says(dlcs: dict[str, Path], name: str) -> None:
    """Uses one chip for each Hexagon version and set of precisions; unsupported precisions are refused."""
    soc = known_socs()[name]
    fit = onnx.load(dlcs["fp32"].with_name("float.onnx"))
    exact = np.concatenate(runner(fit).run(list(styles.OUTPUTS), FEEDS[0]))
    for kind, dlc in dlcs.items():
        if kind in soc.simulated.split():
            computed = run_on_simulator(dlc, soc, FEEDS[:1], quiet)[0]
            logits = np.concatenate([computed[output] for output in styles.OUTPUTS])
            assert np.corrcoef(exact.ravel(), logits.ravel())[0, 1] > 0.99
        elif not soc.takes(kind):
            with pytest.raises(DlcInvalid, match="the HTP refuses it"):
                run_on_simulator(dlc, soc, FEEDS[:1], quiet)


# What the DSP of a chip takes, as snpe-net-run says it


def run_on(soc: str, dlc: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Returns the exit code and standard error of a run with --use_dsp on the chip."""
    (folder / "list.txt").write_text("")
    files = ("--container", str(dlc), "--input_list", str(folder / "list.txt"))
    code = run([NAME, *files, "--use_dsp"], World(lambda: soc), io.StringIO())
    return code, capfd.readouterr().err


@pytest.mark.parametrize(
    ("soc", "kind", "taken"),
    [
        ("SM8450", "fp32", True),
        ("SM8850", "fp16", True),
        ("QCS6490", "w8a16", True),
        ("SM7325", "fp16", False),
        ("SM8635", "fp32", False),
        ("SM8475", "w16a16", False),
    ],
)
def test_every_chip_takes_what_its_hexagon_computes(
    dlcs: dict[str, Path], soc: str, kind: str, taken: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    code, said = run_on(soc, dlcs[kind], tmp_path, capfd)
    assert code == (0 if taken else 1)
    line = "error_code=1002; error_message=Layer parameter value is invalid. "
    assert (line in said) is not taken
    assert "error_component=Model Validation; line_no=0; thread_id=" in said or taken


def test_a_chip_that_nobody_saw_simulated_is_told_so(
    dlcs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bundler.virtual.net_program.find_soc", lambda _: replace(known_socs()["SM8650"], simulated=""))
    code, said = run_on("SM8650", dlcs["w8a8"], tmp_path, capfd)
    assert code == 1
    assert "error_code=900; error_message=no simulator for the DSP of SM8650; error_component=Dsp Runtime" in said
