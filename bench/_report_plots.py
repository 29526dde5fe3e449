"""The report's plots: matplotlib figures, one function for each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cubbydb.bench._report_data import NAMES, FioResults, YcsbResults

__all__ = ["fio_plots", "legend", "make_panels", "save", "ycsb_plots"]

COLOURS = {
    "cubby": "#0b7a4b",
    "rocksdb": "#e08e1b",
    "wiredtiger": "#4f6bd8",
    "lmdb": "#a0449a",
    "volimap": "#45a67a",
    "pread": "#b0b0b0",
    "null": "#dddddd",
    "lying": "#dddddd",
}
MIB = 1 << 20

matplotlib.use("Agg")
matplotlib.rcParams.update(
    {
        "font.size": 11,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": 12,
        "axes.titleweight": "bold",
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": "#e4e4e4",
        "legend.frameon": False,
        "svg.fonttype": "none",
        "svg.hashsalt": "cubbydb",
    }
)


def save(figure: Figure, path: Path) -> None:
    """Write it as its name ends, PNG or SVG; an SVG of the same figures is the same file."""
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=110, bbox_inches="tight", facecolor="white", metadata=metadata)


def legend(figure: Figure, axes: Axes) -> None:
    """Draw one legend above all panels."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles, labels, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=max(len(labels), 1)
    )


