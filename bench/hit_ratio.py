"""The store's cache: how many gets it answers, beside the best that any constant choice could.

    make bench-hit-ratio

A store in a file, opened with memory for a tenth of its keys and values, is asked for pairs by
Zipf's law (0.99): YCSB's C, reads alone, and its B, 5 % updates.  The hit ratio is how much
cache_hits has grown over how much gets have, after as many gets unmeasured as three times the
pairs; those of pairs that wait to be written back are among them, as all are in the same memory.

The best constant choice has the most popular pairs for ever, as many as their keys and values have
room in the bytes of memory=; its ratio is the sum of their probabilities.
"""

import itertools
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

import cubbydb
from cubbydb.bench._machine import describe_machine, write_results

__all__ = ["main"]

THETA = 0.99
KEY_BYTES = 16
VALUE_BYTES = 384
BATCH = 128  # gets at once
MEMORY_BYTES_MIN = 24 << 20
WORKLOADS = {"C": 0.0, "B": 0.05}  # and its share of updates


def _key(number: int) -> bytes:
    return b"user%012d" % number


def _value(chance: random.Random) -> bytes:
    """Half random, half zeros."""
    return chance.randbytes(VALUE_BYTES // 2) + bytes(VALUE_BYTES - VALUE_BYTES // 2)


def _load(store: cubbydb.Store, pairs: int, chance: random.Random) -> None:
    for first in range(0, pairs, 1000):
        last = min(first + 1000, pairs)
        store.put_many([(_key(number), _value(chance)) for number in range(first, last)])


def _choices(weights: list[float], count: int, chance: random.Random) -> Iterator[list[int]]:
    """Numbers of pairs, a batch at a time, by the sums of their weights."""
    numbers = range(len(weights))
    for _ in range(-(-count // BATCH)):
        yield chance.choices(numbers, cum_weights=weights, k=BATCH)


def _use(store: cubbydb.Store, weights: list[float], count: int, updates: float, seed: int) -> None:
    """Get and put so many pairs; every get finds one."""
    chance = random.Random(seed)
    for batch in _choices(weights, count, chance):
        put_count = sum(chance.random() < updates for _ in batch)
        if put_count > 0:
            store.put_many([(_key(number), _value(chance)) for number in batch[:put_count]])
        values = store.get_many([_key(number) for number in batch[put_count:]])
        if not all(value is not None and len(value) == VALUE_BYTES for value in values):
            raise click.ClickException("a get gave a wrong value")


def _measure(path: Path, memory: int, weights: list[float], updates: float) -> dict[str, Any]:
    """Open the store, use it until the cache is warm, then count."""
    pairs = len(weights)
    with cubbydb.open(path, "w", memory=memory) as store:
        _use(store, weights, 3 * pairs, updates, 1)
        before = store.stats()
        _use(store, weights, pairs, updates, 2)
        after = store.stats()
    gets = after["gets"] - before["gets"]
    hits = (after["cache_hits"] - before["cache_hits"]) / gets
    best = weights[min(memory // (KEY_BYTES + VALUE_BYTES), pairs) - 1] / weights[-1]
    return {
        "gets": gets,
        "memory_bytes": memory,
        "hit_ratio": hits,
        "best": best,
        "share": hits / best,
        "evicted": after["cache_evicted"] - before["cache_evicted"],
        "moved_bytes": after["cache_moved_bytes"] - before["cache_moved_bytes"],
    }


@click.command(help=__doc__)
@click.option("--pairs", type=click.IntRange(1000), default=800_000, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("build"), show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(pairs: int, folder: Path, results: Path) -> None:
    """Replaced by the module's docstring."""
    machine = describe_machine()
    data_bytes = pairs * (KEY_BYTES + VALUE_BYTES)
    memory = max(data_bytes // 10, MEMORY_BYTES_MIN)
    weights = list(itertools.accumulate((i + 1) ** -THETA for i in range(pairs)))
    table = rich.table.Table(
        title=f"{pairs:,} pairs of {KEY_BYTES} + {VALUE_BYTES} B, memory {memory / 2**20:.0f} MiB",
        box=rich.box.SIMPLE,
    )
    for heading in ("", "hit ratio", "best", "share"):
        table.add_column(heading, justify="right" if heading else "left")
    figures: dict[str, dict[str, Any]] = {}
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as place:
        path = Path(place) / "store.cubby"
        with cubbydb.open(path, "n", size=max(4 * data_bytes, 64 << 20)) as store:
            _load(store, pairs, random.Random(0))
        for name, updates in WORKLOADS.items():
            figures[name] = found = _measure(path, memory, weights, updates)
            shown = (f"{found[column]:.3f}" for column in ("hit_ratio", "best", "share"))
            table.add_row(f"YCSB {name}", *shown)
    rich.console.Console(width=100).print(table)
    content = {"benchmark": "hit_ratio", "machine": machine, "pairs": pairs}
    content |= {"theta": THETA, "data_bytes": data_bytes, "workloads": figures}
    print(f"written to {write_results(results, 'hit_ratio', content)}")


if __name__ == "__main__":
    main()
