"""The plots of Nibble's, VoliMap's and mmapio's benchmarks: a figure for each file of results."""

from collections.abc import Callable
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cubbydb.bench._report_plots import legend, make_panels
from cubbydb.bench.churn import phase_ns
from cubbydb.bench.utilisation import SIMULATED, written

__all__ = ["PLOTS"]

NIBBLE, NIBBLE_2 = "#0b7a4b", "#4f6bd8"
PEERS = ("#e08e1b", "#a0449a")
GREY = "#999999"
GREENS = ("#a8d8c0", "#74bf9b", "#45a67a", "#0b7a4b", "#06492c")

Results = dict[str, Any]


def _fragment(content: Results) -> Figure:
    """Figure 14: bytes taken by byte alive, after the second filling; a group for each pair."""
    figure, (axes,) = make_panels(1, 1, 11.2, 3.4)
    runs = content["runs"]
    groups = list(dict.fromkeys((run["first"], run["second"]) for run in runs))
    engines = list(dict.fromkeys(run["engine"] for run in runs))
    width = 0.84 / len(engines)
    for index, engine in enumerate(engines):
        steps = {(r["first"], r["second"]): r["refilled"] for r in runs if r["engine"] == engine}
        bars = axes.bar(
            [place + (index - (len(engines) - 1) / 2) * width for place in range(len(groups))],
            [steps[group]["resident_bytes"] / steps[group]["live_bytes"] for group in groups],
            width * 0.94,
            color=(NIBBLE, *PEERS)[index % 3],
            label={"nibble": "Nibble", "unordered": "std::unordered_map"}.get(engine, engine),
        )
        axes.bar_label(bars, fmt="%.2f", fontsize=8, padding=2)
    axes.axhline(1, color=GREY, linewidth=1, linestyle="--")
    axes.set_xticks(range(len(groups)), [f"{first}\nto {second}" for first, second in groups])
    axes.set_ylabel("resident / live bytes")
    legend(figure, axes)
    return figure


def _mix(axes: Axes, content: Results) -> None:
    """Figure 15: what the trace consists of, from its begin to its end."""
    marks = content["runs"][0]["marks"]
    kinds = ("inserts", "gets", "updates", "deletes")
    totals = [sum(mark[kind] for kind in kinds) for mark in marks]
    axes.stackplot(
        [mark["end"] / 1e6 for mark in marks],
        *[
            [100 * mark[kind] / total for mark, total in zip(marks, totals, strict=True)]
            for kind in kinds
        ],
        labels=kinds,
        colors=("#0b7a4b", "#d8d8d8", "#74bf9b", "#e08e1b"),
    )
    axes.set_title("the trace")
    axes.set_xlabel("million operations")
    axes.set_ylabel("% of operations")
    axes.legend(loc="center", fontsize=8)


def _churn(content: Results) -> Figure:
    """Figures 15 to 17: the trace, what is taken meanwhile, and what an operation costs."""
    figure, (mix, taken, cost) = make_panels(1, 3, 13.5, 3.6)
    _mix(mix, content)
    nibble = [run for run in content["runs"] if run["runs"][0]["engine"] == "nibble"]
    peers = [run for run in content["runs"] if run["runs"][0]["engine"] != "nibble"]
    colours = [(run, GREENS[index % len(GREENS)]) for index, run in enumerate(nibble)]
    colours += list(zip(peers, PEERS, strict=False))
    for run, colour in colours:
        points = [
            (mark["end"] / 1e6, sample[2] / mark["live_bytes"])
            for mark, sample in zip(run["marks"], run["runs"][0]["samples"], strict=True)
            if mark["phase"] == "churn"
        ]
        taken.plot(*zip(*points, strict=True), color=colour, label=run["name"])
    taken.set_title("resident / live bytes")
    taken.set_xlabel("million operations")
    taken.set_ylim(bottom=0.9)
    rates = [1e6 / phase_ns(run, run["runs"][0], "churn", 0) for run in nibble]
    cost.plot([run["live_percent"] for run in nibble], rates, marker="o", color=NIBBLE)
    for run, colour in zip(peers, PEERS, strict=False):
        rate = 1e6 / phase_ns(run, run["runs"][0], "churn", 0)
        cost.axhline(rate, color=colour, linestyle="--")
    cost.set_ylim(bottom=0)
    cost.set_title("thousand operations / s of processor time")
    cost.set_xlabel("% of Nibble's log alive at most")
    legend(figure, taken)
    return figure


def _lines(axes: Axes, run: Results, gets_percent: int) -> None:
    for append_only, name, colour in ((True, "Nibble", NIBBLE), (False, "Nibble-2", NIBBLE_2)):
        points = [
            (100 * table["utilisation"], 1e3 / mix["thread_ns"])
            for table in run["tables"]
            if table["append_only"] == append_only
            for mix in table.get("mixes", [])
            if mix["gets_percent"] == gets_percent
        ]
        axes.plot(*zip(*points, strict=True), marker="o", color=colour, label=name)
    axes.set_ylim(bottom=0)
    axes.set_xlim(0, 100)


