"""Nibble beside tables in memory: a get, a put, and many at once, by processor time.

    make bench-memory

cubby-memory (bench/memory/driver.c) does the work: all engines in one process, in turn, so that
they share the state of the machine; figures are medians of the rounds.  "bare" is what memory alone
costs: the same accesses, and nothing else.
"""

from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._driver import built_driver, run_json
from cubbydb.bench._machine import describe_machine, write_results

__all__ = ["main"]

WORKLOADS = ("get", "put", "getmany", "putmany")
# What is run: the driver's options.
RUNS = [
    ["--pairs", "2000000", "--value-bytes", "64"],
    ["--pairs", "2000000", "--value-bytes", "64", "--threads", "2"],
    ["--pairs", "2000000", "--value-bytes", "64", "--keys", "zipfian"],
    ["--pairs", "500000", "--value-bytes", "1024"],
]


def _table(run: dict[str, Any]) -> rich.table.Table:
    """One run: nanoseconds, and how many times Nibble's each is."""
    title = (
        f"{run['pairs']:,} pairs of 8 + {run['value_bytes']:,} B, {run['keys']}, "
        f"{run['threads']} threads: ns of processor time (times Nibble's)"
    )
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("engine")
    for workload in WORKLOADS:
        table.add_column(workload, justify="right")
    table.add_column("resident B a pair", justify="right")
    ours = run["engines"]["nibble"]
    for name, engine in run["engines"].items():
        cells = []
        for workload in WORKLOADS:
            # What has no call for many is compared by its single ones.
            figures = engine.get(workload) or engine.get(workload.removesuffix("many"))
            ratio = figures["median_ns"] / ours[workload]["median_ns"]
            cells.append(f"{figures['median_ns']:.0f} ({ratio:.2f})")
        table.add_row(name, *cells, f"{engine['rss_bytes'] / run['pairs']:.0f}")
    return table


@click.command(help=__doc__)
@click.option("--rounds", type=click.IntRange(1, 1000), default=25, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(rounds: int, results: Path) -> None:
    """Replaced by the module's docstring."""
    program = built_driver("cubby-memory")
    machine = describe_machine()
    console = rich.console.Console(width=120)
    runs = []
    commands: list[str] = []
    for options in RUNS:
        command = [str(program), *options, "--rounds", str(rounds), "--json"]
        runs.append(run_json(command, commands))
        console.print(_table(runs[-1]))
    content = {"benchmark": "memory", "machine": machine, "commands": commands, "runs": runs}
    print(f"written to {write_results(results, 'memory', content)}")


if __name__ == "__main__":
    main()
