"""Run YCSB's core workloads on the store and its peers.

Every engine is loaded with the same records in a place of its own, then all of them run every
workload, one after the other, round after round: on equal terms, and each value that comes back is
checked.  Figures are medians of the rounds.

\b
    cubby bench ycsb                                  # all engines, A to D and F, small, in seconds
    cubby bench ycsb -e cubby -w a --pairs 1000000    # one workload: YCSB's own summary
    cubby bench ycsb -P my.properties -p readproportion=0.7

E scans ranges, which a hash has no order for: only engines that order keys can run it.  volimap
(-e volimap) keeps nothing: all its pairs are in memory, without a limit, put before each run.
"""

import os
import statistics
from pathlib import Path
from typing import Any

import click
import rich.box
import rich.console
import rich.table

from cubbydb.bench._machine import describe_machine, expect_results, write_results
from cubbydb.bench._places import IN_MEMORY, OURS, places_for, why_not_on
from cubbydb.bench._signals import ended_in_order
from cubbydb.bench._ycsb_driver import RunFailed, YcsbDriver
from cubbydb.bench._ycsb_figures import Cell
from cubbydb.bench._ycsb_matrix import Matrix, Terms

__all__ = ["ycsb"]

WORKLOADS = "abcdef"
WIDTH = 150  # of the table, also where there is no terminal
MEMORY_MIN = 96 << 20  # below this some peers do not get on
ENGINES = ("cubby", "rocksdb", "wiredtiger", "lmdb", "pread")
COLUMNS = (
    ("kops/s", "ops_per_second", 1e-3, ".1f"),
    ("min", "ops_per_second_min", 1e-3, ".1f"),
    ("max", "ops_per_second_max", 1e-3, ".1f"),
    ("CPU us", "cpu_gross_ns", 1e-3, ".2f"),
    ("net", "cpu_net_ns", 1e-3, ".2f"),
    ("mean us", "read_mean_ns", 1e-3, ".1f"),
    ("p99", "read_p99_ns", 1e-3, ".1f"),
    ("p99.9", "read_p999_ns", 1e-3, ".1f"),
    ("reads", "device_reads_per_op", 1, ".2f"),
    ("B written", "device_written_bytes_per_op", 1, ".0f"),
    ("MiB", "peak_resident_bytes", 1 / (1 << 20), ".0f"),
    ("with cache", "group_peak_bytes", 1 / (1 << 20), ".0f"),
)


def _numbers(context: click.Context, parameter: click.Parameter, value: str) -> list[int]:
    try:
        numbers = [int(part) for part in value.split(",")]
    except ValueError:
        numbers = []
    if not numbers or not all(1 <= number <= 256 for number in numbers):
        raise click.BadParameter(f"{value!r}: numbers from 1 to 256 with commas between them")
    return numbers


def _memory(context: click.Context, parameter: click.Parameter, value: str) -> str:
    if value != "none":
        share = value.removesuffix("%")
        if not (value.endswith("%") and share.isdigit() and 1 <= int(share) <= 1000):
            raise click.BadParameter(f"{value!r}: a percentage of the data, as 10%, or none")
    return value


def _engines_here(
    driver: YcsbDriver, wanted: tuple[str, ...]
) -> tuple[dict[str, bool], dict[str, str]]:
    """Those that are here (whether each wants a folder), and why the others are not."""
    known = driver.engines()
    for name in wanted:
        if name not in known:
            raise click.BadParameter(f"{name!r}: there are {', '.join(known)}", param_hint="-e")
    here = {
        name: bool(known[name]["in_folder"]) for name in wanted or ENGINES if known[name]["is_here"]
    }
    absent = {
        name: str(known[name]["absence"])
        for name in wanted or ENGINES
        if not known[name]["is_here"]
    }
    if "pread" in here and OURS not in here:
        del here["pread"]
        absent["pread"] = "it reads the store that cubby has loaded, and cubby is not asked for"
    return here, absent


def _cells(
    engines: list[str], workloads: str, distributions: list[str], threads: list[int]
) -> list[Cell]:
    """One engine after the other at each: what is compared runs next to each other."""
    cells = []
    for count in threads:
        for workload in workloads:
            own = ["latest"] if workload == "d" else distributions
            for distribution in own:
                cells += [Cell(name, workload.upper(), distribution, count) for name in engines]
    return cells


