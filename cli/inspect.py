"""cubby inspect: one key, block or segment, drawn for a person."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

import cubbydb
from cubbydb.cli.data import key_of, path_argument
from cubbydb.cli.encodings import encode_key, key_encoding_option
from cubbydb.cli.report import EXIT_CORRUPT, EXIT_NOT_FOUND
from cubbydb.cli.sizes import in_bytes
from cubbydb.engine.inspection import BlobPlace, BlockPair, DisplacedEntry, SegmentBlock

# rich takes longer to import than a get takes to run.
if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

__all__ = ["inspect"]

BLOCK_BYTES = 4096
HEADER_BYTES = 40
DISPLACED_BYTES = 4  # an entry of the displaced list
BAR_CELLS = 64  # of a block with its pairs
SMALL_BAR_CELLS = 32  # of a block of a segment
KEY_CHARACTERS_MAX = 40
DISPLACED_SHOWN_MAX = 16

# What a cell of a bar stands for -> its style on a terminal.
HEADER, LISTED, PAIR, NEXT_PAIR, MARKED, ZEROS = "#:=-*."
STYLES = {
    HEADER: "cyan",
    LISTED: "yellow",
    PAIR: "green",
    NEXT_PAIR: "blue",
    MARKED: "bold red",
    ZEROS: "dim",
}
LEGEND = "# header, : displaced list, = and - pairs in turn, * the pair asked for, . zeros"

# Kind of a block without pairs -> what it is.
KIND_WORDS = {
    "superblock": "superblock",
    "unused": "no part of anything",
    "log": "in the room for the write-ahead log",
    "blob": "in a blob",
    "blob index": "index block of a blob",
    "checkpoint": "in the checkpoint",
    "quarantined": "quarantined: freed, and not reusable yet",
    "free": "free",
}

Row = tuple[str, str]


class Subject(click.Choice[str]):
    """One of the three, which the usage line names already where it is missing."""

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Nothing more."""
        return ""


@click.command()
@path_argument
@click.argument("what", metavar="key|lba|segment", type=Subject(["key", "lba", "segment"]))
@click.argument("which", metavar="KEY|NUMBER")
@key_encoding_option
@click.option("--json", "as_json", is_flag=True, help="The same as one JSON object.")
@click.pass_context
def inspect(
    ctx: click.Context, path: str, what: str, which: str, key_encoding: str, as_json: bool
) -> None:
    """Show where a key is, or what a block or a segment holds.

    \b
    cubby inspect PATH key KEY         where its pair is, what a get reads, and the block
    cubby inspect PATH lba NUMBER      what the block of that number is, and its pairs
    cubby inspect PATH segment NUMBER  what it is made of, and how full its blocks are

    A block is drawn as a bar of 64 cells of 64 bytes each.  Exit code 1 if there is no such key;
    shown is then where it would be put first.  Exit code 4 if a block that is shown is damaged.
    Nothing is written.
    """
    if what == "key":
        inspect_key(ctx, path, key_of(which, key_encoding), as_json)
        return
    number = number_of(which)
    with cubbydb.open(path) as store:
        if what == "lba":
            block = store.inspect_lba(number)
            is_damaged = block.damage is not None
        else:
            segment = store.inspect_segment(number)
            is_damaged = any(each.damage is not None for each in segment.blocks)
    if as_json:
        click.echo(json.dumps(block_as_json(block) if what == "lba" else asdict(segment)))
    elif what == "lba":
        show(f"LBA {number} of {path}", block_parts(block))
    else:
        show(f"segment {number} of {path}", segment_parts(segment))
    ctx.exit(EXIT_CORRUPT if is_damaged else 0)


def inspect_key(ctx: click.Context, path: str, key: bytes, as_json: bool) -> None:
    """Show a key, and the block that has its pair or would get it."""
    with cubbydb.open(path) as store:
        location = store.inspect_key(key)
        block = store.inspect_lba(location.lba)
    if as_json:
        click.echo(json.dumps(location_as_json(location, block)))
    else:
        parts: list[RenderableType] = [table_of(location_rows(location))]
        parts += block_parts(block, location.pair_offset)
        show(f"key {key_text(key)} of {path}", parts)
    ctx.exit(EXIT_NOT_FOUND if location.place == "absent" else 0)


