"""What pairs would take on a drive that compresses, worked out from a sample of them.

Blocks are laid out as the store does it (engine/store/disk_format.h), at several fills, and each is
compressed as the emulated drive does it.  Every draw comes from one seed, so an answer repeats.

Pure: no I/O.  Depends on: cubbydb.blockdev.  Used by: estimate.py.
"""

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from cubbydb.blockdev import BLOCK_BYTES, stored_bytes

__all__ = [
    "CANDIDATES",
    "FILLS",
    "SEED",
    "Estimate",
    "FillRow",
    "Pair",
    "Sample",
    "Scale",
    "encode_pair",
    "estimate_pairs",
]

# engine/store/disk_format.h
HEADER = struct.Struct("<8s8sII4sHHHHBBBx")
HOME_PAIR_BYTES = BLOCK_BYTES - HEADER.size - 24
SPILL_PAIR_BYTES = BLOCK_BYTES - HEADER.size
INLINE_BYTES_MAX = HOME_PAIR_BYTES // 4
BLOB_KEY_BYTES_MAX = 128
ROLE_HOME, ROLE_SPILL = 1, 2

FILLS = (0.10, 0.25, 0.40, 0.50, 0.60, 0.75, 0.90)
CANDIDATES = (0.40, 0.50, 0.60, 0.75)
DENSER_GAIN_MAX = 1.05  # a fill is good enough if a denser one saves no more than 5 %
LOGICAL_BY_PHYSICAL_MAX = 4.0  # the size that drives show, by what they hold (ScaleFlux)
BLOCKS_MIN, BLOCKS_MAX = 500, 5000  # laid out per fill
SEED = 4096


class Pair(NamedTuple):
    """One pair as it is stored: its record in a home block, and a large one's own blocks."""

    record: bytes
    blob_blocks: int = 0
    blob_bytes: int = 0  # that those blocks take


@dataclass(frozen=True, slots=True)
class FillRow:
    """What a fill means."""

    fill: float
    pairs_per_block: float
    stored_bytes_per_pair: float
    relative: float  # to the least of all rows
    logical_by_physical: float


@dataclass(frozen=True, slots=True)
class Estimate:
    """What a sample of pairs tells."""

    sampled: int
    record_bytes: float  # of a pair, on average
    ratio: float  # of what full blocks of 4 KiB hold, by what they take
    rows: list[FillRow]
    fill: float  # the one to choose


class Sample:
    """Pairs drawn evenly from a stream of unknown length (Vitter's algorithm R)."""

    def __init__(self, size: int) -> None:
        self.pairs: list[Pair] = []
        self.seen = 0
        self._size = size
        self._random = Random(SEED)

    def draw(self) -> int | None:
        """Count one pair more; where to put it by chance, or None: nowhere."""
        self.seen += 1
        if len(self.pairs) < self._size:
            return len(self.pairs)
        place = self._random.randrange(self.seen)
        return place if place < self._size else None

    def put(self, place: int, pair: Pair) -> None:
        """Keep a pair where it was drawn to."""
        self.pairs[place : place + 1] = [pair]


class Scale:
    """Bytes that blocks take, at one unit and level of compression."""

    def __init__(self, unit: int, level: int) -> None:
        self._unit = unit
        self._level = level

    def block_bytes(self, block: bytes) -> int:
        """What a block of 4 KiB takes."""
        return stored_bytes(block, unit=self._unit, level=self._level)

    def run_bytes(self, content: bytes) -> int:
        """What the blocks of a longer content take, the last one filled up with zeros."""
        whole = content + bytes(-len(content) % BLOCK_BYTES)
        return sum(
            self.block_bytes(whole[begin : begin + BLOCK_BYTES])
            for begin in range(0, len(whole), BLOCK_BYTES)
        )


