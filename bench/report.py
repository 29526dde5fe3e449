"""Draw the results of `cubby bench ycsb` and `cubby bench fio`.

FILES are what those have written with --output.  One page, report.html, shows them all and needs no
other file; its plots stand beside it as PNG, too.
"""

from pathlib import Path

import click

from cubbydb.bench._report_data import YcsbResults, read_results

__all__ = ["report"]


@click.command(help=__doc__)
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--output",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("bench-report"),
    show_default=True,
    help="The folder for the page and the plots.",
)
def report(files: tuple[Path, ...], output: Path) -> None:
    """Replaced by the module's docstring."""
    all_results = [read_results(path) for path in files]
    names = [path.stem for path in files]
    for name in names:
        if names.count(name) > 1:  # their plots would have one name
            raise click.ClickException(f"two of the files are called {name}: rename one")
    try:
        from cubbydb.bench import _report_plots as plots
    except ImportError:
        raise click.ClickException(
            "matplotlib is not installed: pip install 'cubbydb[bench]'"
        ) from None
    from cubbydb.bench._report_page import Picture, page, section

    output.mkdir(parents=True, exist_ok=True)
    sections = []
    plot_count = 0
    for path, results in zip(files, all_results, strict=True):
        try:
            if isinstance(results, YcsbResults):
                drawn = plots.ycsb_plots(results)
            else:
                drawn = plots.fio_plots(results)
            pictures = []
            for name, title, caption, figure in drawn:
                file = output / f"{results.name}_{name}.png"
                plots.save(figure, file)
                pictures.append(Picture(title, caption, file))
            sections.append(section(results, pictures))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            text = f"{path} is not as `cubby bench` writes it ({type(error).__name__}: {error})"
            raise click.ClickException(text) from error
        plot_count += len(pictures)
    written = output / "report.html"
    written.write_text(page(sections))
    click.echo(f"written: {written}, and {plot_count} plots beside it")