def number_of(text: str) -> int:
    """The number of a block or segment; a usage error if it is none."""
    if not (text.isascii() and text.isdigit()):
        raise click.BadParameter(f"a number is digits alone, not {text!r}", param_hint="NUMBER")
    return int(text)


# For machines ------------------------------------------------------------------------------------


def key_fields(key: bytes | None) -> dict[str, str]:
    """The key as every command writes it: k, or k_b64 for what is not UTF-8."""
    if key is None:
        return {}
    try:
        return {"k": key.decode()}
    except UnicodeDecodeError:
        return {"k_b64": encode_key(key, "base64").decode()}


def blob_fields(blob: BlobPlace | None) -> dict[str, Any] | None:
    """Where a blob is; the checksum as text, as it has more bits than some readers keep."""
    if blob is None:
        return None
    return asdict(blob) | {"checksum": f"{blob.checksum:016x}"}


def location_as_json(
    location: cubbydb.KeyLocation, block: cubbydb.BlockInspection
) -> dict[str, Any]:
    """A location, and its block."""
    fields = asdict(location)
    del fields["key"]
    fields["hash"] = f"{location.hash:032x}"
    fields["blob"] = blob_fields(location.blob)
    return key_fields(location.key) | fields | {"block": block_as_json(block)}


def block_as_json(block: cubbydb.BlockInspection) -> dict[str, Any]:
    """A block; of its pairs the values are left out, and so are its bytes."""
    fields = asdict(block)
    del fields["content"]
    fields["pairs"] = [pair_as_json(pair) for pair in block.pairs]
    return fields


def pair_as_json(pair: BlockPair) -> dict[str, Any]:
    """A pair of a block, without its value."""
    return key_fields(pair.key) | {
        "offset": pair.offset,
        "encoded_size": pair.encoded_size,
        "key_size": pair.key_size,
        "value_size": pair.value_size,
        "blob": blob_fields(pair.blob),
        "expires_ms": pair.expires_ms,
    }


# For people --------------------------------------------------------------------------------------


def show(title: str, parts: "list[RenderableType]") -> None:
    """Print all parts, with lines as long as they are where nobody measures them."""
    from rich.text import Text

    from cubbydb.cli.console import TableConsole

    console = TableConsole()
    if not console.is_terminal:
        console = TableConsole(width=200)
    console.print(Text(title, style="bold"), soft_wrap=True)
    for part in parts:
        console.print(part)


