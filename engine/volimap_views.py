"""The views of a VoliMap, which are in the order of its keys, both ways.

Depends on: nothing.  Used by: volimap_mapping.py.
"""

from collections.abc import ItemsView, Iterator, KeysView, ValuesView
from itertools import chain, starmap
from typing import Protocol

__all__ = ["Items", "Keys", "Pair", "Values", "all_keys", "all_pairs"]

Pair = tuple[int, int]
Chunks = Iterator[tuple[list[int], list[int]]]  # keys, and their values


class _Chunked(Protocol):
    def _all_chunks(self, reverse: bool = False) -> Chunks: ...


def all_pairs(chunks: Chunks) -> Iterator[Pair]:
    """The pairs, one by one."""
    return chain.from_iterable(starmap(zip, chunks))


def all_keys(chunks: Chunks) -> Iterator[int]:
    """The keys, one by one."""
    return chain.from_iterable(keys for keys, _ in chunks)


def _all_values(chunks: Chunks) -> Iterator[int]:
    return chain.from_iterable(values for _, values in chunks)


class Keys(KeysView[int]):
    """All keys of a map, as they are now."""

    _mapping: _Chunked  # what it needs of it

    def __iter__(self) -> Iterator[int]:
        return all_keys(self._mapping._all_chunks())

    def __reversed__(self) -> Iterator[int]:
        return all_keys(self._mapping._all_chunks(reverse=True))


class Items(ItemsView[int, int]):
    """All pairs of a map, as they are now."""

    _mapping: _Chunked  # what it needs of it

    def __iter__(self) -> Iterator[Pair]:
        return all_pairs(self._mapping._all_chunks())

    def __reversed__(self) -> Iterator[Pair]:
        return all_pairs(self._mapping._all_chunks(reverse=True))


class Values(ValuesView[int]):
    """The values of all pairs of a map, as they are now."""

    _mapping: _Chunked  # what it needs of it

    def __iter__(self) -> Iterator[int]:
        return _all_values(self._mapping._all_chunks())

    def __reversed__(self) -> Iterator[int]:
        return _all_values(self._mapping._all_chunks(reverse=True))

    def __contains__(self, value: object) -> bool:
        return any(value == found for found in self)
