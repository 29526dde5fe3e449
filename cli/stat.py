"""cubby stat: the figures of a store, once or again and again."""

import json
import math
import time
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING

import click

import cubbydb
from cubbydb.cli.data import accept_loss_option, path_argument
from cubbydb.cli.report import sentence, warn_of_space
from cubbydb.cli.sizes import in_bytes
from cubbydb.errors import Locked

# rich takes longer to import than a get takes to run.
if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Look", "Watch", "stat"]

# Group -> its rows: what it is called, and which figure it is.  Bytes where the figure says so.
STAT_GROUPS: dict[str, list[tuple[str, str]]] = {
    "Contents": [
        ("pairs", "pairs"),
        ("keys and values", "pair_bytes"),
        ("blobs", "blobs"),
        ("segments", "segments"),
        ("home blocks", "home_blocks"),
        ("spill blocks", "spill_blocks"),
    ],
    "Space": [
        ("size of the store", "logical_bytes"),
        ("used", "used_bytes"),
        ("in quarantine", "quarantined_bytes"),
        ("fill target, %", "fill_percent"),
    ],
    "Log": [
        ("to be read by a recovery", "log_bytes"),
        ("room", "log_capacity_bytes"),
        ("pairs not in their place yet", "dirty_pairs"),
        ("memory of these", "dirty_bytes"),
        ("at most", "dirty_limit_bytes"),
    ],
    "Device": [
        ("before compression", "device_logical_bytes"),
        ("physically used", "device_physical_bytes"),
        ("physical capacity", "device_capacity_bytes"),
    ],
    "Memory": [("directory", "directory_bytes"), ("bitmaps", "bitmap_bytes")],
    "Format": [("version", "format_version"), ("feature bits", "feature_bits")],
}

# The same, of what opening did where the last stop was not clean.
RECOVERY_ROWS = [
    ("pairs from the log", "replayed_pairs"),
    ("records read", "replayed_records"),
    ("of the log", "replayed_bytes"),
    ("torn blocks restored", "torn_blocks"),
    ("pairs given up", "lost_pairs"),
]
NOT_TOLD = "not told"
NS_PER_MS = 1_000_000
WATCH_SECONDS_MAX = 86_400
# What changes from look to look; the counters of a store begin anew with each opening.
RATED_FIGURES = {
    *("pairs", "pair_bytes", "blobs", "segments", "home_blocks", "spill_blocks", "used_bytes"),
    *("device_logical_bytes", "device_physical_bytes"),
}
# Figure -> how much it has grown per second.
Rates = dict[str, float]


def refuse_nan(_ctx: click.Context, _param: click.Parameter, seconds: float | None) -> float | None:
    """A usage error for the one number that is in every range."""
    if seconds is not None and math.isnan(seconds):
        raise click.BadParameter(f"{seconds} is no number of seconds")
    return seconds


@click.command()
@path_argument
@click.option("--json", "as_json", is_flag=True, help="All figures, as one JSON object.")
@click.option(
    "--prometheus", "as_prometheus", is_flag=True, help="All figures, as Prometheus reads them."
)
@click.option(
    "--watch",
    type=click.FloatRange(0.1, WATCH_SECONDS_MAX),
    callback=refuse_nan,
    metavar="SECONDS",
    help="Look again and again, until Ctrl-C, and show what has changed per second.",
)
@accept_loss_option
def stat(
    path: str, as_json: bool, as_prometheus: bool, watch: float | None, accept_loss: bool
) -> None:
    """Show how much a store holds and takes.

    The figures of --json are explained in engine/cubby.h, struct cubby_stat; the counters and
    latencies among them count from the opening of the store, which is now.  Those of a program
    that keeps its store open are told by the program itself: Store.stats, cubbydb.prometheus.

    With --watch the store is opened for each look and closed again, so that others can write it
    in between; one that opens it in the moment of a look is refused.  While another process has
    it open to write, it cannot be looked at: that is said, and the last figures stay.  With
    --json each look is one line, with a field "time" in seconds and one "per_second"; where the
    store could not be opened it is {"time", "locked"}.
    """
    if as_prometheus:
        if as_json or watch is not None:
            raise click.UsageError("--prometheus goes with neither --json nor --watch")
        show_prometheus(path, accept_loss)
        return
    if watch is not None:
        if accept_loss:
            raise click.UsageError("--accept-loss does not go with --watch")
        with suppress(KeyboardInterrupt):  # how it is meant to end
            show_looks(path, watch, as_json)
        return
    figures = figures_of(path, accept_loss)
    warn_of_space(path, figures)
    if as_json:
        click.echo(json.dumps(figures))
        return
    from rich.text import Text

    from cubbydb.cli.console import TableConsole

    console = TableConsole()
    console.print(Text(path, style="bold"), soft_wrap=True)
    console.print(table_of(figures, None))


def show_prometheus(path: str, accept_loss: bool) -> None:
    """The figures of a store as text for Prometheus."""
    try:
        from cubbydb import prometheus
    except ImportError as error:
        raise click.UsageError(str(error)) from None
    with cubbydb.open(path, accept_loss=accept_loss) as store:
        click.echo(prometheus.text(store), nl=False)


