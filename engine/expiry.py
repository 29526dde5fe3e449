"""Calls of Store about the time at which pairs expire, and compaction, which drops those that have.

Depends on: conditional.py, session.py.  Used by: store.py.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from cubbydb._native import ffi, lib
from cubbydb.engine.conditional import ConditionalCalls
from cubbydb.engine.durability import Durability, promise_of
from cubbydb.engine.session import BytesLike, Ttl, expires_after, fail_pair, key_bytes
from cubbydb.errors import raise_for_status

__all__ = ["Compaction", "ExpiringCalls"]


@dataclass(frozen=True, slots=True)
class Compaction:
    """What Store.compact has done.

    Attributes:
        segments: parts of the store that were looked at.
        rebuilt: of these, written anew.
        dropped_pairs: expired pairs that were dropped.
        freed_bytes: what is free again of the store's size.
    """

    segments: int
    rebuilt: int
    dropped_pairs: int
    freed_bytes: int


class ExpiringCalls(ConditionalCalls):
    """The part of Store that knows of time.

    A pair that has expired is not there for any call, but takes up space, and counts for len,
    until its block is next written or compact comes by.  The time is that of the machine's wall
    clock, as time.time() tells it: a clock that is set forward ends pairs early, one that is set
    back lets them live longer.
    """

    # One pair ------------------------------------------------------------------------------------

    def ttl(self, key: BytesLike) -> float | None:
        """Return how many seconds a pair still has, or None if it never expires.

        Raises:
            errors.NotFound: there is no pair.
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_get_expiry(session.handle, key, len(key), session.count)
            if status not in (lib.CUBBY_OK, lib.CUBBY_NOT_FOUND):
                fail_pair(session, status, key)
            expires_ms = int(session.count[0])
        finally:
            session.busy = False
        raise_for_status(status, key)
        return None if expires_ms == 0 else max(expires_ms / 1000 - time.time(), 0.0)

    def put_until(
        self,
        key: BytesLike,
        value: BytesLike,
        expires_ms: int | None,
        *,
        durability: Durability | None = None,
    ) -> None:
        """Store a pair that expires at a time, as Scan.expires_ms tells it: to copy pairs exactly.

        Args:
            key: its key.
            value: its value.
            expires_ms: milliseconds since 1970 (UTC), above 0; None: never.  A time that is past
                is no error: then the pair, and one that it replaces, is not there.
            durability: as in put.
        """
        if expires_ms is not None:
            if isinstance(expires_ms, bool) or not isinstance(expires_ms, int):
                raise TypeError(f"an expiry is an int, not {type(expires_ms).__name__}")
            if not 0 < expires_ms < lib.CUBBY_EXPIRY_KEEP:
                text = f"an expiry is a time after 1970 in milliseconds, not {expires_ms}"
                raise ValueError(text)
        self._put_with(key, value, expires_ms=expires_ms or 0, promise=promise_of(durability))

    def expire(
        self, key: BytesLike, ttl: Ttl | None, *, durability: Durability | None = None
    ) -> bool:
        """Let a pair expire after so many seconds from now, or never; tell whether there was one.

        The value stays as it is, also where other threads change it meanwhile; it is written anew.
        """
        if type(key) is not bytes:
            key = key_bytes(key)
        expires_ms = expires_after(ttl)
        promise = promise_of(durability)
        while True:  # again only if another thread has changed the pair meanwhile
            value = self.get(key)
            if value is None:
                return False
            if self._swap(key, value, value, expires_ms, promise):
                return True

    # The store as a whole ------------------------------------------------------------------------

    def compact(self, progress: Callable[[int, int], object] | None = None) -> Compaction:
        """Drop what has expired, take back the space that it and deletes have left, and sync.

        The store is read once, part by part, and rewritten where that gains something; other
        threads may use it meanwhile.  Works where puts are refused because the device is nearly
        full physically.

        Args:
            progress: called after each part with how many are done, and how many there are (more,
                if the store grows meanwhile); what it raises ends the compaction, and what is done
                stays done.
        """
        segment = ffi.new("uint64_t *")
        totals = ffi.new("struct cubby_compaction *")
        count = 0 if progress is None else self._segment_count()
        while self._compact_segment(segment, totals):
            if progress is not None:
                done = int(segment[0])
                progress(done, max(done, count))
        self.sync()
        return Compaction(
            segments=int(totals.segments),
            rebuilt=int(totals.rebuilt),
            dropped_pairs=int(totals.dropped_pairs),
            freed_bytes=int(totals.freed_bytes),
        )

    def _compact_segment(self, segment: object, totals: object) -> bool:
        session = self._session()
        session.busy = True
        try:
            status = lib.cubby_compact(session.handle, segment, totals)
            if status == lib.CUBBY_NOT_FOUND:
                return False
            self._check(session, status)
            return True
        finally:
            session.busy = False

    def _segment_count(self) -> int:
        session = self._session()
        session.busy = True
        try:
            stat = ffi.new("struct cubby_stat *")
            self._check(session, lib.cubby_stat(session.handle, stat))
            return int(stat.segments)
        finally:
            session.busy = False
