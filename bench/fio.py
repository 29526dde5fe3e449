"""cubby bench fio: devices as fio measures them, and the store on them as a share of that.

    make bench && .venv/bin/cubby bench fio

A store is loaded once, in memory, and copied block by block to each device: zram, a loop device, an
emulated drive that compresses (csd), a file; each is made for this and removed afterwards.  On each
in turn, round after round:

    randread    fio replays the home blocks of random gets; the store gets (get_many for depths)
    randwrite   fio overwrites them with blocks that compress like the store's; the store updates
    mix         fio does both, 70 % reads; the store's driver has no such workload

fio's I/O engine is psync at depth 1, the faster of io_uring and libaio beyond it, and nbd for the
csd, which the store opens by itself: there the share says what NBD costs, no more.  Since fio's
writes destroy pairs, the store is copied anew behind them.

With --path an existing store is measured, and only read.  Its keys are not known here, so the store
is asked for keys that it has not: one read each, too.

The results, of --output:

    machine, load_average_after, fio_version, parameters
    buffers     what zstd makes of a block of the store; how compressible fio's had to be
    skipped     device -> why
    devices     each with its commands, space, ioengine_probes_iops, and
      rows      workload, depth, ioengine
                fio: medians of the rounds; for read and write iops, and latencies (clat) in ns;
                CPU in percent of one processor; fio_iops: of each round
                store_operation, store_ops_per_second (the median), store_rounds
                share: the median of the rounds' ratios of the store's operations to fio's
"""

import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

import cubbydb
from cubbydb.bench._devices import (
    csd_drive,
    file_place,
    loop_device,
    nbd_server,
    why_no_loop,
    why_no_nbd,
    why_no_zram,
    zram_device,
)
from cubbydb.bench._driver import DRIVER_PATH, Driver
from cubbydb.bench._fio import Fio, FioFigures
from cubbydb.bench._fio_report import DeviceReport, Row, print_table
from cubbydb.bench._machine import describe_machine, expect_results, write_results
from cubbydb.bench._signals import ended_in_order
from cubbydb.bench._store_image import (
    MEMORY,
    HomeReads,
    StoreImage,
    compressed_bytes,
    percent_that_compresses_like,
)
from cubbydb.blockdev import BlockDevice

__all__ = ["fio"]

KINDS = ("zram", "loop", "csd", "file")
WORKLOADS = ("randread", "mix", "randwrite")
KEY_BYTES = 16
DEPTH_MAX = 4096
DEVICE_BYTES_MIN = 1 << 30
CSD_BYTES_MIN = 256 << 20
# More than a device does: a run that comes to the end of its log ends early.
FAST_READS_PER_SECOND, FAST_WRITES_PER_SECOND = 400_000, 250_000
SLOW_PER_SECOND = 150_000
NBD = "nbd"  # an I/O engine of fio's, and the name in its I/O log
PROBE_SECONDS = 0.2
PROBE_REQUESTS = 60_000
ABSENT_KEYS = 64 * 1024
EXIT_TERMINATED = 143  # as a shell says of a program that SIGTERM ended


@dataclass(frozen=True)
class Settings:
    """What the command line says."""

    pairs: int
    value_bytes: int
    seconds: int
    rounds: int
    depths: tuple[int, ...]
    workloads: tuple[str, ...]
    folder: Path
    model: str | None
    driver: Path
    path: str | None
    quick: bool

    def depths_of(self, workload: str) -> tuple[int, ...]:
        """To be quick, the mixture has the greatest depth alone."""
        return (max(self.depths),) if self.quick and workload == "mix" else self.depths

    def as_json(self) -> dict[str, Any]:
        """For the results file."""
        fields = dict(vars(self)) | {"key_bytes": KEY_BYTES}
        return {name: f"{it}" if isinstance(it, Path) else it for name, it in fields.items()}


@dataclass(frozen=True)
class Device:
    """Something that holds a copy of the store."""

    kind: str
    name: str  # the store opens it by this
    fio_path: str
    # While this is entered fio can get at it, with these options.
    opened_to_fio: Callable[[], AbstractContextManager[list[str]]] = field(
        default=lambda: nullcontext([])
    )
    is_fast: bool = True
    by_nbd: bool = False  # fio reaches it through NBD, which knows no paths


# Devices -----------------------------------------------------------------------------------------


