"""Generates synthetic passages of facts with questions, to train and test the demo model.

Independent of tokens and models: everything here is text and character offsets. The same seed gives the same text.
Names of the training pool and of the held-out pool are built from the same pieces and never overlap.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product

import demo_wordings as words
from demo_wordings import PERSON, RELATION_IDS, RELATIONS, SHIP, Relation

KIND_IDS = {kind: index for index, kind in enumerate(kind for kinds in words.KINDS.values() for kind in kinds)}
FEMALE_NAMES = frozenset(words.FIRST_NAMES[:18])
HELD_OUT_SHARE = 0.2
POOL_SEED = 1808
CHARS_PER_FILLER = 45
BIRTHS = (1700, 1850)


@dataclass(frozen=True)
class NamePool:
    """Names of one side of the split; no name is in two pools."""

    surnames: tuple[str, ...]
    towns: tuple[str, ...]
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class Shape:
    """The difficulty of a passage; each share is a probability."""

    facts: tuple[int, int] = (3, 8)
    two_subjects: float = 0.35
    hard: float = 0.9
    joined: float = 0.25
    introduction: float = 0.8
    in_order: float = 0.4
    fillers: tuple[int, int] = (0, 4)
    long_chars: tuple[int, int] | None = None
    unanswerable: float = 0.125
    asks_hard_type: float = 0.92
    simple: bool = False  # only the first three relations of each kind and type, each in its first wording


@dataclass(frozen=True)
class Subject:
    """The subject of a passage; `full` and `short` include the article ("the Ravenmoor Bridge", "the bridge")."""

    kind: str
    group: str
    full: str
    short: str
    pronoun: str
    title: str


@dataclass(frozen=True)
class Fact:
    """One fact in a passage; offsets are characters of the passage's text, ends exclusive."""

    relation: Relation
    subject: int
    answer: str
    start: int = -1
    end: int = -1
    answer_start: int = -1


@dataclass(frozen=True)
class Passage:
    """A text, its subjects and its facts, in the order of the text."""

    text: str
    subjects: tuple[Subject, ...]
    facts: tuple[Fact, ...]

    @property
    def title(self) -> str:
        return " and ".join(subject.title for subject in self.subjects)

    def hard_type(self) -> str:
        """Returns the answer type that most facts share."""
        types = [fact.relation.answer_type for fact in self.facts]
        return max(sorted(set(types)), key=types.count)


@dataclass(frozen=True)
class Example:
    """A question on a passage; `answer` is empty and `answer_start` is -1 if the passage does not contain it."""

    passage: Passage
    question: str
    relation: Relation
    subject: int
    answer: str
    answer_start: int

    @property
    def answerable(self) -> bool:
        return self.answer_start >= 0

    def guess_chance(self) -> float:
        """Returns the chance that a guess among the passage's facts of the asked answer type is right."""
        same_type = sum(fact.relation.answer_type == self.relation.answer_type for fact in self.passage.facts)
        if self.answerable:
            return 1.0 / same_type
        return 0.0 if same_type else 1.0


def name_pools() -> tuple[NamePool, NamePool]:
    """Returns the training pool and the held-out pool."""
    rng = random.Random(POOL_SEED)
    train, held_out = [], []
    for pieces in (words.SURNAME_PIECES, words.TOWN_PIECES, words.SUBJECT_PIECES):
        names = [head + tail for head, tail in product(*pieces)]
        rng.shuffle(names)
        cut = round(len(names) * HELD_OUT_SHARE)
        held_out.append(tuple(names[:cut]))
        train.append(tuple(names[cut:]))
    return NamePool(*train), NamePool(*held_out)


def draw_subjects(rng: random.Random, names: NamePool, *, count: int, group: str | None = None) -> tuple[Subject, ...]:
    """Draws subjects of different kinds, at most one of them a person."""
    groups = [group] if group else rng.choices((*words.THINGS, PERSON), weights=(4, 2, 2, 3))
    while len(groups) < count:
        groups.append(rng.choices((*words.THINGS, PERSON), weights=(4, 2, 2, 0 if PERSON in groups else 1))[0])
    kinds: list[str] = []
    for one in groups:
        kinds.append(rng.choice([kind for kind in words.KINDS[one] if kind not in kinds]))
    subjects = []
    for one, kind, name in zip(groups, kinds, rng.sample(names.subjects, count), strict=True):
        if one == PERSON:
            first = rng.choice(words.FIRST_NAMES)
            person = f"{first} {rng.choice(names.surnames)}"
            pronoun = "she" if first in FEMALE_NAMES else "he"
            subjects.append(Subject(kind, one, person, f"the {kind}", pronoun, person))
        elif one == SHIP:
            subjects.append(
                Subject(kind, one, f"the {kind} {name}", f"the {kind}", "it", f"{kind.capitalize()} {name}")
            )
        else:
            title = f"{name} {kind.capitalize()}"
            subjects.append(Subject(kind, one, f"the {title}", f"the {kind}", "it", title))
    return tuple(subjects)


