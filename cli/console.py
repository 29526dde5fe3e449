"""The console that tables go to.  Imported late: rich takes longer to import than a get to run."""

from typing import NoReturn

from rich.console import Console

__all__ = ["TableConsole"]


class TableConsole(Console):
    """A console on standard output, which reports a reader that went away as everything else is."""

    def on_broken_pipe(self) -> NoReturn:
        """Leave it to the command's own report, with its exit code."""
        raise BrokenPipeError
