"""What a promise of durability costs: puts that wait for a flush, or only for the log.

    make bench-durability

cubby-durability (bench/durability/driver.c) does the work, in processes of its own, all in turn,
round after round; figures are medians of the rounds:

    power    1 and 16 threads whose every flush takes 100 us, on a device in memory
    room     puts that only the process has to outlive, while the buffer has room; RocksDB too
    random   the same for seconds, with write-back at work; beside it what two processes reach that
             do nothing but read and write back home blocks
    zipfian  likewise, by Zipf's law, with a buffer for 5 % of the pairs
    cut      the process is killed, its buffer as full as write-back lets it be, which is half;
             then its log is read, and its store opened

Where another job takes the processors, rates fall.  Beside each verdict stands what the processors'
time alone says, which is the same on a busy machine, more or less.
"""

import json
import os
import statistics
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._devices import file_place, why_no_zram, zram_device, zram_folder
from cubbydb.bench._driver import note_command
from cubbydb.bench._machine import describe_machine, write_results

__all__ = ["main"]

PROGRAM = Path("build/bench/cubby-durability")  # where `make bench-build` puts it
PROCESSORS = 2
PAIR_BYTES = 400
KEY_BYTES = 16
STORE_BYTES = 64 << 30  # its log is a 32nd, and the buffer at most an eighth of that
FOLDER_BYTES = 16 << 30  # for RocksDB
BUFFER_BYTES = 256 << 20
FLUSH_US = 100
POWER_PAIRS = 20_000
DIRTY_ENTRY_BYTES = 507  # of memory, for a pair of 400 B
SIGKILLED = -9

Figures = dict[str, Any]

console = rich.console.Console(width=120)


