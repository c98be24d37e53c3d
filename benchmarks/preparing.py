"""Races the preparation of raw inputs: our way, the seed's way, and tokenizers alone; and the memory of a `build`."""

import json
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import tokenizers

from benchmarks.ground import Ground, NotHere
from benchmarks.loads import made_up, quiet, xquad
from benchmarks.race import Sides, timed
from benchmarks.watched import OURS, run
from bundler import layout
from bundler.bundle.inputs import kept_questions, write_windows
from bundler.model.make import Recipe
from bundler.pipeline.build import BuildRequest, build_bundle
from bundler.qa.features import Windower, load_tokenizer
from bundler.qa.questions import open_questions, read_squad
from bundler.resources import DEMO_MODEL, DEMO_QUESTIONS, DEMO_TOKENIZER
from bundler.soc import DEFAULT, known_socs
from bundler.types import Question

LENGTH, OVERLAP = 384, 128
NAMES = ("input_ids", "attention_mask", "token_type_ids")
FEW, MANY = 2_000, 100_000
DEMO_WORDS = 2_000  # the demo model knows no more
IN_MEMORY = Path("/dev/shm")
MEGABYTE = 1e6
CHIP = known_socs()[DEFAULT]


def beside_the_seeds_way(place: Path | None = None) -> Callable[[Ground], Sides]:
    """Writes all raw inputs to files below `place`, or in the temporary folder."""

    def sides(ground: Ground) -> Sides:
        asked, tokenizer = xquad(ground)
        return Sides(_written(ours, asked, tokenizer, place), _written(seeds_way, asked, tokenizer, place))

    return sides


def beside_bare_tokenizers(place: Path | None = None) -> Callable[[Ground], Sides]:
    """Does the same, while the peer only encodes all pairs at once and writes nothing."""

    def sides(ground: Ground) -> Sides:
        asked, tokenizer = xquad(ground)
        bare, pairs = bare_tokenizer(tokenizer), [(each.text, each.context) for each in _all(asked)]
        return Sides(_written(ours, asked, tokenizer, place), timed(lambda: bare.encode_batch(pairs)))

    return sides


def beside_the_disk(place: Path | None = None) -> Callable[[Ground], Sides]:
    """Does the same, while the peer only writes the same files with the same bytes, which it has in memory."""

    def sides(ground: Ground) -> Sides:
        asked, tokenizer = xquad(ground)
        with tempfile.TemporaryDirectory(prefix="mbqa-inputs-", dir=place) as name:
            ours(asked, load_tokenizer(tokenizer), Path(name))
            files = {path.relative_to(name): path.read_bytes() for path in Path(name).rglob("*") if path.is_file()}
        folders = sorted({folder for path in files for folder in path.parents})

        def only_write(_asked: Path, _tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
            for each in folders:
                (folder / each).mkdir(exist_ok=True)
            for path, content in files.items():
                (folder / path).write_bytes(content)

        return Sides(_written(ours, asked, tokenizer, place), _written(only_write, asked, tokenizer, place))

    return sides


def _written(
    way: Callable[[Path, tokenizers.Tokenizer, Path], None], asked: Path, vocabulary: Path, place: Path | None
) -> Callable[[], float]:
    if place is not None and not place.is_dir():
        raise NotHere(f"{place} is not there")

    def side() -> float:
        tokenizer = load_tokenizer(vocabulary)
        with tempfile.TemporaryDirectory(prefix="mbqa-inputs-", dir=place) as folder:
            return timed(lambda: way(asked, tokenizer, Path(folder)))()

    side()  # files and programs are in memory from here on
    return side


def ours(asked: Path, tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Does the steps of `build`: read, check, cut into windows, write; includes checksums of all files."""
    for each in (layout.DEVICE, layout.HOST):
        (folder / each).mkdir()
    windower = Windower(tokenizer, LENGTH, OVERLAP)
    kept = kept_questions(open_questions(asked), folder / layout.HOST)
    write_windows(windower.windows(kept), NAMES, folder)


def seeds_way(asked: Path, tokenizer: tokenizers.Tokenizer, folder: Path) -> None:
    """Does the seed's steps: tokenizes each question separately, pads it to one window, writes three files."""
    tokenizer.enable_truncation(LENGTH, strategy="longest_first")
    tokenizer.enable_padding(length=LENGTH, pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    for name in NAMES:
        (folder / name).mkdir()
    lines = []
    for number, question in enumerate(_all(asked)):
        encoding = tokenizer.encode(question.text, question.context)
        values = (encoding.ids, encoding.attention_mask, encoding.type_ids)
        paths = [f"{name}/{number}.raw" for name in NAMES]
        for path, numbers in zip(paths, values, strict=True):
            np.array(numbers, np.float32).tofile(folder / path)
        lines.append(" ".join(f"{name}:={path}" for name, path in zip(NAMES, paths, strict=True)))
    (folder / "tf_raw_list.txt").write_text("\n".join(lines) + "\n")


def bare_tokenizer(vocabulary: Path) -> tokenizers.Tokenizer:
    tokenizer = load_tokenizer(vocabulary)
    tokenizer.enable_truncation(LENGTH, stride=OVERLAP, strategy="only_second")
    tokenizer.enable_padding(length=LENGTH, pad_id=tokenizer.token_to_id("[PAD]"), pad_token="[PAD]")
    return tokenizer


def _all(path: Path) -> Iterator[Question]:
    """Reads the questions like a simple script."""
    if path.suffix != ".json":
        for line in path.open(encoding="utf-8"):
            fields = json.loads(line)
            yield Question(fields["id"], fields["question"], fields["context"])
        return
    for article in json.loads(path.read_text(encoding="utf-8"))["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                yield Question(qa["id"], qa["question"], paragraph["context"])


def memory(ground: Ground) -> Sides:
    """Returns the peak memory of a build of many questions, and of one of few."""
    few, many = (partial(_peak_megabytes, ground, ground.size(*count)) for count in ((FEW, 20), (MANY, 200)))
    return Sides(many, few)


def _peak_megabytes(ground: Ground, count: int) -> float:
    dlc = ground.made(_small_dlc)
    with tempfile.TemporaryDirectory(dir=ground.folder) as name:
        asked, vocabulary = made_up(count, Path(name), DEMO_WORDS)
        files = ("--questions", str(asked), "--model", str(dlc), "--tokenizer", str(vocabulary))
        return run([*OURS, "build", *files, "--out", f"{name}/bundle"]).peak_bytes / MEGABYTE


def _small_dlc(ground: Ground) -> Path:
    recipe = Recipe("fp16", converter="built-in")
    request = BuildRequest(
        questions=read_squad(DEMO_QUESTIONS, 1), model=DEMO_MODEL, tokenizer=DEMO_TOKENIZER, soc=CHIP, recipe=recipe
    )
    return build_bundle(request, ground.folder / "demo", quiet).path / layout.DEVICE / layout.MODEL
