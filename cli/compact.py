"""cubby compact: drop what has expired, and give back the space that it and deletes have left."""

import json
from dataclasses import asdict

import click

import cubbydb
from cubbydb.cli.data import path_argument
from cubbydb.cli.report import Interrupted, counted, say, talks_to_a_person, warn_of_space
from cubbydb.cli.sizes import in_bytes
from cubbydb.cli.transfer import progress_bar

__all__ = ["compact"]


@click.command()
@path_argument
@click.option("--json", "as_json", is_flag=True, help="What was done, as one JSON object.")
def compact(path: str, as_json: bool) -> None:
    """Drop expired pairs, and give space back.

    Pairs that have expired are not there for any command, but take up space until what is beside
    them is next written, or until this command comes by; deletes leave some space, too.  It reads
    the whole store, and rewrites the parts (segments) where that gains something.  It works too
    when the device is so full that nothing can be put.  Ctrl-C ends it: the store is good, and what
    is done stays done.
    """
    done = 0
    with cubbydb.open(path, "w") as store:
        total = store.stats()["segments"]
        with progress_bar("compact", total, talks_to_a_person(), "segments") as advance:

            def note(segments: int, _total: int) -> None:
                nonlocal done
                done = segments
                advance(segments, segments)

            try:
                result = store.compact(note)
            except KeyboardInterrupt:
                text = f"interrupted: {done:,} of {counted(total, 'segment')} looked at"
                raise Interrupted(text) from None
        figures = store.stats()
    warn_of_space(path, figures)
    if as_json:
        click.echo(json.dumps(asdict(result)))
        return
    say(
        f"{counted(result.dropped_pairs, 'expired pair')} dropped, {result.rebuilt:,} of"
        f" {counted(result.segments, 'segment')} rewritten, {in_bytes(result.freed_bytes)} given"
        " back"
    )
