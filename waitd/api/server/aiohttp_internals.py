"""The parts of aiohttp without a public API that the server uses.

A test checks them for `AIOHTTP_MINOR`.
"""

from abc import abstractmethod

from aiohttp import web

#: The minor version of aiohttp that this file was checked with.
AIOHTTP_MINOR = "3.14"


def awaits_head(connection: web.RequestHandler) -> bool:
    """Whether what arrives on the connection belongs to the head of a request.

    Before its first request, aiohttp may not wait for the head yet.
    """
    waiter = connection._waiter  # noqa: SLF001 - no public attribute says it
    return connection._request_count == 0 or (waiter is not None and not waiter.done())  # noqa: SLF001 - as above


class CustomServerRunner(web.AppRunner):
    """An `AppRunner` whose subclass replaces the server of the application."""

    @abstractmethod
    def wrap_server(self, server: web.Server) -> web.Server:
        """Returns the server to use in place of `server`."""

    async def _make_server(self) -> web.Server:
        return self.wrap_server(await super()._make_server())
