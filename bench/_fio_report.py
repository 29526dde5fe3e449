"""What `cubby bench fio` has found out: rows, their table, and their place in the results."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from cubbydb.bench._fio import FioFigures

__all__ = ["DeviceReport", "Row", "print_table"]

TABLE_COLUMNS = 118


@dataclass
class Row:
    """A workload at a queue depth on one device, in all rounds."""

    workload: str
    depth: int
    ioengine: str
    fio: list[FioFigures] = field(default_factory=list)
    operation: str | None = None  # the store's; None where it has no such workload
    store: list[float] = field(default_factory=list)  # per second
    blocks_written: list[float] = field(default_factory=list)  # by the store, per operation

    def fio_median(self, figure: Callable[[FioFigures], float]) -> float:
        """A figure of fio's in the median round."""
        return statistics.median(map(figure, self.fio))

    @property
    def store_median(self) -> float | None:
        """Operations of the store per second in the median round."""
        return statistics.median(self.store) if self.store else None

    @property
    def share(self) -> float | None:
        """The median of the rounds' ratios of the store's operations to fio's."""
        if not self.store:
            return None
        rounds = zip(self.store, self.fio, strict=True)
        return statistics.median(store / fio.iops for store, fio in rounds)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "workload": self.workload,
            "depth": self.depth,
            "ioengine": self.ioengine,
            "fio": median_of([asdict(figures) for figures in self.fio]),
            "fio_iops": [round(figures.iops, 1) for figures in self.fio],
            "store_operation": self.operation,
            "store_ops_per_second": self.store_median,
            "store_rounds": self.store,
            "store_blocks_written_per_operation": median_of(self.blocks_written),
            "share": self.share,
        }


def median_of(rounds: list[Any]) -> Any:
    """The median of numbers; of objects with the same fields one whose numbers are medians."""
    if not rounds or rounds[0] is None:
        return None
    if isinstance(rounds[0], dict):
        return {name: median_of([each[name] for each in rounds]) for name in rounds[0]}
    return round(statistics.median(rounds), 3)


@dataclass
class DeviceReport:
    """One device: what was found, and how."""

    kind: str
    store: str  # the name that the store was opened by
    by_nbd: bool  # fio went through NBD, and the store did not
    reads_are_absent: bool  # of keys that the store does not hold
    rows: list[Row] = field(default_factory=list)
    probes: dict[str, float | None] = field(default_factory=dict)  # I/O engine -> IOPS
    space: dict[str, Any] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "kind": self.kind,
            "store": self.store,
            "fio_goes_through_nbd": self.by_nbd,
            "gets_are_of_absent_keys": self.reads_are_absent,
            "ioengine_probes_iops": self.probes,
            "space": self.space,
            "rows": [row.as_json() for row in self.rows],
            "commands": self.commands,
        }

    def notes(self) -> list[str]:
        """What has to be known in order to read the rows."""
        notes = []
        if self.by_nbd:
            notes.append(
                f"{self.kind} (*): fio goes through NBD (nbdkit), the store opens {self.store}"
                " itself.  The share says what that path costs fio, and nothing about the store."
            )
        if self.reads_are_absent:
            notes.append(f"{self.kind}: the store was asked, from Python, for keys it has not.")
        if self.space:
            notes.append(f"{self.kind}: {self._space_note()}")
        for row in self.rows:
            if row.operation == "update":
                blocks = statistics.median(row.blocks_written)
                notes.append(
                    f"{self.kind}: the store wrote {blocks:.2f} blocks per update before the"
                    " time was up, fio 1 per write."
                )
                break
        return notes

    def _space_note(self) -> str:
        store, fio = self.space["store"], self.space["fio"]
        sizes = f"{store['block_zstd_bytes']:,.0f} B of a block of the store"
        text = f"zstd makes {sizes}, {fio['block_zstd_bytes']:,.0f} B of one that fio wrote"
        if store["logical_bytes"]:
            shares = [each["physical_bytes"] / each["logical_bytes"] for each in (store, fio)]
            text += f"; the device holds them in {shares[0]:.1%} and {shares[1]:.1%} of their size"
        return f"{text}."


def print_table(devices: list[DeviceReport]) -> None:
    """Print all rows, and what has to be known with them."""
    # Here, because the command cubby would pay for it whatever it does.
    import rich.box
    import rich.console
    import rich.table

    console = rich.console.Console(width=TABLE_COLUMNS, highlight=False)
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for column in ("device", "workload"):
        table.add_column(column, no_wrap=True)
    for column in ("depth", "ioengine", "fio IOPS", "mean us", "p99 us"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("store", no_wrap=True)
    for column in ("ops/s", "of fio"):
        table.add_column(column, justify="right", no_wrap=True)
    for device in devices:
        for row in device.rows:
            mark = " *" if device.by_nbd else ""
            table.add_row(
                device.kind,
                row.workload,
                f"{row.depth}",
                row.ioengine,
                f"{row.fio_median(lambda figures: figures.iops):,.0f}",
                f"{row.fio_median(lambda figures: figures.mean_ns) / 1e3:,.1f}",
                f"{row.fio_median(lambda figures: figures.p99_ns) / 1e3:,.1f}",
                row.operation or "-",
                "-" if row.store_median is None else f"{row.store_median:,.0f}",
                "-" if row.share is None else f"{row.share:.0%}{mark}",
            )
        table.add_section()
    console.print(table)
    for device in devices:
        for note in device.notes():
            console.print(note, markup=False)
    if any(row.workload == "mix" for device in devices for row in device.rows):
        console.print("mix: 70 % reads; the store's driver has no such workload.")
