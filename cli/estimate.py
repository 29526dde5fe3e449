"""cubby device estimate: samples of files, and what their pairs would take."""

import io
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from random import Random

import click

from cubbydb.blockdev import BLOCK_BYTES
from cubbydb.blockdev.batch_reader import BatchReader
from cubbydb.cli.fill_model import (
    SEED,
    Estimate,
    Pair,
    Sample,
    Scale,
    encode_pair,
    estimate_pairs,
)
from cubbydb.cli.formats import FORMATS
from cubbydb.cli.lines import Lines
from cubbydb.cli.manage import rewritten_per_byte
from cubbydb.cli.report import InputError, counted, talks_to_a_person
from cubbydb.cli.transfer import input_stream, progress_bar

__all__ = ["estimate"]

RAW = "raw"
DETECT_BYTES = 1 << 18  # of a file, to tell its format
RAW_BLOCKS_MIN = 1000  # read from a raw file, if it has so many
RAW_KEY_BYTES = 8
FEW_PAIRS = 200  # fewer say little
BATCH = 1024


def detect_format(path: str) -> str:
    """Which format a file has, by its beginning; raw if none."""
    with Path(path).open("rb") as stream:
        head = stream.read(DETECT_BYTES)
    line = head.lstrip(b" \t\r\n").partition(b"\n")[0]
    beginnings = {"jsonl": line, "mdb": head, "deb822": head}  # tables look like anything
    for name, beginning in beginnings.items():
        try:
            if next(FORMATS[name](Lines(io.BytesIO(beginning), path)), None):
                return name
        except InputError:
            continue
    return RAW


def common_format(files: Sequence[str]) -> str:
    """The one format of all files."""
    if "-" in files:
        text = "standard input cannot be looked at beforehand: give --format"
        raise click.UsageError(text)
    found = {path: detect_format(path) for path in files}
    if len(set(found.values())) > 1:
        told = ", ".join(f"{path} is {name}" for path, name in found.items())
        raise click.UsageError(f"the files have several formats ({told}): give --format")
    return found[files[0]]


def sample_records(files: Sequence[str], input_format: str, size: int, scale: Scale) -> Sample:
    """Pairs drawn evenly from files of a format that cubby load reads."""
    sample = Sample(size)
    chance = Random(SEED)
    with ExitStack() as stack:
        streams = [stack.enter_context(input_stream(path)) for path in files]
        totals = [total for _, _, total in streams if total is not None]
        total = sum(totals) if len(totals) == len(streams) else None
        advance = stack.enter_context(progress_bar("read", total, talks_to_a_person()))
        before = 0
        for stream, name, _ in streams:
            lines = Lines(stream, name)
            for record in FORMATS[input_format](lines):
                place = sample.draw()
                if place is not None:
                    sample.put(place, encode_pair(record.key, record.value, scale, chance))
                if sample.seen % BATCH == 0:
                    advance(sample.seen, before + lines.size)
            before += lines.size
    return sample


def sample_blocks(files: Sequence[str], count: int) -> tuple[list[bytes], int]:
    """Blocks drawn evenly from files as they are, and how many there are in all."""
    with ExitStack() as stack:
        readers = [stack.enter_context(BatchReader(path)) for path in files]
        sizes = [reader.block_count for reader in readers]
        total = sum(sizes)
        if total == 0:
            raise InputError(f"{', '.join(files)}: less than a block of {BLOCK_BYTES:,} bytes")
        numbers = sorted(Random(SEED).sample(range(total), min(count, total)))
        blocks: list[bytes] = []
        for reader, size in zip(readers, sizes, strict=True):
            blocks += reader.read_many([number for number in numbers if 0 <= number < size])
            numbers = [number - size for number in numbers]
    return blocks, total


def cut_pairs(blocks: Sequence[bytes], pair_size: int, count: int, scale: Scale) -> list[Pair]:
    """Pairs made of pieces of blocks, with random keys."""
    chance = Random(SEED)
    value_size = pair_size - RAW_KEY_BYTES
    pieces = [
        block[begin : begin + value_size]
        for block in blocks
        for begin in range(0, BLOCK_BYTES - value_size + 1, value_size)
    ]
    chosen = chance.sample(pieces, min(count, len(pieces)))
    return [encode_pair(chance.randbytes(RAW_KEY_BYTES), piece, scale, chance) for piece in chosen]


