"""Calls of Store that show where a key is, and what a block or a segment holds.

Depends on: session.py.  Used by: store.py.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

from cubbydb._native import ffi, lib
from cubbydb.engine.session import BytesLike, SessionCalls, fail_pair, key_bytes

__all__ = [
    "BlobPlace",
    "BlockInspection",
    "BlockKind",
    "BlockPair",
    "DisplacedEntry",
    "InspectionCalls",
    "KeyLocation",
    "SegmentBlock",
    "SegmentInspection",
]

BlockKind = Literal[
    "superblock",
    "unused",
    "log",
    "home",
    "spill",
    "blob",
    "blob index",
    "checkpoint",
    "quarantined",
    "free",
]

LBA_MAX = (1 << 64) - 1
KINDS: dict[int, BlockKind] = {
    lib.CUBBY_BLOCK_SUPERBLOCK: "superblock",
    lib.CUBBY_BLOCK_UNUSED: "unused",
    lib.CUBBY_BLOCK_LOG: "log",
    lib.CUBBY_BLOCK_HOME: "home",
    lib.CUBBY_BLOCK_SPILL: "spill",
    lib.CUBBY_BLOCK_BLOB: "blob",
    lib.CUBBY_BLOCK_BLOB_INDEX: "blob index",
    lib.CUBBY_BLOCK_CHECKPOINT: "checkpoint",
    lib.CUBBY_BLOCK_QUARANTINED: "quarantined",
    lib.CUBBY_BLOCK_FREE: "free",
}


@dataclass(frozen=True, slots=True)
class BlobPlace:
    """Where a blob is: its first block (over 64 KiB, its first index block), and its checksum.

    blocks counts all of them, index blocks too; it is None where only a block was looked at.
    """

    lba: int
    blocks: int | None
    checksum: int


@dataclass(frozen=True, slots=True)
class KeyLocation:
    """Where a key's pair is; without a pair (place is "absent"), where it would be put first.

    Attributes:
        key: the key.
        hash: its 128-bit hash in this store; the low half chooses the segment, the high one the
            home block.
        fingerprint: the 16 bits by which a home block lists a displaced pair.
        segment: number of the segment.
        home_block, home_count: which home block of how many, from 0.
        home_lba: where that is.
        place: "home", "displaced" (in a spill block), "dirty" (in memory, until it is written back
            to its home block) or "absent".
        spill_block: which of the segment's spill blocks, from 0, if it is displaced.
        lba: of the block that has the pair; home_lba if there is none yet.
        pair_offset, encoded_size: the bytes of that block that are the pair; no offset if dirty.
        value_size: of the value in bytes.
        blob: where key and value are, if they do not stand in the block.
        device_reads: that a get makes for this key.
    """

    key: bytes
    hash: int
    fingerprint: int
    segment: int
    home_block: int
    home_count: int
    home_lba: int
    place: Literal["home", "displaced", "dirty", "absent"]
    spill_block: int | None
    lba: int
    pair_offset: int | None
    encoded_size: int | None
    value_size: int | None
    blob: BlobPlace | None
    device_reads: int


@dataclass(frozen=True, slots=True)
class BlockPair:
    """One pair as it stands in a block.

    offset and encoded_size are its bytes in the block; key is None if only the blob has it, value
    is None if the pair is a blob.  expires_ms is None if it never expires, else milliseconds since
    1970 (UTC); where that is past, the pair is there for no other call.
    """

    offset: int
    encoded_size: int
    key: bytes | None
    key_size: int
    value: bytes | None = field(repr=False)
    value_size: int
    blob: BlobPlace | None
    expires_ms: int | None = None


@dataclass(frozen=True, slots=True)
class DisplacedEntry:
    """One entry of a home block's displaced list: a pair of this fingerprint is in that block."""

    fingerprint: int
    spill_block: int


@dataclass(frozen=True, slots=True)
class SegmentBlock:
    """What one block of a segment holds.

    Attributes:
        lba: where it is.
        kind: "home" or "spill".
        segment, block_index: of which segment it is which block, from 0.
        home_count, epoch, depth: of that segment, as its blocks tell it; see SegmentInspection.
        damage: what is wrong with it; None if it is sound.  The rest is then 0.
        lsn: of the write that made it.
        pair_count: pairs in it.
        displaced_count: of a home block, pairs displaced from it; of a spill block, pairs in it
            that home blocks list, or None where only this one block was looked at.
        used_bytes: header, displaced list and pairs, of 4,096.
    """

    lba: int
    kind: BlockKind
    segment: int
    block_index: int
    home_count: int
    epoch: int
    depth: int
    damage: str | None
    lsn: int
    pair_count: int
    displaced_count: int | None
    used_bytes: int


