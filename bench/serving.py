"""How long gets take while a store grows to ten times its size, beside what they take at rest.

    make bench-serving

cubby-serving (bench/serving/driver.c) loads a tenth of the pairs, then reads and updates them as
YCSB's B does, alone ("before"), while others put the remaining nine tenths as fast as they can
("growth"), and alone again ("after").  Each engine has a zram device of its own, or an ext4 on one,
and is told the same memory, a tenth of what all pairs will be; there is no limit besides.  The
ratio is p99.9 of gets during growth over that at rest, before or after, whichever is longer; the
median of the rounds.
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
from cubbydb.bench._places import places_for, why_not_on
from cubbydb.bench._signals import ended_in_order

__all__ = ["main"]

PAIR_BYTES = 400
TIMES = 10
IN_FOLDER = {"cubby": False, "rocksdb": True, "wiredtiger": True, "lmdb": True}
AT_MOST = 2.0
PHASES = ("before", "growth", "after")

console = rich.console.Console(width=120)


def p999_ratio(run: dict[str, Any]) -> float:
    """During growth, by what it is at rest."""
    p999 = {name: run["phases"][name]["get_ns"]["percentile"]["99.9"] for name in PHASES}
    return float(p999["growth"]) / float(max(p999["before"], p999["after"]))


def _sum_up(engine: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    figures: dict[str, Any] = {"engine": engine, "settings": runs[0]["settings"]}
    for name in PHASES:
        phases = [run["phases"][name] for run in runs]
        figures[name] = {
            "reads_per_second": statistics.median(p["reads"] / p["seconds"] for p in phases),
            "loads_per_second": statistics.median(p["loads"] / p["seconds"] for p in phases),
        }
        for percent in ("50", "99", "99.9", "99.99"):
            figures[name][f"get_p{percent}_ns"] = statistics.median(
                p["get_ns"]["percentile"][percent] for p in phases
            )
    figures["p999_ratio"] = statistics.median(map(p999_ratio, runs))
    return figures


def _print(figures: list[dict[str, Any]]) -> None:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    headings = ("", "", "reads/s", "loads/s", "get p50 us", "p99", "p99.9", "p99.99", "growth/rest")
    for heading in headings:
        table.add_column(heading, justify="right" if heading else "left")
    for each in figures:
        for name in PHASES:
            phase = each[name]
            latencies = [
                f"{phase[f'get_p{p}_ns'] / 1e3:.1f}" for p in ("50", "99", "99.9", "99.99")
            ]
            loads = f"{phase['loads_per_second']:,.0f}" if name == "growth" else ""
            ratio = f"{each['p999_ratio']:.2f}" if name == "growth" else ""
            table.add_row(
                each["engine"], name, f"{phase['reads_per_second']:,.0f}", loads, *latencies, ratio
            )
    console.print(table)
    console.print(f"p99.9 during growth is asked to be at most {AT_MOST:g} times that at rest")


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--engines", default="cubby,rocksdb")
@click.option("--pairs", type=click.IntRange(10), default=4_000_000, help="In the end.")
@click.option("--readers", type=click.IntRange(1), default=1, help="Threads.")
@click.option("--loaders", type=click.IntRange(1), default=1, help="Threads.")
@click.option("--seconds", type=click.FloatRange(0.01), default=5.0, help="Before and after.")
@click.option("--rounds", type=click.IntRange(1), default=3)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(
    engines: str,
    pairs: int,
    readers: int,
    loaders: int,
    seconds: float,
    rounds: int,
    results: Path,
) -> None:
    """Replaced by the module's docstring."""
    why_not = why_not_on("zram")
    if why_not is not None:
        raise click.ClickException(why_not)
    wanted = {name: IN_FOLDER[name] for name in engines.split(",")}
    commands: list[str] = []
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in wanted}
    command = [str(built_driver("cubby-serving")), "--pairs", str(pairs // TIMES), "--json"]
    command += ["--times", str(TIMES), "--memory", str(pairs * PAIR_BYTES // 10)]
    command += ["--readers", str(readers), "--loaders", str(loaders), "--seconds", str(seconds)]
    machine = describe_machine()
    with ended_in_order():
        for _ in range(rounds):
            for name, in_folder in wanted.items():
                data_bytes = pairs * PAIR_BYTES
                with places_for({name: in_folder}, "zram", None, data_bytes) as places:
                    place = ["--engine", name, "--path", places[name].path]
                    runs[name].append(run_json([*command, *place], commands))
    figures = [_sum_up(name, same) for name, same in runs.items()]
    _print(figures)
    content: dict[str, Any] = {"benchmark": "serving", "machine": machine, "commands": commands}
    content |= {"figures": figures, "runs": runs}
    print(f"written to {write_results(results, 'serving', content)}")


if __name__ == "__main__":
    main()