# The command -------------------------------------------------------------------------------------


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@click.option(
    "--format",
    "input_format",
    type=click.Choice([*FORMATS, RAW]),
    help="What the files hold.  [default: what they look like]",
)
@click.option("--level", type=int, default=1, show_default=True, help="Of zstd.")
@click.option(
    "--unit",
    type=click.Choice([str(1 << shift) for shift in range(4, 13)]),
    default="64",
    show_default=True,
    help="Compressed blocks take multiples of so many bytes.",
)
@click.option(
    "--sample",
    "sample_size",
    type=click.IntRange(1, 1_000_000),
    default=10_000,
    show_default=True,
    help="How many pairs to look at.",
)
@click.option(
    "--pair-size",
    type=click.IntRange(2 * RAW_KEY_BYTES, BLOCK_BYTES),
    default=400,
    show_default=True,
    help="Of raw files: how large the pairs are to be that they are cut into.",
)
@click.option("--json", "as_json", is_flag=True, help="All figures, as one JSON object.")
def estimate(
    files: tuple[str, ...],
    input_format: str | None,
    level: int,
    unit: str,
    sample_size: int,
    pair_size: int,
    as_json: bool,
) -> None:
    """Say what data would take on a drive that compresses.

    FILE is in a format that cubby load reads, or else any file or block device (raw), which is cut
    into pairs.  From a sample of the pairs, laid out in blocks as a store does it, it is worked out
    what a pair takes at several fills, and the fill to choose: the smallest at which a denser one
    would save no more than 5 %, and the blocks shrink at most 4 times, because drives show at most
    4 times what they hold.  The same files give the same answer.
    """
    scale = Scale(int(unit), level)
    chosen = input_format or common_format(files)
    blocks: list[bytes] = []
    if chosen == RAW:
        if "-" in files:
            raise click.UsageError("raw data are read from a file or device, not standard input")
        per_block = BLOCK_BYTES // (pair_size - RAW_KEY_BYTES)
        blocks, total = sample_blocks(files, max(RAW_BLOCKS_MIN, -(-sample_size // per_block)))
        pairs, seen = cut_pairs(blocks, pair_size, sample_size, scale), total * per_block
        notice(f"taken as raw data, cut into pairs of {pair_size} bytes", input_format is None)
    else:
        sample = sample_records(files, chosen, sample_size, scale)
        pairs, seen = sample.pairs, sample.seen
    if not pairs:
        raise InputError(f"{', '.join(files)}: no pair")
    notice(f"{counted(len(pairs), 'pair')} say little", len(pairs) < FEW_PAIRS)
    result = estimate_pairs(pairs, scale)
    block_ratio = len(blocks) * BLOCK_BYTES / max(1, sum(map(scale.block_bytes, blocks)))
    told = {
        "format": chosen,
        "pairs": seen,
        "block_ratio": block_ratio if blocks else None,
        "unit": int(unit),
        "level": level,
        **asdict(result),
        "rewritten_per_byte": rewritten_per_byte(result.fill),
    }
    if as_json:
        click.echo(json.dumps(told))
    else:
        show_estimate(result, seen, told["block_ratio"])


def notice(text: str, applies: bool = True) -> None:
    """Something to know about the answer, on standard error."""
    if applies:
        click.echo(f"cubby: note: {text}", err=True)


def show_estimate(result: Estimate, seen: int, block_ratio: float | None) -> None:
    """Print an estimate as a table and a sentence."""
    # rich takes longer to import than small files take to estimate.
    from rich.table import Table

    from cubbydb.cli.console import TableConsole

    table = Table(box=None)
    for heading in ("fill", "pairs/block", "bytes/pair", "to the best", "logical/physical"):
        table.add_column(heading, justify="right")
    for row in result.rows:
        style = "bold" if row.fill == result.fill else None
        table.add_row(
            f"{row.fill:.2f}",
            f"{row.pairs_per_block:.1f}",
            f"{row.stored_bytes_per_pair:.1f}",
            f"{row.relative:.2f}",
            f"{row.logical_by_physical:.2f}",
            style=style,
        )
    price = rewritten_per_byte(result.fill)
    chosen = next(row for row in result.rows if row.fill == result.fill)
    console = TableConsole()
    if block_ratio is not None:
        console.print(f"ratio of blocks of 4 KiB as they are: {block_ratio:.2f}")
    console.print(f"ratio of blocks of 4 KiB full of pairs: {result.ratio:.2f}", highlight=False)
    console.print(f"{counted(result.sampled, 'pair')} of {seen:,} looked at", highlight=False)
    console.print(table)
    console.print(
        f"fill to choose: {result.fill:.2f}, {chosen.stored_bytes_per_pair:.0f} bytes per pair;"
        f" while the store grows, about {price:.1f} bytes are rewritten per byte put (pairs of 400"
        " bytes)",
        highlight=False,
        soft_wrap=True,
    )
