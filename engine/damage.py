"""Calls of Store that look for damage, and repair what can be repaired.

Depends on: session.py.  Used by: store.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cubbydb._native import ffi, lib
from cubbydb.engine.session import SessionCalls

__all__ = ["Damage", "DamageCalls"]

DAMAGES_FIRST = 1024  # damages that the first native check has room for
NO_SEGMENT = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Damage:
    """One damage found by Store.check, or one repair done by Store.repair.

    Args:
        lba: the number of the block of 4,096 bytes that is concerned.
        segment: the segment it belongs to; None where none is concerned.
        text: what is wrong, or what was done, in one sentence.
    """

    lba: int
    segment: int | None
    text: str


class DamageCalls(SessionCalls):
    """The part of Store that looks for damage."""

    def check(self) -> list[Damage]:
        """Read and compare every block of the store; return the damages found.

        Nothing is repaired.  Pairs that are only in the log yet are written to their blocks first
        (not where the store is read-only).  Threads that write wait meanwhile; those that read do
        not.

        >>> store.check()
        []
        """
        damages, count = self._reports(lib.cubby_check, DAMAGES_FIRST)
        if count > len(damages):  # again, with room for all
            damages, _ = self._reports(lib.cubby_check, count)
        return damages

    def repair(self) -> list[Damage]:
        """Repair what can be repaired without any doubt; return what was done.

        That is: a superblock or a checkpoint of which a sound copy can be made, counts, and space
        that nothing uses.  Whatever else is damaged is left as it is, for check to name: no pair
        is given up, or guessed at.  Threads that write wait meanwhile.

        >>> store.repair()
        []
        """
        return self._reports(lib.cubby_repair, DAMAGES_FIRST)[0]

    def check_progress(self) -> tuple[int, int]:
        """How far a check or repair of another thread has come: blocks done, and how many in all.

        >>> store.check_progress()  # there is none
        (0, 0)
        """
        done = ffi.new("uint64_t *")
        total = ffi.new("uint64_t *")
        session = self._session()
        session.busy = True
        try:
            self._check(session, lib.cubby_check_progress(session.handle, done, total))
        finally:
            session.busy = False
        return int(done[0]), int(total[0])

    def _reports(self, call: Callable[..., int], room: int) -> tuple[list[Damage], int]:
        """What a call of the C side reports, as far as there is room, and how much there was."""
        native = ffi.new("struct cubby_damage[]", room)
        count = ffi.new("size_t *")
        session = self._session()
        session.busy = True
        try:
            self._check(session, call(session.handle, native, room, count))
        finally:
            session.busy = False
        told = min(int(count[0]), room)
        return [_damage(native[index]) for index in range(told)], int(count[0])


def _damage(native: Any) -> Damage:
    segment = None if native.segment == NO_SEGMENT else int(native.segment)
    return Damage(int(native.lba), segment, ffi.string(native.text).decode(errors="replace"))
