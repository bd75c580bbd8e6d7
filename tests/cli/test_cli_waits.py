import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from cli_process import Run, assert_fails

UNKNOWN_ID = "0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f"


@pytest.fixture
def cli(waitd: Run, daemon: str) -> Run:
    return lambda *arguments, **options: waitd(*arguments, WAITD_URL=daemon, **options)


@pytest.fixture
def submitted(cli: Run, jobs: str) -> Callable[..., str]:
    """Submits a wait for a job and returns its id."""

    def submit(job: str, *arguments: str, **fields: Any) -> str:
        body = {
            "kind": "http",
            "params": {"endpoint": f"{jobs}/{job}", "success_when": "status == 200"},
            "poke_interval": 0.2,
        }
        done = cli("submit", "-", *arguments, input=json.dumps(body | fields))
        return done.stdout.split()[0]

    return submit


def listed(cli: Run, *arguments: str) -> list[dict[str, Any]]:
    done = cli("list", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_list_filters_by_state_kind_and_label_up_to_its_limit(
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


def test_list_fetches_all_pages(cli: Run, jobs: str) -> None:
    body = {"kind": "http", "params": {"endpoint": f"{jobs}/succeed/0/page"}, "labels": {"team": "pages"}}
    cli("submit", "-", input=json.dumps([body] * 1200))
    assert len({w["id"] for w in listed(cli, "--label", "team=pages", "--limit", "1100")}) == 1100
    assert len(listed(cli, "--label", "team=pages", "--limit", "5000")) == 1200


def test_without_a_terminal_the_table_has_100_columns_or_those_of_the_environment(
    cli: Run, submitted: Callable[..., str], jobs: str
) -> None:
    value = "long-" * 40
    wait_id = submitted("endless/1/table", labels={"team": "table", "long": value})
    narrow = cli("list", "--label", "team=table").stdout.splitlines()
    assert [len(line) for line in narrow] == [100, 100]
    done = cli("list", "--label", "team=table", COLUMNS="2000")
    header, row = done.stdout.rstrip().splitlines()
    assert header.split()[:2] == ["ID", "STATE"]
    assert all(word in row for word in (wait_id, "waiting", f"{jobs}/endless/1/table", f"long={value}"))
    assert "\x1b" not in done.stdout


@pytest.mark.parametrize("arguments", [("list",), ("list", "--help"), ("show", "nonsense")])
def test_without_a_terminal_there_are_no_colours(waitd: Run, daemon: str, arguments: tuple[str, ...]) -> None:
    done = waitd(*arguments, WAITD_URL=daemon, NO_COLOR="", TERM="xterm-256color", COLORTERM="truecolor")
    assert done.stdout + done.stderr
    assert "\x1b" not in done.stdout + done.stderr


@pytest.mark.parametrize(("no_color", "coloured"), [("", True), ("1", False)])
def test_a_terminal_has_colours_unless_no_color_is_set(
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
    output = os.read(person, 100_000)
    os.close(person)
    assert done.returncode == 0
    assert (b"\x1b[36m" in output) is coloured, output


def test_an_empty_list_prints_a_message(cli: Run) -> None:
    assert cli("list", "--label", "team=absent").stdout == "No waits match.\n"
    assert cli("list", "--label", "team=absent", "--json").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [(("--label", "x"), 2, "NAME=VALUE"), (("--state", "done"), 1, "/state")],
)
def test_an_invalid_filter_is_named(cli: Run, arguments: tuple[str, ...], code: int, message: str) -> None:
    assert_fails(cli("list", *arguments), code, message)


def test_show_prints_poke_results_and_the_next_poke(cli: Run, submitted: Callable[..., str]) -> None:
    job = "unavailable/60/" + "x" * 120
    wait_id = submitted(job, labels={"team": "show"})
    while not (shown := json.loads(cli("show", wait_id, "--json").stdout))["runs"]:
        pass
    assert shown["runs"][0]["verdict"] == "unreachable"
    text = cli("show", wait_id).stdout
    for word in (
        wait_id,
        job,  # a search in a pipe finds it
        "waiting",
        "next poke",
        "deadline",
        "every 0.2 s",
        "team=show",
        "unreachable",
        "503",
    ):
        assert word in text


def test_show_prints_the_outcome_and_deliveries_of_an_ended_wait(
    cli: Run, submitted: Callable[..., str], unused_url: str
) -> None:
    sink = {"kind": "webhook", "url": f"{unused_url}/callback"}
    wait_id = submitted("succeed/0/ended", "--wait", sinks=[sink])
    text = cli("show", wait_id).stdout
    for word in ("success", '{"status":"SUCCEEDED","job":"ended"}', "Deliveries", "webhook", "queued"):
        assert word in text


def test_cancel_continues_after_a_wait_that_cannot_be_cancelled(
    cli: Run, submitted: Callable[..., str]
) -> None:
    first, second = submitted("endless/1/c1"), submitted("endless/1/c2")
    done = cli("cancel", first)
    assert (done.returncode, done.stdout) == (0, f"{first} cancelled\n")
    done = cli("cancel", first, UNKNOWN_ID, second, "--json")
    assert done.returncode == 1
    assert [json.loads(line)["id"] for line in done.stdout.splitlines()] == [second]
    assert first in done.stderr
    assert UNKNOWN_ID in done.stderr
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
    assert_fails(cli("redeliver", submitted("endless/1/early")), 1)


@pytest.mark.parametrize("wait_id", [UNKNOWN_ID, "no-id", "../waits", "a?b#c", "%2e%2e"])
def test_an_unknown_id_is_an_error(cli: Run, wait_id: str) -> None:
    assert_fails(cli("show", wait_id), 1)


@pytest.mark.parametrize("wait_id", ["", "..", "."])
def test_an_impossible_id_is_a_usage_error(cli: Run, wait_id: str) -> None:
    assert cli("show", wait_id).returncode == 2
