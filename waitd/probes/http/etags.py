"""What was answered with an ETag and came to "not yet": the next request about it is conditional, and a 304 says that nothing has changed.

That costs the target less, and at GitHub nothing of the rate limit. Kept is an entry for a question whose last answer left every wait that
asked pending, never for an answer without an ETag or to a signed request, and never on disk.
"""

from collections.abc import Sequence
from typing import NamedTuple

from multidict import CIMultiDict

from waitd.core.waits.verdict import Pending
from waitd.probes.cel.evaluation import Conditions
from waitd.probes.http.params import HttpTarget
from waitd.probes.transport.client import HttpAnswer, Request
from waitd.probes.transport.connection import Http1Response

#: The most questions of which something is kept; the one that was kept first gives way.
MAX_KEPT = 10_000
#: After so many 304s in a row the whole answer is asked for: there are servers whose ETag stays the same where the answer does not.
TRUSTED = 10
_MAX_ETAG = 256
_HEADER = "If-None-Match"


class Kept(NamedTuple):
    """An answer: its ETag, what each kind of wait made of it, and how many 304s are still believed."""

    etag: str
    verdicts: dict[Conditions, Pending]
    left: int = TRUSTED

    def conditional(self, request: Request) -> Request:
        """The request, to be answered only where the answer is another one."""
        headers = CIMultiDict(request.headers or ())
        headers[_HEADER] = self.etag
        return request._replace(headers=headers)


class Etags:
    """The answers that are kept, by the key of their targets. `any` is what the hot path looks at first."""

    def __init__(self) -> None:
        self.any: dict[str, Kept] = {}

    def of(self, targets: Sequence[HttpTarget]) -> Kept | None:
        """What is kept of the answer to these targets, which have one key; None where one of them has not judged it yet."""
        kept = self.any.get(targets[0].key)
        if kept is None or kept.left == 0 or any(target.rules not in kept.verdicts for target in targets):
            return None
        return kept

    def unchanged(self, targets: Sequence[HttpTarget], kept: Kept) -> list[Pending]:
        """What a 304 comes to."""
        self.any[targets[0].key] = kept._replace(left=kept.left - 1)
        return [kept.verdicts[target.rules] for target in targets]

    def learn(self, targets: Sequence[HttpTarget], answer: HttpAnswer, verdicts: Sequence[object]) -> None:
        """Keeps an answer with 200, or forgets the one that was kept."""
        target, response = targets[0], answer.response
        etag = response.etag if type(response) is Http1Response else response.headers.get("ETag")
        if self.any:
            self.any.pop(target.key, None)
        if etag is None or not _is_usable(etag) or not target.key or target.template.method != "GET":
            return
        if any(type(verdict) is not Pending for verdict in verdicts):
            return
        if any(name.lower() == _HEADER.lower() for name, _ in target.template.headers):
            return  # the wait's own
        if len(self.any) >= MAX_KEPT:
            del self.any[next(iter(self.any))]
        pairs = zip(targets, verdicts, strict=True)
        self.any[target.key] = Kept(
            etag, {each.rules: verdict for each, verdict in pairs if isinstance(verdict, Pending)}
        )


def _is_usable(etag: str) -> bool:
    return len(etag) <= _MAX_ETAG and etag.isascii() and etag.isprintable()
