"""Makes the data of races: questions, a bundle of them, a tree of outputs, a model of random bytes.

The bundle's model has BERT's 30,522 words, windows of 384 tokens and a single layer; nobody runs it here.
"""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from itertools import accumulate
from pathlib import Path

import numpy as np
import onnx

from benchmarks.ground import Ground
from benchmarks.mobilebert import Size, random_mobilebert
from bundler import layout
from bundler.bundle import Bundle, file_entries, read_bundle, write_manifest
from bundler.device import tarball
from bundler.device.chunks import chunks_of
from bundler.engines import ENGINES
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.qa.questions import open_questions
from bundler.soc import DEFAULT, known_socs

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
XQUAD, XQUAD_WORDS = SHARED / "xquad.en.json", SHARED / "bert-base-uncased-vocab.txt"
QUESTIONS, FEW = 1190, 40
ASKED_A_PASSAGE = 5  # as in XQuAD
PASSAGE_WORDS, QUESTION_WORDS = (60, 200), 11
WORDS = 30_000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?")
SEED = 4
STAND_IN = """\
#!/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --input_list) list=$2 ;; --output_dir) out=$2 ;; esac
  shift
done
exec tar -x -f "${0%/*}/outputs-$(($(wc -l <"$list") - 1)).tar" -C "$out"
"""


def quiet(stage: str, done: int, total: int | None, /) -> None:
    """Ignores the progress."""


def xquad_is_here() -> bool:
    return XQUAD.is_file() and XQUAD_WORDS.is_file()


def xquad(ground: Ground) -> tuple[Path, Path]:
    """Returns a file of 1,190 questions and a vocabulary: XQuAD's English ones if available, else synthetic ones; a few
    synthetic ones for a quick race."""
    return ground.made(_xquad)


def _xquad(ground: Ground) -> tuple[Path, Path]:
    if xquad_is_here() and not ground.quick:
        return XQUAD, XQUAD_WORDS
    return made_up(ground.size(QUESTIONS, FEW), ground.place("xquad"))


def made_up(count: int, folder: Path, words: int = WORDS) -> tuple[Path, Path]:
    """Writes JSON lines of synthetic questions of XQuAD's length, with Zipf-distributed words; and a vocabulary."""
    draw, known = random.Random(SEED), [f"word{number}" for number in range(words)]
    often = list(accumulate(1 / (rank + 2) for rank in range(words)))
    path, vocabulary = folder / "questions.jsonl", folder / "vocab.txt"
    vocabulary.write_text("\n".join((*SPECIAL, *known)) + "\n", encoding="utf-8")
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            if number % ASKED_A_PASSAGE == 0:
                context = " ".join(draw.choices(known, cum_weights=often, k=draw.randint(*PASSAGE_WORDS)))
            question = " ".join(draw.choices(known, cum_weights=often, k=QUESTION_WORDS)) + "?"
            file.write(json.dumps({"id": f"q{number}", "question": question, "context": context}) + "\n")
    return path, vocabulary


def bundle_of(questions: Path, vocabulary: Path, folder: Path) -> Bundle:
    """Builds a bundle of a file's questions."""
    onnx.save(random_mobilebert(Size(layers=1)), folder / "model.onnx")
    chip, recipe = known_socs()[DEFAULT], Recipe("fp16", converter="built-in")
    asked = BuildRequest(
        questions=open_questions(questions), model=folder / "model.onnx", tokenizer=vocabulary, soc=chip, recipe=recipe
    )
    return build_bundle(asked, folder / "bundle", quiet)


def plain_inputs(bundle: Bundle, folder: Path) -> Path:
    """Writes the raw inputs in the usual way: a file for each input of each window, though many are identical."""
    for window in bundle.manifest.windows:
        for tensor, name in window.inputs.items():
            path = folder / layout.input_file(tensor, window.line)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((bundle.path / layout.DEVICE / name).read_bytes())
    return folder / layout.INPUTS


def random_file(path: Path, size: int) -> Path:
    """Writes a file that, like a model, does not compress."""
    path.write_bytes(random.Random(SEED).randbytes(size))
    return path


def with_stand_in(bundle: Bundle, chunk: int) -> Bundle:
    """Returns the bundle with a snpe-net-run that takes no time: it unpacks prepared outputs for the number of windows
    in its input list. They are noise about a logit's size, which does not compress."""
    device = bundle.path / layout.DEVICE
    program = device / ENGINES["snpe"].path
    program.parent.mkdir(exist_ok=True)
    program.write_text(STAND_IN, encoding="utf-8", newline="\n")
    for size in {len(each) for each in chunks_of(len(bundle.manifest.windows), chunk)}:
        (program.parent / f"outputs-{size}.tar").write_bytes(b"".join(_outputs(bundle, size)))
    entries = file_entries(bundle.path, besides=device / layout.INPUTS)
    files = {name: entry for name, entry in entries.items() if name not in (layout.MANIFEST, layout.SEAL)}
    manifest = replace(bundle.manifest, files=files)
    write_manifest(bundle.path, manifest)
    return read_bundle(bundle.path)


def _outputs(bundle: Bundle, windows: int) -> Iterator[bytes]:
    noise = np.random.default_rng(SEED)
    for line in range(windows):
        for spec in bundle.manifest.outputs:
            raw = noise.normal(-6, 3, spec.shape).astype("<f4").tobytes()
            yield tarball.header(layout.result_file(spec.name, line), len(raw))
            yield raw + tarball.padding(len(raw))
    yield tarball.END
