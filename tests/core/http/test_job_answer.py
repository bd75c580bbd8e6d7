"""The verdict of each response of a job API."""

import pytest

from waitd.core.http.answer import AnswerFacts, CredentialsRefused, Decision, Evaluation
from waitd.core.http.job_answer import JobAnswerKind, job_verdict, state_message
from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Success, Unreachable, Verdict

ROWS: list[tuple[AnswerFacts, Evaluation, Verdict | CredentialsRefused]] = [
    (AnswerFacts(200), Evaluation(Decision.SUCCESS, "done", {"rows": 3}), Success({"rows": 3}, "success", "done")),
    (AnswerFacts(200), Evaluation(Decision.FAILURE, "why"), Failure("failure", "why")),
    (AnswerFacts(422), Evaluation(Decision.FAILURE, "why"), Failure("failure", "why")),
    (AnswerFacts(200), Evaluation(job_answer=JobAnswerKind.RUNNING, message="busy"), Pending("running", "busy")),
    (AnswerFacts(200), Evaluation(job_answer=JobAnswerKind.UNKNOWN, message="odd"), Pending("unknown_state", "odd")),
    (
        AnswerFacts(200),
        Evaluation(job_answer=JobAnswerKind.MALFORMED),
        Unreachable("malformed_answer", "HTTP 200 OK, and the answer does not say the job's state."),
    ),
    (
        AnswerFacts(204),
        Evaluation(job_answer=JobAnswerKind.MALFORMED, note="No such key"),
        Unreachable("malformed_answer", "HTTP 204 No Content, and the answer does not say the job's state: No such key"),
    ),
    (AnswerFacts(400, 7.0), Evaluation(job_answer=JobAnswerKind.NOT_NOW), Unreachable("throttled", "HTTP 400 Bad Request", 7.0)),
    (
        AnswerFacts(400),
        Evaluation(job_answer=JobAnswerKind.UNAUTHORIZED, message="expired"),
        CredentialsRefused(Failure("http_400", "expired", silenceable=True)),
    ),
    (
        AnswerFacts(404),
        Evaluation(),
        Failure("not_found", "Not found: HTTP 404 Not Found", silenceable=True),
    ),
    (
        AnswerFacts(200),
        Evaluation(job_answer=JobAnswerKind.NOT_FOUND, message="no driver"),
        Failure("not_found", "Not found: no driver", silenceable=True),
    ),
    (AnswerFacts(401), Evaluation(), CredentialsRefused(Failure("http_401", "HTTP 401 Unauthorized", silenceable=True))),
    (AnswerFacts(403), Evaluation(message="no"), CredentialsRefused(Failure("http_403", "no", silenceable=True), repeat_unchanged=False)),
    (AnswerFacts(503, 3.0), Evaluation(), Unreachable("http_503", "HTTP 503 Service Unavailable", 3.0)),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "evaluation", "verdict"), ROWS)
def test_each_row_of_the_table(
    facts: AnswerFacts, evaluation: Evaluation, verdict: Verdict | CredentialsRefused
) -> None:
    assert job_verdict(facts, evaluation) == verdict


def test_messages_are_truncated() -> None:
    long = "x" * 1000
    for kind in JobAnswerKind:
        verdict = job_verdict(AnswerFacts(400), Evaluation(job_answer=kind, message=long, note=long))
        if kind not in {JobAnswerKind.NOT_NOW, JobAnswerKind.UNAUTHORIZED}:
            assert not isinstance(verdict, CredentialsRefused)
            assert len(verdict.message) <= MESSAGE_LIMIT
    assert state_message("") == "The state is empty."
    assert len(state_message(long)) == MESSAGE_LIMIT
