"""Memory that is a device: mmapio's pins and plain pointers beside the kernel's mmap.

    make bench-mmap

cubby-mmap (bench/mapped/driver.c) does the work on one device, each kind in a process of its own,
all in turn, round after round; each page says which it is and how often it was written, each access
is checked, and the device is compared afterwards.  Figures are medians of the rounds, ratios the
medians of the rounds' ratios to the kernel's mmap with MADV_RANDOM.

The device is a zram of its own, filled with what does not compress, so that it is memory behind
the kernel's block layer; without root it is a file here.  The kernel's mmap runs in a memory cgroup
that has what the region's cache has, and what it takes beyond the pages, measured before.  Cgroups
of version 1 do not limit dirty pages, so vm.dirty_background_bytes and vm.dirty_bytes are set to a
tenth and a half of the cache meanwhile, for all, and put back afterwards.

Where another job takes the processors rates fall: the ratio "by CPU" compares the processor time of
the process and of the kernel's threads, which is the same on a busy machine, more or less.
"""

import json
import os
import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._devices import file_place, why_no_zram, zram_device
from cubbydb.bench._driver import built_driver, run_json
from cubbydb.bench._machine import describe_machine
from cubbydb.bench._memory_group import memory_group, why_no_memory_group
from cubbydb.bench._signals import ended_in_order
from cubbydb.bench.nibble_plots import write_and_draw

__all__ = ["find_place", "limit_kernel", "main"]

KINDS = ("kernel", "kernel-default", "pins", "pins-armed", "pointers", "views", "pread")
RANDOM = ("read", "mixed", "write", "zipf-read", "zipf-mixed", "zipf-write")
WORKLOADS = (*RANDOM, "hit-read", "hit-mixed", "hit-write", "scan", "storm")
BASE = "kernel"
MEBIBYTE = 1 << 20
QUICK = {"size": 8, "cache": 2, "slice_ms": 10, "loop": 20_000}
PAGE_BYTES = 4096
PAGE_TABLE_SHARE = 512  # a page of a page table maps so many
DIRTY = Path("/proc/sys/vm")

Figures = dict[str, Any]
Rows = list[Figures]

console = rich.console.Console(width=160)


# The machine --------------------------------------------------------------------------------------


