"""Reads a network's inputs from raw files, and writes its outputs to raw files."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bundler.dlc.execute import Network
    from bundler.types import TensorSpec
    from bundler.virtual.run_faults import RunFaults


class NetRunError(Exception):
    """An error that ends the run with exit code 1 and the real tool's message."""


ErrorLine = Callable[[int, str, str], str]
"""Formats an error like the program: from SNPE's code for it, the message, SNPE's component."""


@dataclass(frozen=True)
class World:
    """The chip that the program runs on, and the faults to simulate, if any."""

    soc_model: Callable[[], str]
    faults: "RunFaults | None" = None


@dataclass(frozen=True)
class Files:
    """The format of the raw files: the DLC's own dtypes, or float32; `fixed_bits` is the width of fixed-point user
    buffers; `ending` is the suffix of output files."""

    native_inputs: bool
    native_outputs: bool
    fixed_bits: int | None
    ending: str = ".raw"


class Session:
    """A network with chosen outputs, fed from files."""

    def __init__(self, network: "Network", outputs: Sequence[str], files: Files, error_line: ErrorLine) -> None:
        self._network, self._outputs, self._files, self._error_line = network, outputs, files, error_line
        self._specs = {spec.name: spec for spec in (*network.inputs, *network.outputs)}
        for name in outputs:
            encoding = network.encodings.get(name)
            if files.fixed_bits and (encoding is None or encoding.bits != files.fixed_bits):
                held = self._specs[name].dtype
                wrong = f"A buffer of {files.fixed_bits} bit does not fit output tensor {name} ({held})"
                raise NetRunError(self._error_line(207, wrong, "Dl System"))

    def infer(self, entries: Sequence[tuple[str, str]], result: str) -> list[Path]:
        """Computes one inference; returns the output files.

        Raises:
            NetRunError: its inputs are not the network's; OSError: an output cannot be written.
        """
        names = [spec.name for spec in self._network.inputs]
        feed = {}
        for position, (given, path) in enumerate(entries):
            name = given or (names[position] if position < len(names) else path)
            if name not in names:
                raise NetRunError(self._error_line(206, f"Input tensor {name} is not in the network", "Dl System"))
            feed[name] = self._read(self._specs[name], path)
        missing = [name for name in names if name not in feed]
        if missing:
            raise NetRunError(
                self._error_line(206, f"Input tensor {missing[0]} has no file in the input list", "Dl System")
            )
        outputs = self._network.execute(feed)
        files = []
        for name in self._outputs:
            target = Path(result, f"{name}{self._files.ending}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(self._stored(self._specs[name], outputs[name]).tobytes())
            files.append(target)
        return files

    def _read(self, spec: "TensorSpec", path: str) -> "npt.NDArray[np.generic]":
        """Reads a raw input file: real values, or the integers of an input that is not quantized."""
        import numpy as np

        native, kept = np.dtype(spec.dtype), np.dtype(np.float32)
        if self._files.native_inputs:
            kept = native
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise NetRunError(f"Failed to open input file: {path}") from error
        size = kept.itemsize * int(np.prod(spec.shape))
        if len(raw) != size:
            raise NetRunError(f"Failed to read the contents of: {path} ({len(raw)} bytes, {size} expected)")
        values = np.frombuffer(raw, kept).reshape(spec.shape)
        if kept.kind == "f" and not np.isfinite(values).all():
            raise NetRunError(f"Failed to read the contents of: {path} (not finite)")
        encoding = self._network.encodings.get(spec.name)
        if encoding is not None:
            return encoding.dequantize(values) if self._files.native_inputs else values
        return values.astype(np.float32 if native.kind == "f" else native)

    def _stored(self, spec: "TensorSpec", values: "npt.NDArray[np.generic]") -> "npt.NDArray[np.generic]":
        """Returns a result in the output file's dtype."""
        if not self._files.native_outputs:
            return values.astype("<f4")
        encoding = self._network.encodings.get(spec.name)
        return values.astype(spec.dtype) if encoding is None else encoding.quantize(values, spec.dtype)
