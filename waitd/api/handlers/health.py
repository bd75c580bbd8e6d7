"""What the platform asks: is it alive, is it ready, and its figures."""

import asyncio

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from waitd.api.callers import seen_by
from waitd.api.problems import refusal
from waitd.api.requests import json_response
from waitd.api.routing import PUBLIC
from waitd.api.services import Health, Services
from waitd.core.auth.principal import Role
from waitd.core.errors import Forbidden

_ALL_SEEING = (
    "the figures count the waits of all namespaces: this takes an admin, or a viewer of all of them"
    " (waitd keys create --role viewer --namespace '*')"
)
#: The formats of the figures.
METRICS_TYPES = ("text/plain", "application/openmetrics-text")


class Operations:
    """The handlers of `/livez`, `/readyz` and `/metrics`."""

    def __init__(self, services: Services) -> None:
        self._services = services

    async def livez(self, _: web.Request) -> web.StreamResponse:
        """200: the event loop gets on with its work, or this would not be answered. Nothing else is asked."""
        return json_response({"status": "alive", "loop_lag_seconds": self._services.health.loop_lag})

    async def readyz(self, _: web.Request) -> web.StreamResponse:
        """200 where submits are taken and kept; 503 with every reason why not."""
        if reasons := _not_ready(self._services.health):
            raise refusal("not-ready", "; ".join(reasons))
        return json_response({"status": "ready"})

    @property
    def metrics_role(self) -> Role | None:
        """What the figures take; `PUBLIC` where everybody may see them."""
        return PUBLIC if self._services.open_metrics else Role.VIEWER

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """The instruments, in the format that Accept asks for. Encoded in a thread: thousands of series take milliseconds.

        Raises:
            Forbidden: they count everybody's waits, and the caller sees those of one namespace.
        """
        if not self._services.open_metrics and seen_by(request) is not None:
            raise Forbidden("namespace", _ALL_SEEING)
        self._services.before_scrape()
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        body = await asyncio.to_thread(encode, self._services.instruments.registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _not_ready(health: Health) -> list[str]:
    reasons = []
    if health.draining:
        reasons.append("the daemon is stopping")
    if not health.store_writable:
        reasons.append(
            f"the store cannot be written: {health.store_error}"
            if health.store_error
            else "the store cannot be written"
        )
    if health.refused_outcomes:
        reasons.append("there are waits that have ended and could not be stored yet")
    return reasons
