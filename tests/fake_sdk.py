"""Makes SDK folders whose tools are small scripts, which check their options against recorded lists (sdk_help).

A fake ONNX is JSON: `{"inputs": {name: shape}, "outputs": [names]}`; `"behave"` requests a failure. A fake DLC is JSON
too, and records what was done. Genuine ONNX files are accepted too. The tools import this module, so it uses only the
standard library.
"""

import json
import math
import os
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

HELP = Path(__file__).parent / "sdk_help"
HOST = "x86_64-linux-clang"
CHIPS = {"sm8350": 68, "sm8450": 69, "sm8550": 73, "sm8650": 75, "qcs6490": 68, "qcs8550": 73, "sm8750": 79}


@dataclass(frozen=True)
class Release:
    """The differences between the folders of releases."""

    folder: str
    options: str
    layout: str
    hexagons: tuple[int, ...]
    tools: tuple[str, ...] = ()  # empty: all of the list
    shared_libcxx: bool = False
    sdk_yaml: str = ""
    has_qnn: bool = False


RELEASES = {
    "2.10": Release(
        "snpe-2.10.0.4541",
        "2.10",
        "aarch64-android-clang8.0",
        (66, 68, 69, 73),
        ("snpe-onnx-to-dlc", "snpe-dlc-quantize", "snpe-dlc-graph-prepare"),
        shared_libcxx=True,
    ),
    "2.14": Release("2.14.2.230905", "2.14", "aarch64-android", (68, 69, 73), shared_libcxx=True),
    "2.25": Release(
        "snpe",
        "2.25",
        "aarch64-android",
        (66, 68, 69, 73, 75),
        sdk_yaml="name: snpe\nversion: 2.25.0.240728\ntensorflow: 2.10.1\nonnx-runtime: 1.17.1\n",
    ),
    "2.35": Release("2.35.0.250530", "2.35", "aarch64-android", (68, 69, 73, 75, 79)),
    "qairt": Release(
        "2.40.0.251030",
        "2.35",
        "aarch64-android",
        (69, 73, 75, 79),
        ("qairt-converter", "qairt-quantizer", "snpe-dlc-graph-prepare"),
        has_qnn=True,
    ),
}
QNN = "ModelDlc System Cpu Gpu Htp HtpPrepare HtpNetRunExtensions".split()


def make_sdk(parent: Path, release: str) -> Path:
    """Writes an SDK's folder and returns its root."""
    made = RELEASES[release]
    root = parent / made.folder
    libraries = f"lib/{made.layout}"
    names = [f"bin/{made.layout}/snpe-net-run", f"{libraries}/libSNPE.so", f"{libraries}/libSnpeHtpPrepare.so"]
    if made.shared_libcxx:
        names.append(f"{libraries}/libc++_shared.so")
    for hexagon in made.hexagons:
        kind = "Htp" if hexagon >= 68 else "Dsp"
        folder = "dsp" if "clang" in made.layout else f"hexagon-v{hexagon}/unsigned"
        names += [f"{libraries}/libSnpe{kind}V{hexagon}Stub.so", f"lib/{folder}/libSnpe{kind}V{hexagon}Skel.so"]
    if made.has_qnn:
        names += [name.replace("snpe-", "qnn-").replace("libSnpe", "libQnn") for name in names if "SNPE" not in name]
        names += [f"{libraries}/libQnn{name}.so" for name in QNN]
    for name in dict.fromkeys(names):
        write(root / name, name)
    (root / "lib/python").mkdir()
    if made.sdk_yaml:
        write(root / "sdk.yaml", made.sdk_yaml)
    recorded = json.loads((HELP / f"{made.options}.json").read_text(encoding="utf-8"))["tools"]
    tools = {name: recorded[name] for name in made.tools or recorded}
    write(root / "help.json", json.dumps(tools))
    for name, tool in tools.items():
        _write_tool(root, name, is_script=tool["kind"] == "script")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


class Tensor(Protocol):
    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


def write_model(path: Path, inputs: Iterable[Tensor], outputs: Iterable[Tensor], behave: str = "") -> None:
    """Writes a fake ONNX; `behave`: refuse, import, hang or forget."""
    shapes = {spec.name: list(spec.shape) for spec in inputs}
    write(path, json.dumps({"inputs": shapes, "outputs": [spec.name for spec in outputs], "behave": behave}))


