"""cubby bench: how fast it is, beside others, on this machine."""

from importlib import import_module
from typing import Any

import click

__all__ = ["bench"]

# Command -> where it is.  Each is imported when it is called: what it needs takes long.
COMMANDS = {
    "ycsb": "cubbydb.bench.ycsb",
    "fio": "cubbydb.bench.fio",
    "report": "cubbydb.bench.report",
}


class LateGroup(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All of them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        if cmd_name not in COMMANDS:
            return None
        command: Any = getattr(import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=LateGroup)
def bench() -> None:
    """Measure the store, its peers and the device."""
