import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cli_process import Run

STRANGER = "0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f"


@pytest.fixture
def cli(waitd: Run, daemon: str) -> Run:
    return lambda *arguments, **more: waitd(*arguments, WAITD_URL=daemon, **more)


@pytest.fixture
def submitted(cli: Run, jobs: str) -> Callable[..., str]:
    """Submits one wait on a job and returns its id."""

    def submit(job: str, *arguments: str, **more: Any) -> str:
        body = {
            "kind": "http",
            "params": {"endpoint": f"{jobs}/{job}", "success_when": "status == 200"},
            "poke_interval": 0.2,
        }
        done = cli("submit", "-", *arguments, input=json.dumps(body | more))
        return done.stdout.split()[0]

    return submit


def listed(cli: Run, *arguments: str) -> list[dict[str, Any]]:
    done = cli("list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_list_filters_by_state_kind_and_label_and_keeps_to_its_limit(
    cli: Run, submitted: Callable[..., str]
) -> None:
    ids = [submitted(f"endless/1/{n}", labels={"team": "list", "n": str(n)}) for n in range(3)]
    ended = submitted("succeed/0/list", "--wait", labels={"team": "list", "n": "9"})
    team = ("--label", "team=list")
    assert [w["id"] for w in listed(cli, *team, "--state", "waiting")] == ids[::-1]
    assert [w["id"] for w in listed(cli, *team, "--state", "success")] == [ended]
    assert [w["id"] for w in listed(cli, *team, "--label", "n=1")] == [ids[1]]
    assert [w["id"] for w in listed(cli, *team, "--limit", "2")] == [ended, ids[2]]
    assert len(listed(cli, *team, "--kind", "http")) == 4
    assert listed(cli, *team, "--kind", "s3_key") == []


def test_list_goes_over_pages(cli: Run, jobs: str) -> None:
    body = {"kind": "http", "params": {"endpoint": f"{jobs}/succeed/0/page"}, "labels": {"team": "pages"}}
    cli("submit", "-", input=json.dumps([body] * 1200))
    assert len({w["id"] for w in listed(cli, "--label", "team=pages", "--limit", "1100")}) == 1100
    assert len(listed(cli, "--label", "team=pages", "--limit", "5000")) == 1200


def test_the_table_for_people_cuts_nothing_where_it_is_no_terminal(
    cli: Run, submitted: Callable[..., str], jobs: str
) -> None:
    value = "long-" * 40
    wait_id = submitted("endless/1/table", labels={"team": "table", "long": value})
    done = cli("list", "--label", "team=table")
    header, row = done.stdout.rstrip().splitlines()
    assert header.split()[:2] == ["ID", "STATE"]
    assert all(part in row for part in (wait_id, "waiting", f"{jobs}/endless/1/table", f"long={value}"))
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [("list",), ("list", "--help"), ("show", "nonsense")])
def test_without_a_terminal_there_are_no_colours(waitd: Run, daemon: str, arguments: tuple[str, ...]) -> None:
    done = waitd(*arguments, WAITD_URL=daemon, NO_COLOR="", TERM="xterm-256color", COLORTERM="truecolor")
    assert done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_at_a_terminal_there_are_but_for_those_who_want_none(
    cli: Run, daemon: str, submitted: Callable[..., str], jobs: str, no_color: str, coloured: bool
) -> None:
    submitted("endless/1/colours", labels={"team": "colours"})
    person, terminal = os.openpty()
    command = [sys.executable, "-m", "waitd", "list", "--label", "team=colours", "--url", daemon]
    done = subprocess.run(
        command,
        env={**os.environ, "NO_COLOR": no_color, "TERM": "xterm-256color"},
        stdin=subprocess.DEVNULL,
        stdout=terminal,
        timeout=60,
        check=True,
    )
    os.close(terminal)
    shown = os.read(person, 100_000)
    os.close(person)
    assert done.returncode == 0
    assert (b"\x1b[36m" in shown) is coloured, shown


def test_an_empty_list_says_so(cli: Run) -> None:
    assert cli("list", "--label", "team=absent").stdout == "No waits match.\n"
    assert cli("list", "--label", "team=absent", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [(("--label", "x"), 2, "NAME=VALUE"), (("--state", "done"), 1, "/state")],
)
def test_a_wrong_filter_is_refused_by_name(
    cli: Run, arguments: tuple[str, ...], code: int, words: str
) -> None:
    done = cli("list", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr


def test_show_says_what_was_seen_and_why_it_still_waits(cli: Run, submitted: Callable[..., str]) -> None:
    wait_id = submitted("unavailable/60/show", labels={"team": "show"})
    while not (seen := json.loads(cli("show", wait_id, "--json").stdout))["runs"]:
        pass
    assert seen["runs"][0]["verdict"] == "unreachable"
    text = cli("show", wait_id).stdout
    for part in (
        wait_id,
        "waiting",
        "next poke",
        "deadline",
        "every 0.2 s",
        "team=show",
        "unreachable",
        "503",
    ):
        assert part in text


def test_show_of_an_ended_wait_tells_its_outcome_and_deliveries(
    cli: Run, submitted: Callable[..., str], unused_url: str
) -> None:
    sink = {"kind": "webhook", "url": f"{unused_url}/callback"}
    wait_id = submitted("succeed/0/ended", "--wait", sinks=[sink])
    text = cli("show", wait_id).stdout
    for part in ("success", '{"status":"SUCCEEDED","job":"ended"}', "Deliveries", "webhook", "queued"):
        assert part in text


def test_cancel_ends_waits_and_an_ended_one_is_an_error_that_stops_no_other(
    cli: Run, submitted: Callable[..., str]
) -> None:
    first, second = submitted("endless/1/c1"), submitted("endless/1/c2")
    done = cli("cancel", first)
    assert (done.returncode, done.stdout) == (0, f"{first} cancelled\n")
    done = cli("cancel", first, STRANGER, second, "--json")
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [second]
    assert first in done.stderr
    assert STRANGER in done.stderr
    assert {w["state"] for w in (json.loads(cli("show", i, "--json").stdout) for i in (first, second))} == {
        "cancelled"
    }


def test_redeliver_queues_the_outcome_again(cli: Run, submitted: Callable[..., str], unused_url: str) -> None:
    wait_id = submitted(
        "succeed/0/again", "--wait", sinks=[{"kind": "webhook", "url": f"{unused_url}/callback"}]
    )
    done = cli("redeliver", wait_id)
    assert (done.returncode, done.stdout) == (0, f"{wait_id} queued again\n")
    assert len(json.loads(cli("show", wait_id, "--json").stdout)["deliveries"]) == 2


def test_redeliver_of_a_waiting_wait_is_refused(cli: Run, submitted: Callable[..., str]) -> None:
    done = cli("redeliver", submitted("endless/1/early"))
    assert (done.returncode, done.stdout) == (1, "")


@pytest.mark.parametrize("wait_id", [STRANGER, "no-id", "../waits", "a?b#c", "%2e%2e"])
def test_an_unknown_id_is_an_error_whatever_it_looks_like(cli: Run, wait_id: str) -> None:
    done = cli("show", wait_id)
    assert (done.returncode, done.stdout) == (1, "")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("wait_id", ["", "..", "."])
def test_what_can_be_no_id_is_wrong_usage(cli: Run, wait_id: str) -> None:
    assert cli("show", wait_id).returncode == 2