def table_of(rows: list[Row]) -> "RenderableType":
    """Names and what they stand for."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False)
    for name, text in rows:
        table.add_row(f"  {name}", Text(text))
    return table


def key_text(key: bytes | None) -> str:
    """A key in printable ASCII, a long one cut short."""
    if key is None:
        return "(in the blob)"
    text = encode_key(key[: KEY_CHARACTERS_MAX + 1], "escape").decode()
    return text if len(text) <= KEY_CHARACTERS_MAX else f"{text[:KEY_CHARACTERS_MAX]}..."


def location_rows(location: cubbydb.KeyLocation) -> list[Row]:
    """What is told about a key."""
    rows = [
        ("hash", f"{location.hash:032x}"),
        ("segment", f"{location.segment:,}"),
        (
            "home block",
            f"{location.home_block} of {location.home_count}, LBA {location.home_lba}",
        ),
        ("place", place_text(location)),
    ]
    if location.place != "absent":
        at = "" if location.place == "dirty" else f" at byte {location.pair_offset:,} of its block"
        rows.append(("pair", f"{location.encoded_size:,} bytes{at}"))
        rows.append(("key", f"{len(location.key):,} bytes"))
        rows.append(("value", f"{location.value_size:,} bytes"))
    if location.blob is not None:
        blob = location.blob
        rows.append(
            ("blob", f"LBA {blob.lba}, {blob.blocks:,} blocks, checksum {blob.checksum:016x}")
        )
    rows.append(("reads of a get", f"{location.device_reads:,}"))
    return rows


def place_text(location: cubbydb.KeyLocation) -> str:
    """At home, displaced, or absent."""
    if location.place == "home":
        return "at home"
    if location.place == "displaced":
        return (
            f"displaced to spill block {location.spill_block}, LBA {location.lba}; its home lists"
            f" it by the fingerprint {location.fingerprint:04x}"
        )
    if location.place == "dirty":
        return "dirty: in memory, until it is written back to its home block"
    return "absent; it would be put into its home block first"


def block_parts(
    block: cubbydb.BlockInspection, marked_offset: int | None = None
) -> "list[RenderableType]":
    """What a block is, and, of one with pairs, the bar and the pairs."""
    parts: list[RenderableType] = [table_of(block_rows(block))]
    if block.segment is not None and block.damage is None:
        parts += pair_parts(block, block.segment, marked_offset)
    return parts


def block_rows(block: cubbydb.BlockInspection) -> list[Row]:
    """What is told about a block."""
    rows = [("block", f"LBA {block.lba}, {kind_text(block)}")]
    if block.damage is not None:
        rows.append(("damaged", block.damage))
    if block.generation is not None:
        rows.append(("generation", f"{block.generation:,}"))
    if block.block_count is not None:
        rows.append(("size of the store", in_bytes(block.block_count * BLOCK_BYTES)))
        rows.append(("closed in order", "yes" if block.is_clean else "no, or in use"))
    if block.granules is not None:
        map_text = "".join("#" if used else "." for used in block.granules)
        rows.append(("its blob extent", f"{map_text}  (# is a block of a blob)"))
    if block.segment is not None:
        rows += header_rows(block.segment)
    return rows


def kind_text(block: cubbydb.BlockInspection) -> str:
    """What a block is, in words."""
    if block.segment is not None:
        own = block.segment
        if block.kind == "home":
            return f"home block {own.block_index} of {own.home_count} of segment {own.segment}"
        return f"spill block {own.block_index - own.home_count} of segment {own.segment}"
    text = KIND_WORDS[block.kind]
    if block.is_current is not None:
        return f"{text} {block.lba}, {'the current one' if block.is_current else 'the older one'}"
    if block.checkpoint_block is not None:
        return f"{text}, block {block.checkpoint_block:,} of it"
    return text


def header_rows(own: SegmentBlock) -> list[Row]:
    """What the header of a segment's block says; what it should say, if that is damaged."""
    rows = [("epoch, depth", f"{own.epoch}, {own.depth}")]
    if own.damage is None:
        rows.append(("last written", f"LSN {own.lsn}"))
        rows.append(("pairs", f"{own.pair_count}"))
        rows.append(
            ("used", f"{own.used_bytes:,} of {BLOCK_BYTES:,} bytes, the rest is zeros"),
        )
    return rows


def pair_parts(
    block: cubbydb.BlockInspection, own: SegmentBlock, marked_offset: int | None
) -> "list[RenderableType]":
    """The bar of a block, its displaced list and the table of its pairs."""
    from rich.text import Text

    parts: list[RenderableType] = [bar_text(cells_of(block, own, marked_offset))]
    parts.append(Text(f"  {LEGEND}", style="dim"))
    if block.displaced:
        parts.append(table_of([("displaced", displaced_text(block.displaced))]))
    if block.pairs:
        parts.append(pair_table(block.pairs, marked_offset))
    return parts


def displaced_text(entries: tuple[DisplacedEntry, ...]) -> str:
    """The displaced list: fingerprint and spill block each."""
    shown = [f"{each.fingerprint:04x} in spill {each.spill_block}" for each in entries]
    more = len(shown) - DISPLACED_SHOWN_MAX
    text = ", ".join(shown[:DISPLACED_SHOWN_MAX])
    return f"{text} and {more} more" if more > 0 else text


