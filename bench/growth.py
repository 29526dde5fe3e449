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
FIRST_PAIRS = 1000
OPERATIONS_PER_PAIR = 6


def _summary(run: dict[str, Any]) -> dict[str, float]:
    """Medians, and the medians of the ratios, of a run's rounds."""
    times: dict[str, list[tuple[float, float]]] = {"nibble": [], "bare": []}
    for result in run["runs"]:
        times[result["engine"]].append(
            (phase_ns(run, result, "churn", 0), phase_ns(run, result, "churn", 1))
        )
    rounds = list(zip(times["nibble"], times["bare"], strict=True))
    return {
        "nibble_ns": statistics.median(nibble[0] for nibble, _ in rounds),
        "nibble_with_cleaner_ns": statistics.median(nibble[1] for nibble, _ in rounds),
        "bare_ns": statistics.median(bare[0] for _, bare in rounds),
        "ratio": statistics.median(bare[0] / nibble[0] for nibble, bare in rounds),
        "ratio_with_cleaner": statistics.median(bare[0] / nibble[1] for nibble, bare in rounds),
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
            command = [str(program), "--engines", "nibble,bare", "--cleaners", "1"]
            command += ["--sizes", str(value_bytes), "--begin", str(begin), "--end", str(count)]
            command += ["--operations", str(count * OPERATIONS_PER_PAIR), "--rounds", str(rounds)]
            command += ["--updates", "20", "--turnover", "30", "--live", "80"]
            run = run_json(command, commands)
            summary = _summary(run)
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