@dataclass(frozen=True, slots=True)
class BlockInspection:
    """What a block of a store is, and what is in it.

    Attributes:
        lba: where it is.
        kind: who has it.  "unused" is beside the superblocks or behind the last extent; "log" is
            in the room for the write-ahead log; "quarantined" was freed and is not reusable yet,
            or is being written and not named yet.
        damage: why it is not what it should be; None if it is sound.
        content: its 4,096 bytes; zeros where the device itself finds it damaged.
        segment: of a home or spill block, its header.
        displaced, pairs: of such a block that is sound, its displaced list and its pairs.
        generation: of a superblock or a checkpoint.
        is_current, is_clean: of a superblock, whether it is the newer one, and whether it says that
            the store was closed in order.
        block_count: of a superblock, the size of the store that it tells.
        checkpoint_block: of a checkpoint's block, which one it is, from 0.
        granules: of a block of an extent that has blobs, for each of the extent's 16 blocks
            whether a blob has it.
    """

    lba: int
    kind: BlockKind
    damage: str | None
    content: bytes = field(repr=False)
    segment: SegmentBlock | None
    displaced: tuple[DisplacedEntry, ...]
    pairs: tuple[BlockPair, ...]
    generation: int | None
    is_current: bool | None
    is_clean: bool | None
    block_count: int | None
    checkpoint_block: int | None
    granules: tuple[bool, ...] | None


@dataclass(frozen=True, slots=True)
class SegmentInspection:
    """A segment as a whole, and what is in each of its blocks.

    Attributes:
        segment, segment_count: which segment of how many, from 0.
        lba: of its first block.
        extents: of 16 blocks that it takes.
        home_count, spill_count: its blocks: home blocks first, then spill blocks.
        epoch: its generation: another one after each rebuild.
        depth: all its keys agree in this many low bits of their hashes.
        payload_bytes: of its pairs, as encoded.
        fill: payload by what its home blocks have room for.
        blocks: all of them in order.
    """

    segment: int
    segment_count: int
    lba: int
    extents: int
    home_count: int
    spill_count: int
    epoch: int
    depth: int
    payload_bytes: int
    fill: float
    blocks: tuple[SegmentBlock, ...]


class InspectionCalls(SessionCalls):
    """The part of Store that shows blocks.  None of its calls writes, or counts as a get."""

    def inspect_key(self, key: BytesLike) -> KeyLocation:
        """Find a key as get does, and tell where; an absent key has a place, too."""
        if type(key) is not bytes:
            key = key_bytes(key)
        native = ffi.new("struct cubby_location *")
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_locate(session.handle, key, len(key), native)
            if status != 0:
                fail_pair(session, status, key)
        finally:
            session.busy = False
        return _location(key, native)

    def inspect_lba(self, lba: int) -> BlockInspection:
        """Read a block and tell what it is.

        Raises:
            ValueError: the store has no such LBA; the message says which it has.
        """
        native = ffi.new("struct cubby_block_info *")
        content = ffi.new("uint8_t[]", lib.CUBBY_BLOCK_BYTES)
        number = _checked(lba, "an LBA")
        session = self._session()
        session.busy = True
        try:
            self._check(session, lib.cubby_read_block(session.handle, number, content, native))
        finally:
            session.busy = False
        return _block_inspection(native, content)

    def inspect_segment(self, segment: int) -> SegmentInspection:
        """Read a segment and tell what it is made of.

        Raises:
            ValueError: the store has no such segment; the message says which it has.
        """
        info = ffi.new("struct cubby_segment_info *")
        number = _checked(segment, "a segment")
        capacity = 0
        blocks = ffi.NULL
        session = self._session()
        session.busy = True
        try:
            while True:  # again where it has grown meanwhile
                status = lib.cubby_segment_info(session.handle, number, info, blocks, capacity)
                self._check(session, status)
                if info.block_count <= capacity:
                    break
                capacity = int(info.block_count)
                blocks = ffi.new("struct cubby_block_info[]", capacity)
        finally:
            session.busy = False
        return SegmentInspection(
            segment=int(info.segment),
            segment_count=int(info.segment_count),
            lba=int(info.lba),
            extents=int(info.block_count) // 16,
            home_count=int(info.home_count),
            spill_count=int(info.block_count - info.home_count),
            epoch=int(info.epoch),
            depth=int(info.depth),
            payload_bytes=int(info.payload_bytes),
            fill=info.payload_bytes / info.home_bytes,
            blocks=tuple(_segment_block(blocks[index], True) for index in range(info.block_count)),
        )


