"""Tests the stand-in for qnn-net-run: the genuine arguments, files and error lines, and the other engine's logits."""

import io
import json
import os
import shutil
import subprocess
from pathlib import Path

import onnx
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.device.explain import explain
from bundler.dlc.execute import context_name, save_context
from bundler.soc import known_socs
from bundler.virtual import net_run, qnn_net_run
from bundler.virtual.net_files import World
from bundler.virtual.net_program import sha256_of
from tests.dlcs import HIDDEN, convert, quantized
from tests.models import qa_model, random_feed

RUNTIMES = {
    "cpu": ("libQnnCpu.so", ()),
    "gpu": ("libQnnGpu.so", ("--use_gpu",)),
    "dsp": ("libQnnHtp.so", ("--use_dsp",)),
}
DLC = ("--model", "libQnnModelDlc.so", "--dlc_path", "model.dlc")
LIST = ("--input_list", "input_list.txt")
CPU, HTP = (("--backend", f"libQnn{kind}.so", *LIST) for kind in ("Cpu", "Htp"))
CONTEXT = ("--retrieve_context", "run_qnn.sh")
LOST = "dlerror(): dlopen failed: library"
BASIC = ("--backend", "libQnnCpu.so", *LIST, *DLC)


@pytest.fixture
def device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets the bundle's device folder as current folder."""
    monkeypatch.chdir(bundle.path / layout.DEVICE)
    return bundle.path / layout.DEVICE


def qnn(*arguments: str, soc: str = "SM8650") -> tuple[int, str]:
    """Runs it in this process; returns exit code and standard output."""
    out = io.StringIO()
    code = qnn_net_run.run([qnn_net_run.NAME, *arguments], World(lambda: soc), out)
    return code, out.getvalue()


