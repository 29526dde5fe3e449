"""Files that come, grow and go, as Postmark has them, on tables in memory.

    make bench-churn

cubby-churn (bench/churn/driver.c) makes up a trace and replays it, each run in a process of its
own: 20,000 files are made, of sizes up to 512 B, 10 KiB and 100 KiB, a third each; of the
operations on them 60 % read one, 20 % append to one, so that it is replaced by a larger one, and
20 % make or delete one, so that there are always as many; in the end all are deleted.

Nibble has memory such that so much of its log is alive when most is; libcuckoo has its values in
blobs of glibc's malloc, std::unordered_map in jemalloc's.  Shown is what the process has grown by,
over the bytes of keys and values that are alive, and operations per second of processor time while
files come and go.  The thesis' figures 15 to 17, for one thread.
"""

import ctypes.util
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._driver import built_driver, run_json
from cubbydb.bench._machine import describe_machine
from cubbydb.bench.nibble_plots import write_and_draw

__all__ = ["main", "phase_ns"]

LIVE_PERCENTS = (35, 50, 65, 80, 90)
FILES = ["--sizes", "64-512,500-10240,10240-102400", "--append", "100-10240"]
FILES += ["--updates", "20", "--turnover", "20"]


def phase_ns(run: dict[str, Any], result: dict[str, Any], phase: str, clock: int) -> float:
    """Nanoseconds of an operation of a phase, by one engine; clock 0: the thread's, 1: all's."""
    indexes = [index for index, mark in enumerate(run["marks"]) if mark["phase"] == phase]
    first, last = indexes[0] - 1, indexes[-1]
    ns, operations = result["samples"][last][clock], run["marks"][last]["end"]
    if first >= 0:
        ns -= result["samples"][first][clock]
        operations -= run["marks"][first]["end"]
    return float(ns / operations)


def _engines(program: Path) -> list[tuple[str, list[str]]]:
    """What runs: a name, and its command."""
    found = [
        (f"Nibble, {percent} % alive", [str(program), "--live", str(percent)])
        for percent in LIVE_PERCENTS
    ]
    found.append(("libcuckoo, glibc", [str(program), "--engines", "libcuckoo"]))
    command = [str(program), "--engines", "unordered"]
    library = ctypes.util.find_library("jemalloc")
    if library is None:
        print("unordered_map has glibc's malloc (Debian package: libjemalloc2)")
        return [*found, ("unordered_map, glibc", command)]
    return [*found, ("unordered_map, jemalloc", ["env", f"LD_PRELOAD={library}", *command])]


@click.command(help=__doc__)
@click.option("--files", type=click.IntRange(1), default=20_000, show_default=True)
@click.option("--operations", type=click.IntRange(1), default=1_500_000, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(files: int, operations: int, results: Path) -> None:
    """Replaced by the module's docstring."""
    program = built_driver("cubby-churn")
    machine = describe_machine()
    trace = [*FILES, "--begin", str(files), "--operations", str(operations)]
    table = rich.table.Table(box=rich.box.SIMPLE, title=f"{files:,} files, {operations:,} times")
    headings = ("", "thousand operations/s", "resident/live", "at most", "moved/put")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    commands: list[str] = []
    runs: list[dict[str, Any]] = []
    for name, command in _engines(program):
        run = run_json([*command, *trace], commands) | {"name": name}
        runs.append(run)
        (result,) = run["runs"]
        overheads = [
            sample[2] / mark["live_bytes"]
            for mark, sample in zip(run["marks"], result["samples"], strict=True)
            if mark["phase"] == "churn"
        ]
        moved = (
            f"{result['moved_bytes'] / result['put_bytes']:.2f}" if "put_bytes" in result else ""
        )
        rate = f"{1e6 / phase_ns(run, result, 'churn', 0):.0f}"
        table.add_row(name, rate, f"{overheads[-1]:.2f}", f"{max(overheads):.2f}", moved)
    rich.console.Console(width=100).print(table)
    content = {"benchmark": "churn", "machine": machine, "commands": commands, "runs": runs}
    write_and_draw(results, "churn", content)


if __name__ == "__main__":
    main()
