"""An end in order: devices and groups go away also when a benchmark is interrupted."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import click

__all__ = ["Interrupted", "ended_in_order"]


class Interrupted(KeyboardInterrupt):
    """Ctrl-C.  After a plain KeyboardInterrupt subprocess would not wait for what it has killed."""


@contextmanager
def ended_in_order(terminated_code: int | None = None) -> Iterator[None]:
    """Let SIGINT and SIGTERM end this by an exception, so that devices are removed.

    Args:
        terminated_code: the exit code after SIGTERM; None: as after SIGINT.
    """
    signals = (signal.SIGINT, signal.SIGTERM)

    def stop(number: int, _: object) -> None:
        for each in signals:
            signal.signal(each, lambda *_: None)  # a second one would disturb the removal
        if number == signal.SIGTERM and terminated_code is not None:
            raise click.exceptions.Exit(terminated_code)
        raise Interrupted

    before = {each: signal.signal(each, stop) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
