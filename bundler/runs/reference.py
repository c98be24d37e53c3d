"""The float32 reference of a bundle: the DLC's original ONNX file, run by ONNX Runtime on this machine.

A bundle made from a DLC has no such file. The DLC's own graph in float32, with dequantized weights, replaces it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from bundler import layout
from bundler.bundle import Bundle, Window
from bundler.bundle.arrays import Kind, read_arrays, write_arrays
from bundler.bundle.json_lines import Selection
from bundler.device.chunks import Chunk, chunks_of
from bundler.device.outputs import keep, kept_chunks, load
from bundler.dlc.onnx_sessions import cpu_session
from bundler.errors import BundleInvalid, ModelInvalid, OutputsInvalid
from bundler.types import OUTPUTS, Progress, TensorSpec

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from bundler.model.sources import ModelSource

VERIFIED_WINDOWS = 32
DTYPES = {"tensor(int32)": np.int32, "tensor(int64)": np.int64, "tensor(float)": np.float32}
CHUNK = 100  # windows whose logits are in memory at a time, and in a file of the cache

Arrays = Mapping[str, npt.NDArray[Any]]
Logits = dict[str, npt.NDArray[np.float32]]


class Network(Protocol):
    """A model that takes inputs (1, length) by name, of any number type, and returns logits, float32 (1, length)."""

    def execute(self, feed: Arrays) -> Arrays: ...


class OnnxNetwork:
    """An ONNX Runtime session that computes only the given outputs."""

    def __init__(self, session: "InferenceSession", outputs: Sequence[str] = OUTPUTS) -> None:
        self._session, self._outputs = session, list(outputs)
        self._dtypes = {value.name: DTYPES[value.type] for value in session.get_inputs()}

    def execute(self, feed: Arrays) -> Arrays:
        given = {name: feed[name].astype(dtype) for name, dtype in self._dtypes.items()}
        return dict(zip(self._outputs, self._session.run(self._outputs, given), strict=True))


def keep_reference(source: "ModelSource", draft: Path, windows: Sequence[Window]) -> bool:
    """Copies the reference model into a new bundle, with its logits for some windows; returns whether these are the
    same at every token.

    verify.npz: `lines`, int64 (windows,), and each output by its name, float32 (windows, 1, length). It is not made for
    a DLC that nothing here can compute.

    Raises:
        ModelInvalid: it cannot be run on the questions
    """
    from bundler.model.sources import first_line, load_onnx

    host = draft / layout.HOST
    if not source.is_dlc:
        (host / layout.REFERENCE).write_bytes(load_onnx(source.path).SerializeToString(deterministic=True))
    count = min(VERIFIED_WINDOWS, len(windows))
    lines = np.linspace(0, len(windows) - 1, count).round().astype(np.int64)
    try:
        logits = _computed(_network(draft), draft, source.inputs, [windows[line] for line in lines.tolist()])
    except Exception as refused:  # ONNX Runtime's errors have no common base
        if source.is_dlc:
            return False
        hint = "Give the tokenizer that the model was trained with: --tokenizer."
        raise ModelInvalid(source.name, f"does not run on the questions: {first_line(refused)}", hint) from refused
    write_arrays(host / layout.VERIFY, {"lines": lines, **logits})
    return all((values == values.flat[0]).all() for values in logits.values())


def verify_logits(bundle: Bundle) -> tuple[npt.NDArray[np.int64], Logits]:
    """Returns the windows with kept reference logits, as indices in the bundle or its sample, and these logits.

    Raises:
        BundleInvalid: there are none, or the file is not as build wrote it
    """
    path = bundle.path / layout.HOST / layout.VERIFY
    if f"{layout.HOST}/{layout.VERIFY}" not in bundle.manifest.files:
        raise BundleInvalid(path, "is not there: nothing here could compute its DLC, or an older release built it")
    windows = bundle.manifest.windows
    total = len(windows.items if isinstance(windows, Selection) else windows)
    count, shape = min(VERIFIED_WINDOWS, total), bundle.manifest.outputs[0].shape
    kinds: dict[str, Kind] = {"lines": (np.int64, (count,)), **dict.fromkeys(OUTPUTS, (np.float32, (count, *shape)))}
    try:
        logits = read_arrays(path, kinds)
    except (OSError, ValueError) as error:
        raise BundleInvalid(path, f"is not what build writes: {error}") from error
    lines = logits.pop("lines")
    if (lines < 0).any() or (lines >= total).any():
        raise BundleInvalid(path, "names windows that the bundle does not have")
    if bundle.sample is None:
        return lines, logits
    places = {line: place for place, line in enumerate(bundle.lines)}
    here = np.array([line in places for line in lines.tolist()], np.bool_)
    of_sample = np.array([places[line] for line in lines[here].tolist()], np.int64)
    return of_sample, {name: values[here] for name, values in logits.items()}


def reference_name(bundle: Bundle) -> str:
    return "ONNX Runtime, float32" if _has_onnx(bundle.path) else "the DLC's graph in float32, ONNX Runtime"


def reference_logits(bundle: Bundle, progress: Progress) -> Path:
    """Returns the folder with the reference logits of all windows, in chunks of CHUNK in a run's format. Computes the
    chunks that earlier calls did not.

    Raises:
        DlcInvalid: a bundle's original DLC has no translation; BundleInvalid: its float32 model cannot be run;
        HostStorageFailed
    """
    sample = f"-{bundle.sample.count}-{bundle.sample.seed}" if bundle.sample else ""
    folder = layout.reference_folder(bundle.path, bundle.id, sample)
    windows, specs = bundle.manifest.windows, bundle.manifest.outputs
    missing = [chunk for chunk in chunks_of(len(windows), CHUNK) if not _is_kept(folder, chunk, specs)]
    network = _network(bundle.path) if missing else None
    for chunk in missing:
        progress("computing the float32 reference", chunk.start, len(windows))
        assert network is not None
        logits = _computed(network, bundle.path, bundle.manifest.inputs, windows[chunk.start : chunk.stop])
        keep(logits, folder, chunk)
    return folder


def real_tokens(bundle: Bundle, windows: Sequence[Window]) -> npt.NDArray[np.bool_]:
    """Returns (windows, length): which tokens are not padding."""
    mask = next((spec for spec in bundle.manifest.inputs if spec.name == "attention_mask"), None)
    if mask is None:
        return np.ones((len(windows), bundle.manifest.inputs[0].shape[1]), np.bool_)
    return np.concatenate([_raw(bundle.path, mask, window) == 1 for window in windows])


def window_inputs(bundle: Bundle, window: Window) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the window's inputs by name, float32 (1, length)."""
    return {spec.name: _raw(bundle.path, spec, window) for spec in bundle.manifest.inputs}