def _table(cells: list[Cell]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD)
    for name in ("workload", "keys", "threads", "engine"):
        table.add_column(name, no_wrap=True)
    for name, *_ in COLUMNS:
        table.add_column(name, justify="right")
    last = None
    for cell in cells:
        key = (cell.workload, cell.distribution, cell.threads)
        if last is not None and key != last:
            table.add_section()
        shown = [str(part) for part in key] if key != last else [""] * 3
        last = key
        if cell.failure is not None:
            table.add_row(*shown, cell.engine, cell.failure.split(";")[0])
            continue
        rates = [figures["ops_per_second"] for figures in cell.rounds]
        extremes = {"ops_per_second_min": min(rates), "ops_per_second_max": max(rates)}
        values = []
        for _, figure, scale, style in COLUMNS:
            value = extremes.get(figure, cell.median(figure))
            values.append("" if value is None else format(value * scale, style))
        table.add_row(*shown, cell.engine, *values)
    return table


def _say_terms(console: rich.console.Console, matrix: Matrix, absent: dict[str, str]) -> None:
    terms = matrix.terms
    text = f"{terms.pairs:,} pairs of {terms.key_bytes} + {terms.value_bytes} B"
    if terms.memory_bytes is not None:
        share = 100 * terms.memory_bytes / terms.data_bytes
        text += f"; memory {terms.memory_bytes >> 20} MiB ({share:.0f} % of the data), "
        text += (
            "enforced by a memory cgroup"
            if matrix.limit_bytes
            else f"not enforced: {matrix.why_no_group}"
        )
    text += f"; promise {terms.durability}; the engines' compression "
    text += "on" if terms.compress else "off"
    console.print(text)
    for name in IN_MEMORY:
        if name in matrix.places:
            console.print(f"{name}: all pairs in memory, without a limit, and nothing on a device")
    for name, reason in absent.items():
        console.print(f"without {name}: {reason}")


def _run(matrix: Matrix, cells: list[Cell], console: rich.console.Console) -> None:
    for engine in list(matrix.places):
        try:
            matrix.load(engine, threads=2)
        except RunFailed as error:
            if engine == OURS:
                raise click.ClickException(f"loading {engine}: {error}") from None
            console.print(f"without {engine}: {error}")
            cells = [cell for cell in cells if cell.engine != engine]
    matrix.cells = cells
    for number in range(matrix.terms.rounds):
        matrix.say(f"round {number + 1} of {matrix.terms.rounds}: {len(cells)} runs")
        matrix.run_round(cells)
        matrix.check()


def _check_choices(options: dict[str, Any]) -> None:
    """Refuse what cannot be meant."""
    workload, keys, medium = options["workload"], options["keys"], options["medium"]
    if not workload or not set(workload.lower()) <= set(WORKLOADS):
        raise click.BadParameter(f"{workload!r}: letters from a to f", param_hint="--workload")
    if not set(keys.split(",")) <= {"zipfian", "uniform", "latest"}:
        raise click.BadParameter(f"{keys!r}: zipfian or uniform", param_hint="--keys")
    for text in options["properties"]:
        if "=" not in text:
            raise click.BadParameter(f"{text!r} is not name=value", param_hint="-p")
    if medium not in ("zram", "csd") and not Path(medium).is_dir():
        raise click.BadParameter(f"{medium}: zram, csd, or a folder that exists", param_hint="--on")
    if options["drive"] is not None and medium != "csd":
        raise click.BadParameter("only a csd has the latencies of a drive", param_hint="--drive")
    why_not = why_not_on(medium)
    if why_not is not None:
        raise click.ClickException(f"--on {medium}: {why_not}")


