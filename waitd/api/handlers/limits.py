"""`GET /v1/limits`: the limits of the caller and of its namespace, and how much of each is used."""

import math
from typing import Any

from aiohttp import web

from waitd.api.authentication import PRINCIPAL
from waitd.api.dependencies import ApiDependencies
from waitd.api.server.bodies import json_response
from waitd.core.auth.quotas import Kept, Resource, Share
from waitd.core.auth.submit_rates import SUBMIT_RATE_LIMIT


class LimitHandlers:
    """The handler of `/v1/limits`."""

    def __init__(self, dependencies: ApiDependencies) -> None:
        self._dependencies = dependencies

    async def get(self, request: web.Request) -> web.StreamResponse:
        """`GET /v1/limits`: 200 with one item for each limit of the caller."""
        store, throttle = self._dependencies.store, self._dependencies.throttle
        namespace, principal = request[PRINCIPAL].namespace, request[PRINCIPAL].name
        queued = await store.count_redeliveries(namespace)
        limits: list[dict[str, Any]] = []
        for kept in Kept:
            usage = queued if kept is Kept.REDELIVERIES else store.usage
            used = usage.get(kept, namespace), usage.get(kept, namespace, principal)
            limits.append(_item(kept, self._dependencies.kept_limits.share(kept, namespace), *used))
        limits.append(_item(SUBMIT_RATE_LIMIT, throttle.submit_rates.share(namespace), None, None))
        for resource in Resource:
            of_namespace, of_principal, share = throttle.used(resource, namespace, principal)
            limits.append(_item(resource, share, of_namespace, of_principal))
        page_bytes = float(self._dependencies.page_bytes(namespace))
        limits.append(_item("page_bytes", Share(page_bytes, page_bytes), None, None))
        return json_response({"namespace": namespace, "principal": principal, "limits": limits})


def _item(name: str, share: Share, of_namespace: int | None, of_principal: int | None) -> dict[str, Any]:
    return {
        "limit": str(name),
        "namespace": {"used": of_namespace, "most": _finite(share.namespace)},
        "principal": {"used": of_principal, "most": _finite(share.principal)},
    }


def _finite(most: float) -> float | None:
    return None if math.isinf(most) else most
