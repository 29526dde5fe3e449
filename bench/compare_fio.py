"""How close gets come to what the device can do, as fio measures it; and Python to C.

    make bench-build && .venv/bin/python -m cubbydb.bench.compare_fio

It loads 2,000,000 pairs of 400 B on a zram device of its own (root) and into a file, and on each
measures, in turn, round after round:

    get        fio psync, fio io_uring at depth 1; the driver's bare pread; cubby get
    get_many   fio io_uring, fio libaio at depth 128, also batched; cubby get_many of 128
    Python     cubby get in C, store[key]; cubby get_many of 256 in C, in Python

A figure is the median of the rounds; a ratio is the median of the rounds' ratios, to the best of
those it is compared with.  fio reads the blocks that the gets read (bench/_fio.py).
"""

import signal
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.markup
import rich.table

import cubbydb
from cubbydb.bench._devices import file_place, why_no_zram, zram_device
from cubbydb.bench._driver import DRIVER_PATH, Driver
from cubbydb.bench._fio import Fio
from cubbydb.bench._machine import describe_machine, write_results
from cubbydb.bench._pairs import random_keys

__all__ = ["main"]

KEY_BYTES = 16
IOLOG_READS_PER_SECOND = 600_000  # more than the fastest device here reads
PYTHON_KEYS = 256 * 1024
PYTHON_CLOCK_KEYS = 256  # look at the clock after so many
FIO_BATCHED = (
    "--iodepth_batch_submit=32",
    "--iodepth_batch_complete_min=1",
    "--iodepth_batch_complete_max=128",
)
SETTLE_SECONDS = 5  # after loading: let the file system finish what it has put off

console = rich.console.Console(width=140)


@dataclass
class Runner:
    """One that takes part in a race: what it is called, and how fast it is in one round."""

    name: str
    run: Callable[[], float]
    rates: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        """Operations per second in the median round."""
        return statistics.median(self.rates)


@dataclass
class Race:
    """A subject, what it is compared with, and the ratio it should reach.

    Others run along for what they tell, and do not count.
    """

    name: str
    subject: Runner
    references: list[Runner]
    limit: float
    others: list[Runner] = field(default_factory=list)

    @property
    def runners(self) -> list[Runner]:
        """All, in the order in which they run."""
        return [*self.references, *self.others, self.subject]

    def run_round(self) -> None:
        """Let each run once."""
        for runner in self.runners:
            runner.rates.append(runner.run())

    def ratio(self) -> float | None:
        """The median of the rounds' ratios to the best reference; None without a reference."""
        if not self.references:
            return None
        best = max(self.references, key=lambda runner: runner.median)
        return self.ratio_to(best)

    def ratio_to(self, other: Runner) -> float:
        """The median of the rounds' ratios of the subject to another one."""
        pairs = zip(self.subject.rates, other.rates, strict=True)
        return statistics.median(own / others for own, others in pairs)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        ratio = self.ratio()
        return {
            "race": self.name,
            "subject": self.subject.name,
            "ratio": ratio,
            "limit": self.limit,
            "ok": None if ratio is None else ratio >= self.limit,
            "runners": [
                {
                    "name": runner.name,
                    "counts": runner in self.references,
                    "median_per_second": runner.median,
                    "per_second": runner.rates,
                    "subject_ratio": self.ratio_to(runner),
                }
                for runner in self.runners
            ],
        }


