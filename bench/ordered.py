"""VoliMap beside other maps of numbers: by processor time, on keys of five kinds.

    make bench-ordered

cubby-ordered (bench/ordered/driver.c) does the work: on each set of keys all maps in one process,
in turn, so that they share the state of the machine.  "flat" is a hash table that never grows and
has no order: what a map costs at least.  Figures are medians of the rounds, ratios the medians of
the rounds' ratios; each answer is checked.

Then two threads (or up to 16, where there are as many processors) on one map, the longest single
puts while maps grow to ten million pairs, and what the kernel's own page table allows.

Maps that use malloc have huge pages, too, as VoliMap and "flat" ask for them: the commands say so.
"""

import json
import os
import statistics
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

SETS = ("ordered", "shuffled", "random", "clusters", "text")
STEPS = ("put", "hit", "miss", "range", "scan", "sort")
OURS = "volimap"
CROWD_SETS = "shuffled,random"
HUGE_PAGES = ["env", "GLIBC_TUNABLES=glibc.malloc.hugetlb=1"]
QUICK = ["--keys", "20000", "--spike-keys", "20000", "--spike-rounds", "1"]
QUICK += ["--slice", "2", "--alias-pages", "2000"]


NAMES = {
    "volimap": "VoliMap",
    "volimap-array": "VoliMap, bounded",
    "btree": "absl::btree_map",
    "map": "std::map",
    "array": "sorted array",
    "flat": "flat hash",
}


def _print_readme_table(path: Path) -> None:
    """The rows of bench/README.md's table."""
    for run in json.loads(path.read_text())["sets"]:
        for name, figures in run["maps"].items():
            cells = [f"{figures[s]['median_ns']:.0f}" if s in figures else "" for s in STEPS]
            sort = cells.pop()
            cells[-1] = f"({sort})" if sort else cells[-1]
            keys = run["set"] if name == OURS else ""
            row = (keys, NAMES.get(name, name), *cells, f"{figures['bytes_per_key']:.1f}")
            print("|", " | ".join(row), "|")


