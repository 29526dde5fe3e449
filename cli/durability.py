"""What changes survive at once, on the command line."""

import click

from cubbydb.engine.durability import PROMISES

__all__ = ["durability_option"]

durability_option = click.option(
    "--durability",
    type=click.Choice(list(PROMISES)),
    help="What each change survives as soon as it is made: a power cut, the death of the process"
    " (the default), or nothing.  When the command has ended all survive a power cut.",
)
