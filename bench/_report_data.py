"""The results files of `cubby bench`, as the report needs them."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

__all__ = ["ENGINES", "NAMES", "FioResults", "YcsbResults", "read_results"]

# In the order in which they are drawn.
NAMES = {
    "cubby": "CubbyDB",
    "rocksdb": "RocksDB",
    "wiredtiger": "WiredTiger",
    "lmdb": "LMDB",
    "volimap": "VoliMap",
    "pread": "bare reads",
    "null": "nothing (null)",
    "lying": "lying",
}
ENGINES = tuple(NAMES)
# What is shown of a file without any workload that is known: a mix of the user's own.
WORKLOADS = {
    "A": "A: half updates",
    "B": "B: 5 % updates",
    "C": "C: reads alone",
    "D": "D: 5 % inserts, newest read",
    "E": "E: ranges",
    "F": "F: half read-modify-write",
    "P": "a mix of one's own",
}


@dataclass(frozen=True)
class YcsbResults:
    """A file of `cubby bench ycsb`."""

    name: str
    content: dict[str, Any]

    @property
    def cells(self) -> list[dict[str, Any]]:
        """One for each engine at each workload."""
        cells: list[dict[str, Any]] = self.content["cells"]
        return cells

    @property
    def medium(self) -> str:
        """What the engines kept their data on, in words."""
        medium = str(self.content["medium"])
        return medium if medium.startswith(("zram", "csd")) else f"a disk (files in {medium})"

    @property
    def engines(self) -> list[str]:
        """Those that were measured, in the order in which they are drawn."""
        found = {cell["engine"] for cell in self.cells}
        return [engine for engine in ENGINES if engine in found]

    def kinds(self) -> list[tuple[str, str]]:
        """Workloads with the distribution of their keys, in order."""
        found = {(cell["workload"], cell["distribution"]) for cell in self.cells}
        return sorted(found)

    def distributions(self) -> list[str]:
        """Of keys, those of D left out: it has its own."""
        found = {kind for workload, kind in self.kinds() if workload != "D"}
        return sorted(found or {kind for _, kind in self.kinds()}, reverse=True)

    def workloads_with(self, distribution: str) -> list[str]:
        """Those that were run with these keys, and D."""
        return sorted({w for w, kind in self.kinds() if kind in (distribution, "latest")})

    def threads(self) -> list[int]:
        """Numbers of threads, ascending."""
        return sorted({cell["threads"] for cell in self.cells})

    def cell(
        self, engine: str, workload: str, distribution: str, threads: int
    ) -> dict[str, Any] | None:
        """The cell of these, if it was measured."""
        kind = "latest" if workload == "D" else distribution
        for cell in self.cells:
            key = (cell["engine"], cell["workload"], cell["distribution"], cell["threads"])
            if key == (engine, workload, kind, threads):
                return cell
        return None

    def figure(
        self, engine: str, workload: str, distribution: str, threads: int, name: str
    ) -> dict[str, Any] | None:
        """One figure of a cell: its median, min and max; None if it was not measured."""
        cell = self.cell(engine, workload, distribution, threads)
        if cell is None or cell["failure"] is not None:
            return None
        figure: dict[str, Any] | None = cell["figures"].get(name)
        return figure

    def median(
        self, engine: str, workload: str, distribution: str, threads: int, name: str
    ) -> float | None:
        """The median of a figure; of the engine's space after loading, that."""
        if name == "physical_bytes_per_pair":
            load = self.content["engines"].get(engine)
            pairs = self.content["terms"]["pairs"]
            return None if load is None else float(load["space"]["physical_bytes"] / pairs)
        figure = self.figure(engine, workload, distribution, threads, name)
        return None if figure is None else float(figure["median"])

    def failures(self) -> Iterator[str]:
        """What an engine could not do, once each."""
        seen = set()
        for cell in self.cells:
            if cell["failure"] is not None:
                engine = NAMES.get(cell["engine"], cell["engine"])
                text = f"{engine}, workload {cell['workload']}: {cell['failure']}"
                if text not in seen:
                    seen.add(text)
                    yield text


@dataclass(frozen=True)
class FioResults:
    """A file of `cubby bench fio`."""

    name: str
    content: dict[str, Any]


def read_results(path: Path) -> YcsbResults | FioResults:
    """Read a file; a sentence that names it where it is none of these."""
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise click.ClickException(f"{path} is not JSON: {error}") from None
    kind = content.get("benchmark") if isinstance(content, dict) else None
    if kind == "ycsb" and content.get("cells"):
        return YcsbResults(path.stem, content)
    if kind == "fio" and content.get("devices"):
        return FioResults(path.stem, content)
    raise click.ClickException(
        f"{path} holds no results of `cubby bench ycsb` or `cubby bench fio`"
    )
