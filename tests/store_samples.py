"""Keys and values for tests: made up, and the same in every run."""

import random


def some_bytes(size: int, seed: object = 0) -> bytes:
    return random.Random(f"{size} {seed}").randbytes(size)


def some_pairs(count: int, size: int = 60) -> dict[bytes, bytes]:
    return {b"key %d" % number: some_bytes(size, number) for number in range(count)}
