"""How a family of APIs says what HTTP has a status for: "not now", "not you", "not there". Each is shared by several presets."""

from typing import NamedTuple

from waitd.core.http.job_answer import JobAnswerKind
from waitd.probes.presets.evaluation import AnswerRule


class Dialect(NamedTuple):
    """The answers that mean something else than their status says, and where the vendor's own words lie."""

    answers: tuple[AnswerRule, ...] = ()
    refusal: str | None = None


NO_DIALECT = Dialect()

#: The JSON protocols of AWS (1.0, 1.1 and REST-JSON): throttling and expired credentials come as HTTP 400 with a `__type`.
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
