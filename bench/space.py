"""What pairs take up physically on devices that compress, beside the densest packing of them.

    .venv/bin/python -m cubbydb.bench.space

The pairs are put into a store on an emulated drive and on a zram device (its compr_data_size).
"dense" are the same keys and values end to end, in the order in which they come, in full blocks of
4 KiB on a device of its own of the same kind.  1,000,000 pairs of 400 bytes, the value half random,
half zeros, in random order (sorted by key, neighbours repeat each other's keys, which no hash store
can use); and the Debian package index of this machine, one package a pair, where there is one.
Counts, not times: they do not depend on the machine's speed.
"""

import random
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

import cubbydb
from cubbydb.bench._devices import file_place, why_no_zram, zram_device
from cubbydb.bench._machine import describe_machine, write_results
from cubbydb.bench._pairs import KEY_BYTES_MIN, key_of
from cubbydb.blockdev import BLOCK_BYTES, BlockDevice

__all__ = ["main"]

PAIR_BYTES = 400
AT_MOST = 1.10  # of the dense packing
WRITE_BLOCKS = 256
SEED = 7

console = rich.console.Console(width=110)

Pairs = Callable[[], Iterable[tuple[bytes, bytes]]]


@dataclass(frozen=True)
class Place:
    """A device that compresses, and how to ask it what is stored."""

    name: str
    stored_bytes: Callable[[], int]


@contextmanager
def csd_place(folder: Path) -> Iterator[Place]:
    """An emulated drive with the defaults, on a file of its own."""
    with file_place(folder / "cubby-space.drive") as path:
        name = f"csd:{path}"
        BlockDevice.create(name, physical="4G").close()

        def stored_bytes() -> int:
            with BlockDevice.open(name, read_only=True) as device:
                return device.usage().physical_bytes

        yield Place(name, stored_bytes)


@contextmanager
def zram_place(size_bytes: int) -> Iterator[Place]:
    """A zram device of its own; what it tells is compr_data_size."""
    with zram_device(size_bytes) as path:
        figures = Path(f"/sys/block/{Path(path).name}/mm_stat")
        yield Place(path, lambda: int(figures.read_text().split()[1]))


def half_random_pairs(count: int) -> Iterator[tuple[bytes, bytes]]:
    """Pairs whose value is half random, half zeros."""
    choose = random.Random(SEED)
    half = (PAIR_BYTES - KEY_BYTES_MIN) // 2
    for number in choose.sample(range(count), count):
        yield key_of(number), choose.randbytes(half) + bytes(half)


def index_pairs() -> Iterator[tuple[bytes, bytes]]:
    """The package index: name and stanza."""
    seen = set()
    run = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, check=True)
    for stanza in run.stdout.split(b"\n\n"):
        name = stanza.partition(b"\n")[0].removeprefix(b"Package: ")
        if name and name not in seen:
            seen.add(name)
            yield name, stanza


def fill_store(place: Place, pairs: Pairs) -> dict[str, Any]:
    """Put all pairs into a new store; returns its figures once it is closed."""
    with cubbydb.open(place.name, "n", force=True) as store:
        store.put_many(pairs())
        store.sync()
        stat: dict[str, Any] = dict(store.stats())
        del stat["latency"]  # of space, not of time
    return stat | {"stored_bytes": place.stored_bytes()}


def fill_densely(place: Place, pairs: Pairs) -> int:
    """Write all pairs end to end; returns what they take."""
    with BlockDevice.open(place.name) as device:
        waiting = bytearray()
        lba = 0
        for key, value in pairs():
            waiting += key + value
            if len(waiting) >= WRITE_BLOCKS * BLOCK_BYTES:
                device.write(lba, bytes(waiting[: WRITE_BLOCKS * BLOCK_BYTES]))
                del waiting[: WRITE_BLOCKS * BLOCK_BYTES]
                lba += WRITE_BLOCKS
        device.write(lba, bytes(waiting) + bytes(-len(waiting) % BLOCK_BYTES))
        device.flush()
    return place.stored_bytes()


def compare(kind: str, places: Callable[[], Any], data: str, pairs: Pairs) -> dict[str, Any]:
    """One row: the pairs in a store, and packed densely, each on a device of its own."""
    with places() as place:
        stat = fill_store(place, pairs)
    with places() as place:
        dense_bytes = fill_densely(place, pairs)
    count = stat["pairs"]
    ratio = stat["stored_bytes"] / dense_bytes
    return {
        "device": kind,
        "data": data,
        "pairs": count,
        "pair_bytes": stat["pair_bytes"] / count,
        "fill_percent": stat["fill_percent"],
        "store_bytes_per_pair": stat["stored_bytes"] / count,
        "dense_bytes_per_pair": dense_bytes / count,
        "ratio": ratio,
        "at_most": AT_MOST if data == "half random" else None,
        "ok": ratio <= AT_MOST if data == "half random" else None,
        "stat": stat,
    }


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/dev/shm"))
@click.option("--pairs", "pair_count", default=1_000_000)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(folder: Path, pair_count: int, results: Path) -> None:
    """Measure on each device and data, print the table, write the results."""
    data: dict[str, Pairs] = {"half random": lambda: half_random_pairs(pair_count)}
    if shutil.which("apt-cache"):
        data["package index"] = index_pairs
    devices: dict[str, Callable[[], Any]] = {"csd": lambda: csd_place(folder)}
    why_not = why_no_zram()
    if why_not is None:
        devices["zram"] = lambda: zram_place(8 * max(pair_count * PAIR_BYTES, 1 << 28))
    else:
        console.print(f"zram is left out: {why_not}")
    rows = [
        compare(kind, places, name, pairs)
        for kind, places in devices.items()
        for name, pairs in data.items()
    ]
    table = rich.table.Table(title="physical bytes per pair", box=rich.box.SIMPLE_HEAD)
    for column in ("device", "data", "pairs", "B", "fill, %", "store", "dense", "ratio"):
        table.add_column(column, justify="left" if column in {"device", "data"} else "right")
    for row in rows:
        verdict = "" if row["ok"] is None else " ok" if row["ok"] else f" missed: {AT_MOST:g}"
        table.add_row(
            row["device"],
            row["data"],
            f"{row['pairs']:,}",
            f"{row['pair_bytes']:.0f}",
            f"{row['fill_percent']}",
            f"{row['store_bytes_per_pair']:.1f}",
            f"{row['dense_bytes_per_pair']:.1f}",
            f"{row['ratio']:.3f}{verdict}",
        )
    console.print(table)
    path = write_results(results, "space", {"machine": describe_machine(), "rows": rows})
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
