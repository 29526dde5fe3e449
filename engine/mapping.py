"""What a store and a space of one have in common: the mapping made of single calls, and scans.

Depends on: session.py.  Used by: store.py, space.py, nibble_mapping.py, volimap_mapping.py.
"""

from abc import abstractmethod
from collections.abc import (
    ItemsView,
    Iterable,
    Iterator,
    KeysView,
    Mapping,
    MutableMapping,
    ValuesView,
)
from typing import Any, Literal, Self, TypeVar, overload

from cubbydb.blockdev.closing import Closing
from cubbydb.engine.durability import Durability
from cubbydb.engine.session import BytesLike

__all__ = ["BytesMapping", "EqualByLookups", "Scan", "ScanOfScan"]

Pair = tuple[bytes, bytes]
_Item = TypeVar("_Item", covariant=True)
_Key = TypeVar("_Key")
_Value = TypeVar("_Value", covariant=True)


class Scan(Iterator[_Item], Closing):
    """An iterator over pairs or keys, made by Store.scan; it belongs to the thread that made it.

    It ends by itself at its last pair; close it, or leave its with block, to give its buffers
    back before.  It keeps its store from being closed by the garbage collector, not by close:
    then it raises errors.Closed.
    """

    @property
    @abstractmethod
    def cursor(self) -> bytes:
        """The position after the last pair, 24 bytes; give it to scan to go on from there."""

    @property
    @abstractmethod
    def expires_ms(self) -> int | None:
        """When the last pair expires, in milliseconds since 1970 (UTC); None: never."""

    @property
    def expires(self) -> float | None:
        """When the last pair expires, as time.time() tells the time; None: never."""
        return None if self.expires_ms is None else self.expires_ms / 1000

    @abstractmethod
    def close(self) -> None:
        """End the scan; closing twice is allowed."""

    def __iter__(self) -> Self:
        return self


class ScanOfScan(Scan[_Item]):
    """A scan that gives something else for each pair that another one gives."""

    def __init__(self, pairs: Scan[Pair]) -> None:
        self._pairs = pairs

    @property
    def cursor(self) -> bytes:
        """The position after the last pair."""
        return self._pairs.cursor

    @property
    def expires_ms(self) -> int | None:
        """When the last pair expires, in milliseconds since 1970 (UTC); None: never."""
        return self._pairs.expires_ms

    def close(self) -> None:
        """End the scan; closing twice is allowed."""
        self._pairs.close()


class KeyScan(ScanOfScan[bytes]):
    """The keys of a scan of pairs."""

    def __next__(self) -> bytes:
        return next(self._pairs)[0]


# Views -------------------------------------------------------------------------------------------
# The views of collections.abc get pair by pair what one scan gives.


class Items(ItemsView[bytes, bytes]):
    """All pairs of a mapping, as they are now."""

    _mapping: "BytesMapping"

    def __iter__(self) -> Iterator[Pair]:
        return self._mapping.scan()


class Values(ValuesView[bytes]):
    """The values of all pairs of a mapping, as they are now."""

    _mapping: "BytesMapping"

    def __iter__(self) -> Iterator[bytes]:
        return (value for _, value in self._mapping.scan())

    def __contains__(self, value: object) -> bool:
        return any(value == found for found in self)


class EqualByLookups(Mapping[_Key, _Value]):
    """A mapping that is compared without a copy of its pairs, or of the other's."""

    def __eq__(self, other: object) -> bool:
        """Whether both have the same pairs, found by one scan and as many look-ups in *other*."""
        if self is other:
            return True
        if not isinstance(other, Mapping):
            return NotImplemented
        return len(self) == len(other) and all(
            other.get(key) == value for key, value in self.items()
        )

    __hash__ = None  # type: ignore[assignment]  # as that of everything mutable


