"""Work that goes on beside other work."""

import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def ahead(work: Callable[[], T]) -> Callable[[], T]:
    """Begins the work in a thread, which does not outlive the process; what is returned waits for it, and returns or
    raises what it does."""
    done: list[T] = []
    failed: list[BaseException] = []

    def do() -> None:
        try:
            done.append(work())
        except BaseException as error:
            failed.append(error)

    def wait() -> T:
        thread.join()
        for error in failed:
            raise error
        return done[0]

    thread = threading.Thread(target=do, daemon=True)
    thread.start()
    return wait
