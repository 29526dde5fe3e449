"""What the emulated drive costs beside the same done by hand, with pread, pwrite and zstd.

    make bench-build && .venv/bin/python -m cubbydb.bench.compare_csd

cubby-csd (bench/csd/csd_compare.c) reads and writes random half-random blocks of a drive whose
backing file is on tmpfs, and in turn the same zstd frames in a plain file there.  Figures are CPU
time per operation and thread; each ratio is the median of the rounds' ratios.
"""

import json
import shlex
import statistics
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._devices import file_place
from cubbydb.bench._driver import run_command
from cubbydb.bench._machine import describe_machine, write_results

__all__ = ["main"]

PROGRAM = Path("build/bench/cubby-csd")  # where `make bench-build` puts it

# What is claimed: name, the figure above the line, below it, factor, and the least ratio.
CLAIMS = (
    ("read: by hand / drive", "read_plain_1", "read_drive_1", 1, 0.70),
    ("write: by hand / drive", "write_plain_1", "write_drive_1", 1, 0.60),
    ("two threads read: speed of two / of one", "read_drive_1", "read_drive_2", 2, 1.8),
    ("two threads write: speed of two / of one", "write_drive_1", "write_drive_2", 2, 1.8),
    ("the same by hand, read", "read_plain_1", "read_plain_2", 2, None),
    ("the same by hand, write", "write_plain_1", "write_plain_2", 2, None),
)

console = rich.console.Console(width=110)


def judge(rounds: list[dict[str, float]]) -> list[dict[str, Any]]:
    """The claims, with medians over the rounds."""
    verdicts = []
    for name, above, below, factor, least in CLAIMS:
        ratio = statistics.median(factor * each[above] / each[below] for each in rounds)
        verdicts.append(
            {
                "name": name,
                "above_ns": statistics.median(each[above] for each in rounds),
                "below_ns": statistics.median(each[below] for each in rounds),
                "ratio": ratio,
                "at_least": least,
                "ok": None if least is None else ratio >= least,
            }
        )
    return verdicts


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--folder", type=click.Path(path_type=Path), default=Path("/dev/shm"))
@click.option("--blocks", default=131_072, help="Blocks of the drive that are used.")
@click.option("--operations", default=50_000, help="Of each thread, in each round.")
@click.option("--rounds", default=15)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(folder: Path, blocks: int, operations: int, rounds: int, results: Path) -> None:
    """Run all, print the table, write the results."""
    if not PROGRAM.is_file():
        raise click.ClickException(f"{PROGRAM} is missing: run `make bench-build` first")
    with (
        file_place(folder / "cubby-csd.drive") as drive,
        file_place(folder / "cubby-csd.raw") as raw,
    ):
        command = [str(PROGRAM), drive, raw, str(blocks), str(operations), str(rounds)]
        measured = json.loads(run_command(command))
    verdicts = judge(measured["rounds"])
    table = rich.table.Table(title=f"emulated drive on {folder}", box=rich.box.SIMPLE_HEAD)
    for column in ("claim", "ns", "ns", "ratio", "at least"):
        table.add_column(column, justify="left" if column == "claim" else "right")
    for each in verdicts:
        least = "" if each["at_least"] is None else f"{each['at_least']:g}"
        missed = "" if each["ok"] in (None, True) else " missed"
        times = (f"{each['above_ns']:.0f}", f"{each['below_ns']:.0f}")
        table.add_row(each["name"], *times, f"{each['ratio']:.2f}{missed}", least)
    console.print(table)
    path = write_results(
        results,
        "compare_csd",
        {"machine": describe_machine(), "command": shlex.join(command), "claims": verdicts}
        | measured,
    )
    console.print(f"written to {path}")


if __name__ == "__main__":
    main()
