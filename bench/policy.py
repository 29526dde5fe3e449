"""Which pages a region of mmapio keeps: hits beside those of other policies, and of the best.

    make bench-policy

cubby-policy (bench/policy/driver.c) does the same accesses by pins and by plain pointers on
regions, and counts loads; models of FIFO, CLOCK, LRU, S3-FIFO as published and Belady's MIN tell
what they would have hit with as many pages.  These are counts: they hardly depend on the machine.
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

SHARES = (4, 10)  # times as many pages as there is room for
KINDS = ("pins", "pointers", "fifo", "clock", "lru", "s3-fifo", "min")


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--pages", type=click.IntRange(1280), default=65_536)
@click.option("--accesses", type=click.IntRange(1), default=1_000_000)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(pages: int, accesses: int, results: Path) -> None:
    """Replaced by the module's docstring."""
    machine = describe_machine()
    commands: list[str] = []
    runs: list[dict[str, Any]] = []
    table = rich.table.Table(title="hits in 100 accesses", box=rich.box.SIMPLE)
    for heading in ("pages / cache", "trace", *KINDS):
        table.add_column(heading, justify="left" if heading == "trace" else "right")
    for share in SHARES:
        command = [str(built_driver("cubby-policy")), "--pages", str(pages), "--json"]
        command += ["--cache", str(pages // share), "--accesses", str(accesses)]
        runs.append(run := run_json(command, commands))
        for trace, hits in run["traces"].items():
            cells = [f"{100 * hits[kind] / accesses:.2f}" if kind in hits else "" for kind in KINDS]
            table.add_row(str(share), trace, *cells)
    rich.console.Console(width=100).print(table)
    content = {"benchmark": "policy", "machine": machine, "commands": commands, "runs": runs}
    print(f"written to {write_results(results, 'policy', content)}")


if __name__ == "__main__":
    main()