def _is_kept(folder: Path, chunk: Chunk, specs: Sequence[TensorSpec]) -> bool:
    try:
        return chunk in kept_chunks(folder) and bool(load(folder, chunk, specs))
    except OutputsInvalid:
        return False


def _has_onnx(root: Path) -> bool:
    return (root / layout.HOST / layout.REFERENCE).exists()


def _network(root: Path) -> Network:
    """Opens the reference model. Raises: BundleInvalid, DlcInvalid"""
    if not _has_onnx(root):
        from bundler.dlc.execute import CpuNetwork

        return CpuNetwork(root / layout.DEVICE / layout.MODEL)
    from bundler.model.sources import first_line

    path = root / layout.HOST / layout.REFERENCE
    try:
        return OnnxNetwork(cpu_session(path))
    except Exception as refused:  # ONNX Runtime's errors have no common base
        raise BundleInvalid(path, f"cannot be run: {first_line(refused)}") from refused


def _computed(network: Network, root: Path, inputs: Sequence[TensorSpec], windows: Sequence[Window]) -> Logits:
    """Returns the logits of these windows by tensor name, float32 (windows, 1, length)."""
    rows = []
    for window in windows:
        outputs = network.execute({spec.name: _raw(root, spec, window) for spec in inputs})
        rows.append([np.asarray(outputs[name], np.float32) for name in OUTPUTS])
    return {name: np.stack(values) for name, values in zip(OUTPUTS, zip(*rows, strict=True), strict=True)}


def _raw(root: Path, spec: TensorSpec, window: Window) -> npt.NDArray[np.float32]:
    """Reads a raw input, float32 (1, length)."""
    path = root / layout.DEVICE / window.inputs[spec.name]
    try:
        values: npt.NDArray[np.float32] = np.fromfile(path, "<f4").reshape(spec.shape)
    except (OSError, ValueError) as error:
        raise BundleInvalid(path, f"cannot be read: {error}") from error
    return values
