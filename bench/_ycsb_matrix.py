"""Every engine at every workload, round after round, on equal terms."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import click

from cubbydb.bench._memory_group import why_no_memory_group
from cubbydb.bench._places import BORROWERS, IN_MEMORY, OURS, Place
from cubbydb.bench._ycsb_driver import NO_ORDER, Job, RunFailed, YcsbDriver, workload_file
from cubbydb.bench._ycsb_figures import Cell, DeviceCost, figures_of, spread

__all__ = ["Matrix", "Terms"]

LOAD_BATCH = 1024
LOAD_BYTES = 1 << 30  # of memory for a peer that is being loaded
PROCESS_BYTES = 24 << 20  # what any process here needs besides its engine: code, stacks, the driver
CALIBRATION_THREADS = 2
OVERHEAD_SECONDS = 0.3
PATIENCE_SECONDS = 60  # beyond what was asked for: to open, and to do what was put off


@dataclass(frozen=True)
class Terms:
    """What all engines have in common."""

    pairs: int
    key_bytes: int
    value_bytes: int
    zero_proportion: float
    value_source: str
    memory_bytes: int | None
    """All that an engine may hold in memory, its process and the page cache included."""
    durability: str
    compress: bool
    seconds: float
    warm_seconds: float
    rounds: int
    target: float
    property_files: tuple[Path, ...] = ()
    properties: tuple[tuple[str, str], ...] = ()

    @property
    def data_bytes(self) -> int:
        """Of keys and values."""
        return self.pairs * (self.key_bytes + self.value_bytes)

    def common(self) -> dict[str, object]:
        """The properties of loading and running alike."""
        return {
            "recordcount": self.pairs,
            "fieldcount": 1,
            "fieldlength": self.value_bytes,
            "keybytes": self.key_bytes,
            "valuesource": self.value_source,
            "zeroproportion": self.zero_proportion,
        }


@dataclass
class Matrix:
    """Loads every engine, then runs every cell of every round, the engines in turn."""

    driver: YcsbDriver
    terms: Terms
    places: dict[str, Place]
    say: Callable[[str], None]
    cells: list[Cell] = field(default_factory=list)
    loads: dict[str, dict[str, Any]] = field(default_factory=dict)
    costs: list[DeviceCost] = field(default_factory=list)
    overheads_ns: list[float] = field(default_factory=list)
    summary: str = ""
    """YCSB's, of the last run."""

    def __post_init__(self) -> None:
        self.why_no_group = why_no_memory_group() if self.terms.memory_bytes else "no limit"

    @property
    def limit_bytes(self) -> int | None:
        """The limit of the cgroup; None without one."""
        return None if self.why_no_group is not None else self.terms.memory_bytes

    @property
    def cost(self) -> DeviceCost | None:
        """The median cost of the device's work so far."""
        if not self.costs:
            return None
        return DeviceCost(
            statistics.median(cost.read_ns for cost in self.costs),
            statistics.median(cost.write_ns for cost in self.costs),
        )

    def _job(self, name: str, engine: str, path: str | None = None) -> Job:
        terms = self.terms
        memory = None if engine in IN_MEMORY else terms.memory_bytes
        if memory is not None:
            memory = max(memory - PROCESS_BYTES, memory // 2)
        return Job(
            name,
            engine,
            path or self.places[engine].path,
            terms.durability,
            terms.compress,
            memory,
            property_files=terms.property_files,
            properties={**terms.common(), **dict(terms.properties)},
        )

    def load(self, engine: str, threads: int) -> None:
        """Load a new store, without a limit: what is measured comes later."""
        if engine in BORROWERS:
            return
        place = self.places[engine]
        self.say(f"loading {engine} on {place.what}")
        job = self._job("load", engine)
        if engine != OURS and engine not in IN_MEMORY:  # the store's size follows from its memory
            job = replace(job, engine_memory=LOAD_BYTES)
        job.properties.update(batchsize=LOAD_BATCH, threadcount=threads)
        run, _ = self.driver.run(job)
        space = place.space()
        self.loads[engine] = {
            "settings": "",  # of the runs, when there are some
            "place": place.what,
            "figures": figures_of(run, None, space, space),
            "space": asdict(space),
        }

    def calibrate(self) -> None:
        """Measure what the device's own work costs, where pread can take the store's path."""
        if OURS not in self.loads or self.places[OURS].csd is not None:
            return
        job = self._job("run", "pread", self.places[OURS].path)
        job.properties.update(
            maxexecutiontime=min(self.terms.seconds, 2.0), threadcount=CALIBRATION_THREADS
        )
        runs = []
        for reads in (1, 0):
            mix = {"readproportion": reads, "updateproportion": 1 - reads}
            run, _ = self.driver.run(replace(job, properties={**job.properties, **mix}))
            runs.append(run)
        self.costs.append(DeviceCost.measured(*runs))

    def measure_overhead(self) -> None:
        """Measure what the driver itself takes for an operation: with the engine null."""
        job = replace(self._job("run", "null", "nowhere"), property_files=(workload_file("c"),))
        job.properties.update(maxexecutiontime=OVERHEAD_SECONDS, operationcount=0)
        run, _ = self.driver.run(job)
        self.overheads_ns.append(1e9 / run["ops_per_second"])

    def run(self, cell: Cell) -> None:
        """Run one cell once; one that has failed is not tried again."""
        if cell.failure is not None:
            return
        terms, place = self.terms, self.places[cell.engine]
        job = self._job("run", cell.engine)
        if not terms.property_files:
            job = replace(job, property_files=(workload_file(cell.workload),))
            job.properties["requestdistribution"] = cell.distribution
        job.properties.update(
            threadcount=cell.threads,
            maxexecutiontime=terms.seconds,
            warmuptime=terms.warm_seconds,
            operationcount=0,
        )
        if terms.target:
            job.properties["target"] = terms.target
        job.properties.update(dict(terms.properties))
        job = replace(job, patience_seconds=terms.seconds + terms.warm_seconds + PATIENCE_SECONDS)
        before = place.space()
        try:
            limit = None if cell.engine in IN_MEMORY else self.limit_bytes
            run, self.summary = self.driver.run(job, limit)
        except RunFailed as error:
            cell.failure = str(error)
            self.say(f"{cell.engine}, workload {cell.workload}: {error}")
            return
        if cell.engine in self.loads:
            self.loads[cell.engine]["settings"] = run["terms"]["settings"]
        cell.add(run, figures_of(run, self.cost, before, place.space()))

    def run_round(self, cells: list[Cell]) -> None:
        """Run every cell once."""
        self.calibrate()
        self.measure_overhead()
        for cell in cells:
            self.run(cell)

    def check(self) -> None:
        """Let a failure of the store itself end it all: then there is nothing to compare."""
        for cell in self.cells:
            if cell.engine == OURS and cell.failure and NO_ORDER not in cell.failure:
                raise click.ClickException(f"workload {cell.workload}: {cell.failure}")

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        terms = asdict(self.terms)
        terms["property_files"] = [str(path) for path in self.terms.property_files]
        terms["data_bytes"] = self.terms.data_bytes
        terms["limit"] = "a memory cgroup" if self.limit_bytes else f"none ({self.why_no_group})"
        cost = self.cost
        return {
            "terms": terms,
            "driver_overhead_ns": spread(self.overheads_ns),
            "device_cost": None if cost is None else asdict(cost),
            "engines": self.loads,
            "space_at_the_end": {
                engine: asdict(place.space())
                for engine, place in self.places.items()
                if engine in self.loads
            },
            "cells": [cell.as_json() for cell in self.cells],
            "commands": self.driver.commands,
        }
