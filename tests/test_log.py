"""Log lines mask secrets, and control no terminal."""

import subprocess
import sys
from typing import Any

import orjson
import pytest

from waitd.log import redact


@pytest.mark.parametrize(
    ("event", "redacted"),
    [
        ({"password": "hunter2"}, {"password": "***"}),
        ({"api_key": "k", "X-Api-Key": "k"}, {"api_key": "***", "X-Api-Key": "***"}),
        ({"url": "https://user:pass@example.org/a?token=t#f"}, {"url": "https://example.org/a"}),
        (
            {"error": "cannot reach http://h/p?sig=abc, giving up"},
            {"error": "cannot reach http://h/p giving up"},
        ),
        (
            {"error": "amqp://user:pass@h:5672//, Postgresql+asyncpg://user:p%2Fw@h/db"},
            {"error": "amqp://h:5672//, Postgresql+asyncpg://h/db"},
        ),
        ({"token": None}, {"token": None}),
        ({"wait_id": "0190", "pokes": 3}, {"wait_id": "0190", "pokes": 3}),
    ],
)
def test_secrets_are_masked(event: dict[str, Any], redacted: dict[str, Any]) -> None:
    assert redact(None, "info", event) == redacted


def test_urls_that_libraries_log_have_no_password() -> None:
    code = """
import logging
from waitd import log
log.configure(log_format="json")
try:
    raise OSError("cannot connect to redis://user:hunter2@h:6379/0?password=hunter2")
except OSError:
    logging.getLogger("redis").exception("amqp://user:hunter2@h/ failed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"amqp://h/ failed" in done.stderr
    assert b"redis://h:6379/0" in done.stderr
    assert b"hunter2" not in done.stderr.replace(b'redis://user:hunter2@h:6379/0?password=hunter2")', b"")


HOSTILE = "\x1b[2J\x07\x9b31m\u202etxt\u2028\x7f"


@pytest.mark.parametrize("log_format", ["console", "json"])
def test_no_value_controls_the_terminal(log_format: str) -> None:
    code = f"""
import logging, structlog
from waitd import log
log.configure(log_format={log_format!r})
structlog.get_logger().warning("seen", state={HOSTILE!r}, more=[{HOSTILE!r}])
logging.getLogger("library").error({HOSTILE!r})
try:
    raise ValueError({HOSTILE!r})
except ValueError:
    structlog.get_logger().exception("failed")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    lines = done.stderr.decode()
    assert not any(each in lines for each in "\x1b\x07\x9b\u202e\u2028\x7f")
    assert lines.count("[2J") == 4
    if log_format == "json":
        logged = [orjson.loads(line) for line in lines.splitlines() if line.startswith("{")]
        assert logged[0]["state"] == HOSTILE
