"""Tests the SDK's tools: which are chosen, that each command fits the release's options, and their failures."""

import json
import os
import shlex
import subprocess
import time
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from bundler.errors import (
    SdkIncomplete,
    SdkTooOld,
    SocUnfit,
    VendorToolFailed,
    VendorToolUnusable,
)
from bundler.model.calibrate import METHODS
from bundler.model.make import PRECISIONS
from bundler.model.sdk import open_sdk
from bundler.model.vendor import convert_with_sdk
from bundler.model.vendor_plan import Step, VendorJob, plan
from bundler.soc import known_socs
from bundler.types import TensorSpec
from tests import fake_sdk
from tests.fake_sdk import RELEASES, ended, make_sdk, options_of, parse, write_model

LENGTH = 8
INPUTS = tuple(TensorSpec(name, "int32", (1, LENGTH)) for name in ("input_ids", "attention_mask", "token_type_ids"))
OUTPUTS = tuple(TensorSpec(name, "float32", (1, LENGTH)) for name in ("start_logits", "end_logits"))
SOCS = known_socs()
LISTING = Path("/work/input_list.txt")


@pytest.fixture
def job(tmp_path: Path) -> VendorJob:
    model = tmp_path / "model.onnx"
    write_model(model, INPUTS, OUTPUTS)
    feeds = [{spec.name: np.full((1, LENGTH), number, np.int32) for spec in INPUTS} for number in range(2)]
    return VendorJob(model, INPUTS, OUTPUTS, SOCS["SM8550"], feeds)


def converted(job: VendorJob, root: Path, folder: Path) -> tuple[dict[str, object], tuple[str, ...], str]:
    """Converts; returns the DLC, the commands and the log."""
    folder.mkdir()
    commands = convert_with_sdk(open_sdk(root), job, folder / "model.dlc", folder / "converter.log")
    assert sorted(path.name for path in folder.iterdir()) == ["converter.log", "model.dlc"]
    return json.loads((folder / "model.dlc").read_text()), commands, (folder / "converter.log").read_text()


def names(commands: tuple[str, ...]) -> list[str]:
    return [Path(shlex.split(command)[0]).name for command in commands]


def history(dlc: dict[str, object]) -> list[str]:
    made = dlc["history"]
    assert isinstance(made, list)
    return [shlex.join(words) for words in made]


@pytest.mark.parametrize("release", RELEASES)
def test_a_float_model(job: VendorJob, tmp_path: Path, release: str) -> None:
    dlc, commands, log = converted(job, make_sdk(tmp_path, release), tmp_path / "out")
    assert dlc["dlc"] == "float"
    assert names(commands) == ["qairt-converter" if release == "qairt" else "snpe-onnx-to-dlc"]
    assert "Conversion completed successfully" in log
    assert commands[0] in log
    assert "--float_bitwidth" not in log


@pytest.mark.parametrize(
    ("release", "quantizer"),
    [
        ("2.10", "snpe-dlc-quantize"),
        ("2.14", "snpe-dlc-quant"),
        ("2.25", "snpe-dlc-quant"),
        ("2.35", "snpe-dlc-quant"),
        ("qairt", "qairt-quantizer"),
    ],
)
def test_a_quantized_model_is_calibrated_then_prepared(
    job: VendorJob, tmp_path: Path, release: str, quantizer: str
) -> None:
    job = replace(job, precision="w8a16", prepare=True)
    dlc, commands, _ = converted(job, make_sdk(tmp_path, release), tmp_path / "out")
    assert names(commands)[1:] == [quantizer, "snpe-dlc-graph-prepare"]
    assert dlc["dlc"] == "quantized"
    assert dlc["cache"] == ["sm8550", "start_logits", "end_logits"]
    assert "--weights_bitwidth 8 --act_bitwidth 16 --bias_bitwidth 32" in history(dlc)[1]
    assert ("--input_type input_ids opaque" in history(dlc)[0]) == (release != "qairt")