WHY_NOT: dict[str, Callable[[], str | None]] = {
    "zram": why_no_zram,
    "loop": why_no_loop,
    "csd": why_no_nbd,
    "file": lambda: None,
}


@contextmanager
def device_of(
    kind: str, settings: Settings, image: StoreImage, commands: list[str]
) -> Iterator[Device]:
    """A new device, in memory or in a file of the folder, large enough for the store."""
    size = max(DEVICE_BYTES_MIN, image.size_bytes)
    place = settings.folder / f"cubby-bench-fio-{os.getpid()}.{kind}"
    if kind == "zram":
        with zram_device(size) as path:
            yield Device(kind, path, path)
    elif kind == "loop":
        with loop_device(place, size) as path:
            yield Device(kind, path, path, is_fast=False)
    elif kind == "csd":
        with served_drive(place, settings, image, commands) as device:
            yield device
    else:
        with file_place(place) as path:
            with place.open("xb") as file:
                file.truncate(image.size_bytes)
            yield Device(kind, path, path, is_fast=False)


@contextmanager
def served_drive(
    place: Path, settings: Settings, image: StoreImage, commands: list[str]
) -> Iterator[Device]:
    """An emulated drive, which is served only while fio runs: it belongs to one process."""
    in_memory = MEMORY if MEMORY.is_dir() else settings.folder
    physical = max(CSD_BYTES_MIN, image.data_bytes)
    logical = max(DEVICE_BYTES_MIN, image.size_bytes)
    with (
        csd_drive(in_memory / place.name, physical, logical) as csd,
        tempfile.TemporaryDirectory() as folder,
    ):
        name = f"model:{settings.model}:{csd}" if settings.model else csd

        @contextmanager
        def served() -> Iterator[list[str]]:
            socket = Path(folder) / "nbd.sock"
            with nbd_server(name, socket, max(settings.depths), commands) as uri:
                yield [f"--uri={uri}"]

        yield Device("csd", name, NBD, served, is_fast=False, by_nbd=True)


# The store ---------------------------------------------------------------------------------------


@dataclass
class DriverGets:
    """Gets of pairs that are there, by the driver, for which a store was loaded."""

    driver: Driver
    path: str
    seconds: int

    def run(self, depth: int) -> float:
        """Values per second."""
        workload = ("get",) if depth == 1 else ("getmany", "--batch", str(depth))
        seconds = ("--seconds", str(self.seconds))
        return float(self.driver.run(self.path, *workload, *seconds)[0]["ops_per_second"])

    def update(self) -> tuple[float, float]:
        """Puts per second of pairs that are there, and blocks written per put."""
        result = self.driver.run(self.path, "update", "--seconds", str(self.seconds))[0]
        blocks = result["after"]["blocks_written"] - result["before"]["blocks_written"]
        return float(result["ops_per_second"]), blocks / result["operations"]


class AbsentGets:
    """Gets from Python of keys that are not there, for a store of which nothing is known."""

    def __init__(self, path: str, seconds: int) -> None:
        self._path = path
        self._seconds = seconds
        # Nobody else's: random, and long.
        self._keys = [b"cubby bench fio " + os.urandom(16) for _ in range(ABSENT_KEYS)]

    def run(self, depth: int) -> float:
        """Answers per second."""
        with cubbydb.open(self._path, "r") as store:
            count = 0
            begin = now = time.perf_counter()
            while now - begin < self._seconds:
                at = count % (ABSENT_KEYS - depth)
                if depth == 1:
                    store.get(self._keys[at])
                else:
                    store.get_many(self._keys[at : at + depth])
                count += depth
                now = time.perf_counter()
        return count / (now - begin)


# One device --------------------------------------------------------------------------------------


