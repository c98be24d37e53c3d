"""Runs work in the background."""

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def ahead(work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> "Future[T]":
    """Starts the work in a daemon thread, which unlike an executor's does not keep the process from ending."""
    result: Future[T] = Future()

    def do() -> None:
        try:
            result.set_result(work(*arguments, **named))
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=do, daemon=True).start()
    return result
