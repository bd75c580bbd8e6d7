"""Error answers that are common to a family of APIs and differ from their HTTP status."""

from typing import NamedTuple

from waitd.core.http.job_answer import JobAnswerKind
from waitd.probes.presets.evaluation import AnswerRule


class Dialect(NamedTuple):
    """A family's answers with another meaning than their status, and its error message."""

    answers: tuple[AnswerRule, ...] = ()
    refusal: str | None = None


NO_DIALECT = Dialect()

#: The JSON protocols of AWS (1.0, 1.1 and REST-JSON): throttling and expired credentials are HTTP
#: 400 with a `__type`.
AWS = Dialect(
    answers=(
        AnswerRule(
            "body.__type.matches('Throttl|TooManyRequests|LimitExceeded|SlowDown|Timeout|InternalServ|Unavailable')",
            JobAnswerKind.NOT_NOW,
        ),
        AnswerRule(
            "status == 403 || body.__type.matches('ExpiredToken|UnrecognizedClient|InvalidSignature|"
            "SignatureDoesNotMatch|MissingAuthenticationToken|InvalidClientTokenId|RequestExpired|AccessDenied')",
            JobAnswerKind.UNAUTHORIZED,
        ),
        AnswerRule("body.__type.matches('NotFound|DoesNotExist')", JobAnswerKind.NOT_FOUND),
    ),
    refusal="has(body.message) ? body.message : body.Message",
)

DIALECTS = {"aws": AWS}
