"""The stand-in for snpe-net-run, as a program of its own: arguments, files, error lines, exit codes."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.dlc.execute import CpuNetwork, HtpNetwork
from bundler.virtual.net_run import NAME, InputList, World, read_input_list, run

LIMIT_S = 120
OUTPUTS = "start_logits,end_logits"


@pytest.fixture
def device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The bundle's device folder, as current folder."""
    monkeypatch.chdir(bundle.path / layout.DEVICE)
    return bundle.path / layout.DEVICE


def net_run(*arguments: str, soc: str = "SM8650") -> tuple[int, str]:
    """Runs it in this process; returns exit code and standard output."""
    out = io.StringIO()
    code = run([NAME, *arguments], World(Path, Path, lambda: soc), out)
    return code, out.getvalue()


def outputs(folder: Path, line: int) -> dict[str, np.ndarray]:
    return {path.stem: np.fromfile(path, "<f4") for path in (folder / f"Result_{line}").iterdir()}


def feed(device: Path, line: int) -> dict[str, np.ndarray]:
    entries = read_input_list((device / layout.INPUT_LIST).read_text()).inferences[line]
    return {name: np.fromfile(device / path, "<f4").astype(np.int32)[None] for name, path in entries}


BASIC = ("--container", "model.dlc", "--input_list", "input_list.txt")


def test_cpu_is_the_default_and_writes_float32(device: Path) -> None:
    code, said = net_run(*BASIC, "--set_output_tensors", OUTPUTS)
    assert code == 0
    assert said.count("Processing DNN input(s):") == 4
    assert sorted(path.name for path in (device / "output").iterdir()) == [f"Result_{n}" for n in range(4)]
    network = CpuNetwork(device / "model.dlc")
    for line in range(4):
        expected = network.execute(feed(device, line))
        for name, values in outputs(device / "output", line).items():
            assert values.tobytes() == expected[name].astype("<f4").tobytes()


def test_dsp_executes_on_the_simulator_of_the_phones_chip(device: Path) -> None:
    code, _ = net_run(*BASIC, "--use_dsp", "--output_dir", "out/dsp", soc="SM8550")
    assert code == 0
    expected = HtpNetwork(device / "model.dlc", 43).execute(feed(device, 0))
    for name, values in outputs(device / "out/dsp", 0).items():
        assert values.tobytes() == expected[name].tobytes()


def test_outputs_by_list_by_option_or_the_last_only(device: Path) -> None:
    net_run(*BASIC, "--output_dir", "by_list")
    assert set(outputs(device / "by_list", 0)) == {"start_logits", "end_logits"}
    net_run(*BASIC, "--output_dir", "by_option", "--set_output_tensors", "end_logits")
    assert set(outputs(device / "by_option", 0)) == {"end_logits"}
    listing = device / "bare.txt"
    listing.write_text("".join((device / "input_list.txt").read_text().splitlines(keepends=True)[1:]))
    net_run("--container", "model.dlc", "--input_list", "bare.txt", "--output_dir", "bare")
    assert len(outputs(device / "bare", 0)) == 1


def test_version(device: Path) -> None:
    code, said = net_run("--version")
    assert code == 0
    assert said.startswith("SNPE v")


def test_takes_the_real_tools_other_arguments(device: Path) -> None:
    options = ("--perf_profile", "burst", "--profiling_level", "basic", "--platform_options", "unsignedPD:ON")
    assert net_run(*BASIC, *options, "--enable_cpu_fallback", "--userbuffer_float")[0] == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "Missing option: --container"),
        (("--container", "model.dlc"), "Missing option: --input_list"),
        ((*BASIC, "--use_cpu"), "unrecognized arguments: --use_cpu"),
        ((*BASIC, "--debug"), "unrecognized arguments: --debug"),
        ((*BASIC, "--perf_profile", "warp"), "--perf_profile: invalid choice: 'warp'"),
        (("--container", "none.dlc", "--input_list", "input_list.txt"), "Failed to open container: none.dlc"),
        (("--container", "model.dlc", "--input_list", "none.txt"), "Failed to open input list: none.txt"),
        (("--container", "run_snpe.sh", "--input_list", "input_list.txt"), "error_message=Dlc container is bad"),
        ((*BASIC, "--set_output_tensors", "nonsense"), "error_code=108; error_message=Output tensor nonsense"),
    ],
)  # fmt: skip
def test_says_what_is_wrong(
    device: Path, arguments: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]
) -> None:
    code, _ = net_run(*arguments)
    assert code == 1
    assert said in capfd.readouterr().err
    assert not (device / "output").exists()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("input_ids:=none.raw", "Failed to open input file: none.raw"),
        ("pixels:=inputs/input_ids/000000.raw", "Input tensor pixels is not in the network"),
        ("input_ids:=inputs/input_ids/000000.raw", "has no file in the input list"),
        ("input_ids:=input_list.txt", "Failed to read the contents of: input_list.txt"),
        ("input_ids:=nan.raw", "Failed to read the contents of: nan.raw (not finite)"),
    ],
)
def test_says_which_input_is_wrong(device: Path, line: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    np.full(384, np.nan, "<f4").tofile(device / "nan.raw")
    (device / "list.txt").write_text(line + "\n")
    assert net_run("--container", "model.dlc", "--input_list", "list.txt")[0] == 1
    assert said in capfd.readouterr().err


@pytest.mark.parametrize("soc", ["SM8250", "nonsense"])
def test_a_chip_without_htp_has_no_dsp_runtime(device: Path, soc: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert net_run(*BASIC, "--use_dsp", soc=soc)[0] == 1
    said = capfd.readouterr().err
    assert "unsigned PD or DSPRPC_GET_DSP_INFO not supported by DSP" in said
    assert "The selected runtime is not available on this platform" in said


def test_a_changed_dlc_breaks_or_changes_the_result(device: Path, capfd: pytest.CaptureFixture[str]) -> None:
    net_run(*BASIC, "--output_dir", "before")
    data = bytearray((device / "model.dlc").read_bytes())
    data[2000] ^= 0x40  # within the weights
    (device / "model.dlc").write_bytes(data)
    code, _ = net_run(*BASIC, "--output_dir", "after")
    same = code == 0 and all(
        np.array_equal(outputs(device / "before", line)[name], outputs(device / "after", line)[name])
        for line in range(4)
        for name in ("start_logits", "end_logits")
    )
    assert not same


def test_input_list_syntax() -> None:
    text = "%a b:0\nx:0:=p/1.raw y:=p/2.raw\n\nbare.raw\n"
    assert read_input_list(text) == InputList(
        ("a", "b:0"), ((("x:0", "p/1.raw"), ("y", "p/2.raw")), (("", "bare.raw"),))
    )
    assert read_input_list("#op\n").outputs == ("op",)


def test_runs_as_a_command_and_keeps_native_noise_off_stdout(device: Path) -> None:
    """As on a phone of genuine parts, where a wrapper script starts it and getprop names the chip."""
    getprop = device / "bin" / "getprop"
    getprop.parent.mkdir()
    getprop.write_text("#!/bin/sh\necho SM8650\n")
    getprop.chmod(0o755)
    command = [sys.executable, "-m", "bundler.virtual.net_run", *BASIC, "--use_dsp"]
    environment = {"PATH": str(getprop.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, timeout=LIMIT_S, check=False)
    assert done.returncode == 0, done.stderr
    allowed = ("---", "Model String", "SNPE v", "Processing DNN input", "inputs/")
    assert all(line.startswith(allowed) for line in done.stdout.decode().splitlines())
    assert (device / "output/Result_3/end_logits.raw").stat().st_size == 1536
