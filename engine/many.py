"""Many pairs at once: cut into what one call of the C side takes, and its answer taken apart.

Depends on: session.py.  Used by: store.py, nibble_mapping.py.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from cubbydb._native import ffi
from cubbydb.engine.session import BytesLike, key_bytes, value_bytes

__all__ = ["BATCH_PAIRS", "append_values", "pair_batches"]

BATCH_PAIRS = 1024  # pairs in one native get_many or put_many
BATCH_BYTES = 8 << 20  # keys and values in one native put_many, the last pair excepted
SIZE_MAX: int = (1 << (8 * ffi.sizeof("size_t"))) - 1  # get_many's size of a value that is absent


def pair_batches(
    pairs: Mapping[bytes, BytesLike] | Iterable[tuple[BytesLike, BytesLike]],
) -> Iterator[tuple[list[bytes], list[bytes]]]:
    """Cut pairs into the keys and values of one native put_many each, taken when they are due."""
    left = iter(pairs.items() if isinstance(pairs, Mapping) else pairs)
    while True:
        keys: list[bytes] = []
        values: list[bytes] = []
        room = BATCH_BYTES
        for key, value in islice(left, BATCH_PAIRS):
            keys.append(key if type(key) is bytes else key_bytes(key))
            values.append(value if type(value) is bytes else value_bytes(value))
            room -= len(key) + len(value)
            if room <= 0:
                break
        if not keys:
            return
        yield keys, values


def append_values(packed: Any, sizes: Iterable[int], values: list[bytes | None]) -> None:
    """Append the values that a native get_many has given, None for those that are absent."""
    offset = 0
    for size in sizes:
        if size == SIZE_MAX:
            values.append(None)
        else:
            end = offset + size
            values.append(packed[offset:end])
            offset = end