def _written(axes: Axes, run: Results) -> None:
    points = [
        (100 * table["utilisation"], written(table))
        for table in run["tables"]
        if table["append_only"] and table["put_bytes"] > 0
    ]
    axes.plot(*zip(*points, strict=True), marker="o", color=NIBBLE)
    simulated = SIMULATED[run["keys"]]
    axes.plot(
        list(simulated),
        list(simulated.values()),
        color=GREY,
        linestyle="--",
        marker="x",
        label="simulated",
    )
    axes.set_yscale("log", base=2)
    ticks = (1, 2, 4, 8, 16, 32)
    axes.set_yticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlim(0, 100)
    axes.legend(fontsize=8)


def _utilisation(content: Results) -> Figure:
    """Figures 18 to 20 and 29 to 31: a row for each distribution of keys."""
    gets = (100, 95, 50, 0)
    runs = content["runs"][:2]
    figure, panels = make_panels(len(runs), len(gets) + 1, 15.0, 2.9)
    panel = iter(panels)
    for run in runs:
        for percent in gets:
            axes = next(panel)
            _lines(axes, run, percent)
            axes.set_title(f"{run['keys']}, {percent} % gets")
            if percent == gets[0]:
                axes.set_ylabel("million / s of processor time")
        axes = next(panel)
        _written(axes, run)
        axes.set_title("written per byte put")
    for axes in panels[-len(gets) - 1 :]:
        axes.set_xlabel("% of the log alive")
    legend(figure, panels[0])
    return figure


def _sweep(content: Results) -> Figure:
    """Figures 21 to 24: a column for each parameter, a line for each size of values."""
    factors = ("segment", "block", "cleaners")
    first = content["runs"][0]
    figure, panels = make_panels(2, len(factors), 11.2, 2.8)
    for index, factor in enumerate(factors):
        above, below = panels[index], panels[index + len(factors)]
        for run, colour in zip(content["runs"], (NIBBLE, PEERS[0]), strict=False):
            default = {"segment": run["tables"][0]["segment_bytes"], "block": 65536, "cleaners": 0}
            points = sorted(
                (
                    int(table["varied"].partition("=")[2] or default[factor]),
                    1e3 / table["mixes"][0]["process_ns"],
                    written(table),
                )
                for table in run["tables"]
                if table["varied"].partition("=")[0] in ("", factor) and not table["is_full"]
            )
            at = [point[0] / (1 if factor == "cleaners" else 1024) for point in points]
            label = f"values of {run['value_bytes']:,} B"
            above.plot(at, [p[1] for p in points], marker="o", color=colour, label=label)
            below.plot(at, [p[2] for p in points], marker="o", color=colour)
            for axes in (above, below):
                if factor != "cleaners":
                    axes.set_xscale("log", base=2)
                ticks = sorted({*axes.get_xticks(), *at}) if run is not first else at
                axes.set_xticks(ticks, [f"{value:.0f}" for value in ticks])
        above.set_title(factor if factor == "cleaners" else f"{factor}, KiB")
        above.set_ylim(bottom=0)
        below.set_ylim(bottom=1)
    panels[0].set_ylabel("million puts / s")
    panels[len(factors)].set_ylabel("written per byte put")
    legend(figure, panels[0])
    return figure


ORDERED_STEPS = (
    ("hit", "get of a key that is there, ns"),
    ("miss", "get of one that is not, ns"),
    ("put", "put into an empty map, ns"),
    ("range", "100 pairs from a key on, ns each"),
    ("scan", "all pairs in order, ns each"),
    ("bytes_per_key", "bytes by key"),
)
ORDERED_MAPS = {
    "volimap": ("VoliMap", NIBBLE),
    "volimap-array": ("VoliMap, bounded", "#74bf9b"),
    "btree": ("absl::btree_map", PEERS[0]),
    "map": ("std::map", PEERS[1]),
    "array": ("sorted array", NIBBLE_2),
    "flat": ("flat hash", "#555555"),
    "libcuckoo": ("libcuckoo", "#bbbbbb"),
}


def _ordered_height(figures: Results, step: str) -> float | None:
    """A bar's height; None: the map has none. A hash table's scan is a sort of its keys."""
    if step == "bytes_per_key":
        return figures.get(step)
    found = figures.get(step) or (figures.get("sort") if step == "scan" else None)
    return None if found is None else found["median_ns"]


