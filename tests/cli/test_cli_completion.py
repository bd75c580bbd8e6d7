"""What the shell is told, through typer's own protocol."""

import pytest
from cli_process import Run

#: What zsh is told to do where there is no proposal.
NOTHING = "_files"


def completed(waitd: Run, line: str, **more: str) -> str:
    asked = {"_WAITD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"waitd {line}"}
    done = waitd(**asked, **more)
    assert "Traceback" not in done.stderr
    return done.stdout


def test_commands_options_and_states_are_proposed(waitd: Run) -> None:
    assert "redeliver" in completed(waitd, "re")
    assert "--idempotency-key" in completed(waitd, "submit --idem")
    states = completed(waitd, "list --state ")
    assert all(state in states for state in ("waiting", "success", "failed", "timeout", "cancelled"))
    assert "failed" not in completed(waitd, "list --state t")


def test_ids_of_the_daemons_waits_are_proposed_with_what_they_poke(
    waitd: Run, daemon: str, jobs: str
) -> None:
    text = f'{{"kind": "http", "params": {{"endpoint": "{jobs}/endless/0/complete"}}}}'
    wait_id = waitd("submit", "-", "--url", daemon, input=text).stdout.strip()
    proposed = completed(waitd, f"show {wait_id[:-2]}", WAITD_URL=daemon)
    assert wait_id in proposed
    assert "endless/0/complete" in proposed
    assert wait_id not in completed(waitd, "show ffff", WAITD_URL=daemon)


def test_where_no_daemon_is_nothing_is_proposed(waitd: Run, unused_url: str) -> None:
    assert completed(waitd, "show ", WAITD_URL=unused_url).strip() == NOTHING
    assert completed(waitd, "show ", WAITD_URL="nonsense").strip() == NOTHING


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_for_a_shell_is_printed(waitd: Run, shell: str) -> None:
    done = waitd("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "waitd" in done.stdout
