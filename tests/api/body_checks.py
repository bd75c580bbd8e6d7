"""Validates bodies in every way that they are sent, and checks the results."""

from typing import Any

from api_fakes import PlainProbe

from waitd.api.server.bodies import decoded
from waitd.api.submission.validation import (
    BATCH_LINE,
    WAIT_BODY,
    BodyForm,
    RefusedBody,
    Submissions,
    ValidatedWait,
)
from waitd.models import CONTROL_CHARACTERS, explain_refusal, parse_wait

HTTP = {"kind": "http", "params": {"endpoint": "http://h.example/jobs/1"}}


class LoadingProbe(PlainProbe):
    """Counts how often it was prepared."""

    prepared = 0

    async def prepare(self, params: Any) -> None:
        self.prepared += 1


class PacedProbe(PlainProbe):
    """Has its own limits of the poke interval."""

    default_poke_interval = 300.0
    min_poke_interval = 30.0


async def validated(
    submissions: Submissions, text: bytes, form: BodyForm = WAIT_BODY, *, plain: bool | None = None
) -> ValidatedWait | RefusedBody:
    """Returns the result of validating a body."""
    try:
        return await submissions.validate(text, "default", form=form, plain=plain)
    except RefusedBody as error:
        return error


async def every_result(submissions: Submissions, text: bytes) -> list[ValidatedWait | RefusedBody]:
    """Validates and checks a body as a single submit, as a batch line, and as a line that is said
    not to be plain.
    """
    results = []
    for form, plain in ((WAIT_BODY, None), (BATCH_LINE, None), (BATCH_LINE, False)):
        result = await validated(submissions, text, form, plain=plain)
        check(result, text, form)
        results.append(result)
    return results


def check(result: ValidatedWait | RefusedBody, body_text: bytes, form: BodyForm) -> None:
    """Checks that a refusal has problems, and that pydantic reads an accepted body alike."""
    if isinstance(result, RefusedBody):
        assert result.problems
        return
    body = decoded(body_text)
    expected, spec = parse_wait(body, form.struct), result.new.spec
    assert explain_refusal(form.struct, body) == ()
    assert spec.params == body.get("params", {})
    assert list(spec.sinks) == body.get("sinks", [])
    assert (spec.kind, spec.labels) == (expected.kind, expected.labels)
    assert (spec.exponential_backoff, spec.max_wait) == (expected.exponential_backoff, expected.max_wait)
    assert (spec.soft_fail, spec.silent_fail) == (expected.soft_fail, expected.silent_fail)
    assert (spec.supersede_key, spec.wake_on) == (expected.supersede_key, expected.wake_on)
    assert spec.submit == body.get("submit")
    if "poke_interval" in body:
        assert spec.poke_interval == expected.poke_interval
    if expected.timeout is not None:
        assert spec.timeout == expected.timeout
    for name in ("poke_interval", "timeout"):
        assert isinstance(getattr(spec, name), float)
    assert result.new.idempotency_key == getattr(expected, "idempotency_key", None)
    texts = [*spec.labels, *spec.labels.values(), spec.supersede_key or "", spec.wake_on or ""]
    assert not any(CONTROL_CHARACTERS.search(text) for text in texts)
