"""The report's page: one HTML file that needs no other."""

import base64
from html import escape
from pathlib import Path
from typing import Any

from cubbydb.bench._report_data import NAMES, WORKLOADS, FioResults, YcsbResults

__all__ = ["Picture", "page", "section"]

MIB = 1 << 20
# Heading, figure, factor, format, whether more is better.
COLUMNS: list[tuple[str, str, float, str, bool]] = [
    ("thousand op/s", "ops_per_second", 1e-3, ",.1f", True),
    ("CPU us/op", "cpu_gross_ns", 1e-3, ".1f", False),
    ("of it the engine's", "cpu_net_ns", 1e-3, ".1f", False),
    ("read mean us", "read_mean_ns", 1e-3, ",.1f", False),
    ("read p99 us", "read_p99_ns", 1e-3, ",.0f", False),
    ("device reads/op", "device_reads_per_op", 1, ".2f", False),
    ("B written/op", "device_written_bytes_per_op", 1, ",.0f", False),
    ("device B/pair", "physical_bytes_per_pair", 1, ",.0f", False),
    ("DRAM B/pair to find one", "placement_bytes_per_pair", 1, ",.2f", False),
    ("process MiB", "peak_resident_bytes", 1 / MIB, ",.0f", False),
    ("with page cache", "group_peak_bytes", 1 / MIB, ",.0f", False),
]
STYLE = """
body { font: 16px/1.45 system-ui, sans-serif; color: #1a1a1a; margin: 0 auto; max-width: 1150px;
       padding: 1.5em; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.2em; border-bottom: 2px solid #0b7a4b; }
h3 { margin: 1.8em 0 0.2em; }
table { border-collapse: collapse; font-size: 14px; margin: 0.8em 0; }
th, td { padding: 3px 9px; text-align: right; white-space: nowrap; }
th { border-bottom: 1px solid #888; vertical-align: bottom; white-space: normal; }
td:nth-child(-n+2), th:nth-child(-n+2) { text-align: left; }
tr.first td { border-top: 1px solid #ccc; }
tr.cubby td { background: #eaf5ef; }
tr.pread td { color: #888; }
.finding { font-size: 18px; margin: 0.4em 0; } .finding b { color: #0b7a4b; }
.caption { color: #444; margin: 0.2em 0 0.6em; max-width: 60em; }
img { max-width: 100%; } pre { font-size: 12px; white-space: pre-wrap; }
dl { display: grid; grid-template-columns: max-content auto; gap: 2px 14px; }
dt { color: #666; } dd { margin: 0; }
"""


class Picture:
    """A plot that has been written, and what is said about it."""

    def __init__(self, title: str, caption: str, file: Path) -> None:
        self.title = title
        self.caption = caption
        self.file = file

    def html(self) -> str:
        """It and its words, with the file inside."""
        data = base64.b64encode(self.file.read_bytes()).decode()
        return (
            f"<h3>{escape(self.title)}</h3>\n<p class='caption'>{escape(self.caption)}</p>\n"
            f"<img alt='{escape(self.title)}' src='data:image/png;base64,{data}'>\n"
        )


def _list(rows: list[tuple[str, Any]]) -> str:
    shown = [
        f"<dt>{escape(name)}</dt><dd>{escape(str(value))}</dd>"
        for name, value in rows
        if value not in (None, "")
    ]
    return f"<dl>{''.join(shown)}</dl>\n"


def _machine(content: dict[str, Any]) -> list[tuple[str, Any]]:
    machine = content["machine"]
    before = machine.get("load_average") or [0]
    after = content.get("load_average_after") or before
    commit = (machine.get("commit") or "unknown")[:12]
    return [
        ("measured", machine.get("time")),
        ("commit", commit + (" and changes" if machine.get("commit_is_changed") else "")),
        ("machine", f"{machine.get('processors')} x {machine.get('processor')}, "
                    f"{machine.get('memory')}, Linux {machine.get('kernel')}"),
        ("load average", f"{before[0]:.1f} before, {after[0]:.1f} after"),
    ]  # fmt: skip


