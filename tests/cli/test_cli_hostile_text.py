"""What a target says does not control the terminal of those who look at its wait."""

import json
import os
import pty
import subprocess
import sys

from cli_process import Run

HOSTILE = "\x1b]0;title\x07\x1b[2J\x9b31m\u202egpj\u2066\u200b\u2028\x7f\U000e0041"
ACTING = "\x07\x9b\u202e\u2066\u200b\u2028\x7f\U000e0041"
SHOWN = "\\x9b31m\\u202egpj\\u2066\\u200b\\u2028\\x7f\\U000e0041"


def submitted(waitd: Run, daemon: str, jobs: str) -> str:
    text = json.dumps(
        {
            "kind": "http",
            "params": {
                "endpoint": f"{jobs}/succeed/0/hostile",
                "message": json.dumps(HOSTILE, ensure_ascii=False),
                "result": f"{{{json.dumps(HOSTILE, ensure_ascii=False)}: {json.dumps(HOSTILE, ensure_ascii=False)}}}",
            },
        }
    )
    done = waitd("submit", "-", "--wait", "--url", daemon, input=text)
    assert SHOWN in done.stdout
    assert not set(ACTING + "\x1b") & set(done.stdout + done.stderr)
    return done.stdout.split(" ")[0]


def test_no_output_has_what_a_terminal_obeys(waitd: Run, daemon: str, jobs: str) -> None:
    wait_id = submitted(waitd, daemon, jobs)
    # Other tests share the daemon: the newest wait is this one.
    for command in (["list", "--limit", "1"], ["show", wait_id], ["watch", wait_id]):
        done = waitd(*command, "--url", daemon, COLUMNS="400")
        assert SHOWN in done.stdout, command
        assert not set(ACTING + "\x1b") & set(done.stdout + done.stderr), command
        done = waitd(*command, "--json", "--url", daemon)
        assert not set(ACTING + "\x1b") & set(done.stdout + done.stderr), command
        wait = json.loads(done.stdout)
        assert wait["outcome"]["message"] == HOSTILE
        assert wait["outcome"]["payload"] == {HOSTILE: HOSTILE}


def test_a_terminal_gets_only_the_escapes_of_waitd_itself(waitd: Run, daemon: str, jobs: str) -> None:
    wait_id = submitted(waitd, daemon, jobs)
    for command in (["list"], ["show", wait_id]):
        main, terminal = pty.openpty()
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "400"}
        with subprocess.Popen(
            [sys.executable, "-m", "waitd", *command, "--url", daemon], stdout=terminal, env=environment
        ) as process:
            os.close(terminal)
            output = b""
            try:
                while part := os.read(main, 65536):
                    output += part
            except OSError:  # Linux's end of a terminal
                pass
            assert process.wait() == 0
        os.close(main)
        text = output.decode()
        assert not set(ACTING) & set(text), command
        assert "\x1b]" not in text
        assert "\x1b[2J" not in text
        assert "\\x1b]0;title" in text
