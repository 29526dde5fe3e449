"""What the command says when something goes wrong: one sentence, and an exit code."""

import io
import os
import sys
import traceback
from contextlib import suppress
from typing import TextIO

import click

from cubbydb import StoreStat, errors

__all__ = [
    "EXIT_CORRUPT",
    "EXIT_INTERRUPTED",
    "EXIT_NOT_FOUND",
    "EXIT_USAGE",
    "InputError",
    "Interrupted",
    "counted",
    "exit_code",
    "hold_standard_streams",
    "report",
    "say",
    "sentence",
    "talks_to_a_person",
    "warn_of_space",
]

EXIT_NOT_FOUND = 1
EXIT_USAGE = 2
EXIT_DEVICE = 3
EXIT_CORRUPT = 4
EXIT_LOCKED = 5
EXIT_FULL = 6
EXIT_FORMAT = 7
EXIT_INTERNAL = 70  # sysexits.h: EX_SOFTWARE
EXIT_INTERRUPTED = 130  # as a shell says of a program that SIGINT ended
EXIT_BROKEN_PIPE = 141  # the same for SIGPIPE


class InputError(Exception):
    """Input that cannot be parsed; the message names file and line."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with a sentence about how far the command got."""


# The first that fits counts, so a subclass stands before its base.
EXIT_CODES: list[tuple[type[BaseException], int]] = [
    (errors.NotFound, EXIT_NOT_FOUND),
    (errors.Exists, EXIT_USAGE),
    (errors.KeyExists, EXIT_USAGE),
    (errors.ValueDiffers, EXIT_USAGE),
    (errors.TooLarge, EXIT_USAGE),
    (errors.Corrupt, EXIT_CORRUPT),
    (errors.Locked, EXIT_LOCKED),
    (errors.Full, EXIT_FULL),
    (errors.PhysicalFull, EXIT_FULL),
    (errors.Unplaceable, EXIT_FULL),
    (errors.NotAStore, EXIT_FORMAT),
    (errors.FormatVersion, EXIT_FORMAT),
    (errors.Degraded, EXIT_DEVICE),
    (errors.Error, EXIT_DEVICE),
    (KeyboardInterrupt, EXIT_INTERRUPTED),
    (click.Abort, EXIT_INTERRUPTED),
    (BrokenPipeError, EXIT_BROKEN_PIPE),
    (OSError, EXIT_DEVICE),
    (MemoryError, EXIT_DEVICE),
    (InputError, EXIT_USAGE),
    (ValueError, EXIT_USAGE),
]


def exit_code(error: BaseException) -> int:
    """The exit code that an error means."""
    for kind, code in EXIT_CODES:
        if isinstance(error, kind):
            return code
    return EXIT_INTERNAL


def sentence(error: BaseException) -> str:
    """Say in one line what an error means, with the notes that callers have added."""
    text = str(error)
    if isinstance(error, errors.DeviceError) and text.endswith("; create it first"):
        text = text.removesuffix("create it first") + "cubby create makes a store"
    elif isinstance(error, OSError) and not isinstance(error, errors.Error):
        place = os.fsdecode(error.filename) if error.filename else "input or output"
        text = f"{place}: {error.strerror or text}"
    elif isinstance(error, KeyboardInterrupt | click.Abort):
        text = text or "interrupted"
    elif isinstance(error, MemoryError):
        text = text or "out of memory"
    elif exit_code(error) == EXIT_INTERNAL:
        text = f"internal error: {type(error).__name__}: {text} (cubby --debug shows where)"
    return " ".join("; ".join([text, *getattr(error, "__notes__", [])]).split())


def report(error: BaseException, debug: bool) -> int:
    """Tell standard error what went wrong, and return the exit code."""
    code = exit_code(error)
    _flush_or_forget_stdout()
    if debug:
        text = "".join(traceback.format_exception(error))
    else:
        text = "" if code == EXIT_BROKEN_PIPE else f"cubby: {sentence(error)}\n"
    with suppress(OSError):  # where standard error takes nothing, the exit code still tells
        click.echo(text, err=True, nl=False)
    return code


def hold_standard_streams() -> None:
    """Where a standard stream is closed, put something in its place that fails when it is used.

    Otherwise the store itself would get its number, and what is printed would go into the store.
    Where standard output is not buffered, buffer it.
    """
    # Each is opened for what it is not used for, but standard error is to take everything.
    for number, flags in enumerate((os.O_WRONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, flags)  # gets the lowest free number, which this is
    if sys.stdin is None:
        sys.stdin = _unclosed_stream(0, "r")
    if sys.stdout is None:
        sys.stdout = _unclosed_stream(1, "w")
    if sys.stderr is None:
        sys.stderr = _unclosed_stream(2, "w")
    # With PYTHONUNBUFFERED its binary layer is the bare file, which may write less than it is
    # given: to a pipe, when a signal or a completion of the ring comes in between.
    if isinstance(getattr(sys.stdout, "buffer", None), io.RawIOBase):
        sys.stdout = _unclosed_stream(1, "w")


def _unclosed_stream(number: int, mode: str) -> TextIO:
    # Not closed by the collector at the end, which might fail and then talk about it.
    return io.TextIOWrapper(os.fdopen(number, mode + "b", closefd=False))


def _flush_or_forget_stdout() -> None:
    """Where standard output takes no more, let what is still buffered go nowhere, quietly."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def talks_to_a_person() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr.isatty()


def counted(count: int, thing: str) -> str:
    """Say how many: "1 record", "2,000 records"."""
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def say(text: str, always: bool = False) -> None:
    """Tell a person at a terminal something; in a pipe, only if *always*."""
    if always or talks_to_a_person():
        click.echo(text, err=True)


# Mark of physical space -> what it means.
SPACE_MARKS = {
    1: "it is getting full",
    2: "no pair may be added or grow",
    3: "pairs can only be read and deleted",
}


def warn_of_space(path: str, stat: StoreStat) -> None:
    """Tell, in one line, that a store's device is getting full physically, if it is."""
    mark = stat["space_mark"]
    if mark == 0:
        return
    used = 100 * stat["device_physical_bytes"] / stat["device_capacity_bytes"]
    say(
        f"cubby: {path}: {used:.1f} % of the device's physical space are used"
        f" ({stat['device_source']}): {SPACE_MARKS[mark]}",
        always=True,
    )
