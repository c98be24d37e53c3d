"""Inspects untrusted DLCs in a child process, because the libraries crash on some malformed files.

The child, `python -m bundler.dlc.inspect DLC REPORT`, writes its report to a file, since the libraries may print.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bundler.dlc.archive import Step, read_archive
from bundler.dlc.cache import sha256_of
from bundler.dlc.encoding import Encoding
from bundler.dlc.graph import Graph, Tensor, read_graph
from bundler.dlc.htp import FOLDER, context_name
from bundler.dlc.qnn import library_folder
from bundler.errors import DlcInvalid, FileUnreadable, NoConverter
from bundler.platforms import limit_memory
from bundler.types import TensorSpec

LIMIT_S = 120.0
MEMORY_BYTES = 32 << 30  # of address space, so that a corrupt size cannot exhaust the machine's memory
LAYERS = ("FullyConnected", "MatMul", "Conv2d")


@dataclass(frozen=True)
class DlcTensor:
    """An input or output: `dtype` is the stored one, `encoding` that of a quantized tensor."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    encoding: Encoding | None

    @property
    def spec(self) -> TensorSpec:
        return TensorSpec(self.name, self.dtype, self.shape)


@dataclass(frozen=True)
class DlcOperator:
    """An operator by its QNN type, with the names of its inputs and outputs, and the outputs' dtypes."""

    type: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class DlcReport:
    """The content of a DLC.

    `precision` is fp32 or fp16, or for a quantized graph the bits of most layers' weights and of most activations, as
    in w8a16. Parameters are the elements of the graph's constant real tensors. They match the ONNX file's float
    initializers and Constant nodes, except that the writer folds constants, writes small equal constants once, makes
    attributes of a Pad's value and a Clip's bounds, and adds ones for an Expand. `caches` are networks prepared for an
    accelerator: records in the DLC, and files beside it that were made from exactly this DLC. `history`: the tool runs
    that made the file.
    `embedding_rows`: the number of token ids that it has an embedding for, None if its graph does not show it.
    """

    graph: str
    size_bytes: int
    precision: str
    inputs: tuple[DlcTensor, ...]
    outputs: tuple[DlcTensor, ...]
    operators: tuple[DlcOperator, ...]
    parameters: int
    parameter_bytes: int
    parameter_dtypes: Mapping[str, int]
    records: tuple[str, ...]
    caches: tuple[str, ...]
    history: tuple[Step, ...]
    embedding_rows: int | None = None

    @property
    def operator_counts(self) -> dict[str, int]:
        """Returns the number of operators by type, the most frequent first."""
        counted = Counter(op.type for op in self.operators)
        return dict(sorted(counted.items(), key=lambda item: (-item[1], item[0])))

    @property
    def converter(self) -> str:
        """Returns the last tool that wrote the file, and its version."""
        return " ".join((self.history[-1].tool, self.history[-1].version)).strip() if self.history else "unknown"

    def to_json(self) -> dict[str, Any]:
        """Returns the report as dictionaries, lists, strings and numbers."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {**plain, "operator_counts": self.operator_counts, "converter": self.converter}


def inspect_dlc(path: Path, *, timeout_s: float = LIMIT_S) -> DlcReport:
    """Inspects a DLC; the file may be anything.

    Raises:
        FileUnreadable: there is no such file, or it cannot be opened.
        DlcInvalid: it is not a DLC, or the libraries crash on it.
        NoConverter: Qualcomm's libraries are not installed.
    """
    _check_readable(path)
    library_folder()
    with tempfile.TemporaryDirectory(prefix="mbqa-inspect-") as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-P", "-m", "bundler.dlc.inspect", str(path), str(report)]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired:
            raise DlcInvalid(path, f"the libraries did not finish within {timeout_s:g} s") from None
        if done.returncode or not report.exists():
            raise DlcInvalid(path, f"the libraries crashed on it (exit code {done.returncode})")
        return _reported(path, json.loads(report.read_text(encoding="utf-8"), object_hook=_with_tuples))


def _check_readable(path: Path) -> None:
    try:
        if path.is_dir():
            raise FileUnreadable(path, "is a folder")
        if path.exists() and not path.is_file():
            raise FileUnreadable(path, "is not a regular file")
        with path.open("rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise FileUnreadable(path, error.strerror or str(error)) from error
    except ValueError as error:  # a null byte in the name
        raise FileUnreadable(path, str(error)) from error
    if empty:
        raise DlcInvalid(path, "is empty")


def _reported(path: Path, found: Mapping[str, Any]) -> DlcReport:
    """Parses the child's report.

    Raises:
        DlcInvalid, NoConverter: according to the report
    """
    if "missing" in found:
        raise NoConverter(found["missing"])
    if "invalid" in found:
        raise DlcInvalid(path, found["invalid"])
    return DlcReport(
        **{
            **found,
            "inputs": tuple(map(_tensor, found["inputs"])),
            "outputs": tuple(map(_tensor, found["outputs"])),
            "operators": tuple(DlcOperator(**op) for op in found["operators"]),
            "history": tuple(Step(**step) for step in found["history"]),
        }
    )


def _with_tuples(found: dict[str, Any]) -> dict[str, Any]:
    """Converts the lists of a JSON object to tuples, as in the report."""
    return {name: tuple(value) if isinstance(value, list) else value for name, value in found.items()}


def _tensor(found: Mapping[str, Any]) -> DlcTensor:
    encoding = Encoding(**found["encoding"]) if found["encoding"] else None
    return DlcTensor(**{**found, "encoding": encoding})


def _report(path: Path) -> DlcReport:
    graph, archive = read_graph(path), read_archive(path)
    weights = [t for t in graph.tensors.values() if t.data is not None and t.is_real]
    dtypes: Counter[str] = Counter()
    for weight in weights:
        dtypes[weight.dtype.name] += _size(weight)
    return DlcReport(
        graph=graph.name,
        size_bytes=path.stat().st_size,
        precision=_precision(graph),
        inputs=_ends(graph, graph.inputs),
        outputs=_ends(graph, graph.outputs),
        operators=tuple(
            DlcOperator(op.type, op.name, op.inputs, op.outputs, tuple(graph.tensors[n].dtype.name for n in op.outputs))
            for op in graph.operators
        ),
        parameters=sum(dtypes.values()),
        parameter_bytes=sum(_size(weight) * weight.dtype.itemsize for weight in weights),
        parameter_dtypes=dict(sorted(dtypes.items())),
        records=archive.records,
        caches=(*archive.caches, *_contexts_beside(path)),
        history=archive.history,
        embedding_rows=_embedding_rows(graph),
    )


def _embedding_rows(graph: Graph) -> int | None:
    ids = {"input_ids"}
    for op in graph.operators:
        if op.type == "Gather" and op.inputs[1] in ids:
            table = graph.tensors[op.inputs[0]]
            return table.shape[0] if table.data is not None and len(table.shape) == 2 else None
        if len(op.inputs) == 1 and ids.intersection(op.inputs):  # Cast, Reshape
            ids.update(op.outputs)
    return None


def _contexts_beside(path: Path) -> list[str]:
    """Returns the contexts that `build --prepare` made from the DLC, by chip: their names hold its checksum."""
    if not (path.parent / FOLDER).is_dir():
        return []
    found = sorted(path.parent.glob(context_name("*", sha256_of(path))))
    return [f"{FOLDER}/{each.name}" for each in found]


def _size(weight: Tensor) -> int:
    return 0 if weight.data is None else int(weight.data.size)


def _ends(graph: Graph, names: Iterable[str]) -> tuple[DlcTensor, ...]:
    found = (graph.tensors[name] for name in names)
    return tuple(DlcTensor(t.name, t.dtype.name, t.shape, t.encoding) for t in found)


def _precision(graph: Graph) -> str:
    results = [graph.tensors[name] for op in graph.operators for name in op.outputs]
    seconds = [graph.tensors[op.inputs[1]] for op in graph.operators if op.type in LAYERS and len(op.inputs) > 1]
    weights = [tensor for tensor in seconds if tensor.data is not None and tensor.is_real]
    activations = [tensor for tensor in results if tensor.is_real]
    if not any(tensor.encoding for tensor in (*weights, *activations)):
        kept = Counter(8 * tensor.dtype.itemsize for tensor in (*weights, *activations))
        return f"fp{kept.most_common(1)[0][0]}" if kept else "integer"
    return "".join(
        f"{letter}{_most_common_bits(tensors)}" for letter, tensors in (("w", weights), ("a", activations)) if tensors
    )


def _most_common_bits(tensors: Iterable[Tensor]) -> int:
    bits = Counter(t.encoding.bits if t.encoding else 8 * t.dtype.itemsize for t in tensors)
    return bits.most_common(1)[0][0]


def _child(path: Path) -> dict[str, Any]:
    try:
        return asdict(_report(path))
    except DlcInvalid as invalid:
        return {"invalid": str(invalid).removeprefix(f"{path}: ")}
    except NoConverter as missing:
        return {"missing": str(missing)}
    except Exception as failure:  # any failure is the malformed file's fault
        return {"invalid": f"its content cannot be read: {type(failure).__name__}: {failure}"}


if __name__ == "__main__":
    limit_memory(MEMORY_BYTES)
    Path(sys.argv[2]).write_text(json.dumps(_child(Path(sys.argv[1]))), encoding="utf-8", newline="\n")
    os._exit(0)  # skips the teardown of the loaded libraries
