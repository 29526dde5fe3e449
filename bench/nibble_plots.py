"""Draw what the benchmarks of Nibble and VoliMap have measured, without measuring it again.

    python -m cubbydb.bench.nibble_plots bench/results/{churn,ordered}.json

Each plot is an SVG in the folder "report" beside its file.
"""

import json
from pathlib import Path
from typing import Any

import click

from cubbydb.bench._machine import write_results

__all__ = ["draw", "main", "write_and_draw"]


def draw(path: Path) -> Path:
    """Draw a file of results; returns where the plot is."""
    try:
        from cubbydb.bench import _nibble_plots as plots
        from cubbydb.bench._report_plots import save
    except ImportError:
        raise click.ClickException(
            "matplotlib is not installed: pip install 'cubbydb[bench]'"
        ) from None
    try:
        content = json.loads(path.read_text())
        figure = plots.PLOTS[content["benchmark"]](content)
    except (OSError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise click.ClickException(
            f"{path} holds no results that can be drawn ({type(error).__name__}: {error})"
        ) from error
    drawn = path.parent / "report" / f"{path.stem}.svg"
    drawn.parent.mkdir(exist_ok=True)
    save(figure, drawn)
    return drawn


def write_and_draw(folder: Path, name: str, content: dict[str, Any]) -> None:
    """Write results, then draw them; says where, or why there is no plot."""
    path = write_results(folder, name, content)
    print(f"written to {path}")
    try:
        print(f"drawn in {draw(path)}")
    except click.ClickException as error:
        print(f"not drawn: {error.message}")


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
def main(files: tuple[Path, ...]) -> None:
    """Replaced by the module's docstring."""
    for path in files:
        print(f"drawn in {draw(path)}")


if __name__ == "__main__":
    main()
