"""What tables in memory take after pairs of one size have made way for pairs of another.

    make bench-fragment

cubby-fragment (bench/fragment/driver.c) does the work, each run in a process of its own: put pairs,
delete nine in ten at random, put pairs of another size until there are as many bytes again.  Shown
is what the process has grown by, over the bytes of keys and values that are alive; of Nibble also
its log alone, as its index is a table of keys, which all of them have.  The thesis' figure 14.
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

__all__ = ["main"]

ENGINES = ("nibble", "libcuckoo", "unordered")
# First and second size of values: those of nibble-lsm's runfrag, and of the FAST '14 kind.
PAIRS = [
    ("60", "70"),
    ("100", "130"),
    ("1000", "1024"),
    ("1024", "10240"),
    ("10240", "102400"),
    ("512000", "614400"),
    ("50-150", "5000-15000"),
    ("1000-2000", "1500-2500"),
]


def _ratio(step: dict[str, int], name: str = "resident_bytes") -> str:
    return f"{step[name] / step['live_bytes']:.2f}"


@click.command(help=__doc__)
@click.option("--bytes", "size", type=click.IntRange(1 << 20), default=1_000_000_000)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(size: int, results: Path) -> None:
    """Replaced by the module's docstring."""
    program = built_driver("cubby-fragment")
    machine = describe_machine()
    commands: list[str] = []
    runs: list[dict[str, Any]] = []
    table = rich.table.Table(
        box=rich.box.SIMPLE, title=f"bytes taken by byte alive, {size:,} alive"
    )
    for heading in ("first", "second", "engine", "loaded", "deleted", "refilled", "log alone"):
        table.add_column(heading, justify="right" if "ed" in heading else "left")
    for first, second in PAIRS:
        for engine in ENGINES:
            command = [str(program), "--engine", engine, "--first", first, "--second", second]
            command += ["--bytes", str(size)]
            run = run_json(command, commands) | {"first": first, "second": second}
            runs.append(run)
            steps = [run[name] for name in ("loaded", "deleted", "refilled")]
            log = _ratio(run["refilled"], "log_bytes") if "log_bytes" in run["refilled"] else ""
            table.add_row(first, second, engine, *map(_ratio, steps), log)
    rich.console.Console(width=100).print(table)
    content = {"benchmark": "fragment", "machine": machine, "commands": commands, "runs": runs}
    write_and_draw(results, "fragment", content)


if __name__ == "__main__":
    main()
