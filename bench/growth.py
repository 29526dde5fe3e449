"""Nibble with everything on, beside a loop that makes the same accesses to memory and nothing else.

    make bench-growth

cubby-churn (bench/churn/driver.c) replays one trace on Nibble and on the engine "bare", in turn in
one process: half of the operations are gets, 20 % updates, 30 % inserts and deletes, with a cleaner
running, in memory of which 80 % is alive in the end.  "growing" begins with 1,000 pairs and ends
with all of them, so that the index splits all along; "steady" has all of them all the time.

Nanoseconds are of processor time for an operation, medians of the rounds, of the thread; "with the
cleaner" has its time, too.  The ratio is Nibble's rate over the bare one's, the median of the
rounds' ratios: 0.75 or more is asked for.
"""

import statistics
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._driver import built_driver, run_json
from cubbydb.bench._machine import describe_machine, write_results
from cubbydb.bench.churn import phase_ns

__all__ = ["main"]

# Bytes of values, and how many pairs there are of them.
PAIRS = ((64, 1_000_000), (1024, 200_000))
ENGINES = ("nibble", "bare")
FIRST_PAIRS = 1000
OPERATIONS_PER_PAIR = 6


def _sum_up(run: dict[str, Any]) -> dict[str, float]:
    """Put what the rounds' churn took in place of their samples; medians of that, and of ratios."""
    for result in run["runs"]:
        result["thread_ns"], result["process_ns"] = (
            phase_ns(run, result, "churn", clock) for clock in (0, 1)
        )
        del result["samples"]
    del run["marks"]
    nibble, bare = ([r for r in run["runs"] if r["engine"] == name] for name in ENGINES)
    rounds = list(zip(nibble, bare, strict=True))
    return {
        "nibble_ns": statistics.median(ours["thread_ns"] for ours in nibble),
        "nibble_with_cleaner_ns": statistics.median(ours["process_ns"] for ours in nibble),
        "bare_ns": statistics.median(theirs["thread_ns"] for theirs in bare),
        "ratio": statistics.median(b["thread_ns"] / n["thread_ns"] for n, b in rounds),
        "ratio_with_cleaner": statistics.median(
            b["thread_ns"] / n["process_ns"] for n, b in rounds
        ),
    }


@click.command(help=__doc__)
@click.option("--scale", type=click.FloatRange(0.01, 10), default=1.0, help="Of the pairs.")
@click.option("--rounds", type=click.IntRange(1, 100), default=7, show_default=True)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(scale: float, rounds: int, results: Path) -> None:
    """Replaced by the module's docstring."""
    program = built_driver("cubby-churn")
    machine = describe_machine()
    table = rich.table.Table(box=rich.box.SIMPLE, title="ns of an operation")
    for heading in ("pairs", "", "Nibble", "with the cleaner", "bare", "ratio", "with the cleaner"):
        table.add_column(heading, justify="right" if heading else "left")
    commands: list[str] = []
    runs: list[dict[str, Any]] = []
    for value_bytes, pairs in PAIRS:
        count = int(pairs * scale)
        for name, begin in (("growing", FIRST_PAIRS), ("steady", count)):
            command = [str(program), "--engines", ",".join(ENGINES), "--cleaners", "1"]
            command += ["--sizes", str(value_bytes), "--begin", str(begin), "--end", str(count)]
            command += ["--operations", str(count * OPERATIONS_PER_PAIR), "--rounds", str(rounds)]
            command += ["--updates", "20", "--turnover", "30", "--live", "80"]
            run = run_json(command, commands)
            summary = _sum_up(run)
            runs.append({"name": name, "value_bytes": value_bytes, "summary": summary} | run)
            table.add_row(
                f"{count:,} of {value_bytes:,} B",
                name,
                *(f"{summary[key]:.0f}" for key in list(summary)[:3]),
                *(f"{summary[key]:.2f}" for key in list(summary)[3:]),
            )
    rich.console.Console(width=100).print(table)
    content = {"benchmark": "growth", "machine": machine, "commands": commands, "runs": runs}
    print(f"written to {write_results(results, 'growth', content)}")


if __name__ == "__main__":
    main()
