"""Draws the picture of docs/quantization.md: the largest value of each channel before and after equalization.

    python -m tools.quantization_figures            writes docs/quantization-channels.png

Run it at the repository's root, with matplotlib installed. The model is the demo's, with outlier channels a hundred
times as large in its residual streams, which do not change its results.
"""

from pathlib import Path

import numpy as np
import onnx

from bundler.model.calibrate import at_tokens, float_tensors, token_axes
from bundler.model.equalize import equalize
from bundler.model.graph import Feed, FitGraph, fit_for_htp, runner, tokens_of
from bundler.model.quantize import Scheme
from bundler.qa.features import Windower, load_tokenizer
from bundler.qa.questions import read_squad
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.types import silent
from tests.outliers import disturbed

OUT = Path(__file__).resolve().parents[1] / "docs" / "quantization-channels.png"
LENGTH, WINDOWS, FACTOR = 384, 8, 100.0


def windows(fit: FitGraph) -> list[Feed]:
    """Returns the demo's questions as int32 (1, LENGTH) arrays."""
    made = Windower(load_tokenizer(DEMO_TOKENIZER), LENGTH, 128).windows(read_squad(DEMO_QUESTIONS))
    return [{spec.name: feature.inputs[spec.name][None] for spec in fit.inputs} for feature in made][:WINDOWS]


def widest(fit: FitGraph, feeds: list[Feed]) -> str:
    """Returns the tensor over tokens whose channels differ most."""
    names = [name for name, axes in token_axes(fit).items() if axes == (1,)]
    shapes = dict(
        zip(names, (value.shape for value in runner(fit.model, names).run(names, dict(feeds[0]))), strict=True)
    )
    names = [name for name in names if len(shapes[name]) == 3]
    return max(names, key=lambda name: float(np.ptp(np.log2(channels(fit, name, feeds) + 1e-9))))


def channels(fit: FitGraph, name: str, feeds: list[Feed]) -> np.ndarray:
    """Returns the largest |value| of each channel, float (channels,), at tokens."""
    session = runner(fit.model, [name])
    values = [at_tokens(session.run([name], dict(feed))[0], (1,), tokens_of(feed, LENGTH)) for feed in feeds]
    return np.max([np.abs(value).max(axis=tuple(range(value.ndim - 1))) for value in values], axis=0)


def main() -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    fit = disturbed(fit_for_htp(onnx.load(DEMO_MODEL), LENGTH), "residual", FACTOR, channels=4)
    feeds = windows(fit)
    name = widest(fit, feeds)
    assert name in float_tensors(fit.model)
    scaled = equalize(fit, feeds, Scheme(8, 8), silent).fit
    figure, axes = pyplot.subplots(figsize=(8, 3.2), layout="constrained")
    before, after = channels(fit, name, feeds), channels(scaled, name, feeds)
    places = np.arange(len(before))
    axes.bar(places - 0.2, before, 0.4, label="before", color="#c0504d")
    axes.bar(places + 0.2, after, 0.4, label="after", color="#4f81bd")
    axes.set(yscale="log", xlabel="channel", ylabel="largest value", title="One tensor of a residual stream")
    axes.legend()
    figure.savefig(OUT, dpi=100, metadata={"Software": None})
    print(f"{name}: {before.max() / np.median(before):.0f} and {after.max() / np.median(after):.1f} times the median")


if __name__ == "__main__":
    main()
