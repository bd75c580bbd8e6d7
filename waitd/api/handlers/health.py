"""What the platform reads: liveness, readiness and metrics."""

import asyncio

from aiohttp import hdrs, web
from prometheus_client.exposition import choose_encoder

from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies, Health
from waitd.api.problems import refusal
from waitd.api.routing import PUBLIC
from waitd.api.server.bodies import json_response
from waitd.core.auth.principal import Role
from waitd.core.errors import Forbidden

_ONE_NAMESPACE = (
    "the metrics count the waits of all namespaces: this requires an admin, or a viewer of all namespaces"
    " (waitd keys create --role viewer --namespace '*')"
)
#: The formats of the metrics.
METRICS_TYPES = ("text/plain", "application/openmetrics-text")


class HealthHandlers:
    """The handlers of `/livez`, `/readyz` and `/metrics`."""

    def __init__(self, dependencies: ApiDependencies) -> None:
        self._dependencies = dependencies

    async def livez(self, _: web.Request) -> web.StreamResponse:
        """200: the event loop runs, or there would be no answer. Nothing else is checked."""
        return json_response({"status": "alive", "loop_lag_seconds": self._dependencies.health.loop_lag})

    async def readyz(self, _: web.Request) -> web.StreamResponse:
        """200 if the store can be written; 503 with every reason why not.

        `degraded` says that the disk is low: the rest of the API works while submits are refused.
        """
        if reasons := _not_ready(self._dependencies.health):
            raise refusal("not-ready", "; ".join(reasons))
        disk, warnings = self._dependencies.disk, self._dependencies.health.warnings
        return json_response(
            {
                "status": "degraded" if disk.low else "ready",
                "warnings": [*warnings, *([disk.warning] if disk.low else [])],
            }
        )

    @property
    def metrics_role(self) -> Role | None:
        """The role that the metrics require; `PUBLIC` if anyone may read them."""
        return PUBLIC if self._dependencies.open_metrics else Role.VIEWER

    async def metrics(self, request: web.Request) -> web.StreamResponse:
        """The metrics, in the format that Accept asks for.

        They are encoded in a thread, because thousands of series take milliseconds.

        Raises:
            Forbidden: the caller sees one namespace only, and the metrics count all of them.
        """
        if not self._dependencies.open_metrics and request[PRINCIPAL].visible_namespace is not None:
            raise Forbidden("namespace", _ONE_NAMESPACE)
        self._dependencies.before_scrape()
        encode, content_type = choose_encoder(request.headers.get(hdrs.ACCEPT, ""))
        body = await asyncio.to_thread(encode, self._dependencies.instruments.registry)
        return web.Response(body=body, headers={hdrs.CONTENT_TYPE: content_type})


def _not_ready(health: Health) -> list[str]:
    reasons = []
    if health.draining:
        reasons.append("the daemon is stopping")
    if health.store_error:
        reasons.append(f"the store cannot be written: {health.store_error}")
    if health.local_trouble:
        reasons.append(f"the daemon has trouble of its own: {health.local_trouble}")
    if health.refused_outcomes:
        reasons.append("there are waits that have ended whose outcome is not stored yet")
    return reasons