def results(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*.raw"))}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("precision", ["fp32", "w8a8"])
def test_both_engines_give_the_same_logits(runtime: str, precision: str, device: Path, tmp_path: Path) -> None:
    if precision == "w8a8":
        onnx.save(qa_model(hidden=HIDDEN), tmp_path / "float.onnx")
        feeds = [random_feed(seed=seed) for seed in range(2)]
        made = convert(quantized(tmp_path / "float.onnx", feeds, "w8a8", tmp_path), tmp_path)
        shutil.copyfile(made, device / "model.dlc")
    backend, options = RUNTIMES[runtime]
    code, said = qnn("--backend", backend, *LIST, *DLC, "--output_dir", "qnn")
    assert code == 0
    assert said.splitlines()[-2:] == ["Executing Graphs", "Finished Executing Graphs"]
    both = "start_logits,end_logits"
    asked = ["snpe-net-run", "--container", "model.dlc", *LIST, "--output_dir", "snpe", "--set_output_tensors", both]
    assert net_run.run([*asked, *options], World(lambda: "SM8650"), io.StringIO()) == 0
    assert len(results(device / "qnn")) == 8
    assert results(device / "qnn") == results(device / "snpe")


def test_a_context_prepared_ahead_takes_the_dlcs_place(device: Path) -> None:
    prepared = device / context_name("SM8650", sha256_of(device / "model.dlc"))
    prepared.parent.mkdir()
    save_context(device / "model.dlc", known_socs()["SM8650"].qnn_id, prepared)
    htp = ("--backend", "libQnnHtp.so", *LIST)
    assert qnn(*htp, *DLC, "--output_dir", "online")[0] == 0
    (device / "model.dlc").unlink()
    code, said = qnn(*htp, "--retrieve_context", str(prepared), "--output_dir", "offline")
    assert (code, f"Creating context from binary file: {prepared}" in said) == (0, True)
    assert results(device / "online") == results(device / "offline")


def test_native_outputs_have_names_of_their_own(device: Path) -> None:
    assert qnn(*BASIC, "--use_native_output_files")[0] == 0
    assert {path.name for path in (device / "output/Result_0").iterdir()} == {
        "start_logits_native.raw",
        "end_logits_native.raw",
    }


def test_takes_the_real_tools_other_arguments(device: Path) -> None:
    more = ("--perf_profile=burst", "--profiling_level", "basic", "--log_level", "info", "--synchronous", "--use_mmap")
    code, said = qnn(*BASIC, *more)
    assert (code, "log level is : QNN_LOG_LEVEL_INFO" in said) == (0, True)
    assert qnn("--version")[1].startswith("qnn-net-run build version: v")


@pytest.mark.parametrize(
    ("arguments", "said", "explained"),
    [
        ((), "ERROR: Missing option: --model", "option not known"),
        (DLC, "ERROR: Missing option: --backend", "option not known"),
        ((*CPU[:2], *DLC), "ERROR: Missing option: --input_list", "option not known"),
        ((*BASIC, "--use_dsp"), "ERROR: Invalid argument passed: --use_dsp", "option not known"),
        ((*BASIC, "--perf_profile", "warp"), "argument --perf_profile: invalid choice: 'warp'", None),
        ((*BASIC, "--retrieve_context", "x.bin"), "both --model and --retrieve_context", None),
        ((*CPU, "--model", "model.dlc"), "Could not load model : model.dlc!", "model not loaded"),
        (
            ("--backend", "libQnnDsp.so", *LIST, *DLC),
            f"backend. {LOST} 'libQnnDsp.so'",
            "library not found",
        ),
        (("--backend", "./lib/libQnnCpu.so", *LIST, *DLC), f"{LOST} './lib/libQnnCpu.so'", "library not found"),
        ((*CPU, "--model", "libX.so", *DLC[2:]), f"Unable to load model. {LOST} 'libX.so'", "library not found"),
        ((*CPU, *DLC[:3], "none.dlc"), "Failed to open: none.dlc", None),
        ((*CPU, *DLC[:3], "run_qnn.sh"), "ComposeGraphs failure", "graph refused"),
        ((*CPU[:2], "--input_list", "none.txt", *DLC), "Failed to open input list: none.txt", "input unusable"),
        ((*HTP, *CONTEXT), "Could not create context from binary", "context of another release"),
        ((*CPU, *CONTEXT), "Create From Binary failure", "context of another release"),
        ((*BASIC, "--config_file", "run_qnn.sh"), "Could not parse config file: run_qnn.sh", None),
    ],
)
def test_says_what_is_wrong(
    device: Path,
    arguments: tuple[str, ...],
    said: str,
    explained: str | None,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert qnn(*arguments)[0] == 1
    errors = capfd.readouterr().err
    assert said in errors.replace('"', "'")
    assert not (device / "output").exists()
    if explained is not None:
        found = explain(errors.splitlines(), 1)
        assert found is not None
        assert found.name == explained


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("input_ids:=none.raw", "Failed to open input file: none.raw"),
        ("input_ids:=model.dlc", "Failed to read the contents of: model.dlc"),
        ("nonsense:=model.dlc", "Input tensor nonsense is not in the network"),
    ],
)
def test_an_input_that_cannot_be_taken(device: Path, line: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    (device / "list.txt").write_text(f"{line}\n")
    assert qnn("--backend", "libQnnCpu.so", "--input_list", "list.txt", *DLC)[0] == 1
    errors = capfd.readouterr().err
    assert said in errors
    assert "error_code" not in errors


def test_a_dsp_that_has_no_htp(device: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert qnn("--backend", "libQnnHtp.so", *LIST, *DLC, soc="SM8250")[0] == 1
    found = explain(capfd.readouterr().err.splitlines(), 1)
    assert found is not None
    assert found.name == "unsigned PD not supported"


def test_the_settings_of_the_htp_are_read(device: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (device / "ext.so").touch()
    told = {"devices": [{"soc_model": 57, "dsp_arch": "v75"}], "graphs": [{"graph_names": ["x"], "warp": 9}]}
    (device / "htp.json").write_text(json.dumps(told))

    def with_extensions(library: Path) -> tuple[int, str]:
        extensions = {"shared_library_path": str(library), "config_file_path": str(device / "htp.json")}
        (device / "config.json").write_text(json.dumps({"backend_extensions": extensions}))
        return qnn("--backend", "libQnnHtp.so", *LIST, *DLC, "--config_file", "config.json")

    code, said = with_extensions(device / "ext.so")
    assert (code, said.count("Unknown Key"), "Unknown Key = graphs/warp" in said) == (0, 1, True)
    assert with_extensions(device / "none.so")[0] == 1
    assert "Unable to load backend extensions" in capfd.readouterr().err


ECHO = """#!/bin/sh
echo "$@"
cat inferences.txt
[ ! -e extensions.json ] || cat extensions.json
"""


def runner(device: Path, folder: Path, *arguments: str) -> list[str]:
    """Returns the arguments that run_qnn.sh passes to qnn-net-run, by lines."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin/qnn-net-run").write_text(ECHO)
    (folder / "bin/qnn-net-run").chmod(0o755)
    path = {**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"}
    command = ["sh", "run_qnn.sh", *arguments]
    done = subprocess.run(command, cwd=device, env=path, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.splitlines()


def test_the_runner_asks_for_what_the_phone_has(device: Path, tmp_path: Path) -> None:
    dlc = f"--model libQnnModelDlc.so --dlc_path {device}/model.dlc"
    for runtime, (backend, _) in RUNTIMES.items():
        asked, first, *_ = runner(device, tmp_path, runtime)
        profile = " --perf_profile burst" if runtime == "dsp" else ""
        begin = f"--backend {backend} --input_list inferences.txt --output_dir output/{runtime} --profiling_level basic"
        assert asked == f"{begin}{profile} {dlc}"
        assert first.startswith("input_ids:=")  # no line that names outputs
    (device / "lib").mkdir()
    (device / "lib/libQnnHtpNetRunExtensions.so").touch()
    (device / "htp_power_saver_unsignedPD:ON.json").touch()
    (device / "htp").mkdir()
    (device / "htp/SM8650-0123.bin").touch()
    asked, *_, last = runner(device, tmp_path, "dsp", "power_saver", ".", "unsignedPD:ON")
    assert asked.endswith(f"--config_file extensions.json --retrieve_context {device}/htp/SM8650-0123.bin")
    assert json.loads(last)["backend_extensions"] == {
        "shared_library_path": f"{device}/lib/libQnnHtpNetRunExtensions.so",
        "config_file_path": f"{device}/htp_power_saver_unsignedPD:ON.json",
    }
    said, asked, *_ = runner(device, tmp_path, "dsp", "burst", ".", "unsignedPD:OFF")
    assert said.startswith("unsignedPD:OFF is not set: ")
    assert "--perf_profile burst" in asked
