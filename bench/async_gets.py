"""What gets cost that coroutines await, beside a C get_many on the same store.

    make bench-build && .venv/bin/python -m cubbydb.bench.async_gets

cubby-gets (bench/gets/driver.c) loads a store in a file, which should be on a disk.  Then, round
after round and in turn: its get_many of 128 in C; get_many of 256 in Python; 1,000 coroutines, each
awaiting one store.aget after the other.  Rates are medians of the rounds, ratios the medians of the
rounds' ratios.  At each poll of the device's queue it is noted how many reads the poll found still
under way, and how many were in flight when it had filled the queue up again: the truth is between,
and the claim is about the first.

An emulated drive in a file and a store in memory run along with --also.
"""

import asyncio
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

import cubbydb
from cubbydb.bench._devices import file_place
from cubbydb.bench._driver import DRIVER_PATH, Driver
from cubbydb.bench._machine import describe_machine, write_results
from cubbydb.bench._pairs import key_of, random_keys
from cubbydb.engine.aio import LoopCalls

__all__ = ["main"]

KEY_BYTES = 16
C_BATCH = 128
PYTHON_BATCH = 256
KEYS_DRAWN = 200_000
WARM_SECONDS = 0.2
RATIO_LEAST = 0.60  # of C
HISTOGRAM_STEP = 32  # reads in flight, in one line of what is printed
DEEP = 64  # reads in flight, at least ...
DEEP_SHARE_LEAST = 0.90  # ... at so many of the polls

console = rich.console.Console(width=110)


class WatchedCalls(LoopCalls):
    """Calls of a loop that note at each poll how many reads are in flight."""

    __slots__ = ("filled", "found", "in_flight")

    def __init__(self, *arguments: Any) -> None:
        self.found: Counter[int] = Counter()  # reads that a poll found not done yet
        self.filled: Counter[int] = Counter()  # reads in flight after it
        self.in_flight = 0
        super().__init__(*arguments)

    def take(self) -> None:
        super().take()
        native = self.completions
        self.found[max(self.in_flight - native.count, 0)] += 1
        self.in_flight = native.in_flight
        self.filled[self.in_flight] += 1


class WatchedStore(cubbydb.Store):
    """A store whose loops are watched."""

    def _new_calls(self, loop: asyncio.AbstractEventLoop) -> LoopCalls:
        return self._new_session(partial(WatchedCalls, loop))


def run_get_many(store: cubbydb.Store, keys: list[bytes], seconds: float) -> dict[str, Any]:
    """Batch after batch; gets per second and CPU time per get."""
    count = 0
    cpu = time.process_time()
    begin = time.perf_counter()
    while (passed := time.perf_counter() - begin) < seconds:
        place = count % (len(keys) - PYTHON_BATCH)
        values = store.get_many(keys[place : place + PYTHON_BATCH])
        count += len(values)
    cpu = time.process_time() - cpu
    return {"gets_per_second": count / passed, "cpu_us_per_get": cpu / count * 1e6}


async def run_coroutines(
    store: cubbydb.Store, keys: list[bytes], coroutines: int, seconds: float
) -> dict[str, Any]:
    """Coroutines that each await one get after the other."""
    count = 0
    absent = 0
    goes_on = True

    async def worker(place: int) -> None:
        nonlocal count, absent
        while goes_on:
            value = await store.aget(keys[place % len(keys)])
            place += 1
            count += 1
            if value is None:
                absent += 1

    step = len(keys) // coroutines
    workers = [asyncio.create_task(worker(number * step)) for number in range(coroutines)]
    await asyncio.sleep(WARM_SECONDS)
    calls = store._loops.latest()
    if not isinstance(calls, WatchedCalls):
        raise click.ClickException("the loop is not watched")
    calls.found.clear()
    calls.filled.clear()
    count = 0
    cpu = time.process_time()
    begin = time.perf_counter()
    await asyncio.sleep(seconds)
    passed = time.perf_counter() - begin
    cpu = time.process_time() - cpu
    result = {
        "gets_per_second": count / passed,
        "cpu_us_per_get": cpu / count * 1e6,
        "polls": sum(calls.filled.values()),
        "found_in_flight": sorted(calls.found.items()),
        "filled_in_flight": sorted(calls.filled.items()),
    }
    goes_on = False
    await asyncio.gather(*workers)
    if absent:
        raise click.ClickException(f"{absent} of the pairs were not found")
    return result


def share_of_deep(histograms: list[list[tuple[int, int]]]) -> float:
    """How many of the polls saw DEEP reads in flight, or more."""
    polls = sum(count for each in histograms for _, count in each)
    deep = sum(count for each in histograms for depth, count in each if depth >= DEEP)
    return deep / polls


@contextmanager
def loaded_in_memory(driver: Driver) -> Iterator[WatchedStore]:
    """The same store in this process' memory."""
    value = bytes(range(1, 193)) + bytes(driver.value_bytes - 192)
    with WatchedStore("mem:16G", cubbydb.StoreOptions(flag="n", size="4G")) as store:
        store.put_many((key_of(n, KEY_BYTES), value) for n in range(driver.pair_count))
        yield store