@dataclass(frozen=True)
class Shape:
    """How long everything takes."""

    pairs: int
    rounds: int
    seconds: float
    warm_seconds: float

    @property
    def room_puts(self) -> int:
        """So many that write-back, due at half of the buffer, does not begin."""
        return min(self.pairs, BUFFER_BYTES // DIRTY_ENTRY_BYTES * 2 // 5)

    @property
    def cut_puts(self) -> int:
        """So many that the buffer is full, if there are pairs enough."""
        return min(self.pairs, 2 * BUFFER_BYTES // DIRTY_ENTRY_BYTES)


@dataclass
class Driver:
    """The driver program, for pairs of one shape; remembers the commands it was run with."""

    program: Path
    pair_count: int
    commands: list[str] = field(default_factory=list)

    def start(self, job: str, path: str, *options: str) -> "subprocess.Popen[str]":
        """Begin a job."""
        command = [str(self.program), job, "--path", path]
        command += ["--key-bytes", str(KEY_BYTES), "--value-bytes", str(PAIR_BYTES - KEY_BYTES)]
        command += ["--pairs", str(self.pair_count), *options]
        note_command(command, self.commands)
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def finish(self, job: "subprocess.Popen[str]") -> Figures:
        """Wait for it; a failure of it ends ours, in its words."""
        output, errors = job.communicate()
        is_kill = "--kill" in job.args if isinstance(job.args, list) else False
        if job.returncode != (SIGKILLED if is_kill else 0):
            raise click.ClickException(f"{job.args!r}: {errors.strip()[-2000:]}")
        figures: Figures = json.loads(output)
        return figures

    def run(self, job: str, path: str, *options: str) -> Figures:
        """Do one."""
        return self.finish(self.start(job, path, *options))

    def has_rocks(self) -> bool:
        """Whether it was built with RocksDB."""
        command = [str(self.program), "open", "--path", "/nowhere/at/all", "--engine", "rocksdb"]
        return subprocess.run(command, capture_output=True, check=False).returncode == 1


def grown(result: Figures, name: str) -> int:
    """How much a counter of the store grew."""
    return int(result["after"][name]) - int(result["before"][name])


def measure_power(driver: Driver) -> Figures:
    """Puts that each wait for a flush: how much do threads share one?"""
    few = Driver(driver.program, POWER_PAIRS, driver.commands)
    options = ("--new", "--settle", "--durability", "power", "--flush-us", str(FLUSH_US))
    return {
        f"power_{threads}": few.run(
            "puts", "mem:16G", *options, "--threads", str(threads), "--seconds", "1"
        )
        for threads in (1, 16)
    }


def measure_room(driver: Driver, path: str, shape: Shape, *options: str) -> dict[int, Figures]:
    """Puts while the buffer has room, by one thread and by two."""
    options = ("--settle", "--buffer-bytes", str(BUFFER_BYTES), *options)
    results = {}
    for threads in (1, 2):
        count = ("--threads", str(threads), "--operations", str(shape.room_puts // threads))
        results[threads] = driver.run("puts", path, *options, *count)
    return results


def measure_rewrites(driver: Driver, path: str, shape: Shape) -> list[Figures]:
    """What as many processes as processors reach together that only read and write blocks back."""
    seconds = ("--seconds", f"{shape.seconds:g}")
    jobs = [
        driver.start("rewrite", path, *seconds, "--seed", str(seed))
        for seed in range(1, PROCESSORS + 1)
    ]
    return [driver.finish(job) for job in jobs]


def read_log(driver: Driver, path: str, cut: Figures) -> list[Figures]:
    """Read what a recovery has to: one stretch, or two where it goes round the end."""
    block = 4096
    begin = cut["log_offset"]
    end = begin + -(-cut["log_used"] // block) * block
    ring_end = cut["log_base"] + cut["log_ring"]
    stretches = [(begin, min(end, ring_end) - begin)]
    if end > ring_end:
        stretches.append((cut["log_base"], end - ring_end))
    return [
        driver.run("read", path, "--offset", str(offset), "--size", str(size))
        for offset, size in stretches
    ]


def measure_cut(driver: Driver, path: str, shape: Shape) -> Figures:
    """Kill it with its buffer full, read its log, open it."""
    buffer = ("--buffer-bytes", str(BUFFER_BYTES))
    operations = ("--operations", str(shape.cut_puts // PROCESSORS))
    cut = driver.run("puts", path, *buffer, "--settle", *operations, "--kill")
    reads = read_log(driver, path, cut)
    return {"cut": cut, "cut_read": reads, "cut_open": driver.run("open", path, *buffer)}


def measure_round(driver: Driver, path: str, rocks: str | None, shape: Shape) -> Figures:
    """Everything once."""
    last = ("--warm", f"{shape.warm_seconds:g}", "--seconds", f"{shape.seconds:g}")
    twentieth = str(driver.pair_count // 20 * DIRTY_ENTRY_BYTES)
    figures: Figures = {"load_average": os.getloadavg()} | measure_power(driver)
    figures["room"] = measure_room(driver, path, shape)
    if rocks is not None:
        figures["rocks_room"] = measure_room(driver, rocks, shape, "--engine", "rocksdb")
    figures["rewrite"] = measure_rewrites(driver, path, shape)
    figures["random"] = driver.run("puts", path, *last)
    if rocks is not None:
        figures["rocks_random"] = driver.run("puts", rocks, *last, "--engine", "rocksdb")
    figures["zipfian"] = driver.run(
        "puts", path, *last, "--zipfian", "0.99", "--buffer-bytes", twentieth
    )
    return figures | measure_cut(driver, path, shape)


def judge_power(figures: Figures) -> tuple[float, float | None]:
    """As many times the puts."""
    return figures["power_16"]["puts_per_second"] / figures["power_1"]["puts_per_second"], None


def judge_room(figures: Figures) -> tuple[float, float | None]:
    """Puts per second of two threads."""
    two = figures["room"][2]
    return two["puts_per_second"], PROCESSORS * 1e9 / two["process_cpu_ns"]


def judge_random(figures: Figures) -> tuple[float, float | None]:
    """Puts over what the rewrites of blocks alone allow for."""
    result = figures["random"]
    rewrites = figures["rewrite"]
    merged = grown(result, "written_back_pairs") / grown(result, "home_writes")
    blocks_per_second = sum(each["operations"] / each["seconds"] for each in rewrites)
    rewrite_cpu_ns = statistics.fmean(each["cpu_ns"] for each in rewrites)
    return (
        result["puts_per_second"] / (blocks_per_second * merged),
        rewrite_cpu_ns / merged / result["process_cpu_ns"],
    )


def judge_zipfian(figures: Figures) -> tuple[float, float | None]:
    """Home blocks written per put: a count."""
    return grown(figures["zipfian"], "home_writes") / figures["zipfian"]["puts"], None


def judge_cut(figures: Figures) -> tuple[float, float | None]:
    """Opening over reading the log and putting its pairs, as one thread puts."""
    one = figures["room"][1]
    opened = figures["cut_open"]
    records = opened["after"]["replayed_records"]
    read_seconds = sum(each["seconds"] for each in figures["cut_read"])
    read_cpu_seconds = (
        sum(each["cpu_ns"] * each["operations"] for each in figures["cut_read"]) / 1e9
    )
    return (
        opened["open_seconds"] / (read_seconds + records / one["puts_per_second"]),
        opened["open_cpu_seconds"] / (read_cpu_seconds + records * one["process_cpu_ns"] / 1e9),
    )


# Name, what it is, how it is computed, the limit, and whether that is the least allowed.
CLAIMS = (
    ("power", "16 threads / 1, flushes of 100 us", judge_power, 8, True),
    ("room", "puts/s of 2 threads, buffer with room", judge_room, 400_000, True),
    ("random", "puts/s lasting / rewrites x pairs per block", judge_random, 0.7, True),
    ("zipfian", "home blocks written per put, buffer 5 %", judge_zipfian, 0.5, False),
    ("cut", "opening / reading the log + putting it", judge_cut, 1.5, False),
)


def judge(rounds: list[Figures]) -> list[dict[str, Any]]:
    """The claims, with medians over the rounds."""
    verdicts = []
    for name, text, compute, limit, is_least in CLAIMS:
        values, by_cpu = zip(*(compute(each) for each in rounds), strict=True)
        value = statistics.median(values)
        known = [each for each in by_cpu if each is not None]
        verdicts.append(
            {
                "name": name,
                "text": text,
                "value": value,
                "rounds": values,
                "by_cpu_time": statistics.median(known) if known else None,
                "limit": limit,
                "limit_is": "at least" if is_least else "at most",
                "met": value >= limit if is_least else value <= limit,
            }
        )
    return verdicts


def summarize(rounds: list[Figures]) -> dict[str, float]:
    """Puts per second of everything that puts."""

    def median_of(*path: str | int) -> float:
        values: list[float] = []
        for figures in rounds:
            result: Any = figures
            for step in path:
                result = result[step]
            values.append(result["puts_per_second"])
        return statistics.median(values)

    rates = {
        "power, 1 thread": median_of("power_1"),
        "power, 16 threads": median_of("power_16"),
        "room, 1 thread": median_of("room", 1),
        "room, 2 threads": median_of("room", 2),
        "random, 2 threads": median_of("random"),
        "zipfian, 2 threads": median_of("zipfian"),
    }
    if "rocks_room" in rounds[0]:
        rates["RocksDB: room, 1 thread"] = median_of("rocks_room", 1)
        rates["RocksDB: room, 2 threads"] = median_of("rocks_room", 2)
        rates["RocksDB: random, 2 threads"] = median_of("rocks_random")
    return rates


def number(value: float | None) -> str:
    """With as many digits as it is worth."""
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def print_claims(verdicts: list[dict[str, Any]], path: str) -> None:
    """Print the table of verdicts."""
    table = rich.table.Table(title=f"durability, on {path}", box=rich.box.SIMPLE_HEAD)
    for column in ("claim", "", "measured", "by CPU time", "limit", "verdict"):
        table.add_column(column, justify="left" if column in {"claim", "", "verdict"} else "right")
    for each in verdicts:
        table.add_row(
            each["name"],
            each["text"],
            number(each["value"]),
            number(each["by_cpu_time"]),
            f"{each['limit_is']} {each['limit']:,}",
            "met" if each["met"] else "missed",
        )
    console.print(table)


def print_rates(rates: dict[str, float]) -> None:
    """Print the table of rates."""
    table = rich.table.Table(title="puts per second", box=rich.box.SIMPLE_HEAD)
    table.add_column("")
    table.add_column("puts/s", justify="right")
    for name, rate in rates.items():
        table.add_row(name, f"{rate:,.0f}")
    console.print(table)


@contextmanager
def places(with_rocks: bool) -> Iterator[tuple[str, str | None]]:
    """Where the store is, and RocksDB's folder if there is one."""
    with ExitStack() as stack:
        why_not = why_no_zram()
        if why_not is None:
            path = stack.enter_context(zram_device(STORE_BYTES))
            folder = stack.enter_context(zram_folder(FOLDER_BYTES)) if with_rocks else None
            yield path, None if folder is None else str(folder / "rocks")
            return
        console.print(f"on a file, not on zram: {why_not}")
        path = stack.enter_context(file_place(Path("build/durability.cubby")))
        with Path(path).open("wb") as file:
            file.truncate(STORE_BYTES)  # sparse
        yield path, None  # a disk's files, cached, are not the same terms


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--pairs", default=1_000_000, help="Of 400 B.")
@click.option("--rounds", default=5)
@click.option("--seconds", default=3.0, help="Of each lasting run.")
@click.option("--quick", is_flag=True, help="200,000 pairs, one round, a second each.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(pairs: int, rounds: int, seconds: float, quick: bool, results: Path) -> None:
    """Run all, print the tables, write the results."""
    if not PROGRAM.is_file():
        raise click.ClickException(f"{PROGRAM} is missing: run `make bench-build` first")
    shape = Shape(200_000, 1, 1.0, 1.0) if quick else Shape(pairs, rounds, seconds, seconds)
    driver = Driver(PROGRAM, shape.pairs)
    machine = describe_machine()
    with_rocks = driver.has_rocks()
    if not with_rocks:
        console.print("without RocksDB: it was not there at build time (librocksdb-dev)")
    measured = []
    with places(with_rocks) as (path, rocks):
        loads = {"cubby": driver.run("load", path)}
        if rocks is not None:
            loads["rocksdb"] = driver.run("load", rocks, "--engine", "rocksdb")
        for _ in range(shape.rounds):
            measured.append(measure_round(driver, path, rocks, shape))
    verdicts = judge(measured)
    rates = summarize(measured)
    print_claims(verdicts, path)
    print_rates(rates)
    content = {
        "machine": machine,
        "device": path,
        "rocksdb": rocks,
        "claims": verdicts,
        "puts_per_second": rates,
        "loads": loads,
        "rounds": measured,
        "commands": driver.commands,
    }
    console.print(f"written to {write_results(results, 'durability', content)}")


if __name__ == "__main__":
    main()