def _terms(results: YcsbResults) -> str:
    content, terms = results.content, results.content["terms"]
    size = f"{terms['pairs']:,} of {terms['key_bytes']} + {terms['value_bytes']} B"
    memory = "not limited"
    if terms["memory_bytes"]:
        share = 100 * terms["memory_bytes"] / terms["data_bytes"]
        memory = f"{terms['memory_bytes'] / MIB:,.0f} MiB each, {share:.0f} % of the data, "
        memory += f"page cache included; enforced by {terms['limit']}"
    rows = [
        ("pairs", f"{size}, {100 * terms['zero_proportion']:.0f} % of a value zeros"),
        ("on", results.medium),
        ("memory", memory),
        ("promise", f"a put survives: {terms['durability']}"),
        ("engines' compression", "on" if terms["compress"] else "off"),
        ("runs", f"{terms['rounds']} rounds of {terms['seconds']} s each, the engines in turn"),
    ]
    for engine, load in content["engines"].items():
        rows.append((NAMES.get(engine, engine), f"{load['place']}; {load['settings']}"))
    return _list(rows + _machine(content))


def _findings(results: YcsbResults) -> str:
    """Sentences: what the store's rates are beside those of its peers."""
    found = []
    threads = results.threads()[0]
    peers = [name for name in results.engines if name in ("rocksdb", "wiredtiger", "lmdb")]
    for workload in ("C", "A"):
        for kind in results.distributions():
            ours = results.median("cubby", workload, kind, threads, "ops_per_second")
            others = {
                peer: rate
                for peer in peers
                if (rate := results.median(peer, workload, kind, threads, "ops_per_second"))
            }
            if ours is None or not others:
                continue
            best = max(others, key=lambda peer: others[peer])
            found.append(
                f"{WORKLOADS[workload]}, {kind} keys, {threads} threads: CubbyDB does "
                f"<b>{ours / others[best]:.2f} times</b> what the fastest peer does "
                f"({NAMES[best]})."
            )
    limit = results.median("pread", "C", "uniform", threads, "ops_per_second")
    ours = results.median("cubby", "C", "uniform", threads, "ops_per_second")
    if limit and ours:
        found.append(
            f"Of the device's own random reads CubbyDB's gets reach <b>{100 * ours / limit:.0f} %"
            f"</b> ({threads} threads, uniform keys, nothing cached)."
        )
    return "".join(f"<p class='finding'>{text}</p>\n" for text in found)


def _best(values: dict[str, float], more: bool) -> str | None:
    own = {name: value for name, value in values.items() if name not in ("pread", "null", "lying")}
    if len(own) < 2:
        return None
    return (max if more else min)(own, key=lambda name: own[name])


def _table(results: YcsbResults, kind: str, threads: int) -> str:
    heads = "".join(f"<th>{escape(name)}</th>" for name, *_ in COLUMNS)
    rows = [f"<tr><th>workload</th><th>engine</th>{heads}</tr>"]
    for workload in results.workloads_with(kind):
        values = [
            {
                engine: value * scale
                for engine in results.engines
                if (value := results.median(engine, workload, kind, threads, name)) is not None
            }
            for _, name, scale, _, _ in COLUMNS
        ]
        for index, engine in enumerate(results.engines):
            cell = results.cell(engine, workload, kind, threads)
            if cell is None:
                continue
            title = escape(WORKLOADS.get(workload, workload)) if index == 0 else ""
            row = f"<td>{title}</td><td>{escape(NAMES[engine])}</td>"
            if cell["failure"] is not None:
                row += f"<td colspan='{len(COLUMNS)}'>{escape(cell['failure'])}</td>"
            else:
                for column, (_, _, _, style, more) in zip(values, COLUMNS, strict=True):
                    text = format(column[engine], style) if engine in column else ""
                    is_best = engine == _best(column, more)
                    row += f"<td>{f'<b>{text}</b>' if is_best else text}</td>"
            rows.append(f"<tr class='{'first ' if index == 0 else ''}{engine}'>{row}</tr>")
    return f"<table>{''.join(rows)}</table>\n"