def measure_place(
    driver: Driver, path: str, coroutines: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """All rounds on one device."""
    in_memory = path.startswith("mem:")
    keys = random_keys(KEYS_DRAWN, driver.pair_count, seed=1)
    c_arguments = ("--batch", str(C_BATCH), "--seconds", f"{seconds:g}")
    results: list[dict[str, Any]] = []
    with ExitStack() as stack:
        if in_memory:
            kept = stack.enter_context(loaded_in_memory(driver))
        else:
            driver.run(path, "load")
        for _ in range(rounds):
            in_c = driver.run(path, "load,getmany" if in_memory else "getmany", *c_arguments)[-1]
            with ExitStack() as opened:
                store = kept if in_memory else opened.enter_context(WatchedStore(path))
                in_python = run_get_many(store, keys, seconds)
                awaited = asyncio.run(run_coroutines(store, keys, coroutines, seconds))
            results.append(
                {
                    "c_get_many": {
                        "gets_per_second": in_c["ops_per_second"],
                        "cpu_us_per_get": in_c["cpu_ns_per_operation"] / 1000,
                    },
                    "python_get_many": in_python,
                    "aget": awaited,
                }
            )
    return {"path": path, "rounds": results} | judge(results)


def judge(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians and ratios over the rounds."""

    def median(name: str, figure: str) -> float:
        return float(statistics.median(each[name][figure] for each in rounds))

    def ratio(name: str) -> float:
        rates = ((each[name], each["c_get_many"]) for each in rounds)
        return float(
            statistics.median(own["gets_per_second"] / c["gets_per_second"] for own, c in rates)
        )

    names = ("c_get_many", "python_get_many", "aget")
    return {
        "medians": {
            name: {figure: median(name, figure) for figure in ("gets_per_second", "cpu_us_per_get")}
            | {"of_c": ratio(name)}
            for name in names
        },
        "deep_share": {
            kind: share_of_deep([each["aget"][f"{kind}_in_flight"] for each in rounds])
            for kind in ("found", "filled")
        },
    }


def print_places(places: list[dict[str, Any]]) -> None:
    """Print the table."""
    table = rich.table.Table(title="gets, many at a time", box=rich.box.SIMPLE_HEAD)
    columns = ("gets/s", "of C", "CPU us/get", f"polls that found {DEEP}+", f"left {DEEP}+")
    table.add_column("on")
    table.add_column("by")
    for column in columns:
        table.add_column(column, justify="right")
    for place in places:
        for name, figures in place["medians"].items():
            shares = [f"{place['deep_share'][kind]:.3f}" for kind in ("found", "filled")]
            table.add_row(
                place["path"],
                name,
                f"{figures['gets_per_second']:,.0f}",
                f"{figures['of_c']:.2f}",
                f"{figures['cpu_us_per_get']:.1f}",
                *(shares if name == "aget" else ("", "")),
            )
    console.print(table)


def print_histogram(rounds: list[dict[str, Any]]) -> None:
    """Print how many reads the polls of all rounds found in flight."""
    counts: Counter[int] = Counter()
    for each in rounds:
        for depth, count in each["aget"]["found_in_flight"]:
            counts[depth // HISTOGRAM_STEP] += count
    polls = counts.total()
    console.print("reads in flight that a poll found, and how many of the polls did:")
    for step in range(max(counts) + 1):
        share = counts[step] / polls
        low = step * HISTOGRAM_STEP
        bar = "#" * round(share * 60)
        console.print(f"{low:5} to {low + HISTOGRAM_STEP - 1:3} {share:7.1%} {bar}")


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--path", type=click.Path(path_type=Path), default=Path("build/async_gets.cubby"))
@click.option("--also", is_flag=True, help="Run an emulated drive and memory, too.")
@click.option("--pairs", default=500_000)
@click.option("--value-bytes", default=384, help="At least 192.")
@click.option("--coroutines", default=1000)
@click.option("--seconds", default=5.0, help="Of each kind, in each round.")
@click.option("--rounds", default=5)
@click.option("--driver", type=click.Path(path_type=Path), default=DRIVER_PATH)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(
    path: Path,
    also: bool,
    pairs: int,
    value_bytes: int,
    coroutines: int,
    seconds: float,
    rounds: int,
    driver: Path,
    results: Path,
) -> None:
    """Run all, print the table, write the results."""
    machine = describe_machine()
    shape = Driver(driver, pairs, value_bytes, KEY_BYTES)
    with ExitStack() as stack:
        names = [stack.enter_context(file_place(path))]
        if also:
            csd = path.with_name(f"{path.name}.csd")
            names += [f"csd:{stack.enter_context(file_place(csd))}", "mem:16G"]
        places = [measure_place(shape, name, coroutines, seconds, rounds) for name in names]
    print_places(places)
    first = places[0]
    ratio = first["medians"]["aget"]["of_c"]
    print_histogram(first["rounds"])
    deep = first["deep_share"]["found"]
    claims = [
        {"name": "aget / C get_many", "value": ratio, "at_least": RATIO_LEAST},
        {
            "name": f"polls that found {DEEP}+ in flight",
            "value": deep,
            "at_least": DEEP_SHARE_LEAST,
        },
    ]
    for claim in claims:
        claim["ok"] = claim["value"] >= claim["at_least"]
        console.print(f"{claim['name']}: {claim['value']:.3f}, at least {claim['at_least']:g}")
    content = {
        "machine": machine,
        "pairs": pairs,
        "coroutines": coroutines,
        "seconds": seconds,
        "commands": shape.commands,
        "claims": claims,
        "places": places,
    }
    console.print(f"written: {write_results(results, 'async_gets', content)}")


if __name__ == "__main__":
    main()