def draw_answer(rng: random.Random, names: NamePool, relation: Relation, birth: int, taken: set[str]) -> str:
    """Draws an answer to this relation that is not yet in the passage."""
    answer_type = relation.answer_type
    while True:
        if answer_type == "year":
            answer = str(birth + rng.randint(*words.YEARS_AFTER.get(relation.name, words.OTHER_YEARS)))
        elif answer_type == "person":
            answer = f"{rng.choice(words.FIRST_NAMES)} {rng.choice(names.surnames)}"
        elif answer_type == "place":
            answer = rng.choice(names.towns)
        elif answer_type == "metres":
            answer = f"{rng.randint(*words.METRES[relation.name])} metres"
        elif answer_type == "count":
            few = relation.name.partition("_")[0] in words.FEW
            answer = rng.choice(words.NUMBER_WORDS) if rng.random() < 0.5 else str(rng.randint(13, 30 if few else 480))
        else:
            answer = rng.choice(
                {"colour": words.COLOURS, "material": words.MATERIALS, "day": words.WEEKDAYS}[answer_type]
            )
        if not any(part in taken for part in answer.split()[-2:] if part != "metres"):
            taken.update(answer.split())
            return answer


def of_group(group: str, answer_type: str | None = None, *, simple: bool = False) -> list[Relation]:
    """Returns the relations that fit this group of subjects."""
    relations = [r for r in RELATIONS if group in r.groups and answer_type in (None, r.answer_type)]
    if simple:
        types = [r.answer_type for r in relations]
        relations = [r for i, r in enumerate(relations) if types[:i].count(r.answer_type) < 3]
    return relations


def draw_relations(rng: random.Random, subjects: Sequence[Subject], shape: Shape) -> list[tuple[int, Relation]]:
    """Draws different (subject index, relation) pairs; in a hard passage three to five of one answer type."""
    total = rng.randint(*shape.facts)
    owners = range(len(subjects))
    chosen: list[tuple[int, Relation]] = []
    if rng.random() < shape.hard:
        types = sorted({r.answer_type for r in of_group(subjects[0].group)})
        hard_type = rng.choices(types, weights=[3 if t in ("year", "person", "place") else 1 for t in types])[0]
        candidates = [(o, r) for o in owners for r in of_group(subjects[o].group, hard_type, simple=shape.simple)]
        rng.shuffle(candidates)
        chosen = candidates[: min(total, rng.randint(3, 5))]
        if len(subjects) > 1 and rng.random() < 0.7:  # the same relation told of both subjects
            twins = [(1 - o, r) for o, r in chosen if (1 - o, r) in candidates and (1 - o, r) not in chosen]
            chosen = list(dict.fromkeys([*chosen[:1], *twins[:1], *chosen[1:]]))[: min(total, 5)]
    others = [(o, r) for o in owners for r in of_group(subjects[o].group, simple=shape.simple) if (o, r) not in chosen]
    chosen += rng.sample(others, max(0, total - len(chosen)))
    rng.shuffle(chosen)
    if len(subjects) > 1 and rng.random() < 0.6:
        chosen.sort(key=lambda pair: pair[0])
    return chosen


@dataclass
class _Writer:
    """Collects sentences; facts get their offsets when they are written."""

    text: str = ""
    facts: list[Fact] = field(default_factory=list)

    def sentence(self, pieces: Sequence[tuple[str, Fact | None]]) -> None:
        """Appends a sentence of (text with `{a}`, its fact) pieces, capitalised and with a full stop."""
        self.text += " " if self.text else ""
        capital = True
        for raw, fact in pieces:
            piece = raw.replace("{a}", fact.answer) if fact else raw
            if capital:
                piece, capital = piece[0].upper() + piece[1:], False
            start = len(self.text)
            self.text += piece
            if fact:
                answer_start = start + raw.index("{a}")
                answer = self.text[answer_start : answer_start + len(fact.answer)]
                self.facts.append(Fact(fact.relation, fact.subject, answer, start, len(self.text), answer_start))
        self.text += "."


