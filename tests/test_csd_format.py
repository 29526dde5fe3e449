"""What an emulated drive keeps in its file, read by the drawing in blockdev/csd_format.h alone.

Only the package zstandard is used for it: no line of CubbyDB's own decoder.
"""

import random
import struct

import pytest

from cubbydb.blockdev import BLOCK_BYTES, BlockDevice


class Drive:
    """A drive's file, read by the drawing in blockdev/csd_format.h alone."""

    MAP_PAGE_ENTRIES = 508
    ZEROS, LOST = 0, (1 << 64) - 1

    def __init__(self, stored: bytes, decompress) -> None:
        self._stored = memoryview(stored)
        self._decompress = decompress
        copies = [self._block(lba) for lba in (0, 1)]
        newest = max(copies, key=lambda copy: struct.unpack_from("<Q", copy, 72))
        assert newest[8:16] == b"CubbyCSD"
        self.version, self.unit, self.level, _ = struct.unpack_from("<IIiI", newest, 16)
        _, _, self.blocks = struct.unpack_from("<QQQ", newest, 32)
        self.segment_blocks, self.segments = struct.unpack_from("<II", newest, 56)
        self.pages = -(-self.blocks // self.MAP_PAGE_ENTRIES)
        self.log = (2 + 2 * self.pages) * BLOCK_BYTES

    def _block(self, lba: int) -> bytes:
        return bytes(self._stored[lba * BLOCK_BYTES :][:BLOCK_BYTES])

    def entry(self, lba: int) -> int:
        """The map's entry of a block, from the newer one of its page's two slots."""
        page, number = divmod(lba, self.MAP_PAGE_ENTRIES)
        slots = [self._block(2 + 2 * page + slot) for slot in (0, 1)]
        newer = max(slots, key=lambda slot: struct.unpack_from("<Q", slot, 8))
        if not any(newer):
            return self.ZEROS
        assert struct.unpack_from("<Q", newer, 16) == (page,)
        return struct.unpack_from("<Q", newer, 32 + 8 * number)[0]

    def read(self, lba: int) -> bytes:
        """A block."""
        entry = self.entry(lba)
        assert entry != self.LOST
        if entry == self.ZEROS:
            return bytes(BLOCK_BYTES)
        place, size = entry & (1 << 48) - 1, (entry >> 48) * self.unit
        fragment = bytes(self._stored[self.log + place * self.unit :][:size])
        (word,) = struct.unpack_from("<Q", fragment, 8)
        assert word & (1 << 44) - 1 == lba
        kind, payload_size = word >> 44 & 15, word >> 48
        assert size == -(-(24 + payload_size) // self.unit) * self.unit
        payload = fragment[24 : 24 + payload_size]
        assert not any(fragment[24 + payload_size :])
        if kind == 2:
            return payload
        assert kind == 1
        return self._decompress(payload)


def mixed_block(number: int, numbers: random.Random) -> bytes:
    """Zeros, text, noise, and a mixture of them."""
    size = (0, 0, 4096, 2048, 100)[number % 5]
    filler = b'{"number": %d, "text": "%s"}' % (number, b"abc" * (number % 50))
    noise = numbers.randbytes(size)
    return (noise + (filler * BLOCK_BYTES if number % 5 else b"")).ljust(4096, b"\0")[:4096]


@pytest.mark.parametrize("unit", [16, 64, 4096])
def test_another_program_finds_what_was_written(tmp_path, unit):
    zstandard = pytest.importorskip("zstandard")
    file = tmp_path / "drive.csd"
    numbers = random.Random(unit)
    expected: dict[int, bytes] = {}
    with BlockDevice.create(f"csd:{file}", physical="16M", logical="64M", unit=unit) as device:
        for number in range(6000):
            lba = numbers.randrange(3000) * 5
            expected[lba] = mixed_block(number, numbers)
            device.write(lba, expected[lba])
            if number % 7 == 0:
                lba = numbers.randrange(3000) * 5
                device.discard(lba, 1)
                expected[lba] = bytes(BLOCK_BYTES)
        count = device.block_count
    drive = Drive(file.read_bytes(), zstandard.ZstdDecompressor().decompress)
    assert (drive.version, drive.unit, drive.blocks) == (1, unit, count)
    wrong = [lba for lba, block in expected.items() if drive.read(lba) != block]
    assert wrong == []
    others = set(range(0, count, 3)) - set(expected)
    assert {drive.entry(lba) for lba in others} == {drive.ZEROS}
