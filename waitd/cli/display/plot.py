"""Plots the worker slots held over time in each mode. Needs matplotlib (the extra `plot`)."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from waitd.cli.console import ExitCode, fail
from waitd.core.costs.model import CostMode

SUFFIXES = (".png", ".svg")
#: Okabe and Ito's palette for colour-blind readers.
COLOURS = {
    CostMode.POKE: "#d55e00",
    CostMode.RESCHEDULE: "#e69f00",
    CostMode.DEFER: "#56b4e9",
    CostMode.WAITD: "#009e73",
}
LABELS = {
    CostMode.POKE: "poke: holds a slot",
    CostMode.RESCHEDULE: "reschedule",
    CostMode.DEFER: "defer (Triggerer)",
    CostMode.WAITD: "waitd",
}
STYLES = {CostMode.POKE: "-", CostMode.RESCHEDULE: "-", CostMode.DEFER: (0, (3, 3)), CostMode.WAITD: "-"}


def check_plot_path(file: Path) -> None:
    """Ends the command, before it does any work, if the plot cannot be written."""
    if file.suffix.lower() not in SUFFIXES:
        fail(f"--plot {file}: the file name must end with {' or '.join(SUFFIXES)}.", ExitCode.USAGE)
    if not file.absolute().parent.is_dir():
        fail(f"--plot {file}: no such directory.", ExitCode.USAGE)
    if find_spec("matplotlib") is None:
        fail("--plot needs matplotlib: pip install 'waitd[plot]'", ExitCode.USAGE)


def draw_slots(
    file: Path, slots: Mapping[CostMode, Sequence[float]], edges: Sequence[float], title: str
) -> None:
    """Writes the plot.

    `slots` are those held between each of `edges` (Unix seconds) and the next.
    """
    from matplotlib import dates
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    times = [datetime.fromtimestamp(edge, UTC) for edge in edges]
    positions = dates.date2num(times)  # type: ignore[no-untyped-call]
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for mode in CostMode:
        values = slots[mode]
        mean = sum(values) / len(values)
        label = f"{LABELS[mode]}, {_figure(mean)} on average"
        axes.stairs(
            values,
            positions,
            color=COLOURS[mode],
            linestyle=STYLES[mode],
            linewidth=2.6 if mode is CostMode.WAITD else 1.4,
            zorder=3 if mode is CostMode.DEFER else 2,  # dashed on top, so that both lines stay visible
            clip_on=False,
            label=label,
        )
    axes.stairs(slots[CostMode.POKE], positions, fill=True, color=COLOURS[CostMode.POKE], alpha=0.08)
    axes.set_ylabel("worker slots held")
    axes.set_xlim(positions[0], positions[-1])
    axes.xaxis_date(UTC)
    axes.set_ylim(bottom=0)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(7, integer=max(slots[CostMode.POKE]) > 3))
    locator = dates.AutoDateLocator(tz=UTC)  # type: ignore[no-untyped-call]
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator, tz=UTC))  # type: ignore[no-untyped-call]
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(title, loc="left", fontsize=12, fontweight="bold")
    axes.annotate(
        "times in UTC; poke, reschedule and defer are a model",
        (1, -0.14),
        xycoords="axes fraction",
        ha="right",
        va="top",
        fontsize=8,
        color="#666666",
    )
    figure.legend(loc="outside lower left", ncols=2, frameon=False, fontsize=9)
    figure.savefig(file, dpi=150)


def evenly_spaced(start: float, end: float, most: int = 480) -> list[float]:
    """Up to `most` + 1 evenly spaced times (Unix seconds), at least a second apart."""
    span = max(end - start, 1.0)
    count = max(1, min(most, int(span)))
    return [start + span * index / count for index in range(count + 1)]


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"
