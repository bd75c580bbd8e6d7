"""The registration that a parked task stores in Airflow: rendered and parsed."""

import pytest

from waitd.core.airflow.registration import parse_registration, render_registration

REGISTRATION = {"id": "01a1", "deadline": "2026-11-21T03:00:00Z", "body": {"endpoint": "/jobs/`42`\n```\n"}}


def test_a_rendered_registration_is_parsed() -> None:
    text = render_registration(REGISTRATION, "https://waitd.example/v1/waits/01a1")
    assert text.startswith(
        "waitd polls the job and resumes this task; there is nothing to do. It gives up at 2026-11-21T03:00:00Z.\n"
    )
    assert "The wait: https://waitd.example/v1/waits/01a1\n" in text
    assert parse_registration(text) == REGISTRATION
    assert parse_registration(text + "\n") == REGISTRATION


def test_the_last_block_is_the_registration() -> None:
    assert parse_registration("```json\n1\n```\n\n```json\n2\n```\n") == 2


@pytest.mark.parametrize(
    "text", [None, 7, "", "nothing", "```json\n{\n```", "```json\n1\n```\nand more", "```\n1\n```"]
)
def test_a_text_without_a_registration_has_none(text: object) -> None:
    assert parse_registration(text) is None
