"""The keys of a benchmark's pairs: the same as bench/common/pairs.h makes (change both)."""

import random

__all__ = ["KEY_BYTES_MIN", "key_of", "random_keys"]

KEY_BYTES_MIN = 16


def key_of(number: int, key_bytes: int = KEY_BYTES_MIN) -> bytes:
    """The key of a pair."""
    return b"user%0*d" % (key_bytes - 4, number)


def random_keys(count: int, pair_count: int, seed: int) -> list[bytes]:
    """Keys of pairs that are there, each pair as likely."""
    choose = random.Random(seed)
    return [key_of(choose.randrange(pair_count)) for _ in range(count)]
