"""Nibble by how much of its memory is alive: what gets and puts cost, and what compaction writes.

    make bench-utilisation

cubby-utilisation (bench/utilisation/driver.c) does the work: YCSB-like gets and updates of pairs of
8 + 1,024 B, uniform or by Zipf's law (0.99), on Nibble, which appends every value, and Nibble-2,
which overwrites values in place.  Utilisation is what pairs take of the log, over all that the log
can have: live_bytes / (memory_bytes - fixed_bytes - index_bytes) of struct cubby_nibble_stat.  The
reserve for compaction is part of what the log can have, so 100 % cannot be reached.

Rates are operations per second of processor time of the thread that makes them, its share of
compaction included; medians of the rounds, all tables in turn.  "Written" is bytes that go into the
log for a byte that is put: 1 + moved_bytes / put_bytes.

The thesis' figures 18 to 20 and 29 to 31.  Simulated are the bytes written in a log of 256 segments
with two heads, whose cleaner knows no reserve but three segments.  That of zipfian keys scattered
them by a hash, so that more than a third was never updated; where each key is, as here, the same
simulation writes 3.7 at 90 %, and 4.4 with the six segments that Nibble keeps free.
"""

from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._driver import built_driver, run_json
from cubbydb.bench._machine import describe_machine
from cubbydb.bench.nibble_plots import write_and_draw

__all__ = ["SIMULATED", "main", "written"]

LIVE_PERCENTS = (10, 30, 50, 70, 80, 90, 95)
# Bytes written for a byte that is put, by keys and percent alive.
SIMULATED = {
    "uniform": {70: 1.94, 80: 2.87, 90: 6.0, 95: 14.4},
    "zipfian": {80: 1.57, 90: 3.3, 95: 8.05},
}
FIXED_PAIRS = 230_000

Run = dict[str, Any]
Table = dict[str, Any]


def _tables(percents: tuple[int, ...]) -> list[str]:
    """The driver's options for Nibble and Nibble-2, so full."""
    kinds = ("live={},append-only", "live={}")
    return [f"--table={kind.format(percent)}" for percent in percents for kind in kinds]


def _runs(quick: bool) -> list[list[str]]:
    """What is run: the driver's options."""
    short = ["--memory", "16777216", "--warm", "1", "--rounds", "1", "--slice", "1"]
    extra = short if quick else []
    pairs = ["--pairs", str(20_000 if quick else FIXED_PAIRS)]
    everything = _tables(LIVE_PERCENTS)
    return [
        ["--keys", "uniform", *extra, *everything],
        ["--keys", "zipfian", *extra, *everything],
        ["--keys", "uniform", "--threads", "2", *extra, *_tables((30,))],
        ["--keys", "zipfian", "--threads", "2", *extra, *_tables((30,))],
        ["--keys", "uniform", *extra, *pairs, *_tables((30, 90))],
    ]


def written(table: Table) -> float:
    """Bytes that go into the log for a byte that is put."""
    return float(1 + table["moved_bytes"] / table["put_bytes"])


def _written(table: Table) -> float | None:
    """The same; None where none was put, or it is full."""
    return None if table["is_full"] or table["put_bytes"] == 0 else written(table)


def _of(run: Run, percent: int, append_only: bool) -> Table:
    """A table of a run."""
    return next(
        table
        for table in run["tables"]
        if table["live_percent"] == percent and table["append_only"] == append_only
    )


def _puts_kept(run: Run) -> float | None:
    """Nibble-2's rate of puts when 90 % are alive over that at 30 %; None where one is full."""
    few, many = (_of(run, percent, False) for percent in (30, 90))
    if few["is_full"] or many["is_full"]:
        return None
    costs = [
        next(m["thread_ns"] for m in t["mixes"] if m["gets_percent"] == 0) for t in (few, many)
    ]
    return float(costs[0] / costs[1])


def _claims(runs: list[Run]) -> dict[str, float | None]:
    """What is to be read from it; ratios to what was simulated are to be 1.15 or less."""
    claims = {
        "nibble2_puts_at_90_over_30_same_memory": _puts_kept(runs[0]),
        "nibble2_puts_at_90_over_30_same_pairs": _puts_kept(runs[4]),
    }
    for run in runs[:2]:
        at_90 = _written(_of(run, 90, True))
        simulated = SIMULATED[run["keys"]][90]
        claims[f"written_at_90_{run['keys']}"] = at_90
        claims[f"written_at_90_{run['keys']}_over_simulated"] = (
            None if at_90 is None else at_90 / simulated
        )
    return claims


def _show(run: Run, console: rich.console.Console) -> None:
    same = "pairs" if len({table["memory_bytes"] for table in run["tables"]}) > 1 else "memory"
    title = (
        f"{run['keys']}, {run['threads']} threads, tables of the same {same}: "
        "million operations per second of processor time"
    )
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("alive")
    table.add_column("engine")
    for gets in (100, 95, 50, 0):
        table.add_column(f"{gets} % gets", justify="right")
    table.add_column("written", justify="right")
    for each in run["tables"]:
        rates = [f"{1e3 / mix['thread_ns']:.2f}" for mix in each.get("mixes", [])] or ["full"]
        bytes_written = _written(each)
        rates += [""] * (4 - len(rates))
        table.add_row(
            f"{each['utilisation']:.1%}",
            "Nibble" if each["append_only"] else "Nibble-2",
            *rates,
            "" if bytes_written is None else f"{bytes_written:.2f}",
        )
    console.print(table)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="So small that the figures mean nothing.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(quick: bool, results: Path) -> None:
    """Replaced by the module's docstring."""
    program = built_driver("cubby-utilisation")
    machine = describe_machine()
    console = rich.console.Console(width=110)
    commands: list[str] = []
    runs: list[Run] = []
    for options in _runs(quick):
        runs.append(run_json([str(program), *options], commands))
        _show(runs[-1], console)
    claims = _claims(runs)
    for name, value in claims.items():
        print(f"{name}: {'full' if value is None else f'{value:.2f}'}")
    content = {"benchmark": "utilisation", "machine": machine, "commands": commands}
    write_and_draw(results, "utilisation", content | {"claims": claims, "runs": runs})


if __name__ == "__main__":
    main()
