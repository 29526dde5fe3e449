"""What placement costs, in counts that do not depend on the machine's speed.

    make bench-build && .venv/bin/python -m cubbydb.bench.counts

For each number of pairs, pair size and fill target it puts the pairs one by one into a store in
memory, then gets present and absent ones, and prints from the store's own counters:

    reads per get     device reads for a pair that is there, and for a key that is not
    B rebuilt per B   bytes rewritten by rebuilds and splits per byte inserted
    DRAM per pair     bytes of directory and maps: all that grows with the store
    longest put       beside the longest rebuild, which is what a put may have to wait for

The times are the machine's: on a busy one they contain what others took.
"""

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._driver import DRIVER_PATH, Driver
from cubbydb.bench._machine import describe_machine, write_results

__all__ = ["main"]

KEY_BYTES = 16
GETS = 500_000
READ_CLASSES = ("get_home_reads", "get_spill_reads", "get_blob_reads", "get_retry_reads")
DRAM_LIMIT_PAIRS = 1_000_000  # its limits hold from so many pairs on

console = rich.console.Console(width=120)


@dataclass(frozen=True)
class Limits:
    """What the figures may be at most; None where nothing was promised."""

    present_reads: float
    absent_reads: float
    rebuilt: float | None
    dram: float | None


# Pair size -> limits, at the default fills.
LIMITS = {
    50: Limits(1.02, 1.01, None, None),
    100: Limits(1.02, 1.01, None, 0.01),
    400: Limits(1.02, 1.01, 3.5, 0.05),
    1000: Limits(1.03, 1.01, None, None),
}
NO_LIMITS = Limits(float("inf"), float("inf"), None, None)


def reads_per_get(result: dict[str, Any]) -> dict[str, float]:
    """Device reads per get, by class and in all, from the counters before and after."""

    def grown(name: str) -> int:
        return int(result["after"][name]) - int(result["before"][name])

    gets = grown("gets")
    reads = {name: grown(name) / gets for name in READ_CLASSES}
    return reads | {"all": sum(reads.values())}


def is_ok(value: float, limit: float | None) -> bool | None:
    """Whether a figure keeps to its limit; None if there is none."""
    return None if limit is None else value <= limit


def measure(driver: Driver, path: str, fill: float) -> dict[str, Any]:
    """Fill one store, and gather the figures."""
    arguments = ("--fill", f"{fill:g}", "--load-batch", "1", "--seconds", "3600")
    load, get, absent = driver.run(path, "load,get,absent", *arguments, "--operations", str(GETS))
    stat = load["after"]
    pair_bytes = driver.key_bytes + driver.value_bytes
    limits = LIMITS.get(pair_bytes, NO_LIMITS)
    present_reads = reads_per_get(get)
    absent_reads = reads_per_get(absent)
    rebuilt = stat["rebuilt_bytes"] / stat["inserted_bytes"]
    dram = (stat["directory_bytes"] + stat["bitmap_bytes"]) / stat["pairs"]
    dram_limit = limits.dram if driver.pair_count >= DRAM_LIMIT_PAIRS else None
    return {
        "pairs": driver.pair_count,
        "pair_bytes": pair_bytes,
        "fill": fill,
        "present_reads": present_reads,
        "absent_reads": absent_reads,
        "rebuilt_per_byte": rebuilt,
        "dram_per_pair": dram,
        "longest_put_ns": stat["longest_put_ns"],
        "longest_rebuild_ns": stat["longest_rebuild_ns"],
        "put_latency_ns": load["step_latency_ns"],
        "ok": {
            "present_reads": is_ok(present_reads["all"], limits.present_reads),
            "absent_reads": is_ok(absent_reads["all"], limits.absent_reads),
            "rebuilt_per_byte": is_ok(rebuilt, limits.rebuilt),
            "dram_per_pair": is_ok(dram, dram_limit),
        },
        "stat": stat,
    }


def cell(value: float, digits: int, is_kept: bool | None, limit: float | None) -> str:
    """A figure with its verdict, and the limit where it is missed."""
    text = f"{value:.{digits}f}"
    if is_kept is None:
        return text
    return f"{text} {'ok' if is_kept else f'missed: {limit:g}'}"


def print_rows(rows: list[dict[str, Any]], path: str) -> None:
    """Print the table."""
    table = rich.table.Table(title=f"placement, on {path}", box=rich.box.SIMPLE_HEAD)
    columns = ("pairs", "B", "fill", "reads: present", "absent", "rebuilt per B")
    for column in (*columns, "DRAM per pair", "put, ms", "rebuild, ms"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in rows:
        limits = LIMITS.get(row["pair_bytes"], NO_LIMITS)
        ok = row["ok"]
        table.add_row(
            f"{row['pairs']:,}",
            str(row["pair_bytes"]),
            f"{row['fill']:.2f}",
            cell(row["present_reads"]["all"], 4, ok["present_reads"], limits.present_reads),
            cell(row["absent_reads"]["all"], 4, ok["absent_reads"], limits.absent_reads),
            cell(row["rebuilt_per_byte"], 2, ok["rebuilt_per_byte"], limits.rebuilt),
            cell(row["dram_per_pair"], 4, ok["dram_per_pair"], limits.dram),
            f"{row['longest_put_ns'] / 1e6:.1f}",
            f"{row['longest_rebuild_ns'] / 1e6:.1f}",
        )
    console.print(table)
    for size, limit in LIMITS.items():
        rebuilt = "" if limit.rebuilt is None else f", {limit.rebuilt:g} B rebuilt per B"
        dram = "" if limit.dram is None else f", {limit.dram:g} B of DRAM (from 1,000,000 pairs on)"
        reads = f"{limit.present_reads:g} reads present, {limit.absent_reads:g} absent"
        console.print(f"limits at {size} B: {reads}{rebuilt}{dram}")


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"not numbers: {text}") from None


@click.command()
@click.option("--pairs", default="1000000,2000000", show_default=True)
@click.option("--sizes", default="50,100,400,1000", show_default=True, help="Bytes of a pair.")
@click.option("--fills", default="0.40,0.50", show_default=True)
@click.option("--path", default="mem:64G", show_default=True, help="Any other is overwritten.")
@click.option("--driver", type=click.Path(path_type=Path), default=DRIVER_PATH, show_default=True)
@click.option(
    "--results", type=click.Path(path_type=Path), default=Path("bench/results"), show_default=True
)
def main(pairs: str, sizes: str, fills: str, path: str, driver: Path, results: Path) -> None:
    """Count what placement costs at a million pairs and more."""
    rows = []
    commands = []
    machine = describe_machine()
    for count, size, fill in itertools.product(numbers(pairs), numbers(sizes), numbers(fills)):
        shape = Driver(driver, int(count), int(size) - KEY_BYTES, KEY_BYTES)
        rows.append(measure(shape, path, fill))
        commands += shape.commands
    print_rows(rows, path)
    content = {"machine": machine, "path": path, "rows": rows, "commands": commands}
    console.print(f"written: {write_results(results, 'counts', content)}")


if __name__ == "__main__":
    main()
