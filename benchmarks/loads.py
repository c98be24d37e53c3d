"""What transfers.py carries: a bundle of so many questions, a tree of outputs, a model of random bytes.

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

from benchmarks.mobilebert import Size, random_mobilebert
from bundler import layout
from bundler.build import BuildRequest, build_bundle
from bundler.bundle import Bundle, file_entries, read_bundle, write_manifest
from bundler.device import tarball
from bundler.device.chunks import chunks_of
from bundler.model.make import Recipe
from bundler.qa.questions import read_squad
from bundler.soc import DEFAULT, known_socs

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
XQUAD, XQUAD_WORDS = SHARED / "xquad.en.json", SHARED / "bert-base-uncased-vocab.txt"
QUESTIONS = 1190
ASKED_A_PASSAGE = 5  # as in XQuAD
PASSAGE_WORDS = (60, 200)
WORDS = 30_000
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "?")
SEED = 4
STAND_IN = """\
#!/system/bin/sh
while [ $# -gt 0 ]; do
  case $1 in --input_list) list=$2 ;; --output_dir) out=$2 ;; esac
  shift
done
exec tar -x -f "${0%/*}/outputs-$(($(wc -l <"$list") - 1)).tar" -C "$out"
"""


def quiet(stage: str, done: int, total: int | None, /) -> None:
    """Progress that nobody watches."""


def xquad_is_here() -> bool:
    return XQUAD.is_file() and XQUAD_WORDS.is_file()


def bundle_of(count: int, folder: Path) -> Bundle:
    """A bundle of `count` questions: XQuAD's English ones where there are as many and they are here, else made-up ones
    of the same length, their words as often as Zipf's law says."""
    questions, words = XQUAD, XQUAD_WORDS
    if count > QUESTIONS or not xquad_is_here():
        questions, words = folder / "questions.json", folder / "vocab.txt"
        _write_questions(questions, words, count)
    onnx.save(random_mobilebert(Size(layers=1)), folder / "model.onnx")
    recipe = Recipe("fp16", converter="built-in")
    asked = BuildRequest(
        read_squad(questions, count), folder / "model.onnx", words, known_socs()[DEFAULT], recipe=recipe
    )
    return build_bundle(asked, folder / "bundle", quiet)


def _write_questions(path: Path, vocabulary: Path, count: int) -> None:
    draw = random.Random(SEED)
    words = [f"word{number}" for number in range(WORDS)]
    vocabulary.write_text("\n".join((*SPECIAL, *words)) + "\n", encoding="utf-8")
    often = list(accumulate(1 / (rank + 2) for rank in range(WORDS)))
    paragraphs = []
    for first in range(0, count, ASKED_A_PASSAGE):
        context = " ".join(draw.choices(words, cum_weights=often, k=draw.randint(*PASSAGE_WORDS)))
        asked = [
            {
                "id": f"q{number}",
                "question": " ".join(draw.choices(words, cum_weights=often, k=11)) + "?",
                "answers": [],
                "is_impossible": True,
            }
            for number in range(first, min(first + ASKED_A_PASSAGE, count))
        ]
        paragraphs.append({"context": context, "qas": asked})
    path.write_text(json.dumps({"version": "v2.0", "data": [{"title": "made up", "paragraphs": paragraphs}]}))


def plain_inputs(bundle: Bundle, folder: Path) -> Path:
    """The raw inputs as everybody else has them: a file for each input of each window, though many are alike."""
    for window in bundle.manifest.windows:
        for tensor, name in window.inputs.items():
            path = folder / layout.input_file(tensor, window.line)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes((bundle.path / layout.DEVICE / name).read_bytes())
    return folder / layout.INPUTS


def random_file(path: Path, size: int) -> Path:
    """A file that does not compress, as a model does not."""
    path.write_bytes(random.Random(SEED).randbytes(size))
    return path


def with_stand_in(bundle: Bundle, chunk: int) -> Bundle:
    """The bundle with a snpe-net-run of its own that takes no time: it unpacks outputs made beforehand, of so many
    windows as its input list has. They are noise about a logit's size, which does not compress."""
    device = bundle.path / layout.DEVICE
    program = device / layout.NET_RUN
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