@contextmanager
def dirty_limits(cache_bytes: int) -> Iterator[None]:
    """Have the kernel write back from a tenth of the cache on, and wait at half of it."""
    limits = {"dirty_background": cache_bytes // 10, "dirty": cache_bytes // 2}
    before = {
        (name, unit): int((DIRTY / f"{name}_{unit}").read_text())
        for name in limits
        for unit in ("bytes", "ratio")
    }
    try:
        for name, limit in limits.items():
            (DIRTY / f"{name}_bytes").write_text(str(limit))
        yield
    finally:
        for name in limits:  # to set the one makes the other 0
            unit = "bytes" if before[name, "bytes"] else "ratio"
            (DIRTY / f"{name}_{unit}").write_text(str(before[name, unit]))


def find_place(
    stack: ExitStack, device: Path | None, size: int, why_not: str | None
) -> tuple[str, str]:
    """A device to measure on, and what it is; why_not: there is to be no zram."""
    if device is not None:
        if not device.is_block_device():
            raise click.ClickException(f"{device} is not a block device")
        return str(device), str(device)
    why_not = why_not or why_no_zram()
    if why_not is None:
        return stack.enter_context(zram_device(size)), "zram"
    place = stack.enter_context(file_place(Path(f"build/mapped-{os.getpid()}.bin")))
    return place, f"a file here ({why_not})"


def measure_overhead(command: list[str], cache: int, size: int, commands: list[str]) -> int:
    """What the kernel's mmap takes beyond its pages: of the process, and to know them."""
    options = ["--bytes", str(cache), "--kinds", BASE, "--workloads", "write", "--rounds", "1"]
    with memory_group(4 * cache + (1 << 30)) as group:
        in_group = ["--group", str(group.folder), "--threads", "2", "--slice", "300"]
        run_json([*command, *options, *in_group], commands)
        peak = group.peak_bytes()
    if peak is None:
        raise click.ClickException("this kernel does not tell how much memory a group has had")
    return max(peak - cache, 0) + (size - cache) // PAGE_TABLE_SHARE


# Figures ------------------------------------------------------------------------------------------


def _cpu_ns(row: Figures) -> float:
    """Of the process and of the kernel's threads, by access."""
    return float(row["process_ns"] + row["kernel_ns"]) / float(row["accesses"])


def _rate(row: Figures) -> float:
    return float(row["accesses"]) * 1e9 / float(row["wall_ns"])


def _written(row: Figures) -> tuple[int, int]:
    """Writes and pages written: the device's count, or the region's where that does not tell."""
    if row["device"] is not None:
        return row["device"]["writes"], row["device"]["written_bytes"] // PAGE_BYTES
    return row["region"]["write_calls"], row["region"]["writes"]


def _reads(row: Figures) -> int:
    return int(row["device"]["reads"] if row["device"] is not None else row["region"]["loads"])


MEDIANS: dict[str, Callable[[Figures], float]] = {
    "rate": _rate,
    "cpu_ns": _cpu_ns,
    "process_ns": lambda row: row["process_ns"] / row["accesses"],
    "thread_ns": lambda row: row["thread_ns"] / row["accesses"],
    "machine_ns": lambda row: row["machine_ns"] / row["accesses"],
    "p50_ns": lambda row: row["percentile_ns"]["50"],
    "p99_ns": lambda row: row["percentile_ns"]["99"],
    "p99.9_ns": lambda row: row["percentile_ns"]["99.9"],
    "reads": lambda row: _reads(row) / row["accesses"],
    "writes": lambda row: _written(row)[0] / row["accesses"],
    "pages_per_write": lambda row: _written(row)[1] / max(_written(row)[0], 1),
    "sync_ms": lambda row: row["sync_ns"] / 1e6,
    "resident_mib": lambda row: row["resident_bytes"] / MEBIBYTE,
}


def _sum_up(rows: Rows) -> Rows:
    """One summary of all rounds for each workload, number of threads, and kind."""
    rounds: dict[tuple[str, int, str], Rows] = {}
    for row in sorted(rows, key=lambda row: KINDS.index(row["kind"])):
        rounds.setdefault((row["workload"], row["threads"], row["kind"]), []).append(row)
    summaries = []
    for (workload, threads, kind), same in rounds.items():
        summary: Figures = {"workload": workload, "threads": threads, "kind": kind}
        for name, figure in MEDIANS.items():
            summary[name] = statistics.median(figure(row) for row in same)
        base = {row["round"]: row for row in rounds.get((workload, threads, BASE), [])}
        pairs = [(row, base[row["round"]]) for row in same if row["round"] in base]
        if pairs:
            rates = [_rate(row) / _rate(kernel) for row, kernel in pairs]
            summary["times_kernel"] = statistics.median(rates)
            costs = [_cpu_ns(kernel) / _cpu_ns(row) for row, kernel in pairs]
            summary["times_kernel_by_cpu"] = statistics.median(costs)
        alone = {row["round"]: row for row in rounds.get((workload, 1, kind), [])}
        growth = [
            MEDIANS["thread_ns"](row) / MEDIANS["thread_ns"](alone[row["round"]])
            for row in same
            if row["round"] in alone
        ]
        if growth:
            summary["thread_times_alone"] = statistics.median(growth)
        summaries.append(summary)
    return summaries


def _find(summaries: Rows, workload: str, threads: int, kind: str) -> Figures | None:
    wanted = (workload, threads, kind)
    found = (s for s in summaries if (s["workload"], s["threads"], s["kind"]) == wanted)
    return next(found, None)


def _loop_ns(content: Figures, name: str) -> float | None:
    return statistics.median(content["loops"][name]) if name in content["loops"] else None


# What was aimed at: kind, workload, threads, and how many times the kernel's.
AIMS = (
    ("pins", "read", 1, 1.5),
    ("pins", "read", 2, 1.6),
    ("pins", "mixed", 2, 2.0),
    ("pins", "write", 2, 3.0),
    ("pointers", "read", 1, 1.0),
    ("pointers", "read", 2, 1.0),
    ("pointers", "mixed", 1, 1.0),
    ("pointers", "mixed", 2, 1.0),
)
LONELY_AIM, PIN_AIM_NS, POINTER_AIM = 1.10, 15.0, 1.10


def _verdicts(content: Figures) -> Rows:
    """Each aim beside what was measured."""
    verdicts: Rows = []

    def judge(text: str, aim: float, figure: float | None, is_met: bool, cpu: float | None) -> None:
        if figure is not None:
            verdicts.append(
                {"aim": text, "wanted": aim, "measured": figure, "by_cpu": cpu, "is_met": is_met}
            )

    for kind, workload, threads, aim in AIMS:
        found = _find(content["summaries"], workload, threads, kind)
        times = None if found is None else found.get("times_kernel")
        by_cpu = None if found is None else found.get("times_kernel_by_cpu")
        text = f"{kind}, {workload}, {threads} threads, times the kernel's: at least"
        judge(text, aim, times, times is not None and times >= aim, by_cpu)
    pair = _find(content["summaries"], "read", 2, "pins")
    growth = None if pair is None else pair.get("thread_times_alone")
    text = "pins, read: a thread's CPU with 2, times alone: at most"
    judge(text, LONELY_AIM, growth, growth is not None and growth <= LONELY_AIM, None)
    pin = _loop_ns(content, "pin-read")
    judge("pin and unpin, ns: at most", PIN_AIM_NS, pin, (pin or 0) <= PIN_AIM_NS, None)
    for where in ("few", "far"):
        pointer, memory = (_loop_ns(content, f"{where}-{what}") for what in ("pointer", "memory"))
        ratio = None if pointer is None or memory is None else pointer / memory
        text = f"load by pointer, {where} pages, times memory's: at most"
        judge(text, POINTER_AIM, ratio, ratio is not None and ratio <= POINTER_AIM, None)
    return verdicts


# What people see ----------------------------------------------------------------------------------

COLUMNS = (
    ("k/s", "rate", 1e-3, "{:,.0f}"),
    ("CPU ns", "cpu_ns", 1, "{:,.0f}"),
    ("process", "process_ns", 1, "{:,.0f}"),
    ("machine", "machine_ns", 1, "{:,.0f}"),
    ("T, alone", "thread_times_alone", 1, "{:.2f}"),
    ("p50 us", "p50_ns", 1e-3, "{:.2f}"),
    ("p99", "p99_ns", 1e-3, "{:.1f}"),
    ("p99.9", "p99.9_ns", 1e-3, "{:.0f}"),
    ("reads", "reads", 1, "{:.2f}"),
    ("writes", "writes", 1, "{:.2f}"),
    ("pages each", "pages_per_write", 1, "{:.1f}"),
    ("sync ms", "sync_ms", 1, "{:.1f}"),
    ("MiB", "resident_mib", 1, "{:.0f}"),
    ("x kernel", "times_kernel", 1, "{:.2f}"),
    ("by CPU", "times_kernel_by_cpu", 1, "{:.2f}"),
)


def _table(workload: str, summaries: Rows) -> rich.table.Table:
    title = f"{workload}: ns and counts are by access"
    table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
    table.add_column("T")
    table.add_column("kind", no_wrap=True)
    for heading, *_ in COLUMNS:
        table.add_column(heading, justify="right")
    for summary in summaries:
        cells = [
            form.format(summary[name] * scale) if name in summary else ""
            for _, name, scale, form in COLUMNS
        ]
        table.add_row(str(summary["threads"]), summary["kind"], *cells)
    return table


def _verdict_table(verdicts: Rows) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE)
    for heading in ("what was aimed at", "", "measured", "by CPU", ""):
        table.add_column(heading)
    for verdict in verdicts:
        by_cpu = "" if verdict["by_cpu"] is None else f"{verdict['by_cpu']:.2f}"
        outcome = "met" if verdict["is_met"] else "missed"
        measured = f"{verdict['measured']:.2f}"
        table.add_row(verdict["aim"], f"{verdict['wanted']:g}", measured, by_cpu, outcome)
    return table


