"""cubby create, stat, check: the store as a whole."""

import json

import click

import cubbydb
from cubbydb.cli.data import path_argument
from cubbydb.cli.report import EXIT_CORRUPT, counted, say, warn_of_space
from cubbydb.cli.sizes import SizeType
from cubbydb.engine.options import FILL_MAX, FILL_MIN
from cubbydb.errors import Exists

__all__ = ["check", "create", "stat"]


# Fill target -> bytes rewritten per byte inserted, pairs of 400 bytes: bench/counts.py measures it.
REWRITTEN_PER_BYTE = {0.40: 2.3, 0.50: 3.2, 0.60: 4.8, 0.75: 6.2}


@click.command()
@path_argument
@click.option("--size", type=SizeType("1M"), help="Bytes of pairs to make room for, as in 256M.")
@click.option(
    "--fill",
    type=click.FloatRange(FILL_MIN, FILL_MAX),
    help="How full to make blocks: less is faster, more takes less space.",
)
@click.option("--new", is_flag=True, help="Replace a store that is there: its pairs are lost.")
@click.option("--force", is_flag=True, help="Overwrite what is there and is not a store.")
def create(path: str, size: int | None, fill: float | None, new: bool, force: bool) -> None:
    """Create an empty store.

    PATH is a file or a block device.  A file becomes a sparse file four times as large as --size
    (1G by default).  On a device, without --size, all of it is used.  Something that is there
    already is left alone (exit code 2) unless --new or --force is given.
    """
    flag = "n" if new else "c"
    try:
        store = cubbydb.open(path, flag, size=size, fill=fill, force=force, exclusive=not new)
    except Exists as error:
        error.add_note("--new replaces a store, --force overwrites anything else")
        raise
    with store:
        stat = store.stat()
        price = rewritten_per_byte(stat["fill_percent"] / 100)
        say(
            f"created {store.path}: {in_bytes(stat['logical_bytes'])} to fill, fill target"
            f" {stat['fill_percent']} %; while it grows, about {price:.1f} bytes are rewritten per"
            " byte put (pairs of 400 bytes)"
        )
        warn_of_space(store.path, stat)


def rewritten_per_byte(fill: float) -> float:
    """What growth costs at a fill target, by the straight line between the measured points."""
    (low, price), *rest = REWRITTEN_PER_BYTE.items()
    for high, next_price in rest:
        if fill <= high:
            return price + (next_price - price) * max(0.0, (fill - low) / (high - low))
        low, price = high, next_price
    return price


# Group -> its rows: what it is called, and which figure it is.  Bytes where the figure says so.
STAT_GROUPS: dict[str, list[tuple[str, str]]] = {
    "Contents": [
        ("pairs", "pairs"),
        ("keys and values", "pair_bytes"),
        ("blobs", "blobs"),
        ("segments", "segments"),
        ("home blocks", "home_blocks"),
        ("spill blocks", "spill_blocks"),
    ],
    "Space": [
        ("size of the store", "logical_bytes"),
        ("used", "used_bytes"),
        ("in quarantine", "quarantined_bytes"),
        ("fill target, %", "fill_percent"),
    ],
    "Device": [
        ("before compression", "device_logical_bytes"),
        ("physically used", "device_physical_bytes"),
        ("physical capacity", "device_capacity_bytes"),
    ],
    "Memory": [("directory", "directory_bytes"), ("bitmaps", "bitmap_bytes")],
    "Format": [("version", "format_version"), ("feature bits", "feature_bits")],
}


def in_bytes(count: int) -> str:
    """A number of bytes for people: 1,023 B, 1.0 KiB, 256.0 MiB."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024:
            return f"{count:,} B" if unit == "B" else f"{amount:,.1f} {unit}"
        amount /= 1024
    return f"{amount:,.1f} TiB"


@click.command()
@path_argument
@click.option("--json", "as_json", is_flag=True, help="All figures, as one JSON object.")
def stat(path: str, as_json: bool) -> None:
    """Show how much a store holds and takes.

    The figures of --json are explained in engine/cubby.h, struct cubby_stat; the counters among
    them count from the opening of the store, which is now.
    """
    with cubbydb.open(path) as store:
        figures = store.stat()
    warn_of_space(path, figures)
    if as_json:
        click.echo(json.dumps(figures))
        return
    # rich takes longer to import than a get takes to run.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    values = dict(figures)
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    for group, rows in STAT_GROUPS.items():
        table.add_row(f"[bold]{group}[/bold]")
        for name, figure in rows:
            count = values[figure]
            assert isinstance(count, int)
            text = in_bytes(count) if figure.endswith("_bytes") else f"{count:,}"
            if group == "Device" and not count:
                text = "not told"
            table.add_row(f"  {name}", text)
        if group == "Device":
            physical = figures["device_physical_bytes"]
            if physical and figures["device_logical_bytes"]:
                table.add_row("  ratio", f"{figures['device_logical_bytes'] / physical:.2f}")
            table.add_row("  told by", figures["device_source"])
        if group == "Memory" and figures["pairs"]:
            memory = figures["directory_bytes"] + figures["bitmap_bytes"]
            table.add_row("  per pair", f"{memory / figures['pairs']:.3f} B")
    if figures["recovered"]:
        table.add_row("[bold]Recovered[/bold]", "the last stop was not clean")
    console = Console()
    console.print(Text(path, style="bold"), soft_wrap=True)
    console.print(table)


@click.command()
@path_argument
@click.pass_context
def check(ctx: click.Context, path: str) -> None:
    """Look for damage in the whole store.

    Every block is read, and all are compared with all; each damage is one line.  Exit code 4 if
    there is any.  Nothing is repaired.
    """
    with cubbydb.open(path) as store:
        damages = store.check()
        pairs = len(store)
    for damage in damages:
        segment = "" if damage.segment is None else f", segment {damage.segment}"
        click.echo(f"LBA {damage.lba}{segment}: {damage.text}")
    if damages:
        say(counted(len(damages), "damage"))
        ctx.exit(EXIT_CORRUPT)
    say(f"{counted(pairs, 'pair')}, no damage")
