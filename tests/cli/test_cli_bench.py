"""`waitd bench` as a process."""

import json
import signal
import subprocess
import time
from pathlib import Path

import pytest
from cli_process import Run, Serve, assert_fails, environment, json_of, process

SMALL = ("--waits", "100", "--poke-interval", "0.5", "--duration", "5")


@pytest.fixture
def bench(waitd: Run, tmp_path: Path) -> Run:
    """Runs `waitd bench` with its own temporary directory, which must be empty afterwards."""

    def run(*arguments: str, **options: str) -> subprocess.CompletedProcess[str]:
        return waitd("bench", *arguments, seconds=400, TMPDIR=str(tmp_path), **options)

    return run


@pytest.mark.slow
def test_bench_measures_checks_outcomes_and_plots(bench: Run, tmp_path: Path) -> None:
    plot = tmp_path / "bench.svg"
    done = bench(
        "--waits", "200", "--poke-interval", "1", "--duration", "8", "--kind", "mixed", "--fleet-processes", "2",
        "--plot", str(plot), "--json",
        WAITD_DATABASE_URL="nonsense://",
    )  # fmt: skip
    report = json_of(done)
    correctness, measured = report["correctness"], report["waitd"]
    assert correctness["good"] is True
    counts = [correctness[name] for name in ("submitted", "delivered", "succeeded", "failed", "timed_out")]
    assert counts == [200, 200, 90, 10, 100]
    assert measured["pokes"] > 0
    assert measured["detection"]["count"] == 100
    assert measured["delivery"]["count"] == 200
    assert all(measured[name] > 0 for name in ("cpu_ms_per_poke", "pokes_per_second", "rss", "sockets"))
    assert len(report["fleet"]["processes"]) == 2
    assert len(report["points"]) >= 5
    assert "<svg" in plot.read_text()
    assert [path.name for path in tmp_path.iterdir()] == ["bench.svg"]


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["burst", "storm", "hang"])
def test_a_running_daemon_loses_nothing_under_any_profile(bench: Run, daemon: str, profile: str) -> None:
    done = bench(*SMALL, "--profile", profile, "--daemon", daemon)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = {
        cells[0]: cells[1]
        for line in done.stdout.splitlines()
        if len(cells := line.strip("│").split("│")) > 1
    }
    assert {name.strip(): count.strip() for name, count in rows.items()}.items() >= {
        "waits": "100",
        "callbacks received": "100",
        "lost": "0",
        "wrong outcome": "0",
    }.items()


@pytest.mark.slow
def test_the_baseline_puts_the_same_load_on_asyncio_tasks_and_triggers(
    bench: Run, daemon: str, tmp_path: Path
) -> None:
    done = bench(*SMALL, "--daemon", daemon, "--baseline", "--airflow-python", "/bin/false", "--json")
    tasks, airflow = json_of(done)["comparators"]
    counts = [tasks[name] for name in ("ran", "waits", "started", "wrong", "lost")]
    assert counts == [True, 100, 100, 0, 0]
    assert tasks["ratios"]["cpu_per_poke"] > 0
    assert airflow["ran"] is False
    assert "ended before it was ready" in airflow["note"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--profile", "nonsense"), "must be one of steady, burst, storm, hang"),
        (("--daemon", "127.0.0.1:8795"), "is not the URL"),
        (("--daemon", "http://127.0.0.1:1", "--kind", "s3_key"), "leave out --daemon"),
        (("--plot", "bench.doc"), ".png or .svg"),
        (("--baseline", "--airflow-python", "/nowhere/python"), "no such file"),
        (("--waits", "0"), "waits"),
    ],
)
def test_invalid_arguments_are_refused_before_anything_starts(
    waitd: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = waitd("bench", *arguments)
    assert_fails(done, 2)
    assert message in " ".join(done.stderr.split())


@pytest.mark.slow
def test_an_unreachable_daemon_is_exit_code_69(bench: Run, unused_url: str) -> None:
    assert_fails(bench(*SMALL, "--daemon", unused_url), 69, unused_url)


@pytest.mark.slow
def test_an_interrupted_run_leaves_no_wait_and_no_delivery_behind(
    waitd: Run, serve: Serve, bind: str, tmp_path: Path
) -> None:
    """The daemon limits the requests of the run, so that it refuses most cancels for a while."""
    keys = [json_of(waitd("keys", "create", "--role", "admin", "--offline", "--json")) for _ in "12"]
    (tmp_path / "keys").write_text("".join(f"{key['line']}\n" for key in keys))
    limits = {"WAITD_REQUESTS_PER_SECOND": "100", "WAITD_REQUEST_BURST": "350"}
    arguments = ("waitd", "bench", "--waits", "300", "--poke-interval", "30", "--duration", "600")
    user, own = environment(WAITD_API_KEY=keys[0]["key"]), {"WAITD_API_KEY": keys[1]["key"]}
    with serve(tmp_path / "home", bind, WAITD_API_KEYS_FILE=str(tmp_path / "keys"), **limits) as (url, _):
        with process(*arguments, "--daemon", url, env=user, log=tmp_path / "log") as bench:
            deadline = time.monotonic() + 90
            while not waitd("list", "--url", url, "--limit", "1", **own).stdout.startswith("ID"):
                assert time.monotonic() < deadline
            bench.send_signal(signal.SIGINT)
            assert bench.wait(timeout=90) != 0
        assert "holds 0 waits of this run" in " ".join((tmp_path / "log").read_text().split())
        waits = [
            json.loads(line)
            for line in waitd("list", "--url", url, "--limit", "300", "--json", **own).stdout.splitlines()
        ]
        assert {wait["state"] for wait in waits} == {"cancelled"}
        assert {row["state"] for wait in waits for row in wait["deliveries"]} == {"delivered"}