def make_panels(rows: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Make a figure of panels; height is a row's."""
    figure = Figure(figsize=(width, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, [panel for row in axes for panel in row]


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def _mark(axes: Axes, at: float, height: float, text: str) -> None:
    """Write our number on top of our bar."""
    axes.annotate(
        text,
        (at, height),
        ha="center",
        va="bottom",
        fontsize=9,
        fontweight="bold",
        color=COLOURS["cubby"],
    )


def _bars(
    axes: Axes,
    groups: list[str],
    engines: list[str],
    figure_of: Callable[[str, str], dict[str, Any] | None],
    scale: float,
) -> None:
    """Groups of bars, an engine each, with whiskers from least to most; ours has its number."""
    width = 0.84 / max(len(engines), 1)
    for index, engine in enumerate(engines):
        places, heights, below, above = [], [], [], []
        for place, group in enumerate(groups):
            figure = figure_of(engine, group)
            if figure is None:
                continue
            places.append(place + (index - (len(engines) - 1) / 2) * width)
            heights.append(figure["median"] * scale)
            below.append((figure["median"] - figure["min"]) * scale)
            above.append((figure["max"] - figure["median"]) * scale)
        axes.bar(
            places,
            heights,
            width * 0.94,
            yerr=(below, above),
            color=COLOURS[engine],
            label=NAMES[engine],
            error_kw={"elinewidth": 1, "ecolor": "#444444"},
        )
        if engine == "cubby":
            for at, height, over in zip(places, heights, above, strict=True):
                _mark(axes, at, height + over, _number(height))
    axes.set_xticks(range(len(groups)), groups)
    axes.set_ylim(bottom=min(0.0, axes.get_ylim()[0]))


def _throughput(results: YcsbResults) -> Figure:
    kinds, counts = results.distributions(), results.threads()
    figure, panels = make_panels(len(counts), len(kinds), 5.6 * len(kinds), 3.2)
    panel = iter(panels)
    for threads in counts:
        for kind in kinds:
            axes = next(panel)
            _bars(
                axes,
                results.workloads_with(kind),
                results.engines,
                lambda e, w, k=kind, t=threads: results.figure(e, w, k, t, "ops_per_second"),  # type: ignore[misc]
                1e-3,
            )
            axes.set_title(f"{kind} keys, {threads} threads")
            axes.set_ylabel("thousand operations / s")
    legend(figure, panels[0])
    return figure


def _cdf(axes: Axes, results: YcsbResults, workload: str, kind: str, threads: int) -> None:
    for engine in results.engines:
        cell = results.cell(engine, workload, kind, threads)
        buckets = cell["buckets"].get("READ", []) if cell is not None else []
        total = sum(count for _, count in buckets)
        if total == 0:
            continue
        passed, ends, shares = 0, [], []
        for end_ns, count in buckets:
            passed += count
            ends.append(end_ns / 1e3)
            shares.append(max(1 - passed / total, 1e-5))
        axes.step(
            ends,
            shares,
            where="post",
            color=COLOURS[engine],
            label=NAMES[engine],
            linewidth=2.6 if engine == "cubby" else 1.6,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_ylim(1e-4, 1.05)
    axes.set_yticks(
        [1, 0.5, 0.1, 0.01, 0.001, 0.0001], ["all", "half", "10 %", "1 %", "0.1 %", "0.01 %"]
    )
    axes.minorticks_off()
    axes.set_xticks(
        [0.1, 1, 10, 100, 1e3, 1e4, 1e5],
        ["0.1", "1 us", "10 us", "100 us", "1 ms", "10 ms", "100 ms"],
    )
    axes.set_xlim(0.2, 2e5)
    axes.grid(True, axis="x")
    axes.set_title(f"workload {workload}, {kind} keys, {threads} threads")
    axes.set_ylabel("reads that take longer")
    axes.set_xlabel("than this time")


def _latency(results: YcsbResults) -> Figure | None:
    threads = results.threads()[-1]
    wanted = [
        (workload, kind)
        for workload in ("C", "A")
        for kind in results.distributions()
        if any(results.cell(engine, workload, kind, threads) for engine in results.engines)
    ]
    if not wanted:
        return None
    columns = min(2, len(wanted))
    figure, panels = make_panels(-(-len(wanted) // columns), columns, 5.6 * columns, 3.3)
    for axes, (workload, kind) in zip(panels, wanted, strict=False):
        _cdf(axes, results, workload, kind, threads)
    legend(figure, panels[0])
    return figure


def _scaling(results: YcsbResults) -> Figure | None:
    counts = results.threads()
    wanted = [
        (workload, kind)
        for workload in ("C", "A")
        for kind in results.distributions()
        if workload in results.workloads_with(kind)
    ]
    if len(counts) < 2 or not wanted:
        return None
    figure, panels = make_panels(1, len(wanted), 3.4 * len(wanted), 3.0)
    for axes, (workload, kind) in zip(panels, wanted, strict=True):
        for engine in results.engines:
            rates = [
                (results.median(engine, workload, kind, count, "ops_per_second") or 0) / 1e3
                for count in counts
            ]
            axes.plot(
                [str(count) for count in counts],
                rates,
                marker="o",
                color=COLOURS[engine],
                label=NAMES[engine],
                linewidth=2.6 if engine == "cubby" else 1.6,
            )
        axes.set_ylim(bottom=0)
        axes.set_title(f"{workload}, {kind} keys")
        axes.set_xlabel("threads")
    panels[0].set_ylabel("thousand operations / s")
    legend(figure, panels[0])
    return figure


def _cost(results: YcsbResults) -> Figure | None:
    """CPU per operation: what the engine itself takes, and on top of it the device's part."""
    kinds, threads = results.distributions(), results.threads()[0]
    figure, panels = make_panels(1, len(kinds), 5.6 * len(kinds), 3.2)
    is_empty = True
    for axes, kind in zip(panels, kinds, strict=True):
        groups = results.workloads_with(kind)
        engines = [engine for engine in results.engines if engine != "null"]
        width = 0.84 / max(len(engines), 1)
        for index, engine in enumerate(engines):
            for place, workload in enumerate(groups):
                gross = results.median(engine, workload, kind, threads, "cpu_gross_ns")
                net = results.median(engine, workload, kind, threads, "cpu_net_ns")
                if gross is None:
                    continue
                is_empty = False
                own = max(gross if net is None else net, 0) / 1e3
                at = place + (index - (len(engines) - 1) / 2) * width
                label = NAMES[engine] if place == 0 else None
                axes.bar(at, own, width * 0.94, color=COLOURS[engine], label=label)
                axes.bar(
                    at,
                    gross / 1e3 - own,
                    width * 0.94,
                    bottom=own,
                    color=COLOURS[engine],
                    alpha=0.35,
                )
                if engine == "cubby":
                    _mark(axes, at, gross / 1e3, f"{gross / 1e3:.1f}")
        axes.set_xticks(range(len(groups)), groups)
        axes.set_title(f"{kind} keys, {threads} threads")
        axes.set_ylabel("us of CPU / operation")
    legend(figure, panels[0])
    return None if is_empty else figure


def _device(results: YcsbResults) -> Figure:
    kind, threads = results.distributions()[-1], results.threads()[0]
    figure, panels = make_panels(1, 2, 11.2, 3.2)
    for axes, name, label in (
        (panels[0], "device_reads_per_op", "device reads / operation"),
        (panels[1], "device_written_bytes_per_op", "bytes written / operation"),
    ):
        _bars(
            axes,
            results.workloads_with(kind),
            results.engines,
            lambda e, w, n=name: results.figure(e, w, kind, threads, n),  # type: ignore[misc]
            1,
        )
        axes.set_title(f"{label}, {kind} keys")
    legend(figure, panels[0])
    return figure


def _horizontal(axes: Axes, values: dict[str, float], label: str, style: str) -> None:
    """A bar and its number for each engine, the first at the top."""
    engines = [engine for engine in reversed(NAMES) if engine in values]
    bars = axes.barh(
        [NAMES[engine] for engine in engines],
        [values[engine] for engine in engines],
        color=[COLOURS[engine] for engine in engines],
    )
    axes.bar_label(bars, [format(values[engine], style) for engine in engines], padding=4)
    axes.margins(x=0.18)
    axes.grid(False)
    axes.set_title(label)


def _memory_and_space(results: YcsbResults) -> Figure:
    figure, panels = make_panels(1, 3, 13.5, 2.6)
    terms = results.content["terms"]
    placement, peak = {}, {}
    for engine in results.engines:
        cells = [cell for cell in results.cells if cell["engine"] == engine]
        found = [c["figures"]["placement_bytes_per_pair"]["max"] for c in cells
                 if "placement_bytes_per_pair" in c["figures"]]  # fmt: skip
        if found:
            placement[engine] = max(found)
        found = [c["figures"]["peak_resident_bytes"]["max"] for c in cells if c["figures"]]
        if found and engine != "null":
            peak[engine] = max(found) / MIB
    _horizontal(panels[0], placement, "DRAM to find a pair, bytes / pair", ".3f")
    if placement:
        panels[0].set_xscale("log")
        panels[0].set_xlim(min(placement.values()) / 4, max(placement.values()) * 12)
    _horizontal(panels[1], peak, "most memory of the process, MiB", ",.0f")
    if terms["memory_bytes"]:
        panels[1].axvline(terms["memory_bytes"] / MIB, color="#cc3333", linestyle="--", linewidth=1)
    space = {
        engine: load["space"]["physical_bytes"] / terms["data_bytes"]
        for engine, load in results.content["engines"].items()
        if engine in NAMES
    }
    _horizontal(panels[2], space, "physical space / (keys + values)", ".2f")
    panels[2].axvline(1, color="#888888", linestyle="--", linewidth=1)
    return figure


def ycsb_plots(results: YcsbResults) -> Iterator[tuple[str, str, str, Figure]]:
    """Name, title, caption and figure of each plot that this file has data for."""
    yield (
        "throughput",
        "Operations per second: higher is better",
        "A: half updates; B: 5 % updates; C: reads alone; D: reads of the newest, 5 % inserts; F: "
        "half are read, changed and written back. Bars are medians of the rounds, whiskers go from "
        "the least to the most. Grey is the device's own limit for a store without a cache: one "
        "read per get, one read and one write per put.",
        _throughput(results),
    )
    latency = _latency(results)
    if latency is not None:
        yield (
            "latency",
            "How long reads take: further left and lower is better",
            "How many of the reads take longer than a time. Where a curve crosses 1 % is the 99th "
            "percentile.",
            latency,
        )
    cost = _cost(results)
    if cost is not None:
        yield (
            "cost",
            "CPU for an operation: lower is better",
            "Solid is what the engine itself takes, pale on top of it what reading and writing the "
            "device costs, which a real drive does by itself.",
            cost,
        )
    yield (
        "device",
        "Reads and writes of the device: lower is better",
        "Writes include those that an engine puts off. A cache saves reads; a store without one "
        "makes one for each get.",
        _device(results),
    )
    yield (
        "memory",
        "Memory and space: lower is better",
        "Left: what has to be in memory to find any pair with one read. Middle: what the process "
        "had resident at most; the dashed line is the limit, which counts the page cache, too. "
        "Right: after loading, at rest.",
        _memory_and_space(results),
    )
    scaling = _scaling(results)
    if scaling is not None:
        yield (
            "scaling",
            "More threads: higher is better",
            "The machine has as many processors as the head of the page says.",
            scaling,
        )


def fio_plots(results: FioResults) -> Iterator[tuple[str, str, str, Figure]]:
    """One plot: a panel for each device, IOPS by depth."""
    devices = results.content["devices"]
    figure, panels = make_panels(1, len(devices), 3.6 * len(devices), 3.2)
    styles = {"randread": "-", "mix": ":", "randwrite": "--"}
    for axes, device in zip(panels, devices, strict=True):
        for workload, style in styles.items():
            rows = [row for row in device["rows"] if row["workload"] == workload]
            depths = [row["depth"] for row in rows]
            iops = [sum(row["fio"][way]["iops"] for way in ("read", "write") if row["fio"][way])
                    for row in rows]  # fmt: skip
            axes.plot(depths, [v / 1e3 for v in iops], style, color="#777777", marker=".",
                      label=f"fio {workload}")  # fmt: skip
            ours = [(row["depth"], row["store_ops_per_second"]) for row in rows
                    if row.get("store_ops_per_second")]  # fmt: skip
            if ours:
                name = "gets" if workload == "randread" else "updates"
                axes.plot(
                    [depth for depth, _ in ours],
                    [rate / 1e3 for _, rate in ours],
                    style,
                    marker="o",
                    color=COLOURS["cubby"],
                    linewidth=2.2,
                    label=f"CubbyDB {name}",
                )
        axes.set_xscale("log", base=2)
        depths = sorted({row["depth"] for row in device["rows"]})
        axes.set_xticks(depths, [str(depth) for depth in depths])
        axes.minorticks_off()
        axes.set_xlabel("requests in flight")
        axes.set_ylim(bottom=0)
        axes.set_title(str(device.get("kind", device.get("name", ""))))
    panels[0].set_ylabel("thousand / s")
    legend(figure, panels[0])
    yield (
        "fio",
        "The device as fio measures it, and the store on it: higher is better",
        "Grey is fio on the very blocks that the store reads and writes; green the store's own "
        "gets and updates. The emulated drive (csd) is reached by fio over NBD, by the store "
        "directly.",
        figure,
    )
