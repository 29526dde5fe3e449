"""Space: the pairs of a store whose keys begin with a prefix made from a name.

    OFFSET  SIZE  FIELD, of the key in the store
         0     1  255               no text in UTF-8 begins with it
         1     1  n, the name's size, 1 to 255
         2     n  name
     2 + n     -  key in the space, 0 bytes or more

No such prefix begins another one: either their sizes differ, which stand before the names, or the
names do.  So no pair is in two spaces that stand side by side.  A key in a space may be the key
of a pair in an inner space, made in the same way.

Depends on: mapping.py.  Used by: store.py.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar, overload

from cubbydb.engine.batch import Batch
from cubbydb.engine.durability import Durability, promise_of
from cubbydb.engine.mapping import BytesMapping, Pair, Scan, ScanOfScan
from cubbydb.engine.session import BytesLike, Ttl, key_bytes
from cubbydb.errors import NotFound

if TYPE_CHECKING:
    from cubbydb.engine.store import Store

__all__ = ["NAME_BYTES_MAX", "Space", "space_prefix"]

SPACE_MARK = b"\xff"
NAME_BYTES_MAX = 255
_Default = TypeVar("_Default")


def space_prefix(name: BytesLike) -> bytes:
    """What the keys of the pairs in a space of this name begin with; see the head of this file."""
    plain = key_bytes(name)
    if not 1 <= len(plain) <= NAME_BYTES_MAX:
        raise ValueError(
            f"the name of a space has 1 to {NAME_BYTES_MAX} bytes, this one {len(plain):,}"
        )
    return SPACE_MARK + bytes([len(plain)]) + plain


class SpaceScan(ScanOfScan[Pair]):
    """A scan of a store that takes the space's prefix off the keys."""

    def __init__(self, pairs: Scan[Pair], prefix_size: int) -> None:
        super().__init__(pairs)
        self._prefix_size = prefix_size

    def __next__(self) -> Pair:
        key, value = next(self._pairs)
        return key[self._prefix_size :], value


class Space(BytesMapping):
    """A part of a store, made by Store.space: a mapping of its own that shares the rest.

    It is a view: nothing is stored to make one, it is gone when its last pair is deleted, and it
    ends with its store.  Keys have 0 bytes to 65,535 less the prefix.  get, put, delete and the
    calls for many pairs cost what they cost in the store; whatever goes through the pairs (scan,
    iteration, len, clear, popitem, ==) scans the WHOLE store, however few of them are its own.

    >>> users = store.space(b"users")
    >>> users[b"7"] = b"Ada"
    >>> dict(users), len(store)
    ({b'7': b'Ada'}, 1)

    Args:
        store: the store.
        prefix: what the keys of its pairs begin with; space_prefix makes it from a name.
    """

    def __init__(self, store: "Store", prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix

    @property
    def store(self) -> "Store":
        """The store that has the pairs."""
        return self._store

    @property
    def prefix(self) -> bytes:
        """What the keys of its pairs begin with in the store."""
        return self._prefix

    def space(self, name: BytesLike) -> "Space":
        """The space of this name inside this one; its pairs are pairs of this one, too."""
        return Space(self._store, self._prefix + space_prefix(name))

    def __repr__(self) -> str:
        return f"<cubbydb.Space {self._prefix!r} of {self._store!r}>"

    def _key(self, key: object) -> bytes:
        return self._prefix + (key if type(key) is bytes else key_bytes(key))

    # One pair ------------------------------------------------------------------------------------

    def __getitem__(self, key: BytesLike) -> bytes:
        value = self._store.get(self._key(key))
        if value is None:
            raise NotFound(bytes(key))
        return value

    @overload
    def get(self, key: BytesLike) -> bytes | None: ...
    @overload
    def get(self, key: BytesLike, default: _Default) -> bytes | _Default: ...
    def get(self, key: BytesLike, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none."""
        return self._store.get(self._key(key), default)

    def put(
        self,
        key: BytesLike,
        value: BytesLike,
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> None:
        """Store a pair, replacing the key's value if it has one; see Store.put."""
        self._store.put(self._key(key), value, ttl=ttl, durability=durability)

    __setitem__ = put

    def delete(self, key: BytesLike, *, durability: Durability | None = None) -> bool:
        """Remove a pair; tell whether there was one."""
        return self._store.delete(self._key(key), durability=durability)

    def __delitem__(self, key: BytesLike) -> None:
        if not self.delete(key):
            raise NotFound(bytes(key))

    def __contains__(self, key: object) -> bool:
        return self._key(key) in self._store

    def ttl(self, key: BytesLike) -> float | None:
        """The seconds that a pair still has, None if it never expires; see Store.ttl."""
        try:
            return self._store.ttl(self._key(key))
        except NotFound:
            raise NotFound(bytes(key)) from None

    def expire(
        self, key: BytesLike, ttl: Ttl | None, *, durability: Durability | None = None
    ) -> bool:
        """Give a pair another time to live; tell whether there was one.  See Store.expire."""
        return self._store.expire(self._key(key), ttl, durability=durability)

    # Many pairs ----------------------------------------------------------------------------------

    def get_many(self, keys: Iterable[BytesLike]) -> list[bytes | None]:
        """Return the values of *keys* in their order, None for a key that has no pair."""
        return self._store.get_many([self._key(key) for key in keys])

    def put_many(
        self,
        pairs: Mapping[bytes, BytesLike] | Iterable[tuple[BytesLike, BytesLike]],
        *,
        ttl: Ttl | None = None,
        durability: Durability | None = None,
    ) -> int:
        """Store many pairs, from a mapping or an iterable of pairs; return how many."""
        left = pairs.items() if isinstance(pairs, Mapping) else pairs
        prefixed = ((self._key(key), value) for key, value in left)
        return self._store.put_many(prefixed, ttl=ttl, durability=durability)

    def batch(self, *, durability: Durability | None = None) -> Batch:
        """Changes of this space that happen all or not at all, in a with block; see Batch."""
        return Batch(self._store, self._prefix, promise_of(durability))

    def _open_scan(
        self, prefix: BytesLike, cursor: bytes | None, limit: int | None, keys_only: bool
    ) -> Scan[Pair]:
        pairs = self._store._open_scan(self._key(prefix), cursor, limit, keys_only)
        return SpaceScan(pairs, len(self._prefix))

    def __len__(self) -> int:
        """The number of pairs, counted by a scan of the whole store."""
        return sum(1 for _ in self)

    def __bool__(self) -> bool:
        """Whether there is a pair; a scan of the store up to the first one."""
        return any(True for _ in self)