def varint(number: int) -> bytes:
    """An unsigned number, 7 bits to a byte."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def encode_pair(key: bytes, value: bytes, scale: Scale, chance: Random) -> Pair:
    """A pair as the store keeps it."""
    sizes = varint(len(key) << 2) + varint(len(value))
    if len(sizes) + len(key) + len(value) <= INLINE_BYTES_MAX:
        return Pair(sizes + key + value)
    place = struct.pack("<Q", chance.randrange(1 << 32)) + chance.randbytes(8)
    kept_key = key if len(key) <= BLOB_KEY_BYTES_MAX else chance.randbytes(16)
    content = key + value
    blocks = -(-len(content) // BLOCK_BYTES)
    record = varint(len(key) << 2 | 1) + varint(len(value)) + place + kept_key
    return Pair(record, blocks, scale.run_bytes(content))


class Deck:
    """Pairs in an order that means nothing, as that of their hashes; shuffled again at its end."""

    def __init__(self, pairs: Sequence[Pair], chance: Random) -> None:
        self._pairs = list(pairs)
        self._chance = chance
        self._next = len(self._pairs)

    def take(self, count: int) -> list[Pair]:
        """So many pairs, no pair twice; all of them, where that is fewer."""
        if self._next + count > len(self._pairs):
            self._chance.shuffle(self._pairs)
            self._next = 0
        taken = self._pairs[self._next : self._next + count]
        self._next += len(taken)
        return taken


def poisson(mean: float, chance: Random) -> int:
    """How many pairs hash to one block."""
    if mean > 200:  # where the other way loses its digits; near enough to a bell there
        return max(0, round(chance.gauss(mean, math.sqrt(mean))))
    limit = math.exp(-mean)
    count = 0
    product = chance.random()
    while product > limit:
        count += 1
        product *= chance.random()
    return count


class Layout:
    """Blocks being laid out, and what they take."""

    def __init__(self, scale: Scale, chance: Random) -> None:
        self.home_blocks = 0
        self.blocks = 0
        self.pairs = 0
        self.stored = 0
        self.used = 0  # bytes before compression, without the zeros after the last pair
        self._scale = scale
        self._chance = chance
        self._displaced: list[Pair] = []

    def add_home(self, pairs: Sequence[Pair]) -> None:
        """A home block of these pairs; those that do not fit are displaced."""
        fitting = count_fitting(pairs, HOME_PAIR_BYTES)
        self._add_block(pairs[:fitting], ROLE_HOME)
        self._displaced += pairs[fitting:]
        self.home_blocks += 1
        self.pairs += len(pairs)
        for pair in pairs:
            self.blocks += pair.blob_blocks
            self.used += pair.blob_blocks * BLOCK_BYTES
            self.stored += pair.blob_bytes

    def add_spill(self) -> None:
        """Spill blocks for all that was displaced."""
        while self._displaced:
            fitting = count_fitting(self._displaced, SPILL_PAIR_BYTES)
            self._add_block(self._displaced[:fitting], ROLE_SPILL)
            del self._displaced[:fitting]

    def _add_block(self, pairs: Sequence[Pair], role: int) -> None:
        records = b"".join(pair.record for pair in pairs)
        header = HEADER.pack(
            self._chance.randbytes(8),  # the checksum
            self._chance.randbytes(8),  # the LSN, and more chance than it has: other fields' share
            self.blocks // 96,  # segment number
            self.blocks % 96,
            b"CBLK",
            96,  # home blocks of the segment
            self.blocks // 96 % 64,  # epoch
            len(pairs),
            HEADER.size + len(records),
            role,
            12,  # depth
            0,
        )
        self.blocks += 1
        self.used += len(header) + len(records)
        self.stored += self._scale.block_bytes((header + records).ljust(BLOCK_BYTES, b"\0"))


def count_fitting(pairs: Sequence[Pair], room: int) -> int:
    """How many pairs from the first on fit into so many bytes."""
    for number, pair in enumerate(pairs):
        room -= len(pair.record)
        if room < 0:
            return number
    return len(pairs)


def lay_out(pairs: Sequence[Pair], fill: float, scale: Scale) -> Layout:
    """As many blocks at a fill as say something about it."""
    chance = Random(SEED)
    deck = Deck(pairs, chance)
    layout = Layout(scale, chance)
    mean = fill * HOME_PAIR_BYTES / mean_bytes(pairs)
    blocks = min(BLOCKS_MAX, max(BLOCKS_MIN, math.ceil(len(pairs) / mean)))
    while layout.home_blocks < blocks or not layout.pairs:
        layout.add_home(deck.take(poisson(mean, chance)))
    layout.add_spill()
    return layout


def full_ratio(pairs: Sequence[Pair], scale: Scale) -> float:
    """How much smaller gets what full blocks hold."""
    chance = Random(SEED)
    left = list(pairs)
    chance.shuffle(left)
    layout = Layout(scale, chance)
    while left and layout.home_blocks < BLOCKS_MAX:
        fitting = count_fitting(left[: HOME_PAIR_BYTES // 2], HOME_PAIR_BYTES)
        if fitting == len(left) and layout.home_blocks:
            break  # the last one, not full
        layout.add_home(left[:fitting])
        del left[:fitting]
    return layout.used / layout.stored


def mean_bytes(pairs: Sequence[Pair]) -> float:
    """Bytes of a pair's record."""
    return sum(len(pair.record) for pair in pairs) / len(pairs)


def choose_fill(rows: Sequence[FillRow]) -> float:
    """The smallest fill that is as good as the densest, and lets a thin drive be filled.

    A drive shows at most 4 times what it holds: at a fill where the blocks compress further than
    that, it would be full logically while there is room physically.
    """
    candidates = [row for row in rows if row.fill in CANDIDATES]
    densest = candidates[-1]
    for row in candidates:
        dense_enough = row.stored_bytes_per_pair <= DENSER_GAIN_MAX * densest.stored_bytes_per_pair
        if dense_enough and row.logical_by_physical <= LOGICAL_BY_PHYSICAL_MAX:
            return row.fill
    return densest.fill


def estimate_pairs(pairs: Sequence[Pair], scale: Scale) -> Estimate:
    """What a sample of pairs says.

    Args:
        pairs: at least one, as encode_pair makes them.
        scale: how blocks are compressed.
    """
    layouts = [lay_out(pairs, fill, scale) for fill in FILLS]
    per_pair = [layout.stored / layout.pairs for layout in layouts]
    rows = [
        FillRow(
            fill=fill,
            pairs_per_block=layout.pairs / layout.home_blocks,
            stored_bytes_per_pair=size,
            relative=size / min(per_pair),
            logical_by_physical=layout.blocks * BLOCK_BYTES / layout.stored,
        )
        for fill, layout, size in zip(FILLS, layouts, per_pair, strict=True)
    ]
    return Estimate(
        sampled=len(pairs),
        record_bytes=mean_bytes(pairs),
        ratio=full_ratio(pairs, scale),
        rows=rows,
        fill=choose_fill(rows),
    )
