"""Sizes as people write them: 64M.

Depends on: nothing.  Used by: device.py, engine/options.py.
"""

import re

__all__ = ["size_in_bytes"]

BYTES_OF_SUFFIX = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def size_in_bytes(size: int | str) -> int:
    """Read a size: a number of bytes, or text with a suffix K, M, G or T, as in "256M".

    The suffixes are powers of 1,024.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise TypeError(f"a size is an int or a str such as '256M', not {type(size).__name__}")
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"([0-9]+) ?([KMGT]?)(?:i?B)?", size.strip(), re.ASCII | re.IGNORECASE)
    if match is None:
        raise ValueError(f"a size is a number with K, M, G or T after it, as in 256M, not {size!r}")
    return int(match[1]) * BYTES_OF_SUFFIX[match[2].upper()]
