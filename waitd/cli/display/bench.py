"""Tables of the results of `waitd bench`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from waitd.bench.correctness import CorrectnessReport
    from waitd.bench.report import BenchReport, Comparison


def render_comparison(report: "BenchReport") -> Table:
    """Waitd compared with the other systems, with ratios."""
    interval = report.load.poke_interval
    ours = report.measured.as_json(interval)
    others = [c.as_json(report) for c in report.comparators]
    table = Table(
        "",
        *("waitd", *(c.name for c in report.comparators)),
        title="Comparison under the same load",
        title_justify="left",
    )
    for column in table.columns[1:]:
        column.justify = "right"
    rows: Sequence[tuple[str, str, str]] = (
        ("CPU per poke", "cpu_ms_per_poke", "cpu_per_poke"),
        ("memory per wait", "rss_per_wait", "rss_per_wait"),
        ("sockets", "sockets", "sockets"),
        ("pokes a second", "pokes_per_second", "pokes_per_second"),
    )
    figures = {**ours, "rss_per_wait": report.rss_per_wait}
    for title, figure, ratio in rows:
        table.add_row(
            title,
            _format_figure(figure, figures[figure]),
            *(_with_ratio(one, figure, ratio) for one in others),
        )
    for title, q in (("gap over the interval, p50", "p50"), ("p99", "p99")):
        table.add_row(
            title,
            format_seconds(ours["gap_over_interval"][q]),
            *(format_seconds(one["gap_over_interval"][q]) if one["ran"] else "" for one in others),
        )
    table.add_row("started", f"{report.accepted:,}", *(_started(c) for c in report.comparators))
    table.add_row(
        "wrong, lost",
        f"{report.correctness.wrong}, {report.correctness.lost}",
        *(f"{c.wrong}, {c.lost}" if c.measured else "" for c in report.comparators),
    )
    for c in report.comparators:
        if c.note:
            table.caption = "\n".join(filter(None, [str(table.caption or ""), f"{c.name}: {c.note}"]))
    table.caption_justify = "left"
    return table


def _with_ratio(results: Mapping[str, Any], figure: str, ratio: str) -> str:
    if not results["ran"]:
        return "did not run"
    times = results["ratios"][ratio]
    shown = _format_figure(figure, results[figure])
    return shown if times is None else f"{shown} ({times:,.{2 if times < 10 else 0}f} x)"


def _format_figure(figure: str, value: float | None) -> str:
    if value is None:
        return "-"
    match figure:
        case "cpu_ms_per_poke":
            return f"{value:,.3f} ms"
        case "rss_per_wait":
            return format_size(value)
        case _:
            return f"{value:,.0f}"


def _started(one: "Comparison") -> str:
    return f"{one.started:,} of {one.waits:,}" if one.measured else ""


def render_figures(report: "BenchReport") -> Table:
    """The measurements of the daemon."""
    load, results = report.load, report.as_json()
    ours, accepted = results["waitd"], results["accepted"]
    table = Table(
        "",
        "",
        "",
        title=f"{load.waits:,} waits on {load.kind.value}, every {load.poke_interval:g} s for {load.duration:g} s, {load.profile}",
        title_justify="left",
        show_header=False,
    )
    table.columns[1].justify = "right"
    table.columns[2].style = "dim"
    waiting = f", waiting for a core {ours['kept_waiting']:.0%}" if ours["kept_waiting"] is not None else ""
    cpu = ours["cpu_ms_per_poke"]
    table.add_row(
        "CPU per poke",
        f"{cpu:,.3f} ms" if cpu is not None else "-",
        f"{ours['cpu_seconds']:.2f} s in {ours['seconds']:.1f} s{waiting}",
    )
    table.add_row(
        "pokes a second",
        f"{ours['pokes_per_second']:,.0f}",
        f"{load.waits / load.poke_interval:,.0f} are due without backoff",
    )
    table.add_row(
        "accepted a second",
        f"{accepted['per_second']:,.0f}" if accepted["per_second"] else "-",
        "on disk, in batches",
    )
    table.add_section()
    table.add_row(
        "poke lateness p50 / p99",
        _pair(ours["lateness"]),
        f"p90 {format_seconds(ours['lateness']['p90'])}, p999 {format_seconds(ours['lateness']['p999'])}",
    )
    gap = ours["gap_over_interval"]
    table.add_row("gap over the interval p50 / p99", _pair(gap), "as seen by targets that answer at once")
    table.add_row(
        "detection delay p50 / p99", _pair(ours["detection"]), "from the target's end to the outcome on disk"
    )
    table.add_row(
        "  of targets that answer at once",
        _pair(ours["detection_prompt"]),
        f"half an interval is {format_seconds(load.poke_interval / 2)}",
    )
    table.add_row(
        "delivery delay p50 / p99", _pair(ours["delivery"]), "from the outcome on disk to the callback"
    )
    table.add_section()
    table.add_row("memory per wait", format_size(ours["rss_per_wait"]), f"{format_size(ours['rss'])} in all")
    table.add_row("sockets" if report.local else "descriptors", f"{ours['sockets']:,}", "")
    table.add_row("loop lag, longest", format_seconds(ours["loop_lag_max"]), "")
    scrapes = results["scrapes"]
    table.add_row(
        "scraping /metrics",
        f"{scrapes['scrapes']} scrapes",
        f"p50 {format_seconds(scrapes['p50'])}, longest {format_seconds(scrapes['max'])}; included in the CPU time",
    )
    table.add_row(
        "fleet, busiest process",
        f"{max(span.busy for span in report.measured.fleet):.0%}",
        "BOTTLENECK" if report.measured.fleet_was_busy else "not the bottleneck",
    )
    return table  # fmt: skip


def render_correctness(correctness: "CorrectnessReport") -> Table:
    """The outcomes and deliveries. Counts that must be zero are red if they are not."""
    table = Table(title="Correctness", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    table.add_column(style="dim")
    ends = (
        f"{correctness.succeeded} succeeded, {correctness.failed} failed, {correctness.timed_out} timed out"
    )
    table.add_row("waits", f"{correctness.submitted:,}", ends)
    table.add_row("callbacks received", f"{correctness.delivered:,}", "one for each wait")
    table.add_row(
        "delivered twice",
        f"{correctness.delivered_twice:,}",
        "delivery is at least once; the event id tells duplicates",
    )
    table.add_section()
    for name, count, remark in (
        ("lost", correctness.lost, "no outcome arrived"),
        ("wrong outcome", correctness.wrong, "not the outcome of its job"),
        ("signature wrong", correctness.badly_signed, ""),
        ("event changed", correctness.changed, "not the same bytes each time"),
    ):
        table.add_row(name, Text(f"{count:,}", style="bold green" if count == 0 else "bold red"), remark)
    return table


def _pair(quantiles: Mapping[str, float | None]) -> str:
    return f"{format_seconds(quantiles['p50'])} / {format_seconds(quantiles['p99'])}"


def format_seconds(value: float | None) -> str:
    """A time in milliseconds or seconds: `12 ms`, `3.4 s`."""
    if value is None:
        return "-"
    if abs(value) < 0.9995:
        digits = 1 if abs(value) < 0.01 else 0
        return f"{value * 1000:,.{digits}f} ms"
    return f"{value:,.2f} s"


def format_size(value: float) -> str:
    """A size in its largest unit: `1.2 KiB`."""
    for unit, bytes_each in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if abs(value) >= bytes_each:
            return f"{value / bytes_each:,.1f} {unit}"
    return f"{value:,.0f} B"