class Measurement:
    """The rounds on one device that holds the store."""

    def __init__(
        self,
        settings: Settings,
        device: Device,
        reads: HomeReads,
        scratch: Path,
        fio_percent: int,
        report: DeviceReport,
    ) -> None:
        self._settings = settings
        self._device = device
        self._scratch = scratch
        self._reads = reads
        self._report = report
        self._write_options = [
            f"--buffer_compress_percentage={fio_percent}",
            "--buffer_compress_chunk=4k",
            "--refill_buffers",
        ]
        for workload in settings.workloads:
            fast = FAST_READS_PER_SECOND if workload == "randread" else FAST_WRITES_PER_SECOND
            rate = fast if device.is_fast else SLOW_PER_SECOND
            self._write_log(workload, workload, rate * settings.seconds)
        self._deep_engine = self._choose_engine()
        report.rows = [
            Row(workload, depth, self._engine(depth))
            for workload in WORKLOADS
            if workload in settings.workloads
            for depth in settings.depths_of(workload)
        ]

    def _write_log(self, name: str, workload: str, count: int) -> None:
        self._reads.write_log(self._scratch / name, self._device.fio_path, workload, count)

    def _engine(self, depth: int) -> str:
        if self._device.by_nbd:
            return NBD
        return "psync" if depth == 1 else self._deep_engine

    def _choose_engine(self) -> str:
        """The faster one at the greatest depth; one that fio or the kernel has not is left out.

        To be quick, the first one that works.
        """
        depth = max(self._settings.depths)
        if depth == 1 or self._device.by_nbd:
            return ""
        self._write_log("probe", "randread", PROBE_REQUESTS)
        for engine in ("io_uring", "libaio"):
            try:
                figures = self._fio("probe", engine, depth, PROBE_SECONDS)
            except click.ClickException:
                self._report.probes[engine] = None
            else:
                self._report.probes[engine] = round(figures.iops, 1)
                if self._settings.quick:
                    break
        found = {engine: iops for engine, iops in self._report.probes.items() if iops is not None}
        if not found:
            raise click.ClickException("fio has neither io_uring nor libaio here: say --depths 1")
        return max(found, key=lambda engine: found[engine])

    def _fio(self, workload: str, engine: str, depth: int, seconds: float) -> FioFigures:
        # With a process of its own for the job, killing fio would leave that behind.
        options = ["--thread", "--numjobs=1"]
        options += ["--readonly"] if workload in {"randread", "probe"} else self._write_options
        with self._device.opened_to_fio() as more:
            log = str(self._scratch / workload)
            run = Fio(self._device.fio_path, log, seconds, self._report.commands)
            return run.replay(engine, depth, *options, *more)

    def read(self, store: DriverGets | AbsentGets) -> None:
        """One round of reads: fio, then the store, at each depth."""
        for row in self._report.rows:
            if row.workload == "randread":
                row.fio.append(self._fio("randread", row.ioengine, row.depth, self._seconds))
                row.operation = "get" if row.depth == 1 else f"get_many of {row.depth}"
                row.store.append(store.run(row.depth))

    @property
    def _seconds(self) -> int:
        return self._settings.seconds

    def update(self, store: DriverGets) -> None:
        """One round of the store's updates, which know no depth; they may move its blocks."""
        rate, blocks = store.update()
        for row in self._report.rows:
            if row.workload == "randwrite":
                row.operation = "update"
                row.store.append(rate)
                row.blocks_written.append(blocks)

    def write(self) -> None:
        """One round of fio's writes: the store is lost."""
        for row in self._report.rows:
            if row.workload != "randread":
                row.fio.append(self._fio(row.workload, row.ioengine, row.depth, self._seconds))

    def space(self) -> dict[str, Any]:
        """What the blocks take up now, without the gaps that overwriting leaves in memory."""
        compact = Path(f"/sys/block/{Path(self._device.name).name}/compact")
        if self._device.kind == "zram":
            compact.write_text("1")
        with BlockDevice.open(self._device.name, read_only=True) as opened:
            usage = opened.usage()
        return {
            "logical_bytes": usage.logical_bytes,
            "physical_bytes": usage.physical_bytes,
            "says": usage.source,
            "block_zstd_bytes": round(compressed_bytes(self._device.name, self._reads.sample()), 1),
        }


def measure_copy(
    settings: Settings, kind: str, image: StoreImage, reads: HomeReads, scratch: Path, percent: int
) -> DeviceReport:
    """All rounds on a device of our own."""
    commands: list[str] = []
    with device_of(kind, settings, image, commands) as device:
        report = DeviceReport(kind, device.name, device.by_nbd, False, commands=commands)
        driver = Driver(settings.driver, settings.pairs, settings.value_bytes, KEY_BYTES, commands)
        store = DriverGets(driver, device.name, settings.seconds)
        image.copy_to(device.name)
        measurement = Measurement(settings, device, reads, scratch, percent, report)
        writes = set(settings.workloads) - {"randread"}
        if writes:
            report.space["store"] = measurement.space()
        for number in range(1, settings.rounds + 1):
            click.echo(f"{kind}: {device.name}, round {number} of {settings.rounds}", err=True)
            if number > 1 and writes:
                image.copy_to(device.name)
            measurement.read(store)
            if "randwrite" in writes:
                measurement.update(store)
                image.copy_to(device.name)
            if writes:
                measurement.write()
        if writes:
            report.space["fio"] = measurement.space()
    return report


