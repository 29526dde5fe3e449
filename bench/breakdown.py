"""Where the time goes: of accesses of pages, and of a store's operations, on mapped memory.

    make bench-breakdown

The experiment of FastMap's poster.  Pages: cubby-mmap (bench/mapped/driver.c) on the kernel's
mmap, on a region of mmapio by pins and by plain pointers, and by direct I/O without any cache.  The
store: cubby-gets (bench/gets/driver.c), uniform gets, and updates, on the same three, Nibble off.
Data of four times the cache, on a zram device; the kernel's mmap in a memory cgroup that has what
the region has, and what the process takes besides.

Meanwhile perf samples all processors; _profile.py says whose work a sample is.  "waiting" is the
threads' time in which no processor worked for them, nor the kernel's or the region's own threads.
All kinds run in turn, round after round; figures are sums of the rounds by operation.
"""

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._devices import zram_device
from cubbydb.bench._driver import Driver, built_driver
from cubbydb.bench._machine import describe_machine
from cubbydb.bench._memory_group import memory_group, why_no_memory_group
from cubbydb.bench._profile import PARTS, by_part, profile, why_no_profile
from cubbydb.bench._signals import ended_in_order
from cubbydb.bench.mapped import dirty_limits, find_place, limit_kernel
from cubbydb.bench.nibble_plots import write_and_draw

__all__ = ["main"]

MEBIBYTE = 1 << 20
BLOCK_BYTES = 4096
PAGE_KINDS = ("kernel", "pins", "pointers", "pread")
PAGE_WORKLOADS = ("read", "mixed", "write")
STORE_KINDS = ("kernel", "region", "direct")
STORE_WORKLOADS = ("get", "update")
SHOWN = {
    "kernel": "the kernel's mmap",
    "pins": "mmapio, pins",
    "pointers": "mmapio, pointers",
    "pread": "direct I/O",
    "region": "mmapio",
    "direct": "direct I/O",
}
QUICK = {"size": 16, "cache": 4, "pairs": 20_000, "seconds": 0.2, "rounds": 1}

Figures = dict[str, Any]
Rows = list[Figures]

console = rich.console.Console(width=150)


def _row(subject: str, kind: str, workload: str, threads: int, operations: int) -> Figures:
    names = {"subject": subject, "kind": kind, "workload": workload, "threads": threads}
    return {**names, "operations": operations}


def _pages(path: str, sizes: Figures, options: list[str], commands: list[str]) -> Rows:
    """One round of cubby-mmap: all kinds, in one process after the other, for each workload."""
    program = built_driver("cubby-mmap")
    command = [str(program), "--path", path, "--json", "--rounds", "1", *options]
    command += ["--kinds", ",".join(PAGE_KINDS), "--slice", str(int(sizes["seconds"] * 1000))]
    rows = []
    for workload in PAGE_WORKLOADS:
        for threads in sizes["threads"]:
            chosen = ["--workloads", workload, "--threads", str(threads)]
            answer, samples = profile([*command, *chosen], commands)
            for told in answer["rows"]:
                begin_ns, wall_ns = told["begin_ns"], told["wall_ns"]
                row = _row("pages", told["kind"], workload, threads, told["accesses"])
                row |= {"wall_ns": wall_ns, "cpu_ns": told["process_ns"] + told["kernel_ns"]}
                row["parts"] = by_part(samples, program, begin_ns, begin_ns + wall_ns)
                rows.append(row)
    return rows


def _store(driver: Driver, path: str, sizes: Figures, limits: Figures) -> Rows:
    """One round of cubby-gets: all kinds for each workload."""
    rows = []
    for workload in STORE_WORKLOADS:
        for threads in sizes["threads"]:
            for kind in STORE_KINDS:
                # The first of the two brings in what there is room for.
                options = ["--workloads", f"{workload},{workload}", "--threads", str(threads)]
                options += ["--seconds", str(sizes["seconds"]), "--json"]
                command = [*driver.command(path), *options]
                with ExitStack() as stack:
                    if kind == "kernel":
                        group = stack.enter_context(memory_group(limits["kernel"]))
                        stack.enter_context(dirty_limits(limits["region"]))
                        command = group.command([*command, "--kernel-map"])
                    elif kind == "region":
                        command += ["--region-bytes", str(limits["region"])]
                    answer, samples = profile(command, driver.commands)
                told = answer["results"][1]
                wall_ns = int(told["seconds"] * 1e9)
                row = _row("store", kind, workload, threads, told["operations"])
                row |= {"wall_ns": wall_ns, "cpu_ns": None}
                end_ns = told["begin_ns"] + wall_ns
                row["parts"] = by_part(samples, driver.program, told["begin_ns"], end_ns)
                rows.append(row)
    return rows


