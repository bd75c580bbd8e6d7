"""Operations that say by a header where they are to be asked about next, and when: HTTP's 202 with `Location` and `Retry-After`.

Where to look next is the wait's own memory, so it holds over a restart. Only URLs of the origin that was asked are followed: the
credentials are that one's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from yarl import URL

from waitd.core.connections.connection import parse_origin
from waitd.core.http.answer import CredentialsRefused
from waitd.core.http.headers import parse_retry_after
from waitd.core.waits.verdict import Pending, Verdict
from waitd.core.waits.wait import Progress
from waitd.ports import Landing, Pokeable
from waitd.probes.access.http import HttpAccess
from waitd.probes.cel.evaluation import Conditions
from waitd.probes.http.params import HttpTarget
from waitd.probes.http.probe import HttpProbe
from waitd.probes.transport.client import HttpAnswer, Request

#: The first that an answer has is followed.
FOLLOWED = ("Azure-AsyncOperation", "Operation-Location", "Location")
#: The longest URL that is remembered, in characters: a probe's memory is small.
_MAX_URL = 1024
_ELSEWHERE = " Its {} leads to another origin, and is not followed."


@dataclass(frozen=True, slots=True)
class _Following:
    """A wait, looking where its last answer said."""

    target: HttpTarget
    progress: Progress = field(default_factory=Progress)


class _Target(HttpTarget, eq=False, gc=False):
    """A target that is asked at a URL of an earlier answer."""


class FollowingProbe(HttpProbe):
    """Pokes waits whose target moves. Their keys are empty, so each is poked alone."""

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """See `HttpProbe.poke`."""
        return await super().poke([self._moved(wait) for wait in group])

    def begin(self, group: Sequence[Pokeable], landing: Landing) -> Callable[[], None] | None:
        """See `HttpProbe.begin`."""
        return super().begin([self._moved(wait) for wait in group], landing)

    @staticmethod
    def _moved(wait: Pokeable) -> Pokeable:
        url, target = wait.progress.state, wait.target
        if url is None:
            return wait
        return _Following(
            _Target(target.template, target.rules, url, target.origin, target.seed, target.seed)
        )

    def _request(self, target: HttpTarget, access: HttpAccess | None) -> Request:
        if not isinstance(target, _Target):
            return super()._request(target, access)
        origin = target.origin if access is None else access.endpoint.origin
        if str(parse_origin(target.endpoint)) != origin:
            raise ValueError("the operation's URL is of another origin")
        return super()._request(
            target, None if access is None else access._replace(endpoint=access.endpoint.at_root())
        )

    def _at_once(self, answer: HttpAnswer, rules: Conditions) -> Verdict | CredentialsRefused | None:
        verdict = super()._at_once(answer, rules)
        return None if verdict is None else self._followed(answer, verdict)

    async def _later(
        self, answer: HttpAnswer, rules: Conditions, give_up: float
    ) -> Verdict | CredentialsRefused:
        return self._followed(answer, await super()._later(answer, rules, give_up))

    def _followed(
        self, answer: HttpAnswer, verdict: Verdict | CredentialsRefused
    ) -> Verdict | CredentialsRefused:
        if not isinstance(verdict, Pending):
            return verdict
        headers = answer.response.headers
        asked = parse_retry_after(headers.get("Retry-After"), self._now(), headers.get("Date"))
        name = next((name for name in FOLLOWED if headers.get(name)), None)
        if name is None:
            return replace(verdict, retry_after=asked)
        url = _same_origin(answer.url, headers[name])
        if url is None:
            return replace(verdict, retry_after=asked, message=verdict.message + _ELSEWHERE.format(name))
        return replace(verdict, retry_after=asked, state=url)


def _same_origin(asked: str, location: str) -> str | None:
    """The absolute URL that an answer names; None where it is of another origin, or none that can be asked."""
    try:
        url = str(URL(asked, encoded=True).join(URL(location)).with_fragment(None))
        same = parse_origin(url) == parse_origin(asked)
    except ValueError:
        return None
    return url if same and "\\" not in location and len(url) <= _MAX_URL else None