def _terms(options: dict[str, Any]) -> Terms:
    data_bytes = options["pairs"] * (options["key_bytes"] + options["value_bytes"])
    memory = None
    if options["memory"] != "none":
        share = int(options["memory"].removesuffix("%"))
        memory = max(MEMORY_MIN, data_bytes * share // 100)
    given = [text.split("=", 1) for text in options["properties"]]
    return Terms(
        pairs=options["pairs"],
        key_bytes=options["key_bytes"],
        value_bytes=options["value_bytes"],
        zero_proportion=options["zeros"],
        value_source=options["values"],
        memory_bytes=memory,
        durability=options["promise"],
        compress=options["compress"],
        seconds=options["seconds"],
        warm_seconds=options["warm"],
        rounds=options["rounds"],
        target=options["target"],
        property_files=options["files"],
        properties=tuple((name, value) for name, value in given),
    )


@click.command(help=__doc__, context_settings={"show_default": True})
@click.option(
    "--engine", "-e", multiple=True, help="May be repeated.  [default: all that are here]"
)
@click.option("--workload", "-w", default="abcdf", help="Letters of YCSB's core workloads.")
@click.option("--keys", default="zipfian", help="Of A, B, C, E, F: zipfian, uniform, or both.")
@click.option("--threads", default="2", callback=_numbers, help="Numbers, with commas.")
@click.option("--pairs", default=100_000, type=click.IntRange(1000, 10**12))
@click.option("--key-bytes", default=16, type=click.IntRange(16, 1024))
@click.option("--value-bytes", default=384, type=click.IntRange(1, 1 << 20))
@click.option("--zeros", default=0.5, type=click.FloatRange(0, 1), help="Part of a value.")
@click.option("--values", default="random", help="The rest of it: random, text, or a file.")
@click.option("--memory", default="10%", callback=_memory, help="Of the data, or none: no limit.")
@click.option("--promise", default="process", type=click.Choice(["none", "process", "power"]))
@click.option("--compress", is_flag=True, help="The engines compress, besides the device.")
@click.option("--on", "medium", default=".", help="zram, csd, or a folder.")
@click.option("--drive", help="csd: with the latencies of p4800x, p4500, ...")
@click.option("--rounds", default=1, type=click.IntRange(1, 99))
@click.option("--seconds", default=2.0, type=click.FloatRange(0.01), help="Of each run.")
@click.option("--warm", default=1.0, type=click.FloatRange(0), help="Seconds before it counts.")
@click.option("--target", default=0.0, help="Operations per second; 0: as many as it can.")
@click.option(
    "-P",
    "files",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="A property file in place of a core workload: what is done, and to which keys.",
)
@click.option("-p", "properties", multiple=True, help="name=value: a property of YCSB.")
@click.option("--output", type=click.Path(path_type=Path), help="Write the results as JSON.")
def ycsb(**options: Any) -> None:
    """Replaced by the module's docstring."""
    _check_choices(options)
    driver, terms = YcsbDriver(), _terms(options)
    medium, output = options["medium"], options["output"]
    wanted = options["engine"] or ((OURS,) if medium == "csd" else ())
    engines, absent = _engines_here(driver, wanted)
    if not engines:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in absent.items())
        raise click.ClickException(f"there is no engine to be measured ({reasons})")
    if output is not None:
        expect_results(output)
    machine = describe_machine()
    console = rich.console.Console(width=max(WIDTH, rich.console.Console().width))
    with (
        ended_in_order(),
        places_for(engines, medium, options["drive"], terms.data_bytes) as places,
    ):
        matrix = Matrix(driver, terms, places, lambda text: click.echo(text, err=True))
        _say_terms(console, matrix, absent)
        workloads, keys = options["workload"].lower(), options["keys"].split(",")
        if terms.property_files:
            workloads, keys = "p", ["as given"]
        _run(matrix, _cells(list(engines), workloads, keys, options["threads"]), console)
        results: dict[str, Any] = {
            "benchmark": "ycsb",
            "machine": machine,
            "load_average_after": os.getloadavg(),
            "medium": " with the latencies of ".join(filter(None, (medium, options["drive"]))),
            "skipped": absent,
            **matrix.as_json(),
        }
    if len(matrix.cells) * terms.rounds == 1:
        console.print(matrix.summary, end="", highlight=False, markup=False)
    console.print(_table(matrix.cells))
    for name, load in matrix.loads.items():
        if load["settings"]:
            console.print(f"{name}: {load['settings']}")
    overhead = statistics.median(matrix.overheads_ns)
    console.print(f"the driver itself takes {overhead:.0f} ns of an operation (engine null, C)")
    if output is not None:
        console.print(f"written to {write_results(output.parent, output.stem, results)}")
