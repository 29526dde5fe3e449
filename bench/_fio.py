"""Run fio on the home blocks of a store: the blocks that gets read, and no others.

fio replays an I/O log that the driver writes.  Blocks that were never written would cost the
device nothing and flatter fio; a range of the device would contain some, since freed space lies
between the segments.
"""

import json
import shutil
from dataclasses import dataclass, field
from typing import Any

import click

from cubbydb.bench._driver import note_command, run_command

__all__ = ["Direction", "Fio", "FioFigures", "figures_of"]


@dataclass(frozen=True)
class Direction:
    """What fio says about the reads of a run, or about its writes."""

    iops: float
    mean_ns: float  # from submission to completion (clat), as the percentiles
    p50_ns: float
    p99_ns: float
    p999_ns: float


@dataclass(frozen=True)
class FioFigures:
    """What fio says about a run with one job; None for a direction that it did not go in."""

    read: Direction | None
    write: Direction | None
    user_percent: float  # of one processor
    system_percent: float

    @property
    def directions(self) -> list[Direction]:
        """Those that it went in."""
        return [direction for direction in (self.read, self.write) if direction is not None]

    @property
    def iops(self) -> float:
        """Reads and writes per second."""
        return sum(direction.iops for direction in self.directions)

    @property
    def mean_ns(self) -> float:
        """The mean latency of reads and writes together."""
        return sum(each.mean_ns * each.iops for each in self.directions) / self.iops

    @property
    def p99_ns(self) -> float:
        """The 99th percentile, of the slower direction."""
        return max(direction.p99_ns for direction in self.directions)


def figures_of(output: str, command: str) -> FioFigures:
    """Read what fio printed with --output-format=json; a run that failed ends ours."""
    try:
        # Notes may stand before the object.
        job: dict[str, Any] = json.loads(output[output.index("{") :])["jobs"][0]
        error = job["error"]
        figures = FioFigures(
            read=_direction_of(job["read"]),
            write=_direction_of(job["write"]),
            user_percent=float(job["usr_cpu"]),
            system_percent=float(job["sys_cpu"]),
        )
    except (ValueError, KeyError, IndexError) as why:
        text = f"{command}: what fio printed cannot be read ({type(why).__name__}: {why})"
        raise click.ClickException(text) from None
    if error != 0 or not figures.directions:
        raise click.ClickException(f"{command}: error {error}")
    return figures


def _direction_of(told: dict[str, Any]) -> Direction | None:
    if told["total_ios"] == 0:
        return None
    latency = told["clat_ns"]
    percentiles = latency["percentile"]
    return Direction(
        iops=float(told["iops"]),
        mean_ns=float(latency["mean"]),
        p50_ns=float(percentiles["50.000000"]),
        p99_ns=float(percentiles["99.000000"]),
        p999_ns=float(percentiles["99.900000"]),
    )


@dataclass
class Fio:
    """fio with an I/O log to replay; remembers the commands it was run with."""

    path: str
    iolog: str
    seconds: float
    commands: list[str] = field(default_factory=list)

    @staticmethod
    def is_here() -> bool:
        """Whether this machine has it."""
        return shutil.which("fio") is not None

    def reads_per_second(self, engine: str, depth: int, *options: str) -> float:
        """4 KiB O_DIRECT reads per second with an I/O engine of fio's at a queue depth."""
        return self.replay(engine, depth, *options, "--readonly").iops

    def replay(self, engine: str, depth: int, *options: str) -> FioFigures:
        """Do what the log says, past the page cache, with an I/O engine at a queue depth."""
        command = ["fio", "--name=gets", f"--filename={self.path}", "--direct=1", "--bs=4k"]
        command += [f"--ioengine={engine}", f"--iodepth={depth}", *options]
        command += [f"--read_iolog={self.iolog}", "--replay_no_stall=1"]
        # In milliseconds, since fio takes no fractions.
        command += [f"--runtime={round(self.seconds * 1000)}ms", "--output-format=json"]
        text = note_command(command, self.commands)
        return figures_of(run_command(command), text)
