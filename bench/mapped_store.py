"""What a store's gets gain, or lose, on a mapped region: io="mmap" beside direct I/O.

    make bench-mmap-store

cubby-gets (bench/gets/driver.c) loads a store on a zram device of its own, and then, round by
round, gets random pairs of it: by direct I/O; on a region that has room for all blocks; on one with
room for a tenth of them, most of which are not there.  Nothing else is in memory: Nibble is off.
Each ratio is the median of the rounds' ratios.
"""

import statistics
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._devices import zram_device
from cubbydb.bench._driver import DRIVER_PATH, Driver
from cubbydb.bench._machine import describe_machine, write_results

__all__ = ["main"]

BLOCK_BYTES = 4096

# Of direct I/O's operations per second, at least.
TARGETS = {"all": 2.0, "tenth": 0.65}

console = rich.console.Console(width=110)


def kinds_of(block_count: int) -> dict[str, list[str]]:
    """The driver's options for each kind, of a store with so many blocks."""
    return {
        "direct": [],
        "all": ["--region-bytes", str((block_count + block_count // 8) * BLOCK_BYTES)],
        "tenth": ["--region-bytes", str(block_count // 10 * BLOCK_BYTES)],
    }


def figures_of(rounds: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The medians of each kind, and its ratio to direct I/O."""
    figures = []
    for kind in rounds[0]:
        results = [each[kind] for each in rounds]
        ratios = [
            each[kind]["ops_per_second"] / each["direct"]["ops_per_second"] for each in rounds
        ]
        figures.append(
            {
                "kind": kind,
                "ops_per_second": statistics.median(one["ops_per_second"] for one in results),
                "cpu_ns": statistics.median(one["cpu_ns_per_operation"] for one in results),
                "ratio": statistics.median(ratios),
                "at_least": TARGETS.get(kind),
            }
        )
    return figures


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--pairs", default=400_000)
@click.option("--value-bytes", default=384)
@click.option("--threads", default=1)
@click.option("--seconds", default=5.0, help="Of each kind, in each round, after it is warm.")
@click.option("--rounds", default=3)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(
    pairs: int, value_bytes: int, threads: int, seconds: float, rounds: int, results: Path
) -> None:
    """Run all, print the table, write the results."""
    driver = Driver(DRIVER_PATH, pairs, value_bytes)
    # Blocks are filled to a half or more.
    block_count = pairs * (value_bytes + 16) * 2 // BLOCK_BYTES
    measured = []
    with zram_device(4 * block_count * BLOCK_BYTES) as path:
        driver.run(path, "load")
        for _ in range(rounds):
            found = {}
            for kind, options in kinds_of(block_count).items():
                # The first of the two brings in what the region has room for.
                options = [*options, "--seconds", str(seconds), "--threads", str(threads)]
                found[kind] = driver.run(path, "get,get", *options)[1]
            measured.append(found)
    figures = figures_of(measured)
    table = rich.table.Table(
        title=f"{pairs:,} pairs of {value_bytes + 16} bytes on zram, {threads} thread(s)",
        box=rich.box.SIMPLE_HEAD,
    )
    for column in ("blocks in memory", "gets/s", "CPU ns", "of direct I/O", "at least"):
        table.add_column(column, justify="left" if column == "blocks in memory" else "right")
    for each in figures:
        least = "" if each["at_least"] is None else f"{each['at_least']:g}"
        name = "none: direct I/O" if each["kind"] == "direct" else each["kind"]
        table.add_row(
            name,
            f"{each['ops_per_second']:,.0f}",
            f"{each['cpu_ns']:,.0f}",
            f"{each['ratio']:.2f}",
            least,
        )
    console.print(table)
    path_written = write_results(
        results,
        "mapped_store",
        {
            "machine": describe_machine(),
            "commands": driver.commands,
            "pairs": pairs,
            "threads": threads,
            "rounds": measured,
            "figures": figures,
        },
    )
    console.print(f"written to {path_written}")


if __name__ == "__main__":
    main()