def write_passage(
    rng: random.Random, subjects: tuple[Subject, ...], facts: Sequence[Fact], fillers: Sequence[str], shape: Shape
) -> Passage:
    """Returns the text with these facts in this order, and fillers between the sentences."""
    sentences: list[list[tuple[str, Fact | None]]] = []
    last_subject = -1
    introduced: set[int] = set()
    for fact in facts:
        subject = subjects[fact.subject]
        if fact.subject not in introduced and rng.random() < shape.introduction:
            opening = rng.choice(words.INTRODUCTIONS[subject.group]).replace("{s}", subject.full)
            trade = f"{'an' if subject.kind[0] in 'aeiou' else 'a'} {subject.kind}"
            sentences.append([(opening.replace("{k}", trade), None)])
            last_subject = fact.subject
        wording = fact.relation.facts[0] if shape.simple else rng.choice(fact.relation.facts)
        predicate = wording.removeprefix("{s}")
        known = fact.subject in introduced or last_subject == fact.subject
        previous = sentences[-1] if sentences else []
        joinable = wording.startswith("{s} ") and len(previous) == 1 and previous[0][1] is not None
        if joinable and last_subject == fact.subject and rng.random() < shape.joined:
            previous += [(" and", None), (predicate, fact)]
            continue
        if wording.startswith("{s} ") and last_subject == fact.subject and len(subjects) == 1 and rng.random() < 0.3:
            mention = subject.pronoun
        else:
            mention = subject.short if known and rng.random() < 0.75 else subject.full
        sentences.append([(wording.replace("{s}", mention), fact)])
        introduced.add(fact.subject)
        last_subject = fact.subject if wording.startswith("{s} ") else -1
    for filler in fillers:
        sentences.insert(
            rng.randint(0 if shape.long_chars else min(1, len(sentences)), len(sentences)), [(filler, None)]
        )
    writer = _Writer()
    for sentence in sentences:
        writer.sentence(sentence)
    return Passage(writer.text, subjects, tuple(writer.facts))


def in_order_of_time(facts: Sequence[Fact]) -> list[Fact]:
    """Returns the facts with those answered by a year in chronological order; the others keep their places."""
    places = [i for i, fact in enumerate(facts) if fact.relation.answer_type == "year"]
    ordered = list(facts)
    for place, fact in zip(
        places, sorted((facts[i] for i in places), key=lambda f: (f.subject, f.answer)), strict=True
    ):
        ordered[place] = fact
    return ordered


def draw_passage(
    rng: random.Random, names: NamePool, shape: Shape, *, group: str | None = None, count: int = 0
) -> Passage:
    """Draws a passage of this shape, about `count` subjects (or as many as the shape says)."""
    count = count or (2 if rng.random() < shape.two_subjects else 1)
    subjects = draw_subjects(rng, names, count=count, group=group)
    taken = {word for subject in subjects for word in subject.full.split()}
    births = [rng.randint(*BIRTHS) for _ in subjects]
    facts = [
        Fact(relation, owner, draw_answer(rng, names, relation, births[owner], taken))
        for owner, relation in draw_relations(rng, subjects, shape)
    ]
    if rng.random() < shape.in_order:
        facts = in_order_of_time(facts)
    pool = [*words.COMMON_FILLERS, *words.FILLERS[subjects[0].group]]
    if shape.long_chars:
        missing = rng.randint(*shape.long_chars) - 60 * len(facts)
        fillers = rng.sample(pool, min(len(pool), max(0, missing // CHARS_PER_FILLER)))
    else:
        fillers = rng.sample(pool, rng.randint(*shape.fillers))
    return write_passage(rng, subjects, facts, fillers, shape)


def draw_question(rng: random.Random, passage: Passage, shape: Shape, *, answerable: bool | None = None) -> Example:
    """Draws a question on this passage, mostly for the answer type that most of its facts share."""
    if answerable is None:
        answerable = rng.random() >= shape.unanswerable
    hard_type = passage.hard_type() if rng.random() < shape.asks_hard_type else None
    if answerable:
        told = [f for f in passage.facts if hard_type in (None, f.relation.answer_type)]
        fact = rng.choice(told)
        relation, owner, answer, answer_start = fact.relation, fact.subject, fact.answer, fact.answer_start
    else:
        owner, relation = rng.choice(untold(passage, hard_type, shape) or untold(passage, None, shape))
        answer, answer_start = "", -1
    subject = passage.subjects[owner]
    mention = subject.full if rng.random() < 0.5 else subject.short
    question = (relation.questions[0] if shape.simple else rng.choice(relation.questions)).replace("{s}", mention)
    return Example(passage, question, relation, owner, answer, answer_start)


def untold(passage: Passage, answer_type: str | None, shape: Shape) -> list[tuple[int, Relation]]:
    """Returns (subject index, relation) pairs that the passage lacks; those that the other subject has weigh more."""
    told = {(f.subject, f.relation.name) for f in passage.facts}
    pairs = [
        (o, r)
        for o, s in enumerate(passage.subjects)
        for r in of_group(s.group, answer_type, simple=shape.simple)
        if (o, r.name) not in told
    ]
    crossed = [(o, r) for o, r in pairs if (1 - o, r.name) in told]
    return pairs + crossed * 3


def draw_examples(rng: random.Random, names: NamePool, shape: Shape) -> Iterator[Example]:
    """Yields examples without end, one question for each passage."""
    while True:
        yield draw_question(rng, draw_passage(rng, names, shape), shape)


__all__ = [
    "KIND_IDS",
    "RELATION_IDS",
    "Example",
    "Fact",
    "NamePool",
    "Passage",
    "Shape",
    "Subject",
    "draw_examples",
    "name_pools",
]
