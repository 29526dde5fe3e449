"""Run fio on the home blocks of a store: the blocks that gets read, and no others.

fio replays an I/O log that the driver writes.  Blocks that were never written would cost the
device nothing and flatter fio; a range of the device would contain some, since freed space lies
between the segments.
"""

import json
import shlex
import shutil
from dataclasses import dataclass, field
from typing import Any

import click

from cubbydb.bench._driver import run_command

__all__ = ["Fio"]


@dataclass
class Fio:
    """fio with an I/O log to replay; remembers the commands it was run with."""

    path: str
    iolog: str
    seconds: int  # fio takes no fractions
    commands: list[str] = field(default_factory=list)

    @staticmethod
    def is_here() -> bool:
        """Whether this machine has it."""
        return shutil.which("fio") is not None

    def reads_per_second(self, engine: str, depth: int, *options: str) -> float:
        """4 KiB O_DIRECT reads per second with an I/O engine of fio's at a queue depth."""
        command = ["fio", "--name=gets", f"--filename={self.path}", "--direct=1", "--bs=4k"]
        command += [f"--ioengine={engine}", f"--iodepth={depth}", *options, "--readonly"]
        command += [f"--read_iolog={self.iolog}", "--replay_no_stall=1"]
        command += [f"--runtime={self.seconds}", "--output-format=json"]
        text = shlex.join(command)
        if text not in self.commands:
            self.commands.append(text)
        output = run_command(command)
        # Notes may stand before the object.
        job: dict[str, Any] = json.loads(output[output.index("{") :])["jobs"][0]
        if job["error"] != 0 or job["read"]["total_ios"] == 0:
            raise click.ClickException(f"{text}: error {job['error']}")
        return float(job["read"]["iops"])
