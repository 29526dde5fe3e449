"""Times to live on the command line: 90, 15m, 12h, 7d."""

import re

import click

__all__ = ["ttl_option"]

TTL = re.compile(r"([0-9]+(?:\.[0-9]+)?)([smhd]?)")
SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86_400}


class TtlType(click.ParamType[float]):
    """A number of seconds, or one of minutes, hours or days with m, h or d after it."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read the time; a usage error if it is none, or none at all."""
        match = TTL.fullmatch(str(value))
        if match is None:
            self.fail(f"{str(value)!r} is no time: 90, 15m, 12h or 7d, for example", param, ctx)
        seconds = float(match[1]) * SECONDS[match[2]]
        if seconds == 0:
            self.fail("a time to live is above 0", param, ctx)
        return seconds


ttl_option = click.option(
    "--ttl",
    type=TtlType(),
    help="How long it is to be there: seconds, or as in 15m, 12h, 7d.  Default: for ever.",
)
