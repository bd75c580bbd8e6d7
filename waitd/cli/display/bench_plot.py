"""Plots a run of `waitd bench` over time. Needs matplotlib (the extra `plot`)."""

from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waitd.bench.report import BenchReport

#: Okabe and Ito's palette for colour-blind readers.
BLUE, SKY, GREEN, ORANGE = "#0072b2", "#56b4e9", "#009e73", "#d55e00"
#: Lateness below this many milliseconds is drawn as this: a log scale has no zero.
MIN_LATENESS_MS = 1.0


def draw_bench_plot(file: Path, report: "BenchReport") -> None:
    """Writes the plot: lateness, pokes a second, CPU and memory over time."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter

    points, load = report.points, report.load
    times = [point.at for point in points]
    figure = Figure(figsize=(10, 8), layout="constrained")
    FigureCanvasAgg(figure)
    late, rate, cpu, memory = figure.subplots(4, 1, sharex=True, height_ratios=[1.5, 1, 1, 1])
    for values, colour, label in (
        ([point.lateness_p99 for point in points], ORANGE, "p99"),
        ([point.lateness_p50 for point in points], BLUE, "p50"),
    ):
        poked = zip(values, points, strict=True)
        shown = [
            max(value * 1000, MIN_LATENESS_MS) if point.pokes_per_second else nan for value, point in poked
        ]
        late.plot(times, shown, color=colour, linewidth=1.8, label=label)
    late.set_yscale("log")
    late.set_ylim(bottom=MIN_LATENESS_MS)
    late.yaxis.set_major_formatter(FuncFormatter(_milliseconds))
    late.legend(loc="upper right", ncols=2, frameon=False, fontsize=9)
    _filled(rate, times, [point.pokes_per_second for point in points], SKY)
    _filled(cpu, times, [point.cpu * 100 for point in points], GREEN)
    memory.plot(times, [point.rss / 2**20 for point in points], color=BLUE, linewidth=1.8)
    memory.set_ylim(0, max((point.rss / 2**20 for point in points), default=1.0) * 1.15)
    for axes, label in (
        (late, "poke lateness"),
        (rate, "pokes/s"),
        (cpu, "CPU, % of a core"),
        (memory, "RSS, MiB"),
    ):
        axes.set_ylabel(label)
        axes.grid(axis="y", color="#dddddd", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.align_ylabels()
    memory.set_xlabel("seconds since the first scrape")
    memory.set_xlim(0, max(times, default=1.0))
    late.set_title(
        f"{load.waits:,} waits on {load.kind.value}, every {load.poke_interval:g} s, {load.profile}",
        loc="left",
        fontsize=12,
        fontweight="bold",
    )
    figure.savefig(file, dpi=150)


def _filled(axes: Any, times: list[float], values: list[float], colour: str) -> None:
    axes.plot(times, values, color=colour, linewidth=1.8)
    axes.fill_between(times, values, color=colour, alpha=0.15, linewidth=0)
    axes.set_ylim(0, max(values, default=1.0) * 1.15 or 1.0)


def _milliseconds(value: float, _: int) -> str:
    return f"{value / 1000:g} s" if value >= 1000 else f"{value:g} ms"
