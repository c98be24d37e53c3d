"""Checks whether a run's logits can be answers at all, to detect broken runtimes and overflow."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from bundler.bundle import Bundle, Window
from bundler.device.chunks import chunks_of
from bundler.device.outputs import load
from bundler.errors import BundleInvalid
from bundler.runs.comparison import Comparison
from bundler.runs.reference import real_tokens, verify_logits, window_inputs
from bundler.types import OUTPUTS

LEAST_CORRELATION = 0.5  # with float32's logits; 8-bit models that lose most answers still have 0.9


def doubts(bundle: Bundle, folder: Path, size: int) -> tuple[str, ...]:
    """Returns reasons why a run's logits, kept in chunks of `size` windows, are implausible; empty if there are none.

    Logits are implausible if a window has the same logit at every token, if a window has the logits of the one before
    it, or if they do not correlate with the reference logits kept by build.

    Raises:
        OutputsInvalid, BundleInvalid
    """
    constant = repeated = 0
    before: tuple[Window, npt.NDArray[np.float32]] | None = None
    kept = _kept_reference(bundle)
    comparison = Comparison()
    for first, windows, logits in _chunks(bundle, folder, size):
        flat = np.concatenate([(rows == rows[:, :1]).all(axis=1, keepdims=True) for rows in logits], axis=1).any(axis=1)
        rows = np.concatenate(logits, axis=1)
        constant += int(flat.sum())
        for place in np.flatnonzero(_as_before(rows, before) & ~flat).tolist():
            previous = windows[place - 1] if place or before is None else before[0]
            repeated += not _same_tokens(bundle, previous, windows[place])
        before = windows[-1], rows[-1]
        for place, window in enumerate(windows):
            exact = kept.get(first + place, ())
            for one, own in zip(exact, logits, strict=False):
                comparison.add(one, own[place : place + 1], real_tokens(bundle, [window]))
    total = len(bundle.manifest.windows)
    found = []
    if constant:
        found.append(f"{constant} of {total} windows have the same logit at every token")
    if repeated:
        found.append(f"{repeated} of {total} windows have the logits of the window before")
    if kept and constant != total and not comparison.likeness().correlation >= LEAST_CORRELATION:
        correlation = comparison.likeness().correlation
        found.append(f"the correlation with float32's logits over {len(kept)} windows is {correlation:.2f}")
    return tuple(found)


def _chunks(
    bundle: Bundle, folder: Path, size: int
) -> Iterator[tuple[int, Sequence[Window], list[npt.NDArray[np.float32]]]]:
    """Yields the line of each chunk's first window, its windows, and each output, float32 (windows, length)."""
    for chunk in chunks_of(len(bundle.manifest.windows), size):
        logits = load(folder, chunk, bundle.manifest.outputs)
        yield (
            chunk.start,
            bundle.manifest.windows[chunk.start : chunk.stop],
            [np.asarray(logits[name]).reshape(len(chunk), -1) for name in OUTPUTS],
        )


def _as_before(
    rows: npt.NDArray[np.float32], before: tuple[Window, npt.NDArray[np.float32]] | None
) -> npt.NDArray[np.bool_]:
    """Returns (windows,): whether each row equals the one before it."""
    same = np.zeros(len(rows), np.bool_)
    same[1:] = (rows[1:] == rows[:-1]).all(axis=1)
    same[0] = before is not None and bool((rows[0] == before[1]).all())
    return same


def _same_tokens(bundle: Bundle, one: Window, other: Window) -> bool:
    """Returns whether both windows hold the same tokens. That is normal if two questions have the same text."""
    first, second = (window_inputs(bundle, window) for window in (one, other))
    return all(np.array_equal(first[name], second[name]) for name in first)


def _kept_reference(bundle: Bundle) -> dict[int, tuple[npt.NDArray[np.float32], ...]]:
    """Returns reference outputs by line, float32 (1, length) each; empty if none were kept, or they are constant."""
    try:
        lines, exact = verify_logits(bundle)
    except BundleInvalid:
        return {}
    if not len(lines) or all((exact[name] == exact[name].flat[0]).all() for name in OUTPUTS):
        return {}
    return {line: tuple(exact[name][place] for name in OUTPUTS) for place, line in enumerate(lines.tolist())}
