"""cubby load and dump: many pairs, from and to text."""

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import click

import cubbydb
from cubbydb.cli.data import path_argument
from cubbydb.cli.formats import FORMATS, Lines, Record, pair_as_json
from cubbydb.cli.report import (
    InputError,
    Interrupted,
    counted,
    say,
    talks_to_a_person,
    warn_of_space,
)
from cubbydb.errors import Error

__all__ = ["dump", "load"]

BATCH_RECORDS = 1024
BATCH_BYTES = 8 << 20
# Told once per batch: how many records are done, and how much of the total.
Advance = Callable[[int, int], None]


@dataclass
class Tally:
    """What a load has stored."""

    records: int = 0
    size: int = 0  # bytes of keys and values
    line_number: int = 0  # the last line of the last record

    def add(self, batch: list[Record]) -> None:
        """Count a batch that has been stored."""
        self.records += len(batch)
        self.size += sum(len(record.key) + len(record.value) for record in batch)
        self.line_number = batch[-1].line_number


class Interrupts:
    """Ctrl-C for a loop that reads, which may be interrupted anywhere, and stores, which may not.

    Between hold and release a Ctrl-C waits for the release, so that what is counted as stored is
    what is stored.
    """

    def __init__(self) -> None:
        self._held = False
        self._pending = False

    def __enter__(self) -> "Interrupts":
        self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._pending = True
        if not self._held:
            raise KeyboardInterrupt

    def hold(self) -> None:
        """Let a Ctrl-C wait from now on."""
        self._held = True

    def release(self) -> None:
        """Raise KeyboardInterrupt if a Ctrl-C has waited."""
        self._held = False
        if self._pending:
            raise KeyboardInterrupt


@contextmanager
def progress_bar(text: str, total: int | None, shown: bool) -> Iterator[Advance]:
    """A bar on standard error with rate and time left; nothing if not *shown*."""
    if not shown:
        yield lambda records, done: None
        return
    # rich takes longer to import than a get takes to run.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    begin = time.monotonic()
    columns = (
        TextColumn(text),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%" if total else ""),
        TextColumn("{task.fields[records]:,} records, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(text, total=total, records=0, rate=0.0)

        def advance(records: int, done: int) -> None:
            rate = records / max(time.monotonic() - begin, 1e-9)
            bar.update(task, completed=done, records=records, rate=rate)

        yield advance


@contextmanager
def input_stream(file: str) -> Iterator[tuple[BinaryIO, str, int | None]]:
    """The stream of a file or, for -, of standard input; its name; and its size if it has one."""
    if file == "-":
        yield sys.stdin.buffer, "standard input", None
        return
    with Path(file).open("rb") as stream:
        status = os.fstat(stream.fileno())
        yield stream, file, status.st_size if stat.S_ISREG(status.st_mode) else None


def batches(records: Iterator[Record]) -> Iterator[list[Record]]:
    """Records in lists of a size to store at a time; what came before bad input comes too."""
    batch: list[Record] = []
    size = 0
    try:
        for record in records:
            batch.append(record)
            size += len(record.key) + len(record.value)
            if len(batch) == BATCH_RECORDS or size >= BATCH_BYTES:
                yield batch
                batch, size = [], 0
    except InputError:
        if batch:
            yield batch
        raise
    if batch:
        yield batch


def load_lines(
    store: cubbydb.Store, lines: Lines, input_format: str, tally: Tally, advance: Advance
) -> None:
    """Store all records of the lines; whatever ends it early, the tally says what is stored."""
    try:
        with Interrupts() as interrupts:
            for batch in batches(FORMATS[input_format](lines)):
                interrupts.hold()
                store.put_many((record.key, record.value) for record in batch)
                tally.add(batch)
                interrupts.release()
                advance(tally.records, lines.size)
    except KeyboardInterrupt:
        raise Interrupted(
            f"interrupted: {counted(tally.records, 'record')} stored, up to line"
            f" {tally.line_number:,} of {lines.name}; the store is good, and loading the same"
            " again is safe"
        ) from None
    except (InputError, Error) as error:
        error.add_note(f"{counted(tally.records, 'record')} before it stored")
        raise


@click.command()
@path_argument
@click.argument("file", type=click.Path(allow_dash=True))
@click.option(
    "--format",
    "input_format",
    type=click.Choice(list(FORMATS)),
    default="jsonl",
    show_default=True,
    help="What FILE holds.",
)
@click.option("-v", "--verbose", is_flag=True, help="Tell the figures at the end in a pipe too.")
def load(path: str, file: str, input_format: str, verbose: bool) -> None:
    """Store every record of a file.

    FILE may be -, standard input.  The store exists already: see cubby create.

    \b
    jsonl   one object per line, as cubby dump writes them:
            {"k": KEY, "v": VALUE}, or "k_b64", "v_b64" with base64 in them.
    deb822  the stanzas of a Debian package index (apt-cache dumpavail).  The
            value is the stanza byte for byte, without the blank lines around
            it; the key is its Package field.  Where that came before in the
            same input, the key is PACKAGE/VERSION, where that came before too,
            PACKAGE/VERSION/ARCHITECTURE, and then .../2, .../3 and so on, so
            that no stanza takes another's place.  The keys of the input are
            held in memory for that.

    A key that the store has already gets the new value.  Input that does not parse ends the load:
    the records before it are stored, and nothing of it.  So does Ctrl-C: the store is good, and
    what is stored is told.
    """
    tally = Tally()
    begin = time.monotonic()
    with (
        input_stream(file) as (stream, name, total),
        cubbydb.open(path, "w") as store,
        progress_bar("load", total, talks_to_a_person()) as advance,
    ):
        load_lines(store, Lines(stream, name), input_format, tally, advance)
        figures = store.stat()
    warn_of_space(path, figures)
    rate = tally.records / max(time.monotonic() - begin, 1e-9)
    stored = f"{counted(tally.records, 'record')}, {counted(tally.size, 'byte')}"
    say(f"loaded {stored}, {rate:,.0f} records/s", verbose)


def refuse_same_file(path: str, output: str) -> None:
    """A dump into the store itself would destroy it."""
    if Path(path).exists() and Path(output).exists() and Path(path).samefile(output):
        raise click.BadParameter("this is the store itself", param_hint="--output")


@click.command()
@path_argument
@click.option("--output", type=click.Path(), help="Write to this file, not standard output.")
def dump(path: str, output: str | None) -> None:
    """Write every pair.

    One JSON object per line, in an order that means nothing: {"k": KEY, "v": VALUE}; what is not
    UTF-8 is written as base64, in "k_b64" and "v_b64".  cubby load reads it back byte for byte.
    """
    if output is not None:
        refuse_same_file(path, output)
    stdout = sys.stdout.buffer
    shown = talks_to_a_person() and (output is not None or not stdout.isatty())
    count = 0
    with cubbydb.open(path) as store, progress_bar("dump", len(store), shown) as advance:
        out = stdout if output is None else Path(output).open("wb")  # noqa: SIM115
        try:
            for key, value in store.scan():
                out.write(pair_as_json(key, value))
                count += 1
                if count % BATCH_RECORDS == 0:
                    advance(count, count)
        except KeyboardInterrupt:
            raise Interrupted(f"interrupted: {counted(count, 'record')} written") from None
        finally:
            if output is not None:
                out.close()
