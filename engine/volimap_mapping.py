"""VoliMap: the Python face of the ordered map of numbers in engine/cubby.h.

Each thread that uses a VoliMap gets a native session of its own on its first call; the global
interpreter lock is released during every call of the C side.

Depends on: in_memory.py, uint64.py, volimap_native.py, volimap_views.py.  Used by: cubbydb.
"""

import errno
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from types import TracebackType
from typing import Any, NoReturn, SupportsIndex, TypeVar, cast, overload

from cubbydb._native import ffi, lib
from cubbydb.engine import in_memory
from cubbydb.engine import volimap_native as native
from cubbydb.engine.in_memory import InMemory, check_limit
from cubbydb.engine.mapping import EqualByLookups
from cubbydb.engine.uint64 import (
    END,
    Numbers,
    boundary_of,
    number_of,
    numbers_of,
    pair_batches,
    refuse,
)
from cubbydb.engine.volimap_native import NativeSession, Path, VoliMapStat
from cubbydb.engine.volimap_views import Items, Keys, Pair, Values, all_keys, all_pairs
from cubbydb.errors import Closed, DeviceError, NotFound, raise_for_status

__all__ = ["VoliMap", "VoliMapStat"]

_Default = TypeVar("_Default")
_Pairs = Mapping[int, int] | Iterable[tuple[SupportsIndex, SupportsIndex]]

PUT_MANY_PAIRS = 1 << 20  # of a buffer, in one native call, which no signal interrupts
GET_MANY_PAIRS = 4096
CHUNK_PAIRS_FIRST = 32  # of a range: who looks at its first pairs alone gets few others
CHUNK_PAIRS_MAX = 4096

_NO_DEFAULT: Any = object()
_unpack = ffi.unpack
_get = lib.cubby_volimap_get
_put = lib.cubby_volimap_put


