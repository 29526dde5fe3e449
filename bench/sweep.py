"""Nibble's parameters: what the sizes of segments and blocks, and cleaners, do to puts.

    make bench-sweep

One is varied at a time, the others being as they are by default, in Nibbles of 256 MiB that append
every value, 80 % alive, under uniform updates.  cubby-utilisation does the work, all tables in
turn; rates are operations per second of the process's processor time, which has the cleaners' in
it.  What those do between rounds is not in it: a twentieth, as rounds take 200 ms.  What is written
for it is counted all the same.

The thesis' figures 21 to 24.  Its figures 25 and 26, of ways to copy, have no parameter here.
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
from cubbydb.bench.utilisation import written

__all__ = ["main"]

KIB = 1024
# Parameter, as the driver calls it -> its values; what is left out is the default.
FACTORS = {
    "segment": (256 * KIB, 512 * KIB, 2048 * KIB, 4096 * KIB),
    "block": (4 * KIB, 16 * KIB, 256 * KIB, 1024 * KIB),
    "cleaners": (1, 2, 4),
}
QUICK_FACTORS = {"segment": (256 * KIB,), "block": (4 * KIB, 16 * KIB), "cleaners": (1,)}
VALUES = (1024, 200)


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="So small that the figures mean nothing.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(quick: bool, results: Path) -> None:
    """Replaced by the module's docstring."""
    program = built_driver("cubby-utilisation")
    machine = describe_machine()
    live = "live=80,append-only"
    factors = QUICK_FACTORS if quick else FACTORS
    tables = [f"{live},{name}={value}" for name, values in factors.items() for value in values]
    options = ["--gets", "0", "--slice", "200", *(f"--table={table}" for table in (live, *tables))]
    if quick:
        options += ["--memory", str(16 << 20), "--warm", "1", "--rounds", "1", "--slice", "1"]
    commands: list[str] = []
    runs: list[dict[str, Any]] = []
    console = rich.console.Console(width=110)
    for value_bytes in VALUES:
        command = [str(program), "--value-bytes", str(value_bytes), *options]
        run = run_json(command, commands)
        runs.append(run)
        table = rich.table.Table(
            title=f"values of {value_bytes:,} B, 80 % alive", box=rich.box.SIMPLE
        )
        for heading in ("varied", "million puts/s", "written"):
            table.add_column(heading, justify="left" if heading == "varied" else "right")
        for name, each in zip(("", *tables), run["tables"], strict=True):
            each["varied"] = name.removeprefix(f"{live},")
            if each["is_full"]:
                table.add_row(each["varied"] or "nothing", "full")
                continue
            rate = 1e3 / each["mixes"][0]["process_ns"]
            table.add_row(each["varied"] or "nothing", f"{rate:.2f}", f"{written(each):.2f}")
        console.print(table)
    content = {"benchmark": "sweep", "machine": machine, "commands": commands, "runs": runs}
    write_and_draw(results, "sweep", content)


if __name__ == "__main__":
    main()