def measure_copies(
    settings: Settings, kinds: list[str]
) -> tuple[list[DeviceReport], dict[str, Any]]:
    """Load a store, and measure it on all devices; also what was found about its blocks."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else settings.folder) as folder:
        scratch = Path(folder)
        image = StoreImage(scratch / "image")
        driver = Driver(settings.driver, settings.pairs, settings.value_bytes, KEY_BYTES)
        click.echo(f"loading {settings.pairs:,} pairs", err=True)
        driver.run(str(image.path), "load")
        count = FAST_READS_PER_SECOND * settings.seconds
        reads = HomeReads.of(driver, str(image.path), scratch / "reads", count)
        size = compressed_bytes(str(image.path), reads.sample())
        percent = percent_that_compresses_like(size)
        reports = [measure_copy(settings, kind, image, reads, scratch, percent) for kind in kinds]
    buffers = {"block_zstd_bytes": round(size, 1), "fio_compress_percentage": percent}
    return reports, {"buffers": buffers, "load_commands": driver.commands}


def measure_existing(settings: Settings, path: str) -> tuple[list[DeviceReport], dict[str, Any]]:
    """Measure reads of a store that is there; nothing is written."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        cubbydb.open(path, "r").close()  # so that what is wrong with it is said as everywhere
        device = Device("path", path, path)
        report = DeviceReport("path", path, False, True)
        driver = Driver(
            settings.driver, settings.pairs, settings.value_bytes, KEY_BYTES, report.commands
        )
        count = FAST_READS_PER_SECOND * settings.seconds
        reads = HomeReads.of(driver, path, scratch / "reads", count)
        measurement = Measurement(settings, device, reads, scratch, 0, report)
        store = AbsentGets(path, settings.seconds)
        for number in range(1, settings.rounds + 1):
            click.echo(f"{path}: round {number} of {settings.rounds}", err=True)
            measurement.read(store)
    return [report], {}


# The command -------------------------------------------------------------------------------------


class DepthList(click.ParamType[tuple[int, ...]]):
    """Queue depths with commas between them."""

    name = "list"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """Read them; each counts once."""
        try:
            depths = tuple(dict.fromkeys(int(word) for word in str(value).split(",")))
        except ValueError:
            self.fail(f"{value} is not a list of numbers, as in 1,16,64", param, ctx)
        if min(depths) < 1 or max(depths) > DEPTH_MAX:
            self.fail(f"{value}: a queue depth is 1 to {DEPTH_MAX:,}", param, ctx)
        return depths


