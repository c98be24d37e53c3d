"""Chooses the SDK's tools and flags that make a DLC: a pure function of the SDK, its version and the job.

Sources, all documents (the tests compare this with the option lists in tests/sdk_help): SNPE 2.25 (80-63442-10: model
conversion, model preparation, revision history), the tools page of June 2025 (80-63442-2 rev. BL), and for older
releases commands that others published. Not run against a real SDK: docs/sdk.md.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundler.errors import SdkIncomplete, SdkTooOld, SocUnfit
from bundler.model.sdk import HOST, Sdk
from bundler.soc import Soc
from bundler.types import TensorSpec

BITS: dict[str, tuple[int, int]] = {"w8a8": (8, 8), "w8a16": (8, 16), "w16a16": (16, 16)}
"""Quantized precisions: bits of weights and of activations."""
IDS = ("input_ids", "token_type_ids")  # row numbers of a table: 8 bits would round them to the next 120
PREPARE = "snpe-dlc-graph-prepare"

FLAGS: dict[str, dict[tuple[int, int], dict[str, str]]] = {
    "snpe-onnx-to-dlc": {
        (2, 0): {"fp32": "", "fp16": ""},  # the HTP computes float DLCs in float16 anyway
        (2, 25): {"fp16": "--float_bitwidth 16"},
    },
    "qairt-converter": {
        (2, 21): {"fp32": "", "fp16": "--float_bitwidth 16"},
    },
    "snpe-dlc-quant": {
        (2, 0): {
            **dict.fromkeys(BITS, ""),
            "min-max": "",
            "per_channel": "--axis_quant",
        },
        (2, 25): {
            "w16a16": "--param_quantizer symmetric --restrict_quantization_steps=-0x8000,0x7F7F",
            "min-max": "--act_quantizer tf",
            "per_channel": "--use_per_channel_quantization --use_per_row_quantization",
        },
    },
    "qairt-quantizer": {
        (2, 21): {
            **dict.fromkeys(("w8a8", "w8a16"), ""),
            **{method: f"--act_quantizer_calibration {method}" for method in ("min-max", "entropy", "percentile")},
            "per_channel": "--use_per_channel_quantization --use_per_row_quantization",
        },
        (2, 35): {"w16a16": "--param_quantizer_schema symmetric --restrict_quantization_steps '-0x8000 0x7F7F'"},
    },
    PREPARE: {
        (2, 0): {**dict.fromkeys(("fp32", "fp16"), "--use_float_io"), **dict.fromkeys(BITS, "")},
        (2, 25): dict.fromkeys(("fp32", "fp16"), ""),  # marked deprecated there
    },
}
"""Tool -> first release -> option -> flags; a later release's flags for an option replace an earlier one's."""

FLAGS["snpe-dlc-quantize"] = FLAGS["snpe-dlc-quant"]  # since 2.1 a script that runs quant, then graph-prepare

FAMILIES = (
    ("snpe-onnx-to-dlc", ("snpe-dlc-quant", "snpe-dlc-quantize")),
    ("qairt-converter", ("qairt-quantizer",)),
)
"""Converters and their quantizers, in order of preference: qairt's DLCs are made for one backend, by default the HTP,
but this project also runs them on the CPU and the GPU. SNPE's own tools still exist in 2.49."""


@dataclass(frozen=True)
class VendorJob:
    """A conversion job. `model` is ONNX with fixed shapes; `feeds` are the windows to calibrate on, int32 (1, length)
    arrays by input; `calibration` is min-max, entropy or percentile; `prepare` makes a cache for the HTP of `soc` on
    this machine; `encodings` is a file of the tensors' encodings (encodings.py)."""

    model: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    soc: Soc
    feeds: Sequence[Mapping[str, npt.NDArray[np.int32]]]
    precision: str = "fp32"
    calibration: str = "min-max"
    per_channel: bool = False
    prepare: bool = False
    encodings: Path | None = None


@dataclass(frozen=True)
class Step:
    """One run of a tool, which must write `output`."""

    tool: Path
    arguments: tuple[str, ...]
    output: Path


def plan(sdk: Sdk, job: VendorJob, work: Path, input_list: Path) -> tuple[Step, ...]:
    """Returns the runs that turn `job.model` into the last step's output, all files in the folder `work`.

    Raises:
        SocUnfit: nothing can be prepared for the chip; SdkIncomplete, SdkTooOld: the SDK has no tools for it.
    """
    _check(job)
    converter, quantizer = _tools(sdk, job)
    preparer = sdk.tool(PREPARE)
    packs = job.prepare and preparer is None and quantizer is not None and quantizer.name == "snpe-dlc-quantize"
    if job.prepare and preparer is None and not packs:
        raise SdkIncomplete(sdk.root, f"bin/{HOST}/{PREPARE}")
    steps = [_convert(sdk, job, converter, work / "float.dlc")]
    if quantizer is not None:
        steps.append(_quantize(sdk, job, quantizer, steps[-1].output, work / "quantized.dlc", input_list, packs=packs))
    if job.prepare and preparer is not None:
        steps.append(_prepare(sdk, job, preparer, steps[-1].output, work / "prepared.dlc"))
    return tuple(steps)


