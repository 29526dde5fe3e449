"""cubby load and dump: many pairs, from and to text."""

import os
import signal
import stat
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from types import FrameType
from typing import BinaryIO

import click

import cubbydb
from cubbydb.cli.data import accept_loss_option, path_argument
from cubbydb.cli.durability import durability_option
from cubbydb.cli.encodings import key_encoding_option, value_encoding_option
from cubbydb.cli.formats import FORMATS, OUTPUT_FORMATS, Writer, reader_of, writer_of
from cubbydb.cli.lines import Lines, Record
from cubbydb.cli.mdb import MdbWriter
from cubbydb.cli.report import (
    InputError,
    Interrupted,
    counted,
    say,
    talks_to_a_person,
    warn_of_space,
)
from cubbydb.cli.ttl import ttl_option
from cubbydb.engine.durability import Durability
from cubbydb.errors import Error

__all__ = ["dump", "load"]

BATCH_RECORDS = 1024
BATCH_BYTES = 8 << 20
SORTED_BATCH_KEYS = 64  # few, for their values are in memory together
# Told once per batch: how many records are done, and how much of the total.
Advance = Callable[[int, int], None]
Reader = Callable[[Lines], Iterator[Record]]
DumpedPair = tuple[bytes, bytes, int | None]  # key, value, and when it expires


@dataclass
class Tally:
    """What a load has stored."""

    records: int = 0
    size: int = 0  # bytes of keys and values
    expired: int = 0  # records that were left out
    line_number: int = 0  # the last line of the last record

    def add(self, batch: list[Record], stored: list[Record]) -> None:
        """Count a batch of which all that has not expired has been stored."""
        self.records += len(stored)
        self.size += sum(len(record.key) + len(record.value) for record in stored)
        self.expired += len(batch) - len(stored)
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
def progress_bar(
    text: str, total: int | None, shown: bool, things: str = "records"
) -> Iterator[Advance]:
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
        TextColumn(f"{{task.fields[records]:,}} {things}, {{task.fields[rate]:,.0f}}/s"),
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