def ended(pid: int) -> bool:
    """Returns whether a process is gone, or a zombie."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] in "ZX"
    except (ProcessLookupError, FileNotFoundError):
        return True


def options_of(root: Path, tool: str) -> list[str]:
    options: list[str] = json.loads((root / "help.json").read_text(encoding="utf-8"))[tool]["options"]
    return options


class RefusedError(Exception):
    """A tool's last message before exit code 1."""


def parse(options: list[str], arguments: list[str]) -> dict[str, list[list[str]]]:
    """Parses options: first name -> the values of each use; refuses options that are not in the list."""
    known = {name: option for option in options for name in option.split()[0].split(",")}
    given: dict[str, list[list[str]]] = {}
    rest = list(arguments)
    while rest:
        name, joined, value = rest.pop(0).partition("=")
        if name not in known:
            raise RefusedError(f"error: unrecognized arguments: {name}")
        names, arity, *rules = known[name].split()
        values = [value] if joined else []
        most = {"0": 0, "1": 1, "2": 2, "?": 1}.get(arity, len(rest))
        while len(values) < most and rest and not (rest[0].startswith("-") and " " not in rest[0]):
            values.append(rest.pop(0))
        if (arity.isdigit() and len(values) != int(arity)) or (arity == "+" and not values):
            raise RefusedError(f"error: argument {name}: expected {arity} argument(s)")
        for rule in rules:
            choices = rule.removeprefix("choices=").split(",") if rule.startswith("choices=") else values
            if not set(values) <= set(choices):
                raise RefusedError(f"error: argument {name}: invalid choice: {values}")
        first = names.split(",")[0]
        if first in given and "repeat" not in rules and arity != "0":
            raise RefusedError(f"error: argument {name}: given twice")
        given.setdefault(first, []).append(values)
    missing = [o.split()[0] for o in options if "required" in o.split() and o.split()[0].split(",")[0] not in given]
    if missing:
        raise RefusedError(f"error: the following arguments are required: {', '.join(missing)}")
    return given


def run_tool(root: str, name: str, arguments: list[str]) -> int:
    """Runs the program of each tool."""
    sys.stdout.write(f"[INFO] {name} starts\n")
    try:
        given = parse(options_of(Path(root), name), arguments)
        _check_environment(Path(root))
        work = {"snpe-onnx-to-dlc": _convert, "qairt-converter": _convert, "snpe-dlc-graph-prepare": _prepare}
        written = work.get(name, _quantize)(given)
    except RefusedError as refused:
        _complain(f"[ERROR] {refused}")
        return 1
    if written is not None:
        path, content = written
        content.setdefault("history", []).append([name, *arguments])
        write(Path(path), json.dumps(content))
    return 0


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def _one(given: dict[str, list[list[str]]], name: str) -> str:
    return given[name][0][0] if name in given else ""


def _check_environment(root: Path) -> None:
    """Checks the environment set by bin/envsetup.sh, without which the real tools do not find modules and libraries."""
    for variable, folder in (("PYTHONPATH", "lib/python"), ("LD_LIBRARY_PATH", f"lib/{HOST}"), ("PATH", f"bin/{HOST}")):
        if os.environ.get(variable, "").split(":")[0] != str(root / folder):
            raise RefusedError(f"ModuleNotFoundError: {variable} does not begin with {folder}")


def _convert(given: dict[str, list[list[str]]]) -> tuple[str, dict[str, Any]] | None:
    path = Path(_one(given, "--input_network"))
    if not path.is_file():
        raise RefusedError(f"ERROR_ONNX_FILE: no such file {path}")
    try:
        model = json.loads(path.read_bytes())
    except ValueError:
        model = _read_onnx(path)
    if not _behave(model.get("behave", "")):
        return None
    for name, shape in given.get("--input_dim", []):
        if model["inputs"].get(name) != [int(size) for size in shape.split(",")]:
            raise RefusedError(f"ERROR - input {name} does not have shape {shape}")
    for (name,) in given.get("--out_node", given.get("--out_tensor_node", [])):
        if name not in model["outputs"]:
            raise RefusedError(f"ERROR - no output {name}")
    for (name,) in given.get("--quantization_overrides", []):
        model["overrides"] = json.loads(Path(name).read_bytes())
    _complain("INFO_CONVERSION_SUCCESS: Conversion completed successfully")
    return _one(given, "--output_path"), {"dlc": "float", **model}