class PythonGets:
    """Gets from Python, on keys that are made beforehand."""

    def __init__(self, path: str, pair_count: int, value_bytes: int, seconds: int) -> None:
        self.path = path
        self.value_bytes = value_bytes
        self.seconds = seconds
        keys = random_keys(PYTHON_KEYS, pair_count, seed=2)
        step = PYTHON_CLOCK_KEYS
        self.chunks = [keys[begin : begin + step] for begin in range(0, len(keys), step)]
        self.next_chunk = 0

    def _run(self, work: Callable[[cubbydb.Store, list[bytes]], None]) -> float:
        with cubbydb.open(self.path, "r") as store:
            values = store.get_many(self.chunks[0])
            if {len(value or b"") for value in values} != {self.value_bytes}:
                raise click.ClickException(f"{self.path} does not hold the pairs that were loaded")
            count = 0
            begin = now = time.perf_counter()
            while now - begin < self.seconds:
                chunk = self.chunks[self.next_chunk % len(self.chunks)]
                work(store, chunk)
                self.next_chunk += 1
                count += len(chunk)
                now = time.perf_counter()
        return count / (now - begin)

    def get(self) -> float:
        """Values per second by store[key]."""

        def work(store: cubbydb.Store, keys: list[bytes]) -> None:
            for key in keys:
                store[key]

        return self._run(work)

    def get_many(self) -> float:
        """Values per second by get_many of 256."""

        def work(store: cubbydb.Store, keys: list[bytes]) -> None:
            store.get_many(keys)

        return self._run(work)


def races_on(path: str, driver: Driver, fio: Fio | None, seconds: int) -> list[Race]:
    """What is measured on one store."""

    def cubby(workload: str, *arguments: str) -> Callable[[], float]:
        arguments = (*arguments, "--seconds", f"{seconds}")
        return lambda: float(driver.run(path, workload, *arguments)[0]["ops_per_second"])

    def by_fio(engine: str, depth: int, *options: str) -> list[Runner]:
        if fio is None:
            return []
        name = f"fio {engine}, depth {depth}{', batched' if options else ''}"
        return [Runner(name, lambda: fio.reads_per_second(engine, depth, *options))]

    python = PythonGets(path, driver.pair_count, driver.value_bytes, seconds)
    return [
        Race(
            "get",
            Runner("cubby get", cubby("get")),
            by_fio("psync", 1) + by_fio("io_uring", 1),
            0.80,
            [Runner("pread of the same blocks", cubby("get", "--engine", "pread"))],
        ),
        Race(
            "get_many of 128",
            Runner("cubby get_many of 128", cubby("getmany", "--batch", "128")),
            by_fio("io_uring", 128) + by_fio("libaio", 128),
            0.80,
            by_fio("io_uring", 128, *FIO_BATCHED) + by_fio("libaio", 128, *FIO_BATCHED),
        ),
        Race(
            "Python store[key]",
            Runner("Python store[key]", python.get),
            [Runner("cubby get (C)", cubby("get"))],
            0.70,
        ),
        Race(
            "Python get_many of 256",
            Runner("Python get_many of 256", python.get_many),
            [Runner("cubby get_many of 256 (C)", cubby("getmany", "--batch", "256"))],
            0.85,
        ),
    ]


def print_races(title: str, races: list[Race]) -> None:
    """Print one table per store."""
    table = rich.table.Table(title=title, box=rich.box.SIMPLE_HEAD)
    for column in ("race", "runner"):
        table.add_column(column, no_wrap=True)
    for column in ("median per s", "lowest", "highest", "subject / it", "at least", ""):
        table.add_column(column, justify="right", no_wrap=True)
    for race in races:
        ratio = race.ratio()
        for runner in race.runners:
            name = runner.name if runner not in race.others else f"({runner.name})"
            is_subject = runner is race.subject
            verdict = "" if ratio is None else "ok" if ratio >= race.limit else "missed"
            table.add_row(
                rich.markup.escape(race.name) if runner is race.runners[0] else "",
                rich.markup.escape(name),
                f"{runner.median:,.0f}",
                f"{min(runner.rates):,.0f}",
                f"{max(runner.rates):,.0f}",
                f"best: {ratio:.2f}"
                if is_subject and ratio is not None
                else f"{race.ratio_to(runner):.2f}",
                f"{race.limit:.2f}" if is_subject else "",
                verdict if is_subject else "",
            )
        table.add_section()
    console.print(table)