def checked_path(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """A path that fio can open."""
    if value is None:
        return None
    try:
        mode = Path(value).stat().st_mode
    except OSError as error:
        raise click.BadParameter(f"{value}: {error.strerror}", ctx, param) from None
    if not (stat.S_ISBLK(mode) or stat.S_ISREG(mode)):
        text = f"{value} is neither a block device nor a file"
        raise click.BadParameter(text, ctx, param)
    return plain(ctx, param, value)


def plain(ctx: click.Context, param: click.Parameter, value: str) -> str:
    """A path that an I/O log of fio's can name."""
    if any(sign.isspace() or sign == ":" for sign in value):
        raise click.BadParameter(f"{value!r}: fio takes no spaces and colons", ctx, param)
    return value


def checked_model(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    """The name of a model that there is."""
    if value is not None:
        try:
            BlockDevice.open(f"model:{value}:mem:1M").close()
        except (ValueError, OSError) as error:
            raise click.BadParameter(str(error), ctx, param) from None
    return value


def choose_kinds(wanted: tuple[str, ...]) -> tuple[list[str], dict[str, str]]:
    """The devices that can be measured, and why the others cannot."""
    kinds, skipped = [], {}
    for kind in KINDS:
        if wanted and kind not in wanted:
            continue
        reason = WHY_NOT[kind]()
        if reason is None:
            kinds.append(kind)
        else:
            skipped[kind] = reason
            click.echo(f"{kind} is skipped: {reason}", err=True)
    return kinds, skipped


class CannotRun(click.ClickException):
    """Something is missing on this machine."""

    exit_code = 3  # cubby --help


@click.command()
@click.option(
    "--device",
    "kinds",
    type=click.Choice(KINDS),
    multiple=True,
    help="Made for this, and removed; may be given several times.  [default: all that can be]",
)
@click.option(
    "--path",
    callback=checked_path,
    help="Instead: a store that is there, on a device or in a file; it is only read.",
)
@click.option(
    "--workload",
    "workloads",
    type=click.Choice(WORKLOADS),
    multiple=True,
    help="May be given several times; mix is 70 % reads.  [default: all]",
)
@click.option("--depths", type=DepthList(), help="Queue depths.  [default: 1,4,16,64,128]")
@click.option("--pairs", type=click.IntRange(1000), help="In the store.  [default: 1000000]")
@click.option(
    "--value-bytes",
    type=click.IntRange(0, 1 << 20),
    default=384,
    show_default=True,
    help="Half random.",
)
@click.option("--seconds", type=click.IntRange(1), help="Of each run.  [default: 2]")
@click.option("--rounds", type=click.IntRange(1), help="Medians are shown.  [default: 3]")
@click.option(
    "--quick",
    is_flag=True,
    help="Under a minute: 100,000 pairs, depths 1,32 (mix: 32), one second, one round.",
)
@click.option(
    "--model",
    callback=checked_model,
    help="Make the csd as slow as a drive, as csd-2000.  It takes processor time to wait.",
)
@click.option(
    "--folder",
    type=click.Path(file_okay=False),
    default="build",
    show_default=True,
    callback=plain,
    help="Where the file, and that of the loop device, are put: on the disk to be measured.",
)
@click.option("--driver", type=click.Path(path_type=Path), default=DRIVER_PATH)
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write the results as JSON.",
)
def fio(
    kinds: tuple[str, ...],
    path: str | None,
    workloads: tuple[str, ...],
    depths: tuple[int, ...] | None,
    pairs: int | None,
    value_bytes: int,
    seconds: int | None,
    rounds: int | None,
    quick: bool,
    model: str | None,
    folder: str,
    driver: Path,
    output: Path | None,
) -> None:
    """Measure devices with fio, and the store on them as a share of that.

    fio reads and overwrites the blocks that random gets of a store read.  Devices are made for this
    and removed afterwards; what was there before is not touched.
    """
    if path is not None and (kinds or set(workloads) - {"randread"}):
        raise click.UsageError("--path is only read: it goes with neither --device nor writes")
    if not Fio.is_here():
        raise CannotRun("fio is not installed: apt-get install fio")
    settings = Settings(
        pairs=pairs or (100_000 if quick else 1_000_000),
        value_bytes=value_bytes,
        seconds=seconds or (1 if quick else 2),
        rounds=rounds or (1 if quick else 3),
        depths=depths or ((1, 32) if quick else (1, 4, 16, 64, 128)),
        workloads=("randread",) if path is not None else workloads or WORKLOADS,
        folder=Path(folder),
        model=model,
        driver=driver,
        path=path,
        quick=quick,
    )
    run(settings, kinds, output)


def run(settings: Settings, wanted: tuple[str, ...], output: Path | None) -> None:
    """Measure, print the table, write the results."""
    Driver(settings.driver, settings.pairs, settings.value_bytes)  # is it there?
    settings.folder.mkdir(parents=True, exist_ok=True)
    if output is not None:
        expect_results(output)
    machine = describe_machine()
    version = str(machine["fio"]).removeprefix("fio-")
    kinds, skipped = choose_kinds(wanted) if settings.path is None else ([], {})
    if settings.path is None and not kinds:
        raise CannotRun("none of these devices can be measured here")
    with ended_in_order(EXIT_TERMINATED):
        if settings.path is not None:
            reports, more = measure_existing(settings, settings.path)
        else:
            reports, more = measure_copies(settings, kinds)
    print_table(reports)
    click.echo(f"fio {version} was used, with one job.")
    for kind, reason in skipped.items():
        click.echo(f"{kind} was skipped: {reason}.")
    content = {
        "benchmark": "fio",
        "machine": machine,
        "load_average_after": os.getloadavg(),
        "fio_version": version,
        "parameters": settings.as_json(),
        "skipped": skipped,
        **more,
        "devices": [report.as_json() for report in reports],
    }
    if output is not None:
        click.echo(f"written: {write_results(output.parent, output.stem, content)}", err=True)


if __name__ == "__main__":
    fio()