def _ratio(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The median of the rounds' ratios of two things."""
    pairs = zip(one["rounds_ns"], other["rounds_ns"], strict=True)
    return statistics.median(float(a) / float(b) for a, b in pairs)


def _sum_up_set(run: dict[str, Any]) -> None:
    """Add how many times VoliMap's each figure is, and the bytes by key."""
    ours = run["maps"].get(OURS)
    for figures in run["maps"].values():
        figures["bytes_per_key"] = figures["memory_bytes"] / run["keys"]
        for step in STEPS:
            if step in figures and ours is not None and step in ours:
                figures[step]["times_volimap"] = _ratio(figures[step], ours[step])


def _set_table(run: dict[str, Any]) -> rich.table.Table:
    title = f"{run['set']}: {run['keys']:,} keys, ns of processor time by key (times VoliMap's)"
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("map")
    for heading in (*STEPS, "B by key"):
        table.add_column(heading, justify="right")
    for name, figures in run["maps"].items():
        cells = []
        for step in STEPS:
            if step not in figures:
                cells.append("")
                continue
            times = figures[step].get("times_volimap")
            text = f"{figures[step]['median_ns']:.1f}"
            cells.append(text if times is None else f"{text} ({times:.2f})")
        table.add_row(name, *cells, f"{figures['bytes_per_key']:.1f}")
    return table


def _sum_up_crowd(run: dict[str, Any]) -> None:
    """Add what an operation costs by what it costs one thread alone; and by that of flat's."""
    for sizes in run["maps"].values():
        for figures in sizes.values():
            figures["times_alone"] = _ratio(figures, sizes["1"])
    flat = run["maps"].get("flat")
    for sizes in run["maps"].values():
        for threads, figures in sizes.items():
            if flat is not None:
                figures["times_flat"] = _ratio(figures, flat[threads])


def _crowd_table(run: dict[str, Any]) -> rich.table.Table:
    title = f"{run['set']}, half puts: a thread's ns of processor time (times alone; run at once)"
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("threads")
    for threads in next(iter(run["maps"].values())):
        table.add_column(threads, justify="right")
    for name, sizes in run["maps"].items():
        cells = [
            f"{figures['median_ns']:.1f} ({figures['times_alone']:.2f}; {figures['running']:.1f})"
            for figures in sizes.values()
        ]
        table.add_row(name, *cells)
    return table


def _spikes_table(runs: list[dict[str, Any]]) -> rich.table.Table:
    title = f"{runs[0]['puts']:,} puts into an empty map: ns by the clock, medians of the rounds"
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("keys")
    table.add_column("map")
    percents = list(runs[0]["percentile_ns"])
    for heading in (*(f"{percent} %" for percent in percents), "max", "pages copied at most"):
        table.add_column(heading, justify="right")
    rounds: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for run in runs:
        rounds.setdefault((run["set"], run["map"]), []).append(run)
    for (keys, name), same in rounds.items():
        figures = [[run["percentile_ns"][percent] for run in same] for percent in percents]
        figures.append([run["max_ns"] for run in same])
        copies = ""
        if "page_copies_max" in same[0]:
            most = [
                max(run[f"{what}_copies_max"] for run in same) for what in ("page", "directory")
            ]
            copies = f"{most[0]} + {most[1]} of the directory"
        table.add_row(keys, name, *(f"{statistics.median(f):,.0f}" for f in figures), copies)
    return table


def _aliases_text(run: dict[str, Any]) -> str:
    end = os.strerror(run["error"]) if run["error"] else "no failure"
    return (
        f"the kernel's own aliases: {run['pages_mapped']:,} virtual pages, {run['areas']:,} areas "
        f"(of {run['areas_limit']:,}), then: {end}; a mapping {run['mean_ns']:,.0f} ns, "
        f"replacing one {run['remap_ns']:,.0f} ns"
    )


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="So small that the figures mean nothing.")
@click.option("--keys", type=click.IntRange(1000), default=2_000_000, show_default=True)
@click.option("--spike-keys", type=click.IntRange(1000), default=10_000_000, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 99), default=5, show_default=True)
@click.option("--threads", type=click.IntRange(1, 16), help="At most.  [default: processors]")
@click.option("--readme", type=click.Path(exists=True, path_type=Path), help="Rows of a file.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(
    quick: bool,
    keys: int,
    spike_keys: int,
    rounds: int,
    threads: int | None,
    readme: Path | None,
    results: Path,
) -> None:
    """Replaced by the module's docstring."""
    if readme is not None:
        _print_readme_table(readme)
        return
    command = [*HUGE_PAGES, str(built_driver("cubby-ordered")), "--json"]
    options = ["--keys", str(keys), "--spike-keys", str(spike_keys)]
    options = [*(QUICK if quick else options), "--rounds", str(rounds)]
    machine = describe_machine()
    console = rich.console.Console(width=120)
    commands: list[str] = []
    content: dict[str, Any] = {"benchmark": "ordered", "machine": machine, "commands": commands}

    def run(part: str, *more: str) -> Any:
        return run_json([*command, *options, "--parts", part, *more], commands)[part]

    content["sets"] = []
    for name in SETS:
        content["sets"] += run("sets", "--sets", name)
        _sum_up_set(content["sets"][-1])
        console.print(_set_table(content["sets"][-1]))
    at_most = [] if threads is None else ["--threads", str(threads)]
    content["crowd"] = run("crowd", "--sets", CROWD_SETS, *at_most)
    for crowd in content["crowd"]:
        _sum_up_crowd(crowd)
        console.print(_crowd_table(crowd))
    content["spikes"] = run("spikes")
    console.print(_spikes_table(content["spikes"]))
    content["aliases"] = run("aliases")
    console.print(_aliases_text(content["aliases"]))
    write_and_draw(results, "ordered", content)


if __name__ == "__main__":
    main()