@contextmanager
def named_errors(name: str) -> Iterator[None]:
    """Let an error of a stream that is open already, which names nothing, name its file."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, Error) and error.filename is None:
            error.filename = name
        raise


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


def store_batch(store: cubbydb.Store, batch: list[Record], ttl: float | None) -> list[Record]:
    """Store those of a batch that have not expired, in their order; return them."""
    now_ms = time.time_ns() // 1_000_000
    stored = [each for each in batch if each.expires_ms is None or each.expires_ms > now_ms]
    for expires, run in groupby(stored, lambda each: each.expires_ms is not None):
        if expires:
            for record in run:
                store.put_until(record.key, record.value, record.expires_ms)
        else:
            store.put_many(((record.key, record.value) for record in run), ttl=ttl)
    return stored


def load_lines(
    store: cubbydb.Store,
    lines: Lines,
    read: Reader,
    ttl: float | None,
    tally: Tally,
    advance: Advance,
) -> None:
    """Store all records of the lines; whatever ends it early, the tally says what is stored."""
    try:
        with Interrupts() as interrupts:
            for batch in batches(read(lines)):
                interrupts.hold()
                tally.add(batch, store_batch(store, batch, ttl))
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
@key_encoding_option
@value_encoding_option
@ttl_option
@durability_option
@click.option("-v", "--verbose", is_flag=True, help="Tell the figures at the end in a pipe too.")
def load(
    path: str,
    file: str,
    input_format: str,
    key_encoding: str,
    value_encoding: str,
    ttl: float | None,
    durability: Durability | None,
    verbose: bool,
) -> None:
    """Store every record of a file.

    FILE may be -, standard input.  The store exists already: see cubby create.

    \b
    jsonl   one object per line, as cubby dump writes them:
            {"k": KEY, "v": VALUE}, or "k_b64", "v_b64" with base64 in them.
            With "expires_ms": TIME, in milliseconds since 1970 (UTC), the
            pair expires then, whatever --ttl says; where that is past, it is
            left out, and how many were is told.
    csv     a header line with the columns key and value, then a row per pair;
    tsv     quoted as spreadsheets do it.  --key-encoding and --value-encoding
            say how bytes are written in them.
    mdb     what LMDB's mdb_dump and Berkeley DB's db_dump write: one database,
            with one value to a key.  Where there are backslashes in the data,
            use mdb_dump without -p: LMDB 0.9 does not escape them.
    deb822  the stanzas of a Debian package index (apt-cache dumpavail); only
            loaded, never dumped.  The value is the stanza byte for byte,
            without the blank lines around it; the key is its Package field.
            Where that came before in the same input, the key is
            PACKAGE/VERSION, where that came before too,
            PACKAGE/VERSION/ARCHITECTURE, and then .../2, .../3 and so on, so
            that no stanza takes another's place.  The keys of the input are
            held in memory for that.

    A key that the store has already gets the new value.  Input that does not parse ends the load:
    the records before it are stored, and nothing of it.  So does Ctrl-C: the store is good, and
    what is stored is told.
    """
    read = reader_of(input_format, key_encoding, value_encoding)
    tally = Tally()
    begin = time.monotonic()
    with (
        input_stream(file) as (stream, name, total),
        cubbydb.open(path, "w", durability=durability or "process") as store,
        progress_bar("load", total, talks_to_a_person()) as advance,
    ):
        with named_errors(name):
            load_lines(store, Lines(stream, name), read, ttl, tally, advance)
        figures = store.stats()
    warn_of_space(path, figures)
    if tally.expired:
        verb = "has" if tally.expired == 1 else "have"
        say(f"cubby: {counted(tally.expired, 'record')} {verb} expired, left out", always=True)
    rate = tally.records / max(time.monotonic() - begin, 1e-9)
    stored = f"{counted(tally.records, 'record')}, {counted(tally.size, 'byte')}"
    say(f"loaded {stored}, {rate:,.0f} records/s", verbose)


def refuse_same_file(path: str, output: str) -> None:
    """A dump into the store itself would destroy it.

    Its file may be what follows any colon of its name: file:PATH, csd:PATH, fault:...:PATH.
    """
    words = path.split(":")
    places = [Path(":".join(words[first:])) for first in range(len(words))]
    if Path(output).exists() and any(place.exists() and place.samefile(output) for place in places):
        raise click.BadParameter("this is the store itself", param_hint="--output")


def scanned_pairs(store: cubbydb.Store) -> Iterator[DumpedPair]:
    """All pairs as a scan gives them."""
    with store.scan() as scan:
        for key, value in scan:
            yield key, value, scan.expires_ms


def sorted_pairs(store: cubbydb.Store) -> Iterator[DumpedPair]:
    """All pairs by their keys; only the keys are all in memory."""
    keys: list[bytes] = []
    expiries: dict[bytes, int] = {}
    with store.scan(keys_only=True) as scan:
        for key in scan:
            keys.append(key)
            if scan.expires_ms is not None:
                expiries[key] = scan.expires_ms
    keys.sort()
    for begin in range(0, len(keys), SORTED_BATCH_KEYS):
        batch = keys[begin : begin + SORTED_BATCH_KEYS]
        for key, value in zip(batch, store.get_many(batch), strict=True):
            # Nobody writes while we have the store open, but pairs may expire.
            assert value is not None or key in expiries
            if value is not None:
                yield key, value, expiries.get(key)


def most_pair_bytes(stat: cubbydb.StoreStat) -> int:
    """Bytes of keys and values, or more, where some are in the log and not counted yet."""
    if stat["dirty_pairs"] == 0:
        return stat["pair_bytes"]
    return stat["used_bytes"] + stat["dirty_bytes"]


@click.command()
@path_argument
@click.option("--output", type=click.Path(), help="Write to this file, not standard output.")
@click.option(
    "--format",
    "output_format",
    type=click.Choice(OUTPUT_FORMATS),
    default="jsonl",
    show_default=True,
    help="What to write.",
)
@key_encoding_option
@value_encoding_option
@click.option("--sort", is_flag=True, help="By key, byte by byte; takes memory for all keys.")
@accept_loss_option
def dump(
    path: str,
    output: str | None,
    output_format: str,
    key_encoding: str,
    value_encoding: str,
    sort: bool,
    accept_loss: bool,
) -> None:
    """Write every pair.

    cubby load reads back byte for byte what it writes, with the same options.  Without --sort the
    order means nothing, and another store of the same pairs has another one.  With it, the same
    pairs are the same bytes; the keys are held in memory for that, and each pair is read by itself.

    \b
    jsonl   one object per line: {"k": KEY, "v": VALUE}; what is not UTF-8 is
            written as base64, in "k_b64" and "v_b64".  A pair that expires
            has also "expires_ms": TIME, in milliseconds since 1970 (UTC).
            The other formats have no place for that; how many pairs lose
            it is told at the end.
    csv     a header line, then a row per pair.  What is not UTF-8 ends the
    tsv     dump, unless --key-encoding or --value-encoding is another one.
    mdb     what mdb_load of LMDB reads.  LMDB takes no keys of more than 511
            bytes: such keys are written, and told at the end.
    """
    if output is not None:
        refuse_same_file(path, output)
    writer_of(output_format, key_encoding, value_encoding, 0, 0)  # a misuse is told before all else
    stdout = sys.stdout.buffer
    shown = talks_to_a_person() and (output is not None or not stdout.isatty())
    with (
        cubbydb.open(path, accept_loss=accept_loss) as store,
        progress_bar("dump", len(store), shown) as advance,
    ):
        writer = writer_of(
            output_format, key_encoding, value_encoding, len(store), most_pair_bytes(store.stats())
        )
        out = stdout if output is None else Path(output).open("wb")  # noqa: SIM115
        try:
            pairs = sorted_pairs(store) if sort else scanned_pairs(store)
            with named_errors("standard output" if output is None else output):
                lost_expiries = write_pairs(out, writer, pairs, advance)
                out.flush() if output is None else out.close()
        finally:
            if output is not None:
                with suppress(OSError):  # the first failure has been told
                    out.close()
    if lost_expiries:
        say(
            f"cubby: {counted(lost_expiries, 'pair')} will not expire where this is loaded:"
            f" {output_format} has no place for it, jsonl has",
            always=True,
        )
    if isinstance(writer, MdbWriter):
        writer.warn()


def write_pairs(
    out: BinaryIO, writer: Writer, pairs: Iterator[DumpedPair], advance: Advance
) -> int:
    """Write all pairs; whatever ends it early says how many are written.

    Returns how many expiries could not be written.
    """
    count = 0
    lost_expiries = 0
    try:
        out.write(writer.head)
        for key, value, expires_ms in pairs:
            out.write(writer.pair(key, value, expires_ms))
            count += 1
            lost_expiries += expires_ms is not None and not writer.keeps_expiry
            if count % BATCH_RECORDS == 0:
                advance(count, count)
        out.write(writer.tail)
    except KeyboardInterrupt:
        raise Interrupted(f"interrupted: {counted(count, 'record')} written") from None
    except InputError as error:
        error.add_note(f"{counted(count, 'record')} before it written")
        raise
    return lost_expiries