class VoliMap(EqualByLookups[int, int], MutableMapping[int, int], InMemory[NativeSession]):
    """An ordered map in memory from ints to ints: a context manager and a MutableMapping.

    Keys and values are ints of 0 to 2**64 - 1, or what can be used as one (numbers of NumPy,
    bools); others are a ValueError, and what is no int is a TypeError.  Pairs come in the order of
    their keys.  A put, a get, and finding the next key take the same few steps however many pairs
    there are.  Threads may share one; each method that is about a single key is one step to
    them.  Iterating is safe while the map changes: a pair that is there all the time is met, one
    that is put or removed meanwhile is met or not.

    Nothing is kept, unless there is a *path*: the pairs of that file, if it is there, are loaded,
    and they are saved to it, if anything has changed, by close, and at the end of a with block.
    Not so at a with block's end by an exception (then the file stays as it is), nor by the garbage
    collector, where the map is neither closed nor used in a with block: that is a ResourceWarning.

    After close every method raises errors.Closed, also iterators that have begun, and in a forked
    child errors.Forked.

    Args:
        items: pairs to begin with, from a mapping or an iterable of pairs; over those of a file.
        low: with *high*, for keys of low to high, at most 2**40 of them, mostly dense: the map is
            an array then, faster and smaller.  Another key is a ValueError when it is put.
        high: the greatest key that there can be; *low* is 0 if only this one is given.
        window: for keys that come in order and go in about that order, as times do: the map is an
            array of so many places, 256 to 2**40, and a key's is key % window.  To put a key while
            another one has its place is errors.Full (but where the system refuses an array).
        path: a file to load from and to save to.

    >>> with cubbydb.VoliMap({30: 3, 10: 1, 20: 2}) as numbers:
    ...     numbers[15] = 0
    ...     list(numbers), numbers.ceiling(16), list(numbers.range(10, 20))
    ([10, 15, 20, 30], (20, 2), [(10, 1), (15, 0)])
    """

    _what = "VoliMap"

    def __init__(
        self,
        items: _Pairs | None = None,
        *,
        low: int | None = None,
        high: int | None = None,
        window: int | None = None,
        path: Path | None = None,
    ) -> None:
        super().__init__()
        self._unsaved = False
        self._low, self._high, self._window = native.bounds_of(low, high, window)
        self._path = None if path is None else native.file_name(path)
        self._handle = native.NativeMap(self._low, self._high, self._window)
        try:
            self._fill(items)
        except BaseException:
            self.close(save=False)
            raise

    def _fill(self, items: _Pairs | None) -> None:
        """Put what there is to begin with."""
        if self._path is not None:
            try:
                self._load(self._path)
                self._unsaved = False
            except DeviceError as error:
                if error.errno != errno.ENOENT:
                    raise
                self._unsaved = True
        if items is not None:
            self.put_many(items)

    # Life ----------------------------------------------------------------------------------------

    def _session_of(self, handle: Any) -> NativeSession:
        return NativeSession(handle)

    def close(self, *, save: bool = True) -> None:
        """Save to the path, if there is one and anything has changed, and give the memory back.

        Closing twice is allowed.  Where saving fails that is raised, and the map stays open.  The
        calls of other threads end first.

        Args:
            save: False: whatever has changed since it was last saved is lost.
        """
        is_ours = not self.closed and self._pid == os.getpid()
        if save and self._unsaved and self._path is not None and is_ours:
            self._save(self._path)
        self._unsaved = False
        self._give_up_handle()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close(save=kind is None)

    def __del__(self, getpid: Any = os.getpid, warn: Any = warnings.warn) -> None:
        # Said as Python says it of a file: what was put is lost.
        if getattr(self, "_unsaved", False) and self._path is not None and self._pid == getpid():
            warn(f"{self!r} was neither closed nor saved", ResourceWarning, source=self)

    @property
    def path(self) -> str | None:
        """The file that it is saved to, if there is one."""
        return None if self._path is None else os.fsdecode(self._path)

    def __repr__(self) -> str:
        try:
            state = f"{len(self):,} pairs"
        except Closed:
            state = "closed"
        keys = f", keys {self._low:,} to {self._high:,}" if self._high < END - 1 else ""
        window = f", a window of {self._window:,}" if self._window else ""
        path = "" if self._path is None else f", {self.path!r}"
        return f"<cubbydb.VoliMap, {state}{keys}{window}{path}>"

    # To a file and from it -----------------------------------------------------------------------

    def save(self, path: Path | None = None) -> None:
        """Write all pairs to a file, in place of the one that has its name.

        It is written beside it, flushed, and renamed, so that a crash leaves the old one or the new
        one.  (What it had written by then stays under another name, ".volimap-" and numbers.)
        Threads may change pairs meanwhile: of those changes some are in the file.

        Args:
            path: the file's name; without it the one given when the map was made.

        Raises:
            errors.DeviceError: the file cannot be written, and the old one is as it was.

        >>> numbers = cubbydb.VoliMap({1: 10, 2: 20})
        >>> numbers.save("numbers.volimap")
        >>> dict(cubbydb.VoliMap(path="numbers.volimap"))
        {1: 10, 2: 20}
        """
        self._save(self._file(path))

    def load(self, path: Path | None = None) -> None:
        """Put the pairs of a file, in place of those that their keys have.

        Args:
            path: the file's name; without it the one given when the map was made.

        Raises:
            errors.Corrupt: it is no file of a VoliMap, or damaged; nothing has been put.
            errors.FormatVersion: the file needs a newer CubbyDB.
            errors.DeviceError: it cannot be read.
            ValueError: it has keys that this map cannot have; some pairs have been put.
        """
        self._load(self._file(path))

    def _file(self, path: Path | None) -> bytes:
        if path is not None:
            return native.file_name(path)
        if self._path is None:
            raise ValueError("this VoliMap was made without a path: say which")
        return self._path

    def _save(self, path: bytes) -> None:
        session = self._session()
        session.busy = True
        is_own = path == self._path
        try:
            if is_own:
                self._unsaved = False  # before: what changes meanwhile is to be saved again
            status = lib.cubby_volimap_save(session.handle, path)
            if status != 0:
                self._unsaved = self._unsaved or is_own
                session.fail(status, os.fsdecode(path))
        finally:
            session.busy = False

    def _load(self, path: bytes) -> None:
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_volimap_load(session.handle, path)
            put = (lib.CUBBY_OK, lib.CUBBY_BAD_ARGUMENT, lib.CUBBY_FULL, errno.ENOMEM)
            self._unsaved = self._unsaved or status in put  # all of them, or perhaps some
            if status != 0:
                session.fail(status, os.fsdecode(path))
        finally:
            session.busy = False

    # One pair ------------------------------------------------------------------------------------

    def _find(self, key: int) -> int | None:
        """The value of a key, None where there is none."""
        if type(key) is not int:
            key = number_of(key, "key")
        try:  # the hot paths spell out what _session does
            session = self._local.session
            if session.busy or session.pid != in_memory.process_id:
                session = self._session()
        except AttributeError:
            session = self._session()
        session.busy = True
        try:
            if _get(session.handle, key, session.value) == 0:
                return cast(int, session.value[0])
            return None
        except OverflowError:
            refuse(key, "key", "2**64 - 1")
        finally:
            session.busy = False

    def __getitem__(self, key: int) -> int:
        value = self._find(key)
        if value is None:
            raise NotFound(key)
        return value

    @overload
    def get(self, key: int) -> int | None: ...
    @overload
    def get(self, key: int, default: _Default) -> int | _Default: ...
    def get(self, key: int, default: Any = None) -> Any:
        """Return the value of *key*, or *default* if there is none."""
        value = self._find(key)
        return default if value is None else value

    def __contains__(self, key: object) -> bool:
        return self._find(cast(int, key)) is not None

    def put(self, key: int, value: int) -> None:
        """Put a pair, in place of the key's if it has one.

        Raises:
            errors.Full: another key has its place in the window.
            MemoryError: there is no memory for it; nothing has changed.
        """
        if type(key) is not int:
            key = number_of(key, "key")
        if type(value) is not int:
            value = number_of(value, "value")
        try:
            session = self._local.session
            if session.busy or session.pid != in_memory.process_id:
                session = self._session()
        except AttributeError:
            session = self._session()
        session.busy = True
        try:
            status = _put(session.handle, key, value)
            if status != 0:
                self._fail(session, status, key)
            self._unsaved = True
        except OverflowError:
            number_of(key, "key")
            refuse(value, "value", "2**64 - 1")
        finally:
            session.busy = False

    __setitem__ = put

    def _call(self, call: Any, key: int, *numbers: int) -> tuple[int, int]:
        """Make a call that may change the pair of a key, its numbers checked.

        Returns CUBBY_OK, or what is no failure; and the number that the call has set.
        """
        session = self._session()
        session.busy = True
        try:
            status = call(session, key, *numbers)
            if status == 0:
                self._unsaved = True
            elif status not in (lib.CUBBY_NOT_FOUND, lib.CUBBY_EXISTS, lib.CUBBY_DIFFERS):
                self._fail(session, status, key)
            return status, session.value[0]
        finally:
            session.busy = False

    def _fail(self, session: NativeSession, status: int, key: int, suffix: str = "") -> NoReturn:
        if status == lib.CUBBY_BAD_ARGUMENT:
            raise ValueError(f"a key is {self._low:,} to {self._high:,} here, not {key:,}{suffix}")
        raise_for_status(status, key, f"{session.message()}{suffix}")
        raise AssertionError(f"status {status} is no failure")

    def put_if_absent(self, key: int, value: int) -> bool:
        """Put a pair if the key has none; tell whether it was put.

        >>> numbers = cubbydb.VoliMap()
        >>> numbers.put_if_absent(7, 1), numbers.put_if_absent(7, 2), numbers[7]
        (True, False, 1)
        """
        status, _ = self._call(native.add, number_of(key, "key"), number_of(value, "value"))
        return status == 0

    def setdefault(self, key: int, default: int | None = None) -> int:
        """Return the value of *key*; where there is none, *default* is put first.

        It has to be given there: None, as dict stores it, is no value here, and a TypeError.
        """
        key = number_of(key, "key")
        if default is None:
            value = self._find(key)
            if value is not None:
                return value
        default = number_of(default, "value")
        status, existing = self._call(native.add, key, default)
        return default if status == 0 else existing

    def compare_and_swap(self, key: int, expected: int | None, value: int | None) -> bool:
        """Change a pair if it is what is expected; tell whether it was.

        Args:
            key: whose pair.
            expected: the value that the key must have; None: it must have no pair.
            value: the new value; None: the pair is removed.

        >>> numbers = cubbydb.VoliMap({7: 1})
        >>> numbers.compare_and_swap(7, 1, 2), numbers.compare_and_swap(7, 1, 3), numbers[7]
        (True, False, 2)
        """
        key = number_of(key, "key")
        if value is not None:
            value = number_of(value, "value")
        if expected is None:
            if value is None:
                return self._find(key) is None
            return self._call(native.add, key, value)[0] == 0
        expected = number_of(expected, "value")
        if value is None:
            return self._call(native.remove_if, key, expected)[0] == 0
        return self._call(native.swap, key, expected, value)[0] == 0

    def remove(self, key: int) -> bool:
        """Remove a pair; tell whether there was one."""
        return self._call(native.remove, number_of(key, "key"))[0] == 0

    def __delitem__(self, key: int) -> None:
        if not self.remove(key):
            raise NotFound(key)

    @overload
    def pop(self, key: int) -> int: ...
    @overload
    def pop(self, key: int, default: _Default) -> int | _Default: ...
    def pop(self, key: int, default: Any = _NO_DEFAULT) -> Any:
        """Remove a pair and return its value; of several threads that do so, one gets it.

        Without a pair *default* is returned, or errors.NotFound raised where none is given.
        """
        status, value = self._call(native.remove, number_of(key, "key"))
        if status == 0:
            return value
        if default is _NO_DEFAULT:
            raise NotFound(key)
        return default

    def popitem(self, last: bool = True) -> Pair:
        """Remove the pair with the greatest key, and return it; with last=False that of the least.

        Of several threads that do so each gets another pair.  Without any, errors.NotFound is
        raised.

        >>> jobs = cubbydb.VoliMap({30: 3, 10: 1, 20: 2})
        >>> jobs.popitem(), jobs.popitem(last=False)
        ((30, 3), (10, 1))
        """
        while True:
            key, value = self.last() if last else self.first()
            if self.compare_and_swap(key, value, None):
                return key, value

    # The nearest key -----------------------------------------------------------------------------

    def _nearest(self, call: Any, key: int, default: Any, no_pair: str) -> Any:
        session = self._session()
        session.busy = True
        try:
            if call(session.handle, key, session.key, session.value) == 0:
                return session.key[0], session.value[0]
        finally:
            session.busy = False
        if default is _NO_DEFAULT:
            raise NotFound(key, no_pair)
        return default

    @overload
    def floor(self, key: int) -> Pair: ...
    @overload
    def floor(self, key: int, default: _Default) -> Pair | _Default: ...
    def floor(self, key: int, default: Any = _NO_DEFAULT) -> Any:
        """Return the pair with the greatest key that is at most *key*.

        Where there is none *default* is returned, or errors.NotFound raised.

        >>> tax = cubbydb.VoliMap({0: 0, 11_784: 14, 66_761: 42})
        >>> tax.floor(20_000), tax.ceiling(70_000, None)
        ((11784, 14), None)
        """
        key = number_of(key, "key")
        text = f"no pair has a key of at most {key}"
        return self._nearest(lib.cubby_volimap_floor, key, default, text)

    @overload
    def ceiling(self, key: int) -> Pair: ...
    @overload
    def ceiling(self, key: int, default: _Default) -> Pair | _Default: ...
    def ceiling(self, key: int, default: Any = _NO_DEFAULT) -> Any:
        """Return the pair with the least key that is at least *key*.

        Where there is none *default* is returned, or errors.NotFound raised.
        """
        key = number_of(key, "key")
        text = f"no pair has a key of at least {key}"
        return self._nearest(lib.cubby_volimap_ceiling, key, default, text)

    @overload
    def first(self) -> Pair: ...
    @overload
    def first(self, default: _Default) -> Pair | _Default: ...
    def first(self, default: Any = _NO_DEFAULT) -> Any:
        """Return the pair with the least key; *default*, or errors.NotFound, as for ceiling."""
        return self._nearest(lib.cubby_volimap_ceiling, 0, default, "there is no pair")

    @overload
    def last(self) -> Pair: ...
    @overload
    def last(self, default: _Default) -> Pair | _Default: ...
    def last(self, default: Any = _NO_DEFAULT) -> Any:
        """Return the pair with the greatest key; *default*, or errors.NotFound, as for floor."""
        return self._nearest(lib.cubby_volimap_floor, END - 1, default, "there is no pair")

    # Many pairs ----------------------------------------------------------------------------------

    def get_many(self, keys: Numbers) -> list[int | None]:
        """Return the values of *keys* in their order, None for a key that has no pair.

        Args:
            keys: ints, or a buffer of unsigned numbers of 64 bits, as array("Q") or NumPy's uint64.
        """
        packed, count = numbers_of(keys, "key")
        values: list[int | None] = []
        founds = ffi.new("uint8_t[]", GET_MANY_PAIRS)
        for begin in range(0, count, GET_MANY_PAIRS):
            size = min(GET_MANY_PAIRS, count - begin)
            session = self._session()
            session.busy = True
            try:
                session.make_room(size)
                status = lib.cubby_volimap_get_many(
                    session.handle, size, packed + begin, session.values, founds
                )
                if status != 0:
                    session.fail(status, "VoliMap")
                found = zip(_unpack(session.values, size), _unpack(founds, size), strict=True)
                values += [value if is_there else None for value, is_there in found]
            finally:
                session.busy = False
        return values

    @overload
    def put_many(self, pairs: _Pairs, /) -> int: ...
    @overload
    def put_many(self, keys: Numbers, values: Numbers, /) -> int: ...
    def put_many(self, pairs: Any, values: Any = None, /) -> int:
        """Put many pairs; return how many.

        It is fastest, and takes the least memory, where the keys ascend.

        Args:
            pairs: a mapping or an iterable of pairs; or, where there are *values*, the keys.
            values: as many as keys.  Both may be iterables of ints; as buffers of unsigned numbers
                of 64 bits, array("Q") or NumPy's uint64, they are read in place.

        >>> from array import array
        >>> numbers = cubbydb.VoliMap()
        >>> numbers.put_many({1: 10, 2: 20})
        2
        >>> numbers.put_many(array("Q", range(1000)), array("Q", range(1000)))
        1000
        """
        if values is not None:
            keys, count = numbers_of(pairs, "key")
            packed, value_count = numbers_of(values, "value")
            if count != value_count:
                raise ValueError(f"there are {count:,} keys, and {value_count:,} values")
            return self._put_packed(keys, packed, count, 0)
        stored = 0
        for key_batch, value_batch in pair_batches(pairs):
            keys, count = numbers_of(key_batch, "key")
            packed, _ = numbers_of(value_batch, "value")
            stored = self._put_packed(keys, packed, count, stored)
        return stored

    def _put_packed(self, keys: Any, values: Any, count: int, stored: int) -> int:
        """Put pairs after so many of the same put_many; return how many there are together."""
        for begin in range(0, count, PUT_MANY_PAIRS):
            size = min(PUT_MANY_PAIRS, count - begin)
            session = self._session()
            session.busy = True
            try:
                put_count = ffi.cast("size_t *", session.value)
                put_count[0] = 0
                status = lib.cubby_volimap_put_many(
                    session.handle, size, keys + begin, values + begin, put_count
                )
                done = put_count[0] if status != 0 else size
                self._unsaved = self._unsaved or done > 0
                stored += done
                if status != 0:
                    text = f" (pairs of this put_many that are stored: {stored:,})"
                    self._fail(session, status, keys[begin + done], text)
            finally:
                session.busy = False
        return stored

    def update(self, other: Any = (), /, **more: Any) -> None:
        """Put the pairs of a mapping, or of an iterable of pairs, as put_many does."""
        if isinstance(other, Mapping) or not hasattr(other, "keys"):
            self.put_many(other)
        else:
            self.put_many((key, other[key]) for key in other.keys())  # noqa: SIM118 - no mapping
        self.put_many(more.items())  # type: ignore[arg-type]  # refused there, with the reason

    # All pairs -----------------------------------------------------------------------------------

    def range(
        self,
        low: int | None = None,
        high: int | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[Pair]:
        """Iterate over the pairs whose keys are at least *low* and below *high*, ascending.

        They are fetched some at a time, so the map may change meanwhile.

        Args:
            low: where to begin; None: at the least key.
            high: where to end, this key not included, up to 2**64; None: after the greatest key.
            reverse: begin with the greatest key.
            limit: stop after so many.

        >>> numbers = cubbydb.VoliMap({key: key * key for key in range(10)})
        >>> list(numbers.range(3, 6)), list(numbers.range(high=6, reverse=True, limit=2))
        ([(3, 9), (4, 16), (5, 25)], [(5, 25), (4, 16)])
        """
        begin, end = boundary_of(low, 0), boundary_of(high, END)
        check_limit(limit)
        self._session()  # a closed one says so now
        return all_pairs(self._chunks(begin, end - 1, bool(reverse), limit))

    def _chunks(
        self, first: int, last: int, reverse: bool, limit: int | None
    ) -> Iterator[tuple[list[int], list[int]]]:
        """The keys and values from first to last, both included, some at a time."""
        left = END if limit is None else limit
        size = CHUNK_PAIRS_FIRST
        while first <= last and left > 0:
            wanted = min(size, left)
            keys, values = self._chunk(first, last, reverse, wanted)
            if keys:
                yield keys, values
            if len(keys) < wanted:
                return
            if reverse:
                last = keys[-1] - 1
            else:
                first = keys[-1] + 1
            left -= wanted
            size = min(4 * size, CHUNK_PAIRS_MAX)

    def _chunk(
        self, first: int, last: int, reverse: bool, limit: int
    ) -> tuple[list[int], list[int]]:
        session = self._session()
        session.busy = True
        try:
            session.make_room(limit)
            count = ffi.cast("size_t *", session.value)
            status = lib.cubby_volimap_range(
                session.handle,
                first,
                last,
                bool(reverse),
                limit,
                session.keys,
                session.values,
                count,
            )
            if status != 0:
                session.fail(status, "VoliMap")
            return _unpack(session.keys, count[0]), _unpack(session.values, count[0])
        finally:
            session.busy = False

    def _all_chunks(self, reverse: bool = False) -> Iterator[tuple[list[int], list[int]]]:
        self._session()  # a closed one says so now
        return self._chunks(0, END - 1, reverse, None)

    def __iter__(self) -> Iterator[int]:
        return all_keys(self._all_chunks())

    def __reversed__(self) -> Iterator[int]:
        return all_keys(self._all_chunks(reverse=True))

    def items(self) -> Items:
        """All pairs, ascending, as a view, which reversed takes, too."""
        return Items(self)

    def keys(self) -> Keys:
        """All keys, ascending, as a view, which reversed takes, too."""
        return Keys(self)

    def values(self) -> Values:
        """All values, in the order of their keys, as a view, which reversed takes, too."""
        return Values(self)

    def __len__(self) -> int:
        """The number of pairs; exact while nothing changes."""
        session = self._session()  # keeps the map from being closed meanwhile
        return cast(int, lib.cubby_volimap_count(session.map.handle))

    def clear(self) -> None:
        """Remove all pairs that are there; one that is put meanwhile may stay."""
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_volimap_clear(session.handle)
            self._unsaved = True
            if status != 0:
                session.fail(status, "VoliMap")
        finally:
            session.busy = False

    def stats(self) -> VoliMapStat:
        """Gather figures about the pairs, the memory, and the calls so far.

        >>> numbers = cubbydb.VoliMap({1: 10})
        >>> numbers.stats()["pairs"], numbers.stats()["is_array"]
        (1, 0)
        """
        return native.stats_of(self._session())
