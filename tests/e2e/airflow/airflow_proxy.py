"""A proxy before Airflow, as many installations have one: a test says what becomes of a request or of its answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from aiohttp import web
from daemon import serving

from waitd.bench.airflow.instance import PREFIX, Airflow

P = TypeVar("P", bound="Proxy")


class Proxy:
    """Passes requests on. Subclasses say what else."""

    def __init__(self, airflow: Airflow, client: aiohttp.ClientSession) -> None:
        self._airflow = airflow
        self._client = client

    async def passed_on(self, request: web.Request, body: bytes | None = None) -> tuple[int, bytes]:
        """Airflow's answer to the request, or to one with another body."""
        url = self._airflow.url + request.rel_url.raw_path_qs.removeprefix(PREFIX)
        names = [name for name in ("Authorization", "Content-Type") if name in request.headers]
        headers = {name: request.headers[name] for name in names}
        data = await request.read() if body is None else body
        async with self._client.request(request.method, url, data=data, headers=headers) as response:
            return response.status, await response.read()

    async def answer(self, request: web.Request) -> web.Response:
        return answered(*await self.passed_on(request))


def answered(status: int, body: bytes) -> web.Response:
    return web.Response(body=body, status=status, content_type="application/json")


@asynccontextmanager
async def proxied(kind: type[P], airflow: Airflow) -> AsyncIterator[tuple[P, str]]:
    """A proxy of this kind that serves, and the API's URL there."""
    async with aiohttp.ClientSession() as client:
        proxy = kind(airflow, client)
        async with serving("*", "/{path:.*}", proxy.answer) as url:
            yield proxy, url + PREFIX