def _ycsb_section(results: YcsbResults, pictures: list[Picture]) -> str:
    parts = [f"<h2>YCSB on {escape(results.medium)}</h2>\n", _findings(results)]
    parts += [picture.html() for picture in pictures]
    parts.append("<h3>All figures</h3><p class='caption'>Medians of the rounds; the best engine "
                 "of each column is bold.</p>")  # fmt: skip
    for threads in results.threads():
        for kind in results.distributions():
            parts.append(f"<h4>{escape(kind)} keys, {threads} threads</h4>")
            parts.append(_table(results, kind, threads))
    parts.append("<h3>Terms and machine</h3>" + _terms(results))
    skipped = [
        f"{NAMES.get(name, name)}: {why}" for name, why in results.content["skipped"].items()
    ]
    skipped += results.failures()
    if skipped:
        items = "".join(f"<li>{escape(text)}</li>" for text in skipped)
        parts.append(f"<h3>Not measured</h3><ul>{items}</ul>")
    return "".join(parts) + _commands(results.content["commands"])


def _commands(commands: list[str]) -> str:
    lines = escape("\n".join(commands))
    return f"<details><summary>every command</summary><pre>{lines}</pre></details>\n"


def _fio_section(results: FioResults, pictures: list[Picture]) -> str:
    content = results.content
    parts = ["<h2>The devices, by fio</h2>\n"]
    parts += [picture.html() for picture in pictures]
    rows = ["<tr><th>device</th><th>workload</th><th>depth</th><th>fio op/s</th><th>store op/s</th>"
            "<th>share</th></tr>"]  # fmt: skip
    for device in content["devices"]:
        for index, row in enumerate(device["rows"]):
            ways = [row["fio"][way]["iops"] for way in ("read", "write") if row["fio"][way]]
            store, share = row.get("store_ops_per_second"), row.get("share")
            rows.append(
                f"<tr class='{'first' if index == 0 else ''}'><td>{escape(str(device['kind']))}"
                f"</td><td>{escape(row['workload'])}</td><td>{row['depth']}</td>"
                f"<td>{sum(ways):,.0f}</td><td>{'' if store is None else f'{store:,.0f}'}</td>"
                f"<td>{'' if share is None else f'{100 * share:.0f} %'}</td></tr>"
            )
    parts.append(f"<table>{''.join(rows)}</table>")
    skipped = "".join(f"<li>{escape(k)}: {escape(v)}</li>" for k, v in content["skipped"].items())
    if skipped:
        parts.append(f"<h3>Not measured</h3><ul>{skipped}</ul>")
    parts.append(f"<p class='caption'>fio {escape(str(content['fio_version']))} was used.</p>")
    parts.append(_list(_machine(content)))
    commands = [line for device in content["devices"] for line in device.get("commands", [])]
    return "".join(parts) + _commands(commands)


def section(results: YcsbResults | FioResults, pictures: list[Picture]) -> str:
    """What the page has of one file."""
    if isinstance(results, YcsbResults):
        return _ycsb_section(results, pictures)
    return _fio_section(results, pictures)


def page(sections: list[str]) -> str:
    """The whole page."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>CubbyDB, measured</title><style>{STYLE}</style></head><body>\n"
        "<h1>CubbyDB, measured</h1>\n<p class='caption'>The store beside its peers and the device, "
        "on equal terms, all in turn on one machine. Everything here was written by "
        "<code>cubby bench report</code> from the results files.</p>\n"
        f"{''.join(sections)}</body></html>\n"
    )
