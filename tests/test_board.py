"""Tests the distribution of chunks: taken, put back, finished once; and the number of finished questions."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bundler.bundle import Window
from bundler.device.chunks import Chunk, chunks_of
from bundler.scheduler.queue import Board, ends_of


def windows(*counts: int) -> list[Window]:
    """Returns the windows of questions, with this number for each."""
    ids = [f"q{number}" for number, count in enumerate(counts) for _ in range(count)]
    return [Window(f"{key}-{line}", key, line, {}, {}) for line, key in enumerate(ids)]


def board(size: int, *counts: int, done: tuple[Chunk, ...] = ()) -> Board:
    return Board(chunks_of(sum(counts), size), done, ends_of(windows(*counts)))


def test_one_phone_takes_all_several_take_turns() -> None:
    alone = board(2, *[1] * 10)
    assert alone.take("a", None) == [Chunk(0, 2), Chunk(2, 4), Chunk(4, 6), Chunk(6, 8), Chunk(8, 10)]
    assert alone.take("a", None) == []
    several = board(2, *[1] * 10)
    assert several.take("a", 2) == [Chunk(0, 2), Chunk(2, 4)]
    assert several.take("b", 2) == [Chunk(4, 6), Chunk(6, 8)]
    assert several.take("a", 2) == []
    several.finish(Chunk(0, 2))
    assert several.take("a", 2) == [Chunk(8, 10)]
    assert several.held("a") == [Chunk(2, 4), Chunk(8, 10)]


def test_what_a_phone_has_computed_is_not_given_to_another() -> None:
    shared = board(1, 1, 1, 1, done=(Chunk(0, 1),))
    shared.claim("b", [Chunk(2, 3), Chunk(0, 1), Chunk(7, 9)])
    assert shared.held("b") == [Chunk(2, 3)]
    assert shared.take("a", None) == [Chunk(1, 2)]
    shared.claim("b", [Chunk(1, 2)])
    assert shared.held("b") == [Chunk(2, 3)]
    shared.put_back("b")
    assert shared.take("a", None) == [Chunk(2, 3)]


def test_what_a_lost_phone_held_goes_to_the_others_in_order() -> None:
    shared = board(1, 1, 1, 1, 1)
    shared.take("a", 2)
    shared.take("b", 1)
    shared.put_back("a")
    assert shared.held("a") == []
    assert shared.take("b", 4) == [Chunk(0, 1), Chunk(1, 2), Chunk(3, 4)]
    for chunk in chunks_of(4, 1):
        assert not shared.complete
        shared.finish(chunk)
    assert shared.complete


def test_a_chunk_counts_once_whoever_is_first() -> None:
    shared = board(2, 1, 1)
    shared.take("a", 1)
    shared.put_back("a")
    shared.take("b", 1)
    assert shared.wants(Chunk(0, 2))
    shared.finish(Chunk(0, 2))
    assert not shared.wants(Chunk(0, 2))
    assert shared.held("b") == []
    shared.put_back("b")
    assert shared.take("b", None) == []
    assert not shared.wants(Chunk(0, 1))  # no chunk of this run


def test_what_is_here_already_is_not_handed_out() -> None:
    begun = board(2, 1, 1, 1, 1, done=(Chunk(0, 2), Chunk(0, 4)))
    assert begun.take("a", None) == [Chunk(2, 4)]
    assert begun.report("a", None, 0) == 2


def test_progress_counts_questions_whose_last_window_is_done() -> None:
    shared = board(3, 2, 2, 1, 1)  # windows 0-1, 2-3, 4, 5
    assert shared.questions == 4
    shared.take("a", None)
    assert [shared.report("a", Chunk(0, 3), begun) for begun in (0, 1, 2, 3, 4, 99)] == [0, 0, 0, 1, 1, 1]
    shared.finish(Chunk(0, 3))
    assert shared.report("a", Chunk(3, 6), 1) == 1
    assert shared.report("a", Chunk(3, 6), 2) == 2
    shared.finish(Chunk(3, 6))
    assert shared.report("a", None, 0) == 4


@given(st.integers(1, 500), st.integers(1, 100))
def test_chunks_cover_each_line_once(count: int, size: int) -> None:
    chunks = chunks_of(count, size)
    assert chunks[0].start == 0
    assert chunks[-1].stop == count
    assert all(before.stop == after.start for before, after in pairwise(chunks))
    assert all(0 < len(chunk) <= size for chunk in chunks)
    assert [Chunk.named(chunk.name) for chunk in chunks] == list(chunks)
    assert sorted(chunk.name for chunk in chunks) == [chunk.name for chunk in chunks]
