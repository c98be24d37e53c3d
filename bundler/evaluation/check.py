"""Compares a DLC's answers with those of its float32 model, before it goes to any phone."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bundler.bundle import Check
from bundler.model.graph import Feed, FitGraph, logits_of
from bundler.model.simulate import run_on_simulator
from bundler.qa.spans import MAX_ANSWER_TOKENS, WindowLogits, decode_all
from bundler.runs.comparison import MOST_DB, known
from bundler.soc import Soc
from bundler.types import OUTPUTS, Feature, Progress, Questions

Logits = Mapping[str, npt.NDArray[Any]]
Simulator = Callable[[Path, Soc, Sequence[Feed], Progress], Sequence[Logits]]
"""Takes a DLC, a chip, and windows as int32 (1, length) arrays; returns the outputs of each, as `run_on_simulator`."""


class Judge:
    """Compares logits with the float32 graph's on the windows of `sample`, whose questions are among `questions`.

    feeds: the windows as int32 (1, length) arrays; calibrated: how many of them a quantized model is calibrated on;
    simulate: runs a DLC.
    """

    def __init__(
        self,
        graph: FitGraph,
        questions: Questions,
        sample: Sequence[Feature],
        feeds: Sequence[Feed],
        calibrated: int,
        simulate: Simulator = run_on_simulator,
    ) -> None:
        self._exact = logits_of(graph.model, feeds)
        sampled = {feature.question_id for feature in sample}
        self._asked = {question.id: question for question in questions if question.id in sampled}
        self._unanswerable = questions.may_be_unanswerable
        self._sample, self.feeds, self._calibrated, self._simulate = sample, feeds, calibrated, simulate

    def check(self, computed: Sequence[Logits]) -> Check:
        """Compares these logits with float32's, on real tokens. Each window counts as a separate question."""
        equal = sum(one == other for one, other in zip(self._spans(self._exact), self._spans(computed), strict=True))
        correlation, sqnr = compare_logits(self._sample, self._exact, computed)
        return Check(len(self._sample), equal, correlation, sqnr, self._calibrated)

    def _spans(self, computed: Sequence[Logits]) -> list[tuple[int, int]]:
        """Returns the answer to each window."""
        asked = []
        for feature, logits in zip(self._sample, computed, strict=True):
            window = WindowLogits(feature.key, feature.offsets, *(logits[name].ravel() for name in OUTPUTS))
            asked.append((self._asked[feature.question_id], [window]))
        answers = decode_all(asked, max_tokens=MAX_ANSWER_TOKENS, may_be_unanswerable=self._unanswerable)
        return [(answer.start, answer.end) for answer in answers]

    def check_dlc(self, dlc: Path, soc: Soc, progress: Progress) -> Check:
        """Checks the DLC's logits, computed by the simulator of the chip's DSP.

        Raises:
            DlcInvalid, SocUnfit, NoConverter, ClusterUnusable
        """
        return self.check(self._simulate(dlc, soc, self.feeds, progress))


def compare_logits(
    sample: Sequence[Feature], exact: Sequence[Logits], computed: Sequence[Logits]
) -> tuple[float | None, float | None]:
    """Returns (correlation, signal-to-noise ratio in dB) over all logits of real tokens; None if undefined."""
    both = [
        (one[name].ravel()[real], other[name].ravel()[real])
        for feature, one, other in zip(sample, exact, computed, strict=True)
        for real in (feature.inputs["attention_mask"] == 1,)
        for name in one
    ]
    first, second = (np.concatenate(side).astype(np.float64) for side in zip(*both, strict=True))
    with np.errstate(all="ignore"):  # infinite or constant logits have no correlation
        noise = float(np.square(first - second).sum())
        ratio = 10 * np.log10(np.square(first).sum() / noise) if noise else np.inf
        correlation = float(np.corrcoef(first, second)[0, 1])
    return known(correlation, 7), known(min(float(ratio), MOST_DB), 2)
