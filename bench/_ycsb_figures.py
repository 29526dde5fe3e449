"""What is said about a run: one number for each thing measured, from what the driver reports."""

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import Any

from cubbydb.bench._places import Space

__all__ = ["Cell", "DeviceCost", "figures_of", "spread"]

PAGE_BYTES = 4096
WIDER = 1.1


@dataclass(frozen=True)
class DeviceCost:
    """Nanoseconds of CPU for a 4 KiB read and write, as the engine pread takes them."""

    read_ns: float
    write_ns: float

    @classmethod
    def measured(cls, gets: dict[str, Any], puts: dict[str, Any]) -> "DeviceCost":
        """From a run of gets alone (a read each) and of puts alone (a read and a write each)."""
        read_ns = _cpu_ns(gets) / gets["operations"]
        return cls(read_ns, _cpu_ns(puts) / puts["operations"] - read_ns)


def _cpu_ns(run: dict[str, Any]) -> float:
    """CPU of the process, and of the kernel's threads that work for it."""
    spent = run["spent"]
    return float(spent["process_cpu_ns"] + spent["kernel_cpu_ns"])


def figures_of(
    run: dict[str, Any], cost: DeviceCost | None, before: Space, after: Space
) -> dict[str, float]:
    """The figures of one run; what was not measured is left out."""
    spent, operations = run["spent"], run["operations"]
    figures = {
        "ops_per_second": run["ops_per_second"],
        "cpu_gross_ns": _cpu_ns(run) / operations,
        "resident_bytes": run["resident_bytes"],
        "peak_resident_bytes": run["peak_resident_bytes"],
        "settle_seconds": run["settle_seconds"],
        "stolen_share": spent["stolen_cpu_ns"] / 1e9 / run["seconds"],
    }
    for kind, measured in run["kinds"].items():
        latency = measured["latency_ns"]
        name = kind.lower().replace("-", "_")
        figures[f"{name}_mean_ns"] = latency["mean"]
        figures[f"{name}_max_ns"] = latency["max"]
        for percent, value in latency["percentile"].items():
            figures[f"{name}_p{percent.replace('.', '')}_ns"] = value
        if "intended_ns" in measured:
            figures[f"{name}_intended_p99_ns"] = measured["intended_ns"]["percentile"]["99"]
    if run["placement_bytes"]:
        figures["placement_bytes_per_pair"] = run["placement_bytes"] / run["record_count"]
    if run["group_peak_bytes"] is not None:
        figures["group_peak_bytes"] = run["group_peak_bytes"]
    written = None
    if run["has_device_counters"]:
        read_pages = spent["read_bytes"] / PAGE_BYTES
        written_pages = spent["written_bytes"] / PAGE_BYTES
        # From the opening to the end of what was put off: a run begins with a buffer that the
        # warm-up has filled, and ends with one.
        written = sum(run[phase]["written_bytes"] for phase in ("warming", "spent", "settling"))
        figures["device_reads_per_op"] = spent["reads"] / operations
        figures["device_read_bytes_per_op"] = spent["read_bytes"] / operations
        figures["device_writes_per_op"] = spent["writes"] / operations
        figures["device_written_bytes_per_op"] = written / (operations + run["warm_operations"])
        if cost is not None:
            device_ns = read_pages * cost.read_ns + written_pages * cost.write_ns
            figures["cpu_net_ns"] = figures["cpu_gross_ns"] - device_ns / operations
    asked = run["warm_user_bytes_written"]
    asked += sum(kind["user_bytes_written"] for kind in run["kinds"].values())
    if asked and written is not None:
        figures["write_amplification"] = written / asked
    if asked and before.media_written_bytes is not None and after.media_written_bytes is not None:
        media = after.media_written_bytes - before.media_written_bytes
        figures["media_write_amplification"] = media / asked
    return figures


def _coarser(buckets: Counter[int]) -> list[list[int]]:
    """The same counts in fewer buckets, each a tenth wider than the one before, at least."""
    coarse: list[list[int]] = []
    for end_ns, count in sorted(buckets.items()):
        if len(coarse) > 1 and end_ns < coarse[-2][0] * WIDER:
            coarse[-1] = [end_ns, coarse[-1][1] + count]
        else:
            coarse.append([end_ns, count])
    return coarse


def spread(values: list[float]) -> dict[str, Any]:
    """The median, the least and the greatest of the rounds, and all of them."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "rounds": values,
    }


class Cell:
    """One engine at one workload with so many threads: its rounds."""

    def __init__(self, engine: str, workload: str, distribution: str, threads: int) -> None:
        self.engine = engine
        self.workload = workload
        self.distribution = distribution
        self.threads = threads
        self.rounds: list[dict[str, float]] = []
        self.failure: str | None = None
        self._buckets: dict[str, Counter[int]] = {}

    def add(self, run: dict[str, Any], figures: dict[str, float]) -> None:
        """Add a round."""
        self.rounds.append(figures)
        for kind, measured in run["kinds"].items():
            buckets = self._buckets.setdefault(kind, Counter())
            for end_ns, count in measured["buckets"]:
                buckets[end_ns] += count

    def median(self, name: str) -> float | None:
        """The median of a figure's rounds; None if it was not measured."""
        values = [figures[name] for figures in self.rounds if name in figures]
        return statistics.median(values) if values else None

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        names = sorted({name for figures in self.rounds for name in figures})
        values = {
            name: [figures[name] for figures in self.rounds if name in figures] for name in names
        }
        return {
            "engine": self.engine,
            "workload": self.workload,
            "distribution": self.distribution,
            "threads": self.threads,
            "failure": self.failure,
            "figures": {name: spread(values[name]) for name in names},
            "buckets": {kind: _coarser(buckets) for kind, buckets in self._buckets.items()},
        }
