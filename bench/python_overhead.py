"""What Python adds to a get of C on a store in memory, and what gets cost with other stores.

    make bench-build && .venv/bin/pip install --group bench
    .venv/bin/python -m cubbydb.bench.python_overhead

All hold the same pairs, in memory (a mem: device; LMDB and RocksDB on tmpfs), and are asked for the
same random keys from Python, in turn, round after round.  A cost is nanoseconds of CPU for one
value; the cost of C is that of the driver's gets less that of its null engine, which makes up the
same keys.
lmdb and rocksdict are measured where they are installed.
"""

import importlib
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

import cubbydb
from cubbydb.bench._driver import DRIVER_PATH, Driver
from cubbydb.bench._machine import describe_machine, write_results
from cubbydb.bench._pairs import key_of

__all__ = ["main"]

BATCH = 256
GET_LIMIT_NS = 450  # that store[key] may cost more than C
GET_MANY_LIMIT_NS = 200  # the same of a value of get_many

console = rich.console.Console(width=110)

Ask = Callable[[list[bytes]], Any]


@dataclass
class Runner:
    """One way to get values; run returns nanoseconds per value."""

    name: str
    run: Callable[[], float]
    costs: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Nanoseconds of a value in the median round."""
        return statistics.median(self.costs)


def time_of(ask: Ask, chunks: list[list[int]]) -> float:
    """Nanoseconds of CPU per key.  Keys are made just before they are used, as programs do."""
    taken = 0
    for numbers in chunks:
        keys = [key_of(number) for number in numbers]
        begin = time.process_time_ns()
        ask(keys)
        taken += time.process_time_ns() - begin
    return taken / sum(map(len, chunks))


def each(get: Callable[[bytes], Any]) -> Ask:
    """Ask for one key after the other."""

    def ask(keys: list[bytes]) -> None:
        for key in keys:
            get(key)

    return ask


def pairs_of(count: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """The pairs that all stores hold: values half random, half zeros, as the driver's."""
    for number in range(count):
        yield key_of(number), os.urandom(value_bytes // 2).ljust(value_bytes, b"\0")


def check(name: str, ask: Ask, numbers: list[int], value_bytes: int) -> None:
    """A store that finds nothing would be fast."""
    values = ask([key_of(number) for number in numbers])
    if [len(value) for value in values] != [value_bytes] * len(numbers):
        raise click.ClickException(f"{name} does not hold the pairs that were loaded")


def cubby_runners(stack: ExitStack, settings: "Settings") -> list[Runner]:
    """CubbyDB from Python."""
    store = stack.enter_context(cubbydb.open(settings.memory, "n"))
    store.put_many(pairs_of(settings.pairs, settings.value_bytes))
    check("cubbydb", store.get_many, settings.chunks[0], settings.value_bytes)
    return [
        Runner("store[key]", lambda: time_of(each(store.__getitem__), settings.chunks)),
        Runner("store.get(key)", lambda: time_of(each(store.get), settings.chunks)),
        Runner("store.get_many of 256", lambda: time_of(store.get_many, settings.chunks)),
    ]


def lmdb_runners(stack: ExitStack, folder: Path, settings: "Settings") -> list[Runner]:
    """py-lmdb: gets in one transaction, in one each, and many at once."""
    lmdb = importlib.import_module("lmdb")
    size = 64_000_000 + 8 * settings.pairs * (settings.value_bytes + 16)
    environment = stack.enter_context(
        lmdb.open(str(folder / "lmdb"), map_size=size, sync=False, lock=False)
    )
    with environment.begin(write=True) as transaction, transaction.cursor() as cursor:
        cursor.putmulti(pairs_of(settings.pairs, settings.value_bytes))
    reading = stack.enter_context(environment.begin())
    cursor = stack.enter_context(reading.cursor())

    def get_alone(key: bytes) -> bytes:
        with environment.begin() as transaction:
            value: bytes = transaction.get(key)
            return value

    def get_multi(keys: list[bytes]) -> list[bytes]:
        return [value for _, value in cursor.getmulti(keys)]

    check("lmdb", get_multi, settings.chunks[0], settings.value_bytes)
    return [
        Runner("lmdb transaction.get", lambda: time_of(each(reading.get), settings.chunks)),
        Runner("lmdb begin, get", lambda: time_of(each(get_alone), settings.chunks)),
        Runner("lmdb cursor.getmulti of 256", lambda: time_of(get_multi, settings.chunks)),
    ]


def rocksdict_runners(stack: ExitStack, folder: Path, settings: "Settings") -> list[Runner]:
    """rocksdict in raw mode (bytes in, bytes out), compacted, its cache larger than the data."""
    rocksdict = importlib.import_module("rocksdict")
    options = rocksdict.Options(raw_mode=True)
    table_options = rocksdict.BlockBasedOptions()
    table_options.set_bloom_filter(10, False)
    cache_bytes = 2 * settings.pairs * (settings.value_bytes + 16)
    table_options.set_block_cache(rocksdict.Cache(cache_bytes))
    options.set_block_based_table_factory(table_options)
    store = rocksdict.Rdict(str(folder / "rocksdict"), options=options)
    stack.callback(store.close)
    for key, value in pairs_of(settings.pairs, settings.value_bytes):
        store[key] = value
    store.flush()
    store.compact_range(None, None)
    check("rocksdict", store.get, settings.chunks[0], settings.value_bytes)
    return [
        Runner("rocksdict store[key]", lambda: time_of(each(store.__getitem__), settings.chunks)),
        Runner("rocksdict store.get of 256", lambda: time_of(store.get, settings.chunks)),
    ]


def c_runners(settings: "Settings") -> list[Runner]:
    """The driver's gets in C, from a store in memory, less what making up the keys costs."""
    arguments = ("--operations", str(sum(map(len, settings.chunks))), "--seconds", "60")

    def cost(workload: str, engine: str) -> float:
        loads = "" if engine == "null" else "load,"
        results = settings.driver.run(
            settings.memory,
            f"{loads}{workload}",
            "--engine",
            engine,
            "--batch",
            str(BATCH),
            *arguments,
        )
        return float(results[-1]["cpu_ns_per_operation"])

    return [
        Runner("C get", lambda: cost("get", "cubby") - cost("get", "null")),
        Runner("C get_many of 256", lambda: cost("getmany", "cubby") - cost("getmany", "null")),
    ]


@dataclass
class Settings:
    """What the command line says."""

    pairs: int
    value_bytes: int
    driver: Driver
    chunks: list[list[int]]  # numbers of pairs

    @property
    def memory(self) -> str:
        """A device that the pairs fit into."""
        return f"mem:{64 + 5 * self.pairs * (self.value_bytes + 16) // 1_000_000}M"


def claims(runners: dict[str, Runner]) -> list[dict[str, Any]]:
    """What Python adds to C, as the median over the rounds."""
    found = []
    for name, c_name, limit in (
        ("store[key]", "C get", GET_LIMIT_NS),
        ("store.get_many of 256", "C get_many of 256", GET_MANY_LIMIT_NS),
    ):
        rounds = zip(runners[name].costs, runners[c_name].costs, strict=True)
        added = statistics.median(python - c for python, c in rounds)
        found.append({"name": name, "added_ns": added, "at_most": limit, "ok": added <= limit})
    return found


def print_table(runners: dict[str, Runner], verdicts: list[dict[str, Any]]) -> None:
    """Print every cost, and what is claimed."""
    table = rich.table.Table(title="nanoseconds of CPU per value", box=rich.box.SIMPLE_HEAD)
    for column in ("", "median", "lowest", "highest", "more than C", "at most"):
        table.add_column(column, justify="left" if column == "" else "right")
    added = {verdict["name"]: verdict for verdict in verdicts}
    for runner in runners.values():
        row = [f"{runner.median:,.0f}", f"{min(runner.costs):,.0f}", f"{max(runner.costs):,.0f}"]
        verdict = added.get(runner.name)
        if verdict is not None:
            missed = "" if verdict["ok"] else " missed"
            row += [f"{verdict['added_ns']:,.0f}{missed}", f"{verdict['at_most']}"]
        table.add_row(rich.markup.escape(runner.name), *row)
    console.print(table)


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--pairs", default=200_000, help="Pairs in each store.")
@click.option("--value-bytes", default=384, help="Bytes of a value.")
@click.option("--gets", default=200_000, help="Values asked for in one run.")
@click.option("--rounds", default=7, help="Runs of each.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/dev/shm"))
@click.option("--driver", type=click.Path(path_type=Path), default=DRIVER_PATH)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(
    pairs: int,
    value_bytes: int,
    gets: int,
    rounds: int,
    folder: Path,
    driver: Path,
    results: Path,
) -> None:
    """Load all, let each run once per round, print the table, write the results."""
    machine = describe_machine()
    choose = random.Random(3)
    numbers = [choose.randrange(pairs) for _ in range(gets)]
    chunks = [numbers[begin : begin + BATCH] for begin in range(0, len(numbers), BATCH)]
    settings = Settings(pairs, value_bytes, Driver(driver, pairs, value_bytes), chunks)
    with ExitStack() as stack:
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder)))
        found = c_runners(settings) + cubby_runners(stack, settings)
        versions: dict[str, str | None] = {}
        for peer, runners_of in (("lmdb", lmdb_runners), ("rocksdict", rocksdict_runners)):
            try:
                versions[peer] = getattr(importlib.import_module(peer), "__version__", "?")
            except ImportError:
                console.print(f"{peer} is skipped: it is not installed (pip install {peer})")
                versions[peer] = None
                continue
            found += runners_of(stack, place, settings)
        for index in range(rounds):
            console.print(f"round {index + 1} of {rounds}")
            for runner in found:
                runner.costs.append(runner.run())
    runners = {runner.name: runner for runner in found}
    verdicts = claims(runners)
    print_table(runners, verdicts)
    content = {
        "machine": machine,
        "load_average_after": describe_machine()["load_average"],
        "pairs": pairs,
        "value_bytes": value_bytes,
        "gets": gets,
        "rounds": rounds,
        "versions": versions,
        "claims": verdicts,
        "costs_ns": {runner.name: runner.costs for runner in found},
        "commands": settings.driver.commands,
    }
    console.print(f"written: {write_results(results, 'python_overhead', content)}")


if __name__ == "__main__":
    main()
