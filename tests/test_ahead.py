"""Tests background work."""

import threading

import pytest

from bundler.scheduler.ahead import ahead


def test_it_goes_on_before_it_is_waited_for() -> None:
    begun, go_on = threading.Event(), threading.Event()

    def work() -> int:
        begun.set()
        assert go_on.wait(60)
        return 7

    result = ahead(work)
    assert begun.wait(60)
    go_on.set()
    assert result.result(60) == 7


def test_what_it_raises_is_raised_where_it_is_waited_for() -> None:
    result = ahead(lambda: int("x"))
    with pytest.raises(ValueError, match="invalid literal"):
        result.result(60)
