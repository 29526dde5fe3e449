"""cubby create, check: the store as a whole."""

import json
from dataclasses import asdict

import click

import cubbydb
from cubbydb.cli.data import accept_loss_option, path_argument
from cubbydb.cli.report import EXIT_CORRUPT, counted, say, sentence, warn_of_space
from cubbydb.cli.signatures import found_on
from cubbydb.cli.sizes import SizeType, in_bytes
from cubbydb.cli.watch import watched
from cubbydb.engine.options import FILL_MAX, FILL_MIN
from cubbydb.errors import Corrupt, Exists

__all__ = ["check", "create", "rewritten_per_byte"]


# Fill target -> bytes rewritten per byte inserted, pairs of 400 bytes: bench/counts.py measures it.
REWRITTEN_PER_BYTE = {0.40: 2.3, 0.50: 3.2, 0.60: 4.8, 0.75: 6.2}


@click.command()
@path_argument
@click.option("--size", type=SizeType("1M"), help="Bytes of pairs to make room for, as in 256M.")
@click.option(
    "--fill",
    type=click.FloatRange(FILL_MIN, FILL_MAX),
    help="How full to make blocks: less is faster, more takes less space.",
)
@click.option("--new", is_flag=True, help="Replace a store that is there: its pairs are lost.")
@click.option("--force", is_flag=True, help="Overwrite what is there and is not a store.")
def create(path: str, size: int | None, fill: float | None, new: bool, force: bool) -> None:
    """Create an empty store.

    PATH is a file or a block device.  A file becomes a sparse file four times as large as --size
    (1G by default).  On a device, without --size, all of it is used.  Something that is there
    already is left alone (exit code 2) unless --new or --force is given.
    """
    flag = "n" if new else "c"
    try:
        store = cubbydb.open(path, flag, size=size, fill=fill, force=force, exclusive=not new)
    except Exists as error:
        found = found_on(path)
        if found is not None:
            error.add_note(f"it looks like {found}")
        error.add_note("--new replaces a store, --force overwrites anything else")
        raise
    except Corrupt as error:
        error.add_note("--force does, and what it held is lost")
        raise
    with store:
        stat = store.stats()
        price = rewritten_per_byte(stat["fill_percent"] / 100)
        say(
            f"created {store.path}: {in_bytes(stat['logical_bytes'])} to fill, fill target"
            f" {stat['fill_percent']} %; while it grows, about {price:.1f} bytes are rewritten per"
            " byte put (pairs of 400 bytes)"
        )
        warn_of_space(store.path, stat)


def rewritten_per_byte(fill: float) -> float:
    """What growth costs at a fill target, by the straight line between the measured points."""
    (low, price), *rest = REWRITTEN_PER_BYTE.items()
    for high, next_price in rest:
        if fill <= high:
            return price + (next_price - price) * max(0.0, (fill - low) / (high - low))
        low, price = high, next_price
    return price


@click.command()
@path_argument
@click.option("--repair", is_flag=True, help="First repair what can be repaired without doubt.")
@accept_loss_option
@click.option("--json", "as_json", is_flag=True, help="All damages, as one JSON object.")
@click.pass_context
def check(ctx: click.Context, path: str, repair: bool, accept_loss: bool, as_json: bool) -> None:
    """Look for damage in the whole store.

    Every block is read, and all are compared with all; each damage is one line.  Exit code 4 if
    there is any.  Without --repair nothing is changed: a store that was not closed is recovered in
    memory alone.

    \b
    --repair        writes anew what there is a sound copy of (a superblock), or
                    what can be told from the rest (the checkpoint, counts), and
                    frees what nothing uses; each repair is one line.  A store
                    that was not closed is recovered.  What is damaged beyond
                    that is left alone, and named.
    --accept-loss   opens a store whose log is damaged in its middle, which is
                    refused otherwise.  What the damaged part held is lost;
                    with --repair for good, without it nothing is changed.
    """
    with opened_to_check(path, repair, accept_loss) as store:
        repairs = watched(store, "repair", store.repair) if repair else []
        damages = watched(store, "check", store.check)
        pairs = len(store)
        recovery = recovery_sentence(store.stats())
    if as_json:
        report = {"pairs": pairs, "damages": [asdict(each) for each in damages]}
        if repair:
            report["repairs"] = [asdict(each) for each in repairs]
        click.echo(json.dumps(report))
    else:
        for each in repairs:
            click.echo(f"repaired: {placed(each)}")
        for each in damages:
            click.echo(placed(each))
    if recovery:
        say(recovery)
    if repairs:
        say(counted(len(repairs), "repair"))
    if damages:
        say(counted(len(damages), "damage"))
        ctx.exit(EXIT_CORRUPT)
    say(f"{counted(pairs, 'pair')}, no damage")


def opened_to_check(path: str, repair: bool, accept_loss: bool) -> cubbydb.Store:
    """Open a store; to repair it, also where its checkpoint is damaged: from its blocks."""
    try:
        return cubbydb.open(path, "w" if repair else "r", accept_loss=accept_loss)
    except Corrupt as error:
        if not repair and "open with recovery" in str(error):
            error.add_note("--repair does that")
        if not repair or accept_loss:
            raise
        try:
            store = cubbydb.open(path, "w", recover=True)
        except Corrupt:
            raise error from None
        reason = sentence(error).partition("; open with recovery")[0]
        say(f"cubby: {reason}; rebuilt from the blocks of the store", always=True)
        return store


def placed(damage: cubbydb.Damage) -> str:
    """A damage or a repair as one line."""
    segment = "" if damage.segment is None else f", segment {damage.segment}"
    return f"LBA {damage.lba}{segment}: {damage.text}"


def recovery_sentence(stat: cubbydb.StoreStat) -> str:
    """What opening a store has recovered; nothing if it was closed in order."""
    if not stat["recovered"]:
        return ""
    return (
        f"the last stop was not clean: {counted(stat['replayed_pairs'], 'pair')} from"
        f" {in_bytes(stat['replayed_bytes'])} of the log"
    )