def _print_readme_rows(path: Path) -> None:
    """The rows of bench/README.md's table."""
    summaries = json.loads(path.read_text())["summaries"]
    shown = KINDS
    for workload, threads in dict.fromkeys((s["workload"], s["threads"]) for s in summaries):
        cells = []
        for kind in shown:
            found = _find(summaries, workload, threads, kind)
            if found is None:
                cells.append("")
                continue
            times = "" if kind == BASE else f" ({found.get('times_kernel_by_cpu', 0):.2f})"
            cells.append(f"{found['rate'] / 1e3:,.0f}{times}")
        print("|", " | ".join((workload, str(threads), *cells)), "|")


@click.command(help=__doc__)
@click.option("--quick", is_flag=True, help="So small that the figures mean nothing.")
@click.option("--no-root", is_flag=True, help="Do without what needs root.")
@click.option("--device", type=click.Path(exists=True, path_type=Path), help="Its content is lost.")
@click.option("--size", type=click.IntRange(1), default=512, show_default=True, help="MiB of it.")
@click.option("--cache", type=click.IntRange(1), default=128, show_default=True, help="MiB.")
@click.option("--kinds", default=",".join(KINDS), show_default=True)
@click.option("--workloads", default=",".join(WORKLOADS), show_default=True)
@click.option("--threads", default="1,2", show_default=True, help="Numbers of them.")
@click.option("--rounds", type=click.IntRange(1, 99), default=5, show_default=True)
@click.option("--slice", "slice_ms", type=click.IntRange(1), default=400, show_default=True)
@click.option("--loop", type=click.IntRange(1000), default=2_000_000, show_default=True)
@click.option("--readme", type=click.Path(exists=True, path_type=Path), help="Rows of a file.")
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(
    quick: bool,
    no_root: bool,
    kinds: str,
    workloads: str,
    threads: str,
    rounds: int,
    readme: Path | None,
    results: Path,
    device: Path | None,
    **sizes: int,
) -> None:
    """Replaced by the module's docstring."""
    if readme is not None:
        _print_readme_rows(readme)
        return
    sizes.update(QUICK if quick else {})
    size, cache = sizes["size"] * MEBIBYTE, sizes["cache"] * MEBIBYTE
    commands: list[str] = []
    content: Figures = {"benchmark": "mapped", "machine": describe_machine(), "commands": commands}
    content |= {"device_bytes": size, "cache_bytes": cache, "notes": [], "missing": {}}
    with ended_in_order(), ExitStack() as stack:
        why_not = "--no-root" if no_root else None
        path, content["device"] = find_place(stack, device, size, why_not)
        command = [str(built_driver("cubby-mmap")), "--path", path, "--cache", str(cache), "--json"]
        options = ["--bytes", str(size), "--kinds", kinds, "--threads", threads]
        options += ["--rounds", str(rounds), "--slice", str(sizes["slice_ms"])]
        options += ["--loop", str(sizes["loop"])]
        why_not = why_not or why_no_memory_group()
        content["is_limited"] = why_not is None
        if why_not is None:
            options += limit_kernel(stack, command, cache, size, content)
        else:
            note = f"the kernel's mmap has all memory there is: {why_not}"
            content["notes"].append(note)
        for note in (f"the device is {content['device']}", *content["notes"]):
            console.print(note, soft_wrap=True, highlight=False)
        _run_all(content, [*command, *options], workloads.split(","))
    content["verdicts"] = _verdicts(content)
    console.print(_verdict_table(content["verdicts"]))
    write_and_draw(results, "mapped", content)


