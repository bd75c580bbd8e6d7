"""Log lines mask secrets."""

from typing import Any

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
        ({"token": None}, {"token": None}),
        ({"wait_id": "0190", "pokes": 3}, {"wait_id": "0190", "pokes": 3}),
    ],
)
def test_secrets_are_masked(event: dict[str, Any], redacted: dict[str, Any]) -> None:
    assert redact(None, "info", event) == redacted