def test_float16_by_the_flags_of_the_release(job: VendorJob, tmp_path: Path) -> None:
    wanted = replace(job, precision="fp16", prepare=True, soc=SOCS["SM8550"])
    older = history(converted(wanted, make_sdk(tmp_path, "2.14"), tmp_path / "older")[0])
    assert "--float_bitwidth" not in older[0]
    assert older[1].endswith("--htp_socs sm8550 --use_float_io")
    newer = history(converted(wanted, make_sdk(tmp_path, "2.25"), tmp_path / "newer")[0])
    assert newer[0].endswith("--float_bitwidth 16")
    assert "--use_float_io" not in newer[1]


def test_a_chip_that_sdks_do_not_name_is_prepared_for_by_its_hexagon_version(job: VendorJob, tmp_path: Path) -> None:
    wanted = replace(job, prepare=True, soc=SOCS["SA8295"])
    dlc, _, _ = converted(wanted, make_sdk(tmp_path, "2.25"), tmp_path / "out")
    assert dlc["cache"] == ["v68", "start_logits", "end_logits"]
    assert "--htp_socs" not in history(dlc)[-1]


def test_the_old_quantizer_prepares_too_where_nothing_else_does(job: VendorJob, tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.10")
    (root / "bin/x86_64-linux-clang/snpe-dlc-graph-prepare").unlink()
    dlc, commands, _ = converted(replace(job, precision="w8a8", prepare=True), root, tmp_path / "out")
    assert names(commands) == ["snpe-onnx-to-dlc", "snpe-dlc-quantize"]
    assert dlc["cache"] == ["sm8550", "start_logits", "end_logits"]
    with pytest.raises(SdkIncomplete, match="graph-prepare"):  # for a float model it does not
        convert_with_sdk(open_sdk(root), replace(job, prepare=True), tmp_path / "model.dlc", tmp_path / "log")


def test_a_tool_that_is_not_there_is_named(job: VendorJob, tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.10")
    for tool, wanted in (("snpe-dlc-quantize", "snpe-dlc-quant"), ("snpe-onnx-to-dlc", "snpe-onnx-to-dlc")):
        (root / "bin/x86_64-linux-clang" / tool).unlink()
        with pytest.raises(SdkIncomplete, match=f"x86_64-linux-clang/{wanted} "):
            converted(replace(job, precision="w8a8"), root, tmp_path / tool)


def test_calibration_decides_the_family(job: VendorJob, tmp_path: Path) -> None:
    wanted = replace(job, precision="w8a16", calibration="percentile", per_channel=True)
    dlc, commands, _ = converted(wanted, make_sdk(tmp_path, "2.25"), tmp_path / "out")
    assert names(commands) == ["qairt-converter", "qairt-quantizer"]
    assert "--act_quantizer_calibration percentile --use_per_channel_quantization" in history(dlc)[1]
    with pytest.raises(SdkTooOld, match=r"2\.14\.2\.230905 has no quantizer for w8a16 with percentile calibration"):
        converted(wanted, make_sdk(tmp_path, "2.14"), tmp_path / "older")
    with pytest.raises(SdkTooOld, match="w16a16 with entropy"):
        converted(replace(job, precision="w16a16", calibration="entropy"), tmp_path / "snpe", tmp_path / "more")
    assert not list((tmp_path / "older").iterdir())


JOBS = list(product(PRECISIONS, METHODS, (False, True), (None, "SM8550", "SA8295")))


def every_step(root: Path) -> list[Step]:
    """Returns all runs that can be planned with an SDK."""
    steps: list[Step] = []
    for precision, calibration, per_channel, chip in JOBS:
        soc = SOCS[chip or "SM8550"]
        wanted = VendorJob(
            Path("/m.onnx"), INPUTS, OUTPUTS, soc, (), precision, calibration, per_channel, chip is not None
        )
        try:
            steps += plan(open_sdk(root), wanted, Path("/work"), LISTING)
        except SdkTooOld:
            assert calibration != "min-max" or precision == "w16a16"
    return steps


@pytest.mark.parametrize("release", RELEASES)
def test_every_command_fits_the_release_and_needs_each_of_its_options(tmp_path: Path, release: str) -> None:
    root = make_sdk(tmp_path, release)
    steps = every_step(root)
    used: dict[str, set[str]] = {}
    for step in steps:
        given = parse(options_of(root, step.tool.name), list(step.arguments))
        used.setdefault(step.tool.name, set()).update(given)
    assert used.keys() == set(RELEASES[release].tools or used)
    for step in steps:
        options = options_of(root, step.tool.name)
        for name in parse(options, list(step.arguments)):
            less = [option for option in options if option.split()[0].split(",")[0] != name]
            with pytest.raises(fake_sdk.RefusedError, match="unrecognized"):
                parse(less, list(step.arguments))


@pytest.mark.parametrize(
    ("options", "arguments", "said"),
    [
        (["--a 1"], "--b 1", "unrecognized"),
        (["--a 1"], "word", "unrecognized"),
        (["--a 1"], "--a", "expected 1"),
        (["--a 1"], "--a --a", "expected 1"),
        (["--a 2"], "--a x", "expected 2"),
        (["--a 0"], "--a=x", "expected 0"),
        (["--a 1"], "--a x --a y", "twice"),
        (["--a 1 choices=8,16"], "--a 4", "invalid choice"),
        (["--a,-a 1 required"], "", "required"),
    ],
)
def test_the_recorded_lists_are_held_strictly(options: list[str], arguments: str, said: str) -> None:
    with pytest.raises(fake_sdk.RefusedError, match=said):
        parse(options, arguments.split())


def test_the_tools_see_what_is_wrong(job: VendorJob, tmp_path: Path) -> None:
    sdk = open_sdk(make_sdk(tmp_path, "2.25"))
    wrong = replace(job, inputs=(replace(INPUTS[0], shape=(1, 9)), *INPUTS[1:]))
    with pytest.raises(VendorToolFailed, match="input_ids does not have shape 1,9"):
        convert_with_sdk(sdk, wrong, tmp_path / "model.dlc", tmp_path / "log")
    with pytest.raises(VendorToolFailed, match="no output logits"):
        convert_with_sdk(
            sdk, replace(job, outputs=(replace(OUTPUTS[0], name="logits"),)), tmp_path / "m", tmp_path / "l"
        )
    with pytest.raises(VendorToolFailed, match="SoC sm7450 is not supported"):
        convert_with_sdk(sdk, replace(job, prepare=True, soc=SOCS["SM7450"]), tmp_path / "m", tmp_path / "l")
    with pytest.raises(VendorToolFailed, match="no such file"):
        convert_with_sdk(sdk, replace(job, model=tmp_path / "none.onnx"), tmp_path / "m", tmp_path / "l")


def test_a_failure_shows_the_last_words_and_the_command(job: VendorJob, tmp_path: Path) -> None:
    write_model(job.model, INPUTS, OUTPUTS, "refuse")
    log = tmp_path / "converter.log"
    with pytest.raises(VendorToolFailed) as caught:
        convert_with_sdk(open_sdk(make_sdk(tmp_path, "2.25")), job, tmp_path / "model.dlc", log)
    assert str(caught.value) == (
        "snpe-onnx-to-dlc of the vendor's SDK failed: ERROR_OP_NOT_SUPPORTED: Operator Foo is not supported | "
        "[ERROR] Node Foo_1: failed to convert"
    )
    assert caught.value.exit_code == 3
    assert str(log) in caught.value.hint
    assert not (tmp_path / "model.dlc").exists()
    again = caught.value.hint.partition("To repeat it: ")[2]
    done = subprocess.run(
        again, shell=True, capture_output=True, text=True, check=False, env={"PATH": os.environ["PATH"]}
    )
    assert done.returncode == 1
    assert "Operator Foo is not supported" in done.stderr


def test_a_success_without_a_file_is_none(job: VendorJob, tmp_path: Path) -> None:
    write_model(job.model, INPUTS, OUTPUTS, "forget")
    (tmp_path / "model.dlc").write_text("older")
    with pytest.raises(VendorToolFailed, match=r"exit code 0, but wrote no float\.dlc"):
        convert_with_sdk(open_sdk(make_sdk(tmp_path, "2.14")), job, tmp_path / "model.dlc", tmp_path / "log")
    assert (tmp_path / "model.dlc").read_text() == "older"


def test_after_a_failure_the_next_run_starts_anew(job: VendorJob, tmp_path: Path) -> None:
    sdk = open_sdk(make_sdk(tmp_path, "2.14"))
    write_model(job.model, INPUTS, OUTPUTS, "refuse")
    with pytest.raises(VendorToolFailed):
        convert_with_sdk(sdk, job, tmp_path / "model.dlc", tmp_path / "a.log")
    assert (tmp_path / "a.work").is_dir()
    write_model(job.model, INPUTS, OUTPUTS)
    convert_with_sdk(sdk, job, tmp_path / "model.dlc", tmp_path / "a.log")
    assert not (tmp_path / "a.work").exists()
    assert (tmp_path / "a.log").read_text().count("&& env PYTHONPATH=") == 2


@pytest.mark.slow
def test_a_tool_that_does_not_end_is_ended_with_its_children(job: VendorJob, tmp_path: Path) -> None:
    write_model(job.model, INPUTS, OUTPUTS, "hang")
    with pytest.raises(VendorToolFailed, match="no end within 2 s"):
        convert_with_sdk(open_sdk(make_sdk(tmp_path, "2.14")), job, tmp_path / "m", tmp_path / "l", limit_s=2)
    child = int((tmp_path / "l.work/child.pid").read_text())
    for _ in range(200):
        if ended(child):
            return
        time.sleep(0.05)
    pytest.fail("the tool's child lives on")


def test_tools_of_another_machine_or_python(job: VendorJob, tmp_path: Path) -> None:
    root = make_sdk(tmp_path, "2.25")
    write_model(job.model, INPUTS, OUTPUTS, "import")
    with pytest.raises(VendorToolUnusable, match=r"ImportError: libpython3\.8") as caught:
        convert_with_sdk(open_sdk(root), job, tmp_path / "m", tmp_path / "l")
    assert caught.value.exit_code == 4
    assert "check-python-dependency" in caught.value.hint
    write_model(job.model, INPUTS, OUTPUTS)
    tool = root / "bin/x86_64-linux-clang/snpe-onnx-to-dlc"
    tool.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(57))  # for no machine
    with pytest.raises(VendorToolUnusable, match="Exec format error"):
        convert_with_sdk(open_sdk(root), job, tmp_path / "m", tmp_path / "l")
    tool.write_text("#!/nowhere/python3\n")
    with pytest.raises(VendorToolUnusable, match="No such file"):
        convert_with_sdk(open_sdk(root), job, tmp_path / "m", tmp_path / "l")
    tool.chmod(0o644)
    with pytest.raises(VendorToolUnusable, match="Permission denied") as caught:
        convert_with_sdk(open_sdk(root), job, tmp_path / "m", tmp_path / "l")
    assert "chmod +x" in caught.value.hint


@pytest.mark.parametrize(
    ("chip", "said"),
    [
        ("SM8250", r"SM8250 \(Snapdragon 865\): its Hexagon v66 has no"),
        ("SM8350", "does not compute float16"),
    ],
)
def test_chips_that_nothing_can_be_prepared_for(job: VendorJob, tmp_path: Path, chip: str, said: str) -> None:
    sdk = open_sdk(make_sdk(tmp_path, "2.25"))
    with pytest.raises(SocUnfit, match=said):
        convert_with_sdk(sdk, replace(job, prepare=True, soc=SOCS[chip]), tmp_path / "m", tmp_path / "l")


def test_folders_may_have_spaces(job: VendorJob, tmp_path: Path) -> None:
    """The tools split the lines of the input list at spaces."""
    dlc, _, _ = converted(replace(job, precision="w8a8"), make_sdk(tmp_path, "2.25"), tmp_path / "with space")
    assert dlc["dlc"] == "quantized"
