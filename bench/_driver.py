"""Run cubby-gets (bench/gets/driver.c), and read what it prints."""

import json
import shlex
import subprocess
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import click

__all__ = [
    "DRIVER_PATH",
    "Driver",
    "built_driver",
    "driver_path",
    "note_command",
    "run_command",
    "run_json",
]

BUILT = Path("build/bench")  # where `make bench-build` puts them, with the store's peers


def driver_path(name: str) -> Path:
    """A driver program: that of the checkout we are in, else the package's own."""
    built = BUILT / name
    return built if built.is_file() else Path(str(resources.files("cubbydb.bench"))) / name


def built_driver(name: str) -> Path:
    """A driver program that only a checkout has."""
    path = BUILT / name
    if not path.is_file():
        raise click.ClickException(f"{path} is missing: make bench-build")
    return path


DRIVER_PATH = driver_path("cubby-gets")


def note_command(command: list[str], commands: list[str]) -> str:
    """Add a command to those that were run, once, as a shell takes it; returns it so."""
    text = shlex.join(command)
    if text not in commands:
        commands.append(text)
    return text


def run_command(command: list[str]) -> str:
    """Run a program and return its standard output; a failure of it ends ours, in its words."""
    run = subprocess.run(command, capture_output=True, text=True)
    if run.returncode != 0:
        raise click.ClickException(f"{shlex.join(command)}: {run.stderr.strip()[-2000:]}")
    return run.stdout


def run_json(command: list[str], commands: list[str]) -> dict[str, Any]:
    """Note a command and run it; the JSON object that it prints."""
    note_command(command, commands)
    answer: dict[str, Any] = json.loads(run_command(command))
    return answer


@dataclass
class Driver:
    """The driver program, for a store of one shape; remembers the commands it was run with."""

    program: Path
    pair_count: int
    value_bytes: int
    key_bytes: int = 16
    commands: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not self.program.is_file():
            raise click.ClickException(f"{self.program} is missing: run `make bench-build` first")

    def command(self, path: str) -> list[str]:
        """What runs it on a store, but for what it is to do there."""
        command = [str(self.program), "--path", path, "--pairs", str(self.pair_count)]
        return [
            *command,
            "--key-bytes",
            str(self.key_bytes),
            "--value-bytes",
            str(self.value_bytes),
        ]

    def call(self, path: str, *arguments: str) -> str:
        """Run it on a store; returns what it prints."""
        command = [*self.command(path), *arguments]
        note_command(command, self.commands)
        return run_command(command)

    def run(self, path: str, workloads: str, *arguments: str) -> list[dict[str, Any]]:
        """Run workloads; returns one result for each."""
        text = self.call(path, "--workloads", workloads, "--json", *arguments)
        results: list[dict[str, Any]] = json.loads(text)["results"]
        return results
