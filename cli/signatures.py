"""What the first blocks of a device or file say that it holds.

Source: the manual page libblkid(3) and the formats' own documents.
"""

from typing import NamedTuple

from cubbydb.blockdev import BLOCK_BYTES, BlockDevice
from cubbydb.errors import Error

__all__ = ["found_on", "recognise"]

LOOKED_AT_BLOCKS = 17  # as far as the furthest of the signatures


class Signature(NamedTuple):
    """Bytes at an offset that name what is there."""

    offset: int
    magic: bytes
    name: str


# The first that fits counts: what may stand inside another one comes after it.
SIGNATURES = [
    Signature(8, b"CUBBYDB\n", "a CubbyDB store"),
    Signature(BLOCK_BYTES + 8, b"CUBBYDB\n", "a CubbyDB store"),
    Signature(8, b"CubbyCSD", "an emulated drive of CubbyDB, to be opened as csd:PATH"),
    Signature(BLOCK_BYTES + 8, b"CubbyCSD", "an emulated drive of CubbyDB, to be opened as csd:"),
    Signature(0, b"LUKS\xba\xbe", "a LUKS encrypted volume"),
    Signature(512, b"LABELONE", "an LVM physical volume"),
    Signature(0, b"XFSB", "an XFS file system"),
    Signature(0x438, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
    Signature(0x10040, b"_BHRfS_M", "a btrfs file system"),
    Signature(0x400, b"\x10\x20\xf5\xf2", "an F2FS file system"),
    Signature(0, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    Signature(BLOCK_BYTES, b"\xfc\x4e\x2b\xa9", "a member of a Linux RAID"),
    Signature(4086, b"SWAPSPACE2", "swap space"),
    Signature(4086, b"SWAP-SPACE", "swap space"),
    Signature(0x8001, b"CD001", "an ISO 9660 file system"),
    Signature(0, b"hsqs", "a SquashFS file system"),
    Signature(3, b"NTFS    ", "an NTFS file system"),
    Signature(3, b"EXFAT   ", "an exFAT file system"),
    Signature(0x52, b"FAT32   ", "a FAT file system"),
    Signature(0x36, b"FAT1", "a FAT file system"),
    Signature(512, b"EFI PART", "a GPT partition table"),
    Signature(BLOCK_BYTES, b"EFI PART", "a GPT partition table"),
    Signature(0, b"SQLite format 3\0", "an SQLite database"),
    Signature(16, b"\xde\xc0\xef\xbe", "an LMDB database"),
    Signature(510, b"\x55\xaa", "an MBR partition table or a boot sector"),
]


def recognise(content: bytes) -> str | None:
    """What begins like this, as a noun with its article; None if it is not known."""
    for signature in SIGNATURES:
        if content.startswith(signature.magic, signature.offset):
            return signature.name
    return None


def found_on(path: str) -> str | None:
    """What a device or file holds, as far as it can be read and is known."""
    try:
        with BlockDevice.open(path, read_only=True) as device:
            count = min(device.block_count, LOOKED_AT_BLOCKS)
            return recognise(device.read(0, count)) if count else None
    except (Error, OSError, ValueError):
        return None
