"""Run cubby-ycsb (bench/ycsb/driver.c): one process for each load and each run."""

import json
import subprocess
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import click

from cubbydb.bench._driver import driver_path, note_command
from cubbydb.bench._memory_group import memory_group

__all__ = ["NO_ORDER", "Job", "RunFailed", "YcsbDriver", "workload_file"]

EXIT_USAGE = 2
# What the driver says (bench/ycsb/worker.c, run.c).
WRONG_VALUE = "a get of record"
NO_ORDER = "no order of keys"


class RunFailed(Exception):
    """An engine could not do a job; the message says why."""


@dataclass(frozen=True)
class Job:
    """What an engine is to do."""

    name: str  # load or run
    engine: str
    path: str
    durability: str
    compress: bool
    engine_memory: int | None
    """Bytes that the engine is told it may have; None: its default."""
    patience_seconds: float | None = None
    """After which it has hung, and is killed; None: never."""
    property_files: tuple[Path, ...] = ()
    properties: dict[str, object] = field(default_factory=dict)


def workload_file(name: str) -> Path:
    """The property file of a core workload, A to F."""
    folder = resources.files("cubbydb.bench")
    return Path(str(folder)) / "ycsb" / "workloads" / f"workload{name.lower()}"


class YcsbDriver:
    """The driver program; remembers the commands that it was run with."""

    def __init__(self, program: Path | None = None) -> None:
        found = program or driver_path("cubby-ycsb")
        if not found.is_file():
            raise click.ClickException(f"the driver {found} is missing: run `make bench-build`")
        self.program = found
        self.commands: list[str] = []

    def engines(self) -> dict[str, dict[str, Any]]:
        """Every engine that is known: whether it is here, and what it lacks."""
        run = subprocess.run([self.program, "engines"], capture_output=True, text=True, check=True)
        answer: dict[str, dict[str, Any]] = json.loads(run.stdout)
        return answer

    def _command(self, job: Job) -> list[str]:
        command = [str(self.program), job.name, "--path", job.path, "--engine", job.engine]
        command += ["--durability", job.durability]
        if job.engine_memory is not None:
            command += ["--memory-bytes", str(job.engine_memory)]
        if job.compress:
            command.append("--compress")
        for file in job.property_files:
            command += ["-P", str(file)]
        for name, value in job.properties.items():
            command += ["-p", f"{name}={value}"]
        return command

    def run(self, job: Job, limit_bytes: int | None = None) -> tuple[dict[str, Any], str]:
        """Do a job, in a memory cgroup if there is a limit; the results, and YCSB's summary.

        Raises:
            RunFailed: the engine could not, or took more memory than it may.
            click.ClickException: it gave a wrong value, or the usage was wrong.
        """
        command = self._command(job)
        text = note_command(command, self.commands)
        _drop_caches()
        with tempfile.NamedTemporaryFile(suffix=".json") as output:
            command += ["--json", output.name]
            if limit_bytes is None:
                run = _run(command, job.patience_seconds)
                killed, peak = False, None
            else:
                with memory_group(limit_bytes) as group:
                    run = _run(group.command(command), job.patience_seconds)
                    killed, peak = group.was_killed(), group.peak_bytes()
            self._check(run, text, killed)
            result: dict[str, Any] = json.loads(Path(output.name).read_text())
        result["group_peak_bytes"] = peak
        return result, run.stdout

    @staticmethod
    def _check(run: subprocess.CompletedProcess[str], text: str, killed: bool) -> None:
        if run.returncode == 0:
            return
        # What follows the first line is how the driver is used, or what failed because of it.
        said = run.stderr.strip().partition("\n")[0].removeprefix("cubby-ycsb: ")
        if killed:
            raise RunFailed("it took more memory than it may, and was killed")
        if run.returncode == EXIT_USAGE:
            raise click.ClickException(said)
        if WRONG_VALUE in said:
            raise click.ClickException(f"{text}: {said}")
        raise RunFailed(said or f"exit code {run.returncode}")


def _run(command: list[str], patience: float | None) -> subprocess.CompletedProcess[str]:
    """Run it; one that hangs has failed (WiredTiger does, with too little memory)."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=patience)
    except subprocess.TimeoutExpired:
        raise RunFailed(f"it had not ended after {patience:.0f} s, and was killed") from None


def _drop_caches() -> None:
    """Write out and forget what the page cache has, so that nothing counts for the next one."""
    with suppress(OSError):
        subprocess.run(["sync"], check=False)
        Path("/proc/sys/vm/drop_caches").write_text("1")  # root alone may; else it stays