def figures_of(path: str, accept_loss: bool = False) -> cubbydb.StoreStat:
    """The figures of a store that is opened for this alone."""
    with cubbydb.open(path, accept_loss=accept_loss) as store:
        return store.stats()


def table_of(figures: cubbydb.StoreStat, rates: Rates | None) -> "RenderableType":
    """The figures as a table, with a column for the rates if there are any."""
    from rich.table import Table

    values = dict(figures)
    table = Table(box=None, show_header=False)
    table.add_column()
    table.add_column(justify="right")
    if rates is not None:
        table.add_column(justify="right", min_width=16)
    for group, rows in STAT_GROUPS.items():
        table.add_row(f"[bold]{group}[/bold]")
        for name, figure in rows:
            text = amount_text(figure, values[figure])
            if group == "Device" and not values[figure]:
                text = NOT_TOLD
            rate = rate_text(figure, None if text == NOT_TOLD else rates)
            table.add_row(f"  {name}", text, *rate)
        if group == "Device":
            physical = figures["device_physical_bytes"]
            if physical and figures["device_logical_bytes"]:
                table.add_row("  ratio", f"{figures['device_logical_bytes'] / physical:.2f}")
            table.add_row("  told by", figures["device_source"])
        if group == "Memory" and figures["pairs"]:
            memory = figures["directory_bytes"] + figures["bitmap_bytes"]
            table.add_row("  per pair", f"{memory / figures['pairs']:.3f} B")
    if figures["recovered"]:
        table.add_row("[bold]Recovered[/bold]", "the last stop was not clean")
        for name, figure in RECOVERY_ROWS:
            table.add_row(f"  {name}", amount_text(figure, values[figure]))
        table.add_row("  took", f"{figures['replay_ns'] / NS_PER_MS:,.1f} ms")
    return table


def amount_text(figure: str, amount: object) -> str:
    """A figure for people."""
    assert isinstance(amount, int)
    return in_bytes(amount) if figure.endswith("_bytes") else f"{amount:,}"


def rate_text(figure: str, rates: Rates | None) -> list[str]:
    """The cell of a figure's rate; none where there is no such column."""
    if not rates or figure not in rates:
        return []
    rate = rates[figure]
    if figure.endswith("_bytes"):
        return [f"{'-' if rate < 0 else '+'}{in_bytes(round(abs(rate)))}/s"]
    return [f"{rate:+,.1f}/s"]


# Again and again ---------------------------------------------------------------------------------


class Look:
    """One look at a store: its figures and their rates, or who has it.

    Args:
        moment: in seconds.
        figures: None if the store could not be opened.
        rates: since the last look that saw something; None at the first one.
        locked: why it could not be opened.
    """

    def __init__(
        self,
        moment: float,
        figures: cubbydb.StoreStat | None,
        rates: Rates | None,
        locked: str = "",
    ) -> None:
        self.moment = moment
        self.figures = figures
        self.rates = rates
        self.locked = locked

    def as_json(self) -> str:
        """The look as one object."""
        if self.figures is None:
            return json.dumps({"time": self.moment, "locked": self.locked})
        return json.dumps({"time": self.moment, **self.figures, "per_second": self.rates})


class Watch:
    """Looks at one store, and remembers the last one that saw it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.seen: Look | None = None

    def look(self) -> Look:
        """Look at the store, unless somebody has it open to write."""
        try:
            figures = figures_of(self._path)
        except Locked as error:
            return Look(time.time(), None, None, sentence(error))
        moment = time.time()
        self.seen = Look(moment, figures, rates_between(self.seen, moment, figures))
        return self.seen


def rates_between(
    last: Look | None, moment: float, figures: cubbydb.StoreStat
) -> dict[str, float] | None:
    """What has changed per second since the last look."""
    if last is None or last.figures is None or moment <= last.moment:
        return None
    seconds = moment - last.moment
    before, now = dict(last.figures), dict(figures)
    return {name: (now[name] - before[name]) / seconds for name in sorted(RATED_FIGURES)}  # type: ignore[operator]


def show_looks(path: str, seconds: float, as_json: bool) -> None:
    """Look and show until Ctrl-C."""
    watch = Watch(path)
    if as_json:
        while True:
            click.echo(watch.look().as_json())
            time.sleep(seconds)
    from rich.live import Live

    from cubbydb.cli.console import TableConsole

    console = TableConsole()
    if not console.is_terminal:
        while True:
            console.print(picture(path, watch.look(), watch.seen))
            time.sleep(seconds)
    with Live(picture(path, watch.look(), watch.seen), console=console, auto_refresh=False) as live:
        while True:
            time.sleep(seconds)
            live.update(picture(path, watch.look(), watch.seen), refresh=True)


def picture(path: str, look: Look, seen: Look | None) -> "RenderableType":
    """A look for people: where it saw nothing, why, and what the last one saw."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [Text(f"{path}, {clock(look.moment)}", style="bold")]
    if look.locked:
        parts.append(Text(look.locked, style="yellow"))
    if seen is not None and seen.figures is not None:
        if look.locked:
            parts.append(Text(f"as it was at {clock(seen.moment)}:"))
        parts.append(table_of(seen.figures, seen.rates or {}))
    return Group(*parts)


def clock(moment: float) -> str:
    """A time of day, local."""
    return datetime.fromtimestamp(moment).strftime("%H:%M:%S")
