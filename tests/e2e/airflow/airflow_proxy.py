"""A proxy in front of Airflow, which tests use to change requests and answers."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from aiohttp import web
from daemon import serving

from waitd.bench.airflow.instance import PREFIX, Airflow

P = TypeVar("P", bound="AirflowProxy")


class AirflowProxy:
    """Forwards requests to Airflow. Subclasses override `handle`."""

    def __init__(self, airflow: Airflow, client: aiohttp.ClientSession) -> None:
        self._airflow = airflow
        self._client = client

    async def forward(self, request: web.Request, body: bytes | None = None) -> tuple[int, bytes]:
        """Forwards the request, or one with another body, and returns Airflow's status and body."""
        url = self._airflow.url + request.rel_url.raw_path_qs.removeprefix(PREFIX)
        names = [name for name in ("Authorization", "Content-Type") if name in request.headers]
        headers = {name: request.headers[name] for name in names}
        data = await request.read() if body is None else body
        async with self._client.request(request.method, url, data=data, headers=headers) as response:
            return response.status, await response.read()

    async def handle(self, request: web.Request) -> web.Response:
        return json_response(*await self.forward(request))


def json_response(status: int, body: bytes) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


@asynccontextmanager
async def proxied(kind: type[P], airflow: Airflow) -> AsyncIterator[tuple[P, str]]:
    """Serves a proxy of this kind, and yields it with the URL of Airflow's API."""
    async with aiohttp.ClientSession() as client:
        proxy = kind(airflow, client)
        async with serving("*", "/{path:.*}", proxy.handle) as url:
            yield proxy, url + PREFIX