def limit_kernel(
    stack: ExitStack, command: list[str], cache: int, size: int, content: Figures
) -> list[str]:
    """Limit the kernel's mmap to as much memory; the options for it, and what was done as notes."""
    overhead = measure_overhead(command, cache, size, content["commands"])
    group = stack.enter_context(memory_group(cache + overhead))
    stack.enter_context(dirty_limits(cache))
    content |= {"overhead_bytes": overhead, "cgroup_version": group.version}
    content["notes"] += [
        f"the kernel's mmap may have {cache / MEBIBYTE:.0f} MiB and the {overhead / MEBIBYTE:.1f} "
        f"MiB that it took beside its pages (a memory cgroup, version {group.version})",
        f"meanwhile vm.dirty_background_bytes is {cache // 10:,} and vm.dirty_bytes {cache // 2:,}",
    ]
    return ["--group", str(group.folder)]


def _run_all(content: Figures, command: list[str], workloads: list[str]) -> None:
    """Each workload, then the loops; prints each as it comes."""
    content |= {"rows": [], "summaries": []}
    for workload in workloads:
        answer = run_json([*command, "--workloads", workload], content["commands"])
        content["missing"] |= answer["missing"]
        content["rows"] += answer["rows"]
        summaries = _sum_up(answer["rows"])
        content["summaries"] += summaries
        console.print(_table(workload, summaries))
    for kind, why in content["missing"].items():
        console.print(f"{kind} is missing: {why}", highlight=False)
    content["loops"] = run_json([*command, "--workloads", "loops"], content["commands"])["loops"]
    texts = [f"{name} {statistics.median(ns):.2f}" for name, ns in content["loops"].items()]
    console.print("hits alone, ns of processor time each:", ", ".join(texts), highlight=False)


if __name__ == "__main__":
    main()
