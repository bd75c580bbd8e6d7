import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from waitd.cli.display.formatting import format_duration, format_relative_time
from waitd.cli.display.waits import render_status_line, render_table


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (9.94, "9.9 s"),
        (59.4, "59 s"),
        (61, "1 min 1 s"),
        (3600, "1 h"),
        (3661, "1 h 1 min"),
        (90061, "1 d 1 h"),
        (-1, "0 s"),
        (30.0, "30 s"),
        (1.0, "1 s"),
    ],
)
def test_a_duration_is_formatted_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


def test_a_time_is_formatted_relative_to_now() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert format_relative_time("2026-01-01T00:00:12.000Z", now) == "in 12 s"
    assert format_relative_time("2025-12-31T23:00:00.000Z", now) == "1 h ago"
    assert format_relative_time("2026-01-01T00:00:00.040Z", now) == "now"
    assert format_relative_time(None, now) == "-"


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_table_fits_the_terminal_and_keeps_ids_whole(width: int) -> None:
    wait: dict[str, Any] = {
        "id": "0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f",
        "state": "cancelled",
        "kind": "http",
        "params": {"endpoint": "https://api.example.org/" + "x" * 100},
        "pokes": 1234567,
        "labels": {"dag_id": "orders" * 20},
        "finished_at": "2026-01-01T00:00:12.000Z",
        "next_poke_at": None,
        "outcome": {"message": "a [bold]long[/] sentence " * 20, "reason": "cancelled"},
        "last_verdict": None,
    }
    console = Console(file=io.StringIO(), width=width)
    console.print(render_table([wait], width))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 2
    assert all(len(line) <= width for line in lines)
    assert wait["id"] in lines[1]
    assert "a [b" in lines[1]


@pytest.mark.parametrize(
    ("next_poke_at", "stage", "expected"),
    [
        ("2026-01-01T00:00:12.000Z", None, "next poke in 12 s"),
        ("2025-12-31T23:59:58.000Z", None, "next poke due"),
        ("2025-12-31T23:59:58.000Z", "poking", "poking"),
        (None, "poking", "poking"),
    ],
)
def test_the_status_line_tells_the_next_poke(
    next_poke_at: str | None, stage: str | None, expected: str
) -> None:
    wait: dict[str, Any] = {
        "last_verdict": {"verdict": "pending", "reason": "http_404", "message": ""},
        "waiting_on": {"stage": stage},
        "pokes": 2,
        "next_poke_at": next_poke_at,
        "deadline": "2026-01-01T01:00:00.000Z",
    }
    line = render_status_line(wait, datetime(2026, 1, 1, tzinfo=UTC)).plain
    assert line == f"pending http_404 · 2 pokes · {expected} · deadline in 1 h"
