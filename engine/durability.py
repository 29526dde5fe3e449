"""What a change survives once its call has returned: the words for enum cubby_durability.

Depends on: cubbydb._native.  Used by: options.py, and all calls of Store that change pairs.
"""

from typing import Literal

from cubbydb._native import lib

__all__ = ["STORES_OWN", "Durability", "promise_of"]

Durability = Literal["power", "process", "none"]

STORES_OWN: int = lib.CUBBY_DURABILITY_DEFAULT  # what the store was opened with; a false number
PROMISES: dict[str, int] = {
    "power": lib.CUBBY_DURABILITY_POWER,
    "process": lib.CUBBY_DURABILITY_PROCESS,
    "none": lib.CUBBY_DURABILITY_NONE,
}


def promise_of(durability: Durability | None) -> int:
    """The number that the C side has for a durability; STORES_OWN for None."""
    if durability is None:
        return STORES_OWN
    if not isinstance(durability, str):
        raise TypeError(f"a durability is a str, not {type(durability).__name__}")
    try:
        return PROMISES[durability]
    except KeyError:
        words = "'power', 'process' or 'none'"
        raise ValueError(f"a durability is {words}, not {durability!r}") from None