def cells_of(block: cubbydb.BlockInspection, own: SegmentBlock, marked_offset: int | None) -> str:
    """One character per cell: what most of its bytes are; the marked pair shows in any case."""
    list_end = HEADER_BYTES + DISPLACED_BYTES * len(block.displaced)
    content = HEADER * HEADER_BYTES + LISTED * (list_end - HEADER_BYTES)
    marked = range(0)
    for index, pair in enumerate(block.pairs):
        content += (NEXT_PAIR if index % 2 else PAIR) * pair.encoded_size
        if pair.offset == marked_offset:
            marked = range(pair.offset, pair.offset + pair.encoded_size)
    content += ZEROS * (BLOCK_BYTES - own.used_bytes)
    cells = ""
    for begin, end in cell_bounds(BAR_CELLS):
        part = content[begin:end]
        is_marked = begin < marked.stop and marked.start < end
        cells += MARKED if is_marked else max(STYLES, key=part.count)
    return cells


def cell_bounds(count: int) -> Iterator[tuple[int, int]]:
    """Begin and end of each cell of a bar, in bytes."""
    size = BLOCK_BYTES // count
    return ((begin, begin + size) for begin in range(0, BLOCK_BYTES, size))


def bar_text(cells: str) -> "Text":
    """A bar, in colour where there is any."""
    from rich.text import Text

    text = Text("  [")
    for cell in cells:
        text.append(cell, style=STYLES[cell])
    return text.append("]")


def pair_table(pairs: tuple[BlockPair, ...], marked_offset: int | None) -> "RenderableType":
    """One row per pair."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    table.add_column("")
    for name in ("at", "bytes", "key size", "value size"):
        table.add_column(name, justify="right")
    table.add_column("key")
    table.add_column("")
    for pair in pairs:
        is_marked = pair.offset == marked_offset
        table.add_row(
            f" {MARKED}" if is_marked else "  ",
            f"{pair.offset:,}",
            f"{pair.encoded_size:,}",
            f"{pair.key_size:,}",
            f"{pair.value_size:,}",
            Text(key_text(pair.key)),
            ", ".join(remarks_on(pair)),
            style=STYLES[MARKED] if is_marked else None,
        )
    return table


def remarks_on(pair: BlockPair) -> Iterator[str]:
    """What else is to be said of a pair."""
    if pair.blob is not None:
        yield f"blob at LBA {pair.blob.lba}"
    if pair.expires_ms is not None:
        when = datetime.fromtimestamp(pair.expires_ms / 1000, UTC).isoformat(" ", "seconds")
        verb = "expired" if pair.expires_ms <= time.time() * 1000 else "expires"
        yield f"{verb} {when.removesuffix('+00:00')} UTC"


def segment_parts(segment: cubbydb.SegmentInspection) -> "list[RenderableType]":
    """What a segment is, and one line per block."""
    last_lba = segment.lba + segment.extents * 16 - 1
    rows = [
        ("segment", f"{segment.segment} of {segment.segment_count:,}"),
        ("place", f"LBA {segment.lba} to {last_lba}, {segment.extents:,} extents"),
        ("home blocks", f"{segment.home_count:,}"),
        ("spill blocks", f"{segment.spill_count:,}"),
        ("epoch, depth", f"{segment.epoch}, {segment.depth}"),
        ("pairs, encoded", in_bytes(segment.payload_bytes)),
        ("fill", f"{segment.fill:.2f}"),
    ]
    return [table_of(rows), *(block_table(segment, kind) for kind in ("home", "spill"))]


def block_table(segment: cubbydb.SegmentInspection, kind: str) -> "RenderableType":
    """How full the blocks of one kind are."""
    from rich.table import Table

    table = Table(box=None)
    table.add_column(f"  {kind}", justify="right")
    table.add_column("")
    for name in ("used", "pairs", "displaced" if kind == "home" else "listed"):
        table.add_column(name, justify="right")
    table.add_column("")
    first = 0 if kind == "home" else segment.home_count
    for block in segment.blocks:
        if block.kind == kind:
            table.add_row(
                f"{block.block_index - first}",
                bar_text(small_cells(block.used_bytes)),
                f"{block.used_bytes:,}",
                f"{block.pair_count}",
                f"{block.displaced_count}",
                "" if block.damage is None else f"damaged: {block.damage}",
            )
    return table


def small_cells(used_bytes: int) -> str:
    """A bar of the bytes that are used, of one kind."""
    full = round(used_bytes * SMALL_BAR_CELLS / BLOCK_BYTES)
    return PAIR * full + ZEROS * (SMALL_BAR_CELLS - full)