class BytesMapping(EqualByLookups[bytes, bytes], MutableMapping[bytes, bytes]):
    """A MutableMapping of bytes to bytes whose pairs come by scans, in an order without meaning.

    Its methods are as those of a dict but for this: each looks at what is there now, views and
    iterators allow changes meanwhile (a pair put or deleted then comes or does not), and none but
    those of a single key is one step to other threads and processes.
    """

    @abstractmethod
    def put_many(
        self, pairs: Mapping[bytes, BytesLike] | Iterable[tuple[BytesLike, BytesLike]]
    ) -> int:
        """Store many pairs, from a mapping or an iterable of pairs; return how many."""

    @abstractmethod
    def delete(self, key: BytesLike, *, durability: Durability | None = None) -> bool:
        """Remove a pair; tell whether there was one."""

    @abstractmethod
    def _open_scan(
        self, prefix: BytesLike, cursor: bytes | None, limit: int | None, keys_only: bool
    ) -> Scan[Pair]:
        """Begin a scan of pairs, with values that are empty and not read if *keys_only*."""

    @overload
    def scan(
        self,
        prefix: BytesLike = ...,
        cursor: bytes | None = ...,
        *,
        limit: int | None = ...,
        keys_only: Literal[False] = ...,
    ) -> Scan[Pair]: ...
    @overload
    def scan(
        self,
        prefix: BytesLike = ...,
        cursor: bytes | None = ...,
        *,
        limit: int | None = ...,
        keys_only: Literal[True],
    ) -> Scan[bytes]: ...
    def scan(
        self,
        prefix: BytesLike = b"",
        cursor: bytes | None = None,
        *,
        limit: int | None = None,
        keys_only: bool = False,
    ) -> Scan[Pair] | Scan[bytes]:
        """Iterate over all pairs whose key begins with *prefix*, in an order without meaning.

        It reads the whole store, whatever the prefix.  A pair present during the whole scan comes
        exactly once, however the store grows meanwhile; one that is put or deleted meanwhile,
        once or not at all.

        Args:
            prefix: what the keys begin with.
            cursor: where to go on: Scan.cursor of an earlier scan, also of an earlier opening.
            limit: stop after so many pairs.
            keys_only: iterate over keys alone; values above about 1,000 bytes are then not read.

        Raises:
            ValueError: the cursor is that of another store, or none; the limit is below 0.
            RuntimeError: by the scan, when another thread than the one that began it goes on.

        >>> store.update({b"user1": b"Ada", b"user2": b"Alan", b"other": b""})
        >>> sorted(store.scan(prefix=b"user"))
        [(b'user1', b'Ada'), (b'user2', b'Alan')]
        >>> with store.scan(limit=2, keys_only=True) as page:
        ...     first = list(page)
        >>> rest = list(store.scan(cursor=page.cursor, keys_only=True))  # also after reopening
        >>> len(first), len(rest), sorted(first + rest)
        (2, 1, [b'other', b'user1', b'user2'])
        """
        pairs = self._open_scan(prefix, cursor, limit, keys_only)
        return KeyScan(pairs) if keys_only else pairs

    def __iter__(self) -> Iterator[bytes]:
        return self.scan(keys_only=True)

    def items(self) -> ItemsView[bytes, bytes]:
        """All pairs, as a view; each iteration over it is one scan."""
        return Items(self)

    def keys(self) -> KeysView[bytes]:
        """All keys, as a view; each iteration over it is one scan."""
        return KeysView(self)

    def values(self) -> ValuesView[bytes]:
        """All values, as a view; each iteration over it, and each *in*, is one scan."""
        return Values(self)

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Store the pairs of a mapping, or of an iterable of pairs, as put_many does.

        Where the iterable fails, not all of the pairs before are stored.
        """
        if isinstance(other, Mapping) or not hasattr(other, "keys"):
            self.put_many(other)
        else:
            self.put_many((key, other[key]) for key in other.keys())  # noqa: SIM118 - no mapping
        self.put_many(more.items())  # type: ignore[arg-type]  # refused there, with the reason

    def clear(self) -> None:
        """Delete all pairs, one by one, in one scan."""
        for key in self:
            self.delete(key)
