"""Show how far a check has come, while it goes on in a thread of its own."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import cubbydb
from cubbydb.cli.report import talks_to_a_person
from cubbydb.cli.transfer import progress_bar

__all__ = ["watched"]

_Result = TypeVar("_Result")

PATIENCE_SECONDS = 0.5  # without a bar: what is over by then needs none
LOOK_SECONDS = 0.1  # between two looks at how far it has come


def watched(store: cubbydb.Store, text: str, work: Callable[[], _Result]) -> _Result:
    """Do *work*, a check or a repair of *store*, with a bar on standard error if it takes long.

    Without a terminal there it is done as it is.
    """
    if not talks_to_a_person():
        return work()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(work)
        wait([future], PATIENCE_SECONDS)
        if not future.done():
            _show(store, text, future)
        return future.result()


def _show(store: cubbydb.Store, text: str, future: "Future[_Result]") -> None:
    _, total = store.check_progress()
    with progress_bar(text, total or None, True, "blocks") as advance:
        while not future.done():
            done, total = store.check_progress()
            if total:
                advance(done, done)
            wait([future], LOOK_SECONDS)