def _read_onnx(path: Path) -> dict[str, Any]:
    """Reads a genuine ONNX as a fake one."""
    import onnx

    graph = onnx.load(path).graph
    weights = {tensor.name for tensor in graph.initializer}
    inputs = {value.name: value.type.tensor_type.shape.dim for value in graph.input if value.name not in weights}
    shapes = {name: [size.dim_value for size in dims] for name, dims in inputs.items()}
    return {"inputs": shapes, "outputs": [value.name for value in graph.output]}


def _behave(how: str) -> bool:
    """Fails as requested; returns whether the tool should write its output."""
    if how == "refuse":
        _complain("INFO: reading\nERROR_OP_NOT_SUPPORTED: Operator Foo is not supported")
        raise RefusedError("Node Foo_1: failed to convert")
    if how == "import":
        _complain("Traceback (most recent call last):\nImportError: libpython3.8.so.1.0: no such file")
        raise RefusedError("no module")
    if how == "hang":
        child = os.fork()  # a tool may have children of its own
        if child:
            write(Path("child.pid"), str(child))
        time.sleep(3600)
    return how != "forget"


def _read_dlc(path: str, *kinds: str) -> dict[str, Any]:
    if not Path(path).is_file():
        raise RefusedError(f"no such DLC: {path}")
    dlc: dict[str, Any] = json.loads(Path(path).read_bytes())
    if dlc["dlc"] not in kinds:
        raise RefusedError(f"the DLC is {dlc['dlc']} already")
    return dlc


def _quantize(given: dict[str, list[list[str]]]) -> tuple[str, dict[str, Any]]:
    dlc = _read_dlc(_one(given, "--input_dlc"), "float")
    if "--bitwidth" in given and "--weights_bitwidth" in given:
        raise RefusedError("--bitwidth cannot be mixed with --weights_bitwidth")
    packs = "--enable_htp" in given
    if "--htp_socs" in given and not packs:
        raise RefusedError("--htp_socs without --enable_htp")
    named = ""
    for line in Path(_one(given, "--input_list")).read_text(encoding="utf-8").splitlines():
        if line.startswith(("#", "%")):
            named = line[1:]
            continue
        files = dict(entry.split(":=", 1) for entry in line.split(" "))
        if files.keys() != dlc["inputs"].keys():
            raise RefusedError(f"the list names {sorted(files)}, the model {sorted(dlc['inputs'])}")
        for name, file in files.items():
            if Path(file).stat().st_size != 4 * math.prod(dlc["inputs"][name]):
                raise RefusedError(f"{file} does not have the size of float32 {dlc['inputs'][name]}")
    if bool(named) != packs:
        raise RefusedError("outputs are named when a cache is made, and only then")
    dlc["dlc"] = "quantized"
    if packs:
        dlc["cache"] = [_one(given, "--htp_socs"), *named.split(" ")]
    return _one(given, "--output_dlc"), dlc


def _prepare(given: dict[str, list[list[str]]]) -> tuple[str, dict[str, Any]]:
    dlc = _read_dlc(_one(given, "--input_dlc"), "float", "quantized")
    chips, archs = _one(given, "--htp_socs"), _one(given, "--htp_archs")
    if chips and archs:
        raise RefusedError("--htp_socs and --htp_archs are mutually exclusive")
    if chips and chips not in CHIPS:
        raise RefusedError(f"SoC {chips} is not supported")
    outputs = _one(given, "--set_output_tensors").split(",")
    if not set(outputs) <= set(dlc["outputs"]):
        raise RefusedError(f"no outputs {outputs} in the graph")
    dlc["cache"] = [chips or archs or "sm8650", *outputs]
    return _one(given, "--output_dlc"), dlc


def _write_tool(root: Path, name: str, *, is_script: bool) -> None:
    """Writes a Python script, or a shell script."""
    path = root / "bin" / HOST / name
    start = f"sys.path.insert(0, {str(Path(__file__).parents[1])!r})"
    program = f"import sys; {start}; from tests.fake_sdk import run_tool"
    call = f"sys.exit(run_tool({str(root)!r}, {name!r}, sys.argv[1:]))"
    if is_script:
        write(path, f"#!{sys.executable}\n{program}\n{call}\n")
    else:
        write(path.with_suffix(".program"), f"{program}\n{call}\n")
        write(path, f'#!/bin/sh\nexec {sys.executable} "{path}.program" "$@"\n')
    path.chmod(0o755)
