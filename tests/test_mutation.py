"""Tests the tool that makes mutants of the code: rewritten code is equivalent, and known survivors are reported."""

from collections.abc import Callable
from typing import Any

import pytest

from tools.mutation import GROUPS, ROOT, _is_known, _undecorated

SOURCE = """
from functools import cached_property, lru_cache
from contextlib import contextmanager

calls = []

@lru_cache(maxsize=8)
def doubled(x):
    calls.append(x)
    return 2 * x

class Thing:
    @property
    def one(self):
        return 1

    @cached_property
    def many(self):
        calls.append("many")
        return [self.one] * 3

    @classmethod
    def named(cls):
        return cls.__name__

    @contextmanager
    def inside(
        self, x
    ):
        yield x + self.one
"""


def test_functions_without_decorators_do_the_same() -> None:
    rewritten = "".join(_undecorated(SOURCE))
    assert "@property" not in rewritten
    assert "many = cached_property(many)" in rewritten
    assert "@classmethod" in rewritten
    made: dict[str, Any] = {}
    exec(compile(rewritten, "rewritten", "exec"), made)
    thing = made["Thing"]()
    assert (thing.one, thing.many, thing.many, thing.named()) == (1, [1] * 3, [1] * 3, "Thing")
    with thing.inside(5) as found:
        assert found == 6
    assert made["calls"] == ["many"]
    twice: Callable[[int], int] = made["doubled"]
    assert (twice(2), twice(2), made["calls"]) == (4, 4, ["many", 2, 2])  # what was cached would hide a mutant


@pytest.mark.parametrize(
    ("name", "changed", "known"),
    [
        ("bundler.qa.x_f__mutmut_1", ["-    zip(a, strict=True)", "+    zip(a, strict=None)"], True),
        ("bundler.qa.x_f__mutmut_2", ["-    zip(a, strict=True)", "+    zip(None, strict=True)"], False),
        ("bundler.device.x_f__mutmut_1", ["-    zip(a, strict=True)", "+    zip(a, strict=None)"], False),
    ],
)
def test_a_mutant_that_is_no_defect_is_known(name: str, changed: list[str], known: bool) -> None:
    told = {"where": "bundler.qa.*", "was": "strict=True", "is": ["strict=None", ""]}
    assert _is_known(name, changed, told) is known


def test_the_tests_of_each_group_are_there() -> None:
    for group in GROUPS.values():
        for pattern in group.modules:
            assert list(ROOT.glob(pattern)), pattern
        for test in group.tests:
            path, _, name = test.partition("::")
            assert f"def {name}" in (ROOT / path).read_text(encoding="utf-8")
