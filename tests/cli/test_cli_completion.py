"""Shell completion, through typer's protocol."""

import pytest
from cli_process import Run

#: What zsh is told to do without a completion.
NOTHING = "_files"


def complete(waitd: Run, line: str, **variables: str) -> str:
    request = {"_WAITD_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": f"waitd {line}"}
    done = waitd(**request, **variables)
    assert "Traceback" not in done.stderr
    return done.stdout


def test_commands_options_and_states_are_complete(waitd: Run) -> None:
    assert "redeliver" in complete(waitd, "re")
    assert "--idempotency-key" in complete(waitd, "submit --idem")
    states = complete(waitd, "list --state ")
    assert all(state in states for state in ("waiting", "success", "failed", "timeout", "cancelled"))
    assert "failed" not in complete(waitd, "list --state t")


def test_ids_of_the_daemons_waits_are_completed_with_their_targets(
    waitd: Run, daemon: str, jobs: str
) -> None:
    text = f'{{"kind": "http", "params": {{"endpoint": "{jobs}/endless/0/complete"}}}}'
    wait_id = waitd("submit", "-", "--url", daemon, input=text).stdout.strip()
    completions = complete(waitd, f"show {wait_id[:-2]}", WAITD_URL=daemon)
    assert wait_id in completions
    assert "endless/0/complete" in completions
    assert wait_id not in complete(waitd, "show ffff", WAITD_URL=daemon)


def test_without_a_daemon_nothing_is_complete(waitd: Run, unused_url: str) -> None:
    assert complete(waitd, "show ", WAITD_URL=unused_url).strip() == NOTHING
    assert complete(waitd, "show ", WAITD_URL="nonsense").strip() == NOTHING


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_of_each_shell_is_printed(waitd: Run, shell: str) -> None:
    done = waitd("--show-completion", shell, _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    assert done.returncode == 0
    assert "waitd" in done.stdout