def _ordered(content: Results) -> Figure:
    """A panel for each thing that is done, a group for each set of keys, a bar for each map."""
    figure, panels = make_panels(2, 3, 13.5, 3.2)
    sets = content["sets"]
    width = 0.86 / len(ORDERED_MAPS)
    for axes, (step, title) in zip(panels, ORDERED_STEPS, strict=True):
        for index, (name, (label, colour)) in enumerate(ORDERED_MAPS.items()):
            heights = [_ordered_height(run["maps"].get(name, {}), step) for run in sets]
            shown = [(at, height) for at, height in enumerate(heights) if height is not None]
            axes.bar(
                [at + (index - (len(ORDERED_MAPS) - 1) / 2) * width for at, _ in shown],
                [height for _, height in shown],
                width * 0.94,
                color=colour,
                label=label,
            )
        axes.set_xticks(range(len(sets)), [run["set"] for run in sets], fontsize=9)
        axes.set_title(title, fontsize=10)
        if step != "bytes_per_key":
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
    panels[4].set_title("all pairs in order (flat: keys sorted), ns each", fontsize=10)
    legend(figure, panels[0])
    return figure


MAPPED_KINDS = {
    "kernel": ("kernel mmap, MADV_RANDOM", GREY),
    "kernel-default": ("kernel mmap", "#cccccc"),
    "pins": ("pins", NIBBLE),
    "pins-armed": ("pins, with pointers", "#74bf9b"),
    "pointers": ("plain pointers", NIBBLE_2),
    "pread": ("pread, no cache", PEERS[0]),
}
MAPPED_PANELS = {
    "read": "loads",
    "mixed": "30 % stores",
    "write": "stores",
    "zipf-read": "loads, Zipf 0.99",
    "zipf-mixed": "30 % stores, Zipf",
    "zipf-write": "stores, Zipf",
    "hit-read": "loads, all in memory",
    "scan": "all pages in order",
    "storm": "half of the pages dirtied and synced",
}


def _mapped(content: Results) -> Figure:
    """A panel for each workload, a group for each number of threads, a bar for each kind."""
    figure, panels = make_panels(3, 3, 13.5, 2.9)
    for axes, (workload, title) in zip(panels, MAPPED_PANELS.items(), strict=True):
        found = [each for each in content["summaries"] if each["workload"] == workload]
        threads = sorted({each["threads"] for each in found})
        width = 0.86 / len(MAPPED_KINDS)
        for index, (kind, (label, colour)) in enumerate(MAPPED_KINDS.items()):
            bars = [each for each in found if each["kind"] == kind]
            axes.bar(
                [
                    threads.index(each["threads"]) + (index - (len(MAPPED_KINDS) - 1) / 2) * width
                    for each in bars
                ],
                [each["cpu_ns"] / 1000 for each in bars],
                width * 0.94,
                color=colour,
                label=label,
            )
        axes.set_xticks(range(len(threads)), [f"{n} thread{'s'[: n > 1]}" for n in threads])
        axes.set_title(title, fontsize=10)
        if workload.startswith("hit"):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")
    for axes in panels[::3]:
        axes.set_ylabel("processor us by access")
    legend(figure, panels[0])
    return figure


BREAKDOWN_PARTS = {
    "program": "#222222",
    "store": "#4f6bd8",
    "copies": "#a9b6ec",
    "region": "#0b7a4b",
    "signals": "#f2c230",
    "faults": "#e08e1b",
    "page tables": "#c2410c",
    "page cache": "#a0449a",
    "system calls": "#74bf9b",
    "scheduler": "#8c6d4a",
    "device": "#c9c9c9",
    "waiting": "#efefef",
}
BREAKDOWN_KINDS = {
    "kernel": "kernel\nmmap",
    "pins": "pins",
    "pointers": "pointers",
    "region": "mmapio",
    "pread": "direct",
    "direct": "direct",
}


def _breakdown(content: Results) -> Figure:
    """A panel for each workload, a bar for each kind and number of threads, its parts stacked."""
    summaries = content["summaries"]
    names = list(dict.fromkeys((each["subject"], each["workload"]) for each in summaries))
    figure, panels = make_panels(1, len(names), 3.3 * len(names), 4.2)
    for axes, name in zip(panels, names, strict=True):
        bars = [each for each in summaries if (each["subject"], each["workload"]) == name]
        bottoms = [0.0] * len(bars)
        for part, colour in BREAKDOWN_PARTS.items():
            heights = [each["parts"][part] for each in bars]
            axes.bar(range(len(bars)), heights, 0.8, bottoms, color=colour, label=part)
            bottoms = [low + more for low, more in zip(bottoms, heights, strict=True)]
        labels = [f"{BREAKDOWN_KINDS[each['kind']]}\n{each['threads']}T" for each in bars]
        axes.set_xticks(range(len(bars)), labels, fontsize=6)
        axes.set_title(" ".join(name), fontsize=10)
    panels[0].set_ylabel("us by operation, of all threads")
    legend(figure, panels[0])
    return figure


# What "benchmark" says in a file of results -> what draws it.
PLOTS: dict[str, Callable[[Results], Figure]] = {
    "fragment": _fragment,
    "churn": _churn,
    "utilisation": _utilisation,
    "sweep": _sweep,
    "ordered": _ordered,
    "mapped": _mapped,
    "breakdown": _breakdown,
}
