"""Tests the stand-in for snpe-net-run as a separate program: arguments, files, error lines, exit codes."""

import hashlib
import io
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

from bundler import layout
from bundler.bundle import Bundle
from bundler.dlc.execute import CpuNetwork, GpuNetwork, HtpNetwork, context_name, save_context
from bundler.virtual.net_files import World
from bundler.virtual.net_program import InputList, open_input_list
from bundler.virtual.net_run import NAME, run
from tests.dlcs import HIDDEN, convert, quantized
from tests.models import model, qa_model, random_feed

LIMIT_S = 120
OUTPUTS = "start_logits,end_logits"


@pytest.fixture
def device(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets the bundle's device folder as current folder."""
    monkeypatch.chdir(bundle.path / layout.DEVICE)
    return bundle.path / layout.DEVICE


def net_run(*arguments: str, soc: str = "SM8650") -> tuple[int, str]:
    """Runs it in this process; returns exit code and standard output."""
    out = io.StringIO()
    code = run([NAME, *arguments], World(lambda: soc), out)
    return code, out.getvalue()


def outputs(folder: Path, line: int) -> dict[str, np.ndarray]:
    return {path.stem: np.fromfile(path, "<f4") for path in (folder / f"Result_{line}").iterdir()}


def feed(device: Path, line: int) -> dict[str, np.ndarray]:
    entries = open_input_list(str(device / layout.INPUT_LIST)).inferences[line]
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
    flags = ("--enable_cpu_fallback", "--enable_cpu_fxp", "--userbuffer_float")
    assert net_run(*BASIC, *options, *flags)[0] == 0


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
        ((*BASIC, "--use_dsp", "--use_gpu"), "more than one runtime is given: dsp, gpu"),
        ((*BASIC, "--use_gpu", "--use_gpu"), "more than one runtime is given: gpu, gpu"),
        ((*BASIC, "--runtime_order", "gpu,gpu_float16"), "more than one runtime is given: gpu, gpu"),
        ((*BASIC, "--runtime_order", "cpu", "--use_dsp"), "--runtime_order and --use_dsp may not be given together"),
        ((*BASIC, "--runtime_order", "npu"), "--runtime_order: invalid choice: 'npu'"),
        ((*BASIC, "--gpu_mode", "float16"), "--gpu_mode is for --use_gpu only"),
        ((*BASIC, "--use_gpu", "--gpu_mode", "int8"), "--gpu_mode: invalid choice: 'int8'"),
        ((*BASIC, "--use_native_input_files"), "--use_native_input_files needs a --userbuffer option"),
        ((*BASIC, "--use_native_output_files"), "--use_native_output_files needs a --userbuffer option"),
        ((*BASIC, "--userbuffer_float", "--userbuffer_tfN", "8"), "more than one kind of user buffer is given"),
        ((*BASIC, "--userbuffer_tf8"), "error_code=207; error_message=A buffer of 8 bit does not fit output tensor"),
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


@pytest.mark.parametrize(
    "options", [("--use_gpu",), ("--use_gpu", "--gpu_mode", "float16"), ("--runtime_order", "gpu_float16,cpu")]
)
def test_gpu_computes_in_float16(device: Path, options: tuple[str, ...]) -> None:
    assert net_run(*BASIC, *options, "--set_output_tensors", OUTPUTS)[0] == 0
    expected = GpuNetwork(device / "model.dlc").execute(feed(device, 0))
    exact = CpuNetwork(device / "model.dlc").execute(feed(device, 0))
    for name, values in outputs(device / "output", 0).items():
        assert values.tobytes() == expected[name].tobytes()
        assert values.tobytes() != exact[name].tobytes()


def test_native_files_of_a_float_network(device: Path) -> None:
    """Ids are then int32, of the same size as float32: only the values differ."""
    for path in (device / "inputs").rglob("*.raw"):
        np.fromfile(path, "<f4").astype("<i4").tofile(path)
    native = ("--userbuffer_auto", "--use_native_input_files", "--use_native_output_files")
    assert net_run(*BASIC, *native)[0] == 0
    entries = open_input_list(str(device / layout.INPUT_LIST)).inferences[0]
    given = {name: np.fromfile(device / path, "<i4")[None] for name, path in entries}
    expected = CpuNetwork(device / "model.dlc").execute(given)
    for name, values in outputs(device / "output", 0).items():
        assert values.tobytes() == expected[name].tobytes()


@pytest.fixture(scope="module")
def quantized_dlc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("quantized")
    onnx.save(qa_model(hidden=HIDDEN), folder / "float.onnx")
    feeds = [random_feed(seed=seed) for seed in range(4)]
    return convert(quantized(folder / "float.onnx", feeds, "w8a16", folder), folder)


@pytest.fixture
def quantized_device(quantized_dlc: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sets a current folder with the quantized DLC and one inference of float32 files."""
    shutil.copy(quantized_dlc, tmp_path / "model.dlc")
    for name, values in random_feed().items():
        values.astype("<f4").tofile(tmp_path / f"{name}.raw")
    entries = " ".join(f"{name}:={name}.raw" for name in random_feed())
    (tmp_path / "input_list.txt").write_text(f"%start_logits end_logits\n{entries}\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("runtime", [(), ("--use_gpu",), ("--use_dsp",)])
def test_outputs_of_a_quantized_network_as_float32_or_as_they_are(
    quantized_device: Path, runtime: tuple[str, ...]
) -> None:
    assert net_run(*BASIC, *runtime)[0] == 0
    native = ("--userbuffer_tfN", "16", "--use_native_output_files", "--output_dir", "native")
    assert net_run(*BASIC, *runtime, *native)[0] == 0
    encodings = CpuNetwork(quantized_device / "model.dlc").encodings
    for name, values in outputs(quantized_device / "output", 0).items():
        stored = np.fromfile(quantized_device / "native" / "Result_0" / f"{name}.raw", "<u2")
        assert stored.tobytes() == encodings[name].quantize(values, np.uint16).tobytes()
        assert np.ptp(stored) > 1000


def test_native_inputs_that_are_quantized(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    size, kind = [1, 64], onnx.TensorProto.UINT8
    scale, zero = {"scale": np.float32(1 / 64), "zero": np.uint8(64)}, ["scale", "zero"]
    nodes = [
        onnx.helper.make_node("DequantizeLinear", ["a", *zero], ["x"]),
        onnx.helper.make_node("Sigmoid", ["x"], ["y"]),
        onnx.helper.make_node("QuantizeLinear", ["y", "scale", "low"], ["out"]),
    ]
    convert(model(nodes, {"a": (kind, size)}, {"out": (kind, size)}, {**scale, "low": np.uint8(0)}), tmp_path)
    values = np.linspace(-1, 2.9, 64, dtype=np.float32)
    CpuNetwork(Path("model.dlc")).encodings["a"].quantize(values, np.uint8).tofile("a.raw")
    Path("input_list.txt").write_text("a:=a.raw\n")
    for runtime in ((), ("--use_gpu",), ("--use_dsp",)):
        assert net_run(*BASIC, "--userbuffer_auto", "--use_native_input_files", *runtime)[0] == 0
        computed = outputs(tmp_path / "output", 0)["out"]
        np.testing.assert_allclose(computed, 1 / (1 + np.exp(-values)), atol=0.02)


def test_dsp_takes_the_offline_prepared_cache_of_this_dlc_and_chip(
    quantized_device: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert net_run(*BASIC, "--use_dsp", "--output_dir", "online")[0] == 0
    digest = hashlib.sha256(Path("model.dlc").read_bytes()).hexdigest()
    name = context_name("SM8650", digest)
    Path("htp").mkdir()
    save_context(Path("model.dlc"), 57, Path(name))
    code, said = net_run(*BASIC, "--use_dsp", "--output_dir", "offline", soc="SM8650-AB")
    assert code == 0
    assert f"using offline prepared cache {name}\n" in said
    for output, values in outputs(quantized_device / "online", 0).items():
        assert values.tobytes() == outputs(quantized_device / "offline", 0)[output].tobytes()
    assert "offline" not in net_run(*BASIC, "--use_dsp", soc="SM8550")[1]
    Path(name).write_bytes(b"no cache")
    code, said = net_run(*BASIC, "--use_dsp", "--output_dir", "fallen_back")
    assert code == 0
    assert "using offline" not in said
    assert f"offline prepared cache {name} does not load" in capfd.readouterr().err
    for output, values in outputs(quantized_device / "online", 0).items():
        assert values.tobytes() == outputs(quantized_device / "fallen_back", 0)[output].tobytes()


def test_a_cache_of_another_dlc_is_not_taken(quantized_device: Path) -> None:
    Path("htp").mkdir()
    Path(context_name("SM8650", "0" * 64)).write_bytes(b"of something else")
    code, said = net_run(*BASIC, "--use_dsp")
    assert (code, "offline" in said) == (0, False)


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


def test_input_list_syntax(tmp_path: Path) -> None:
    listing = tmp_path / "list"
    listing.write_text("%a b:0\nx:0:=p/1.raw y:=p/2.raw\n\nbare.raw\n")
    assert open_input_list(str(listing)) == InputList(
        ("a", "b:0"), ((("x:0", "p/1.raw"), ("y", "p/2.raw")), (("", "bare.raw"),))
    )
    listing.write_text("#op\n")
    assert open_input_list(str(listing)).outputs == ("op",)


def test_runs_as_a_command_and_keeps_native_noise_off_stdout(device: Path) -> None:
    """Runs it as on a phone of genuine parts: started by a wrapper script, with the chip's name from getprop."""
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


@pytest.mark.parametrize(
    ("runtime", "asked"), [("cpu", ""), ("gpu", "--use_gpu --gpu_mode float16"), ("dsp", "--use_dsp")]
)
def test_the_bundles_script_asks_for_the_runtime(device: Path, runtime: str, asked: str) -> None:
    program = device / "bin" / NAME
    program.parent.mkdir(exist_ok=True)
    program.write_text('#!/bin/sh\necho "$@"\n')
    program.chmod(0o755)
    done = subprocess.run(["sh", "run_snpe.sh", runtime], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert done.stdout.rstrip().endswith(f"--profiling_level basic {asked}".rstrip())