def needs_output_names(steps: tuple[Step, ...]) -> bool:
    """Returns whether the calibration list must name the outputs: only if the quantizer also prepares. Otherwise it
    must not, since then only the tensors before the outputs would be calibrated."""
    return any("--enable_htp" in step.arguments for step in steps)


def _convert(sdk: Sdk, job: VendorJob, tool: Path, output: Path) -> Step:
    arguments = ["--input_network", str(job.model.absolute()), "--output_path", str(output)]
    if tool.name == "qairt-converter":  # takes the shapes and types of the inputs from the model
        arguments += [word for spec in job.outputs for word in ("--out_tensor_node", spec.name)]
    else:
        for spec in job.inputs:
            arguments += ["--input_dim", spec.name, ",".join(map(str, spec.shape))]
            if job.precision in BITS and spec.name in IDS:
                arguments += ["--input_type", spec.name, "opaque"]  # not quantized, as in MLPerf's MobileBERT
        arguments += [word for spec in job.outputs for word in ("--out_node", spec.name)]
    if job.encodings is not None:  # quantizers keep these encodings and compute the others
        arguments += ["--quantization_overrides", str(job.encodings.absolute())]
    precision = "fp32" if job.precision in BITS else job.precision
    return Step(tool, (*arguments, *_flags(sdk, tool.name, precision)), output)


def _quantize(
    sdk: Sdk, job: VendorJob, tool: Path, source: Path, output: Path, input_list: Path, *, packs: bool
) -> Step:
    weights, activations = BITS[job.precision]
    arguments = ["--input_dlc", str(source), "--input_list", str(input_list), "--output_dlc", str(output)]
    arguments += ["--weights_bitwidth", str(weights), "--act_bitwidth", str(activations), "--bias_bitwidth", "32"]
    for wanted in _wishes(job):
        arguments += _flags(sdk, tool.name, wanted)
    if packs:
        arguments += ["--enable_htp", "--htp_socs", job.soc.name.lower()]
    return Step(tool, tuple(arguments), output)


def _prepare(sdk: Sdk, job: VendorJob, tool: Path, source: Path, output: Path) -> Step:
    """Returns the step that prepares the DLC. The phone uses the cache only for exactly the outputs named here."""
    names = ",".join(spec.name for spec in job.outputs)
    arguments = ["--input_dlc", str(source), "--output_dlc", str(output), "--set_output_tensors", names]
    return Step(tool, (*arguments, *_target(job.soc), *_flags(sdk, PREPARE, job.precision)), output)


def _target(soc: Soc) -> tuple[str, str]:
    """Returns the chip's option: its name if SDKs list it so, else its Hexagon version; never both. Without either, the
    tool takes the chip that was new when the tool was made."""
    by_name = soc.name.startswith(("SM", "QCS"))
    return ("--htp_socs", soc.name.lower()) if by_name else ("--htp_archs", f"v{soc.hexagon}")


def _tools(sdk: Sdk, job: VendorJob) -> tuple[Path, Path | None]:
    """Returns converter and quantizer of the first family that the SDK has and that can do the whole job."""
    complete = False
    for converter_name, quantizer_names in FAMILIES:
        converter = sdk.tool(converter_name)
        if converter is None:
            continue
        if job.precision not in BITS:
            return converter, None
        for quantizer in filter(None, map(sdk.tool, quantizer_names)):
            complete = True
            if all(_offers(sdk, quantizer.name, wanted) for wanted in _wishes(job)):
                return converter, quantizer
    if not complete:
        tool = "snpe-dlc-quant" if any(sdk.tool(name) for name, _ in FAMILIES) else "snpe-onnx-to-dlc"
        raise SdkIncomplete(sdk.root, f"bin/{HOST}/{tool}")
    raise SdkTooOld(
        sdk.name,
        f"has no quantizer for {job.precision} with {job.calibration} calibration",
        "Use min-max calibration, or a newer SDK (entropy and percentile: 2.21, with w16a16: 2.35).",
    )


def _wishes(job: VendorJob) -> tuple[str, ...]:
    return (job.precision, job.calibration, *(("per_channel",) if job.per_channel else ()))


def _offers(sdk: Sdk, tool: str, wanted: str) -> bool:
    return any(wanted in flags for first, flags in FLAGS[tool].items() if first <= sdk.release)


def _flags(sdk: Sdk, tool: str, wanted: str) -> list[str]:
    offered = [flags[wanted] for first, flags in FLAGS[tool].items() if first <= sdk.release and wanted in flags]
    return shlex.split(offered[-1]) if offered else []


def _check(job: VendorJob) -> None:
    soc = job.soc
    if not job.prepare:
        return
    if not soc.has_htp:
        what = f"its Hexagon v{soc.hexagon} has no tensor processor (HTP), so nothing can be prepared for its DSP"
        raise SocUnfit(soc.name, soc.market, what, "Leave --prepare out, and run on the cpu or the gpu.")
    if job.precision not in BITS and not soc.takes_float16:
        what = "its tensor processor (HTP) does not compute float16"
        raise SocUnfit(
            soc.name, soc.market, what, f"Use --precision {' or '.join(BITS)}, or run on the cpu or the gpu."
        )