def _checked(number: int, what: str) -> int:
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"{what} is an int, not {type(number).__name__}")
    if not 0 <= number <= LBA_MAX:
        raise ValueError(f"{what} is 0 or more, and below 2 to the 64, not {number}")
    return number


def _location(key: bytes, native: Any) -> KeyLocation:
    place: Literal["home", "displaced", "dirty", "absent"] = "absent"
    if native.is_found:
        place = "dirty" if native.is_dirty else "displaced" if native.is_displaced else "home"
    blob = None
    if native.is_blob:
        blob = BlobPlace(int(native.blob_lba), int(native.blob_blocks), int(native.blob_checksum))
    return KeyLocation(
        key=key,
        hash=int(native.hash_high) << 64 | int(native.hash_low),
        fingerprint=int(native.fingerprint),
        segment=int(native.segment),
        home_block=int(native.home_block),
        home_count=int(native.home_count),
        home_lba=int(native.home_lba),
        place=place,
        spill_block=int(native.spill_block) if native.is_displaced else None,
        lba=int(native.lba),
        pair_offset=int(native.pair_offset) if place in ("home", "displaced") else None,
        encoded_size=int(native.encoded_size) if native.is_found else None,
        value_size=int(native.value_size) if native.is_found else None,
        blob=blob,
        device_reads=int(native.device_reads),
    )


def _damage_of(native: Any) -> str | None:
    text: bytes = ffi.string(native.damage)
    return text.decode(errors="replace") if native.is_damaged else None


def _segment_block(native: Any, with_whole_segment: bool) -> SegmentBlock:
    kind = KINDS[native.kind]
    listed: int | None = int(native.displaced_count)
    if kind == "spill" and not with_whole_segment:
        listed = None
    return SegmentBlock(
        lba=int(native.lba),
        kind=kind,
        segment=int(native.segment),
        block_index=int(native.block_index),
        home_count=int(native.home_count),
        epoch=int(native.epoch),
        depth=int(native.depth),
        damage=_damage_of(native),
        lsn=int(native.lsn),
        pair_count=int(native.pair_count),
        displaced_count=listed,
        used_bytes=int(native.used_bytes),
    )


def _pairs_of(content: Any) -> tuple[BlockPair, ...]:
    offset = ffi.new("uint64_t *")
    native = ffi.new("struct cubby_block_pair *")
    pairs = []
    while lib.cubby_block_next_pair(content, offset, native) == 0:
        blob = None
        if native.is_blob:
            blob = BlobPlace(int(native.blob_lba), None, int(native.blob_checksum))
        pairs.append(
            BlockPair(
                offset=int(native.offset),
                encoded_size=int(native.encoded_size),
                key=_bytes_of(native.key),
                key_size=int(native.key_size),
                value=_bytes_of(native.value),
                value_size=int(native.value_size),
                blob=blob,
                expires_ms=int(native.expires_ms) or None,
            )
        )
    return tuple(pairs)


def _bytes_of(part: Any) -> bytes | None:
    return None if part.data == ffi.NULL else bytes(ffi.buffer(part.data, part.size))


def _displaced_of(content: Any) -> tuple[DisplacedEntry, ...]:
    fingerprint = ffi.new("uint64_t *")
    spill_block = ffi.new("uint64_t *")
    entries: list[DisplacedEntry] = []
    while lib.cubby_block_displaced(content, len(entries), fingerprint, spill_block) == 0:
        entries.append(DisplacedEntry(int(fingerprint[0]), int(spill_block[0])))
    return tuple(entries)


def _block_inspection(native: Any, content: Any) -> BlockInspection:
    kind = KINDS[native.kind]
    damage = _damage_of(native)
    in_segment = kind in ("home", "spill")
    is_readable = in_segment and damage is None
    is_super = kind == "superblock" and damage is None
    granules = [bool(native.granules >> bit & 1) for bit in range(16)]
    return BlockInspection(
        lba=int(native.lba),
        kind=kind,
        damage=damage,
        content=bytes(ffi.buffer(content)),
        segment=_segment_block(native, False) if in_segment else None,
        displaced=_displaced_of(content) if is_readable else (),
        pairs=_pairs_of(content) if is_readable else (),
        generation=int(native.generation) if is_super or kind == "checkpoint" else None,
        is_current=bool(native.is_current) if is_super else None,
        is_clean=bool(native.is_clean) if is_super else None,
        block_count=int(native.block_count) if is_super else None,
        checkpoint_block=int(native.block_index) if kind == "checkpoint" else None,
        granules=tuple(granules) if any(granules) else None,
    )
