"""Races decoding of logits: ours, a plain loop over spans, and Hugging Face's code for one window."""

from collections.abc import Callable, Sequence

import numpy as np

from benchmarks.ground import Ground, NotHere
from benchmarks.loads import xquad
from benchmarks.preparing import LENGTH, OVERLAP
from benchmarks.race import Side, Sides, timed
from bundler.qa.features import Windower, load_tokenizer
from bundler.qa.questions import open_questions
from bundler.qa.spans import WindowLogits, decode_all
from bundler.types import Question

WINDOWS, FEW = 10_000, 200
SAMPLED = 20  # the peers decode one window of so many: all would take minutes
SEED = 5
MAX_TOKENS, N_BEST = 30, 20

Windows = Sequence[tuple[Question, WindowLogits]]


def full_windows(ground: Ground) -> Windows:
    """Makes windows that their context fills."""
    count = ground.size(WINDOWS, FEW)
    offsets, noise = np.full((LENGTH, 2), -1, np.int32), np.random.default_rng(SEED)
    offsets[12 : LENGTH - 1] = [(5 * token, 5 * token + 4) for token in range(LENGTH - 13)]
    question = Question("q", "?", "word " * LENGTH)
    logits = noise.normal(-6, 3, (count, 2, LENGTH)).astype(np.float32)
    return [(question, WindowLogits("q#0", offsets, start, end)) for start, end in logits]


def xquads_windows(ground: Ground) -> Windows:
    """Repeats the windows of XQuAD's questions, with random logits; each counts as a separate question."""
    path, vocabulary = xquad(ground)
    asked = {question.id: question for question in open_questions(path)}
    features = list(Windower(load_tokenizer(vocabulary), LENGTH, OVERLAP).windows(asked.values()))
    noise, found = np.random.default_rng(SEED), []
    for number in range(ground.size(WINDOWS, FEW)):
        feature = features[number % len(features)]
        start, end = noise.normal(-6, 3, (2, LENGTH)).astype(np.float32)
        found.append((asked[feature.question_id], WindowLogits(feature.key, feature.offsets, start, end)))
    return found


def beside_a_loop(windows: Callable[[Ground], Windows]) -> Callable[[Ground], Sides]:
    return lambda ground: Sides(_ours(ground, windows), _sampled(in_a_loop, ground.made(windows)))


def beside_hugging_face(windows: Callable[[Ground], Windows]) -> Callable[[Ground], Sides]:
    return lambda ground: Sides(_ours(ground, windows), _sampled(_hugging_face(), ground.made(windows)))


def alone(windows: Callable[[Ground], Windows]) -> Callable[[Ground], Sides]:
    return lambda ground: Sides(_ours(ground, windows))


def _ours(ground: Ground, windows: Callable[[Ground], Windows]) -> Side:
    asked = [(question, [window]) for question, window in ground.made(windows)]

    def decode() -> None:
        for _ in decode_all(asked, max_tokens=MAX_TOKENS, may_be_unanswerable=True, n_best=N_BEST):
            pass

    return timed(decode)


def _sampled(way: Callable[[Windows], None], windows: Windows) -> Side:
    some = windows[::SAMPLED]
    seconds = timed(lambda: way(some))
    return lambda: seconds() * len(windows) / len(some)


def in_a_loop(windows: Windows) -> None:
    """Tries every start with every end that is near enough; returns the best, cut from the text, with softmax."""
    for question, window in windows:
        start, end, offsets = window.start.tolist(), window.end.tolist(), window.offsets.tolist()
        spans = []
        for i in range(len(start)):
            if offsets[i][0] < 0:
                continue
            for j in range(i, min(len(end), i + MAX_TOKENS)):
                if offsets[j][0] < 0:
                    continue
                spans.append((start[i] + end[j], offsets[i][0], offsets[j][1]))
        spans.sort(key=lambda span: -span[0])
        best = spans[:N_BEST]
        shares = np.exp(np.array([score for score, _, _ in best]) - best[0][0])
        shares /= shares.sum()
        [(question.context[i:j], share) for (_, i, j), share in zip(best, shares, strict=True)]


def _hugging_face() -> Callable[[Windows], None]:
    """Selects spans like the library's question pipelines, and cuts out the texts by their offsets."""
    try:
        from transformers.pipelines.document_question_answering import select_starts_ends
    except ImportError as error:
        raise NotHere(f"transformers has no question-answering pipeline: {error}") from error

    def decode(windows: Windows) -> None:
        for question, window in windows:
            outside = window.offsets[:, 0] < 0
            starts, ends, scores, _ = select_starts_ends(
                window.start[None],
                window.end[None],
                outside[None],
                None,
                top_k=N_BEST,
                handle_impossible_answer=True,
                max_answer_len=MAX_TOKENS,
            )
            spans = zip(window.offsets[starts, 0].tolist(), window.offsets[ends, 1].tolist(), scores, strict=True)
            [(question.context[i:j], float(score)) for i, j, score in spans]

    return decode