@dataclass
class Settings:
    """What the command line says."""

    pairs: int
    value_bytes: int
    seconds: int
    rounds: int
    driver: Path


def measure(settings: Settings, kind: str, place: AbstractContextManager[str]) -> dict[str, Any]:
    """Load one store, run the rounds, print the table; returns it for the results file."""
    driver = Driver(settings.driver, settings.pairs, settings.value_bytes, KEY_BYTES)
    iolog = Path(f"build/compare_fio-{kind}.iolog")
    iolog.parent.mkdir(exist_ok=True)
    with place as path:
        console.print(f"{kind}: loading {settings.pairs:,} pairs into {path}")
        load = driver.run(path, "load")[0]
        reads = str(IOLOG_READS_PER_SECOND * settings.seconds)
        try:
            driver.call(path, "--iolog", str(iolog), "--iolog-reads", reads)
            time.sleep(SETTLE_SECONDS)
            fio = Fio(path, str(iolog), settings.seconds) if Fio.is_here() else None
            races = races_on(path, driver, fio, settings.seconds)
            for index in range(settings.rounds):
                console.print(f"{kind}: round {index + 1} of {settings.rounds}")
                for race in races:
                    race.run_round()
        finally:
            iolog.unlink(missing_ok=True)
    title = f"{kind}: {settings.pairs:,} pairs of {KEY_BYTES + settings.value_bytes} B"
    print_races(title, races)
    return {
        "kind": kind,
        "races": [race.as_json() for race in races],
        "load": load,
        "commands": driver.commands + (fio.commands if fio else []),
    }


def choose_places(
    kinds: str, file: Path, pair_bytes: int
) -> dict[str, AbstractContextManager[str]]:
    """The devices that are wanted and possible; says which are not."""
    places: dict[str, AbstractContextManager[str]] = {}
    if not Fio.is_here():
        console.print("fio is skipped: it is not installed (Debian package: fio)")
    if "zram" in kinds.split(","):
        reason = why_no_zram()
        if reason is None:
            places["zram"] = zram_device(max(1 << 30, 10 * pair_bytes))
        else:
            console.print(f"zram is skipped: {reason}")
    if "file" in kinds.split(","):
        places["file"] = file_place(file)
    return places


@click.command()
@click.option("--pairs", default=2_000_000, show_default=True, help="Pairs in the store.")
@click.option("--value-bytes", default=384, show_default=True, help="Bytes of a value.")
@click.option("--seconds", type=click.IntRange(1), default=3, show_default=True, help="Of one run.")
@click.option("--rounds", default=5, show_default=True, help="Runs of each.")
@click.option("--on", "kinds", default="zram,file", show_default=True, help="zram, file, or both.")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    default=Path("build/compare_fio.cubby"),
    show_default=True,
    help="A file that does not exist yet, on the disk to be measured.",
)
@click.option("--driver", type=click.Path(path_type=Path), default=DRIVER_PATH, show_default=True)
@click.option(
    "--results", type=click.Path(path_type=Path), default=Path("bench/results"), show_default=True
)
def main(
    pairs: int,
    value_bytes: int,
    seconds: int,
    rounds: int,
    kinds: str,
    file: Path,
    driver: Path,
    results: Path,
) -> None:
    """Compare gets with what fio says the device can do, and Python with C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the devices are removed
    settings = Settings(pairs, value_bytes, seconds, rounds, driver)
    machine = describe_machine()
    places = choose_places(kinds, file, pairs * (KEY_BYTES + value_bytes))
    stores = [measure(settings, kind, place) for kind, place in places.items()]
    if stores:
        content = {
            "machine": machine,
            "load_average_after": describe_machine()["load_average"],
            "pairs": pairs,
            "key_bytes": KEY_BYTES,
            "value_bytes": value_bytes,
            "seconds": seconds,
            "rounds": rounds,
            "stores": stores,
        }
        console.print(f"written: {write_results(results, 'compare_fio', content)}")


if __name__ == "__main__":
    main()
