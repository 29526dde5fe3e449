"""The command cubby: its group, and where every error becomes a sentence and an exit code."""

import sys
from typing import Any

import click

import cubbydb
from cubbydb.cli.bench import bench
from cubbydb.cli.compact import compact
from cubbydb.cli.completion import completion
from cubbydb.cli.data import delete, get, put, scan
from cubbydb.cli.destroy import destroy
from cubbydb.cli.device import device
from cubbydb.cli.inspect import inspect
from cubbydb.cli.manage import check, create
from cubbydb.cli.report import EXIT_USAGE, hold_standard_streams, report
from cubbydb.cli.resize import resize
from cubbydb.cli.stat import stat
from cubbydb.cli.transfer import dump, load
from cubbydb.cli.version import version

__all__ = ["main"]

EPILOG = """\b
Exit codes:
    0  done                      5  the store is locked
    1  no pair has this key      6  the store or its device is full
    2  usage, or bad input       7  not a store, or of an unsupported format
    3  device or other I/O      70  internal error
    4  the store is damaged    130  interrupted
"""


class ReportingGroup(click.Group):
    """A group that lets no exception out of its commands."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command, once there is something behind every standard stream."""
        hold_standard_streams()
        try:
            return super().main(*args, **options)
        except OSError:  # standard error takes no usage error: the exit code still tells
            sys.exit(EXIT_USAGE)

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Read the words before the command; --help and --version write from here."""
        try:
            return super().make_context(*args, **options)
        except OSError as error:
            sys.exit(report(error, debug=False))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; say in one sentence what went wrong, and exit with its code."""
        try:
            result = super().invoke(ctx)
            sys.stdout.buffer.flush()
            return result
        except (click.ClickException, click.exceptions.Exit):
            raise
        except BaseException as error:
            code = report(error, ctx.params["debug"])
        ctx.exit(code)


@click.group(
    cls=ReportingGroup, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.version_option(cubbydb.__version__, prog_name="cubby")
@click.option("--debug", is_flag=True, help="Show where in the program an error came from.")
def main(debug: bool) -> None:
    """Keep pairs of keys and values in a file or on a block device, without a table of keys.

    PATH is the file or the device; csd:PATH is an emulated drive that compresses, made by cubby
    device create.  Results go to standard output, everything else to standard error.
    """


COMMANDS = (
    create,
    load,
    get,
    put,
    delete,
    scan,
    dump,
    stat,
    check,
    inspect,
    compact,
    resize,
    destroy,
)
for command in (*COMMANDS, device, bench, version, completion):
    main.add_command(command)
