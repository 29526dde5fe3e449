"""Numbers of 64 bits, one by one or many at once, in the form the C side takes.

Depends on: cubbydb._native.  Used by: volimap_mapping.py, volimap_native.py.
"""

import sys
from array import array
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from operator import index
from typing import TYPE_CHECKING, Any, NoReturn, SupportsIndex, cast

from cubbydb._native import ffi

__all__ = ["END", "Numbers", "boundary_of", "number_of", "numbers_of", "pair_batches", "refuse"]

if TYPE_CHECKING:  # an array cannot be subscripted before Python 3.12
    Numbers = Iterable[SupportsIndex] | array[int] | memoryview
else:
    Numbers = Iterable[SupportsIndex] | array | memoryview

END = 1 << 64  # the first number that is too large

BATCH_PAIRS = 4096  # pairs of an iterable that are put at once
_UINT64S = ffi.typeof("uint64_t[]")
_LITTLE = "<" if sys.byteorder == "little" else ">"
_FORMATS = {f"{order}{kind}" for order in ("", "@", "=", _LITTLE) for kind in "LQ"}
_TEXT_BITS_MAX = 256


def number_of(thing: object, what: str) -> int:
    """An int of 0 to 2**64 - 1, from whatever is one; *what* it is, for messages."""
    try:
        number = index(cast(SupportsIndex, thing))
    except TypeError:
        raise TypeError(f"a {what} is an int, not {type(thing).__name__}") from None
    if not 0 <= number < END:
        refuse(number, what, "2**64 - 1")
    return number


def boundary_of(thing: object, default: int) -> int:
    """Where a range begins or ends: as number_of, but 2**64 is one, too, and so is None."""
    if thing is None:
        return default
    try:
        number = index(cast(SupportsIndex, thing))
    except TypeError:
        text = f"a boundary is an int or None, not {type(thing).__name__}"
        raise TypeError(text) from None
    if not 0 <= number <= END:
        refuse(number, "boundary", "2**64")
    return number


def refuse(number: int, what: str, most: str) -> NoReturn:
    """Raise ValueError for a number that is out of range."""
    bits = number.bit_length()
    text = f"{number:,}" if bits <= _TEXT_BITS_MAX else f"a number of {bits:,} bits"
    raise ValueError(f"a {what} is 0 to {most}, not {text}")


def numbers_of(things: object, what: str) -> tuple[Any, int]:
    """Many numbers as a uint64_t[], and how many there are; a buffer of such numbers in place."""
    try:
        memory = memoryview(cast(bytes, things))
    except TypeError:
        numbers = _packed(things, what)
        return ffi.from_buffer(_UINT64S, numbers), len(numbers)
    if memory.format not in _FORMATS or memory.itemsize != 8:
        kind = f"{type(things).__name__} of format {memory.format!r}"
        text = f"{what}s in a buffer are unsigned and have 64 bits, as in array('Q'); not a {kind}"
        raise TypeError(text)
    if memory.ndim != 1 or not memory.c_contiguous:
        raise TypeError(f"{what}s in a buffer have one dimension and no gaps: copy them")
    return ffi.from_buffer(_UINT64S, memory), len(memory)


def _packed(things: object, what: str) -> "array[int]":
    try:
        left = list(cast(Iterable[SupportsIndex], things))
    except TypeError:
        raise TypeError(f"{what}s are an iterable of ints, not {type(things).__name__}") from None
    try:
        return array("Q", left)  # type: ignore[arg-type]  # it takes what has __index__
    except (TypeError, OverflowError):
        return array("Q", [number_of(thing, what) for thing in left])  # names the first wrong one


def pair_batches(
    pairs: Mapping[int, int] | Iterable[tuple[SupportsIndex, SupportsIndex]],
) -> Iterator[tuple["array[int]", "array[int]"]]:
    """Cut pairs into keys and values of one native put_many each, taken when they are due."""
    left = iter(pairs.items() if isinstance(pairs, Mapping) else pairs)
    while batch := list(islice(left, BATCH_PAIRS)):
        yield (
            _packed([key for key, _ in batch], "key"),
            _packed([each for _, each in batch], "value"),
        )