def _store_limits(driver: Driver, path: str, sizes: Figures) -> Figures:
    """Bytes for the region's cache, and for a process on the kernel's mmap."""
    blocks = sizes["pairs"] * (driver.value_bytes + driver.key_bytes) * 2 // BLOCK_BYTES
    cache = blocks // 4 * BLOCK_BYTES
    with memory_group(64 << 30) as group:  # what is taken besides, the log in memory included
        options = ["--workloads", "update", "--seconds", str(sizes["seconds"])]
        profile(group.command([*driver.command(path), *options, "--json"]), driver.commands)
        besides = group.peak_bytes()
    if besides is None:
        raise click.ClickException("this kernel does not tell how much memory a group has had")
    return {"region": cache, "kernel": cache + besides}


def _sum_up(rows: Rows) -> Rows:
    """The rounds of each together: microseconds by operation."""
    summaries: dict[tuple[Any, ...], Figures] = {}
    for row in rows:
        names = ("subject", "workload", "threads", "kind")
        total = summaries.setdefault(
            tuple(row[name] for name in names),
            {**{name: row[name] for name in names}, "operations": 0, "wall_ns": 0, "parts": {}},
        )
        total["operations"] += row["operations"]
        total["wall_ns"] += row["wall_ns"]
        for part, ns in row["parts"].items():
            total["parts"][part] = total["parts"].get(part, 0) + ns
    for total in summaries.values():
        operations, wall_ns = total["operations"], total["wall_ns"]
        waiting = max(total["threads"] * wall_ns - sum(total["parts"].values()), 0)
        parts = {**total["parts"], "waiting": waiting}
        total["rate"] = operations * 1e9 / wall_ns
        total["parts"] = {part: ns / operations / 1000 for part, ns in parts.items()}
    return list(summaries.values())


def _tables(summaries: Rows) -> None:
    for subject in dict.fromkeys(summary["subject"] for summary in summaries):
        title = f"{subject}: microseconds by operation"
        table = rich.table.Table(title=title, box=rich.box.SIMPLE, title_justify="left")
        for heading in ("", "T", "on"):
            table.add_column(heading, no_wrap=True)
        for heading in ("k/s", *PARTS, "waiting"):
            table.add_column(heading, justify="right")
        for summary in summaries:
            if summary["subject"] == subject:
                cells = [f"{us:.2f}" if us >= 0.005 else "" for us in summary["parts"].values()]
                names = (summary["workload"], str(summary["threads"]), SHOWN[summary["kind"]])
                table.add_row(*names, f"{summary['rate'] / 1e3:,.0f}", *cells)
        console.print(table)


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option("--quick", is_flag=True, help="So small that the figures mean nothing.")
@click.option("--size", type=click.IntRange(1), default=512, help="Pages: MiB of them.")
@click.option("--cache", type=click.IntRange(1), default=128, help="Pages: MiB in memory.")
@click.option("--pairs", type=click.IntRange(1), default=500_000, help="Of the store.")
@click.option("--threads", default="1,2", help="Numbers of them.")
@click.option("--seconds", type=click.FloatRange(0.01), default=1.5, help="Each time.")
@click.option("--rounds", type=click.IntRange(1), default=3)
@click.option("--results", type=click.Path(path_type=Path), default=Path("bench/results"))
def main(quick: bool, threads: str, results: Path, **sizes: Any) -> None:
    """Replaced by the module's docstring."""
    sizes |= {**(QUICK if quick else {}), "threads": [int(text) for text in threads.split(",")]}
    why_not = why_no_profile() or why_no_memory_group()
    if why_not is not None:
        raise click.ClickException(why_not)
    size, cache = sizes["size"] * MEBIBYTE, sizes["cache"] * MEBIBYTE
    driver = Driver(built_driver("cubby-gets"), sizes["pairs"], 384)
    content: Figures = {"benchmark": "breakdown", "machine": describe_machine(), "sizes": sizes}
    content |= {"commands": driver.commands, "notes": [], "rows": []}
    with ended_in_order(), ExitStack() as stack:
        path, content["device"] = find_place(stack, None, size, None)
        options = ["--bytes", str(size), "--cache", str(cache)]
        with ExitStack() as pages:
            command = [str(built_driver("cubby-mmap")), "--path", path, *options[2:], "--json"]
            group = limit_kernel(pages, command, cache, size, content)
            for _ in range(sizes["rounds"]):
                content["rows"] += _pages(path, sizes, [*options, *group], driver.commands)
        path = stack.enter_context(zram_device(sizes["pairs"] * 400 * 8 + 64 * MEBIBYTE))
        driver.run(path, "load")
        limits = content["limits"] = _store_limits(driver, path, sizes)
        for _ in range(sizes["rounds"]):
            content["rows"] += _store(driver, path, sizes, limits)
    content["summaries"] = _sum_up(content["rows"])
    for note in (f"the device is {content['device']}", *content["notes"]):
        console.print(note, soft_wrap=True, highlight=False)
    _tables(content["summaries"])
    write_and_draw(results, "breakdown", content)


if __name__ == "__main__":
    main()
