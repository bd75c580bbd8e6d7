"""The API described: the OpenAPI document for programs, and for people a page that shows it (Swagger UI, from the package `offapi`).

The page and all that it loads come from here, so it works without a network; its policy lets it load and call nothing else.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import orjson
from aiohttp import hdrs, web

from waitd.api.requests import json_response

_HTML = "text/html; charset=utf-8"
_PAGE = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>waitd: the API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/viewer.css">
</head>
<body>
<div id="viewer"></div>
<script src="docs/viewer.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
#: Without `validatorUrl` it would ask a server of its makers about the document.
_START = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#viewer", validatorUrl: null, deepLinking: true, tryItOutEnabled: true,
  queryConfigEnabled: false,
});
"""
#: Scripts and styles come from files, those below; pictures are data: URLs in the style sheet.
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: By their names in the page: what they are, and the files of the package.
_ASSETS = {
    "viewer.js": ("text/javascript", "swagger_bundle.js"),
    "viewer.css": ("text/css", "swagger_style.css"),
}
_DAY = "max-age=86400"


class Documents:
    """The handlers of `/openapi.json` and `/docs`. `describe` says how the document is made, once the routes are known."""

    def __init__(self) -> None:
        self._document: asyncio.Future[bytes] | None = None
        self._make: Callable[[], dict[str, Any]] = dict
        # The package is not imported: it would load all of its files into memory.
        self._files = Path(str(distribution("offapi").locate_file("offapi")))

    def describe(self, make: Callable[[], dict[str, Any]]) -> None:
        """Sets what makes the document. That takes a second with all kinds, so it is done when it is first asked for, off the loop."""
        self._make = make

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        """`GET /openapi.json`."""
        if self._document is None:
            self._document = asyncio.ensure_future(asyncio.to_thread(lambda: orjson.dumps(self._make())))
        return json_response(await asyncio.shield(self._document))

    async def page(self, _: web.Request) -> web.StreamResponse:
        """`GET /docs`."""
        return web.Response(body=_PAGE, headers={**_POLICY, hdrs.CONTENT_TYPE: _HTML})

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """`GET /docs/{name}`: what the page loads."""
        name = request.match_info["name"]
        if name == "start.js":
            return web.Response(body=_START, headers={**_POLICY, hdrs.CONTENT_TYPE: "text/javascript"})
        if name not in _ASSETS:
            raise web.HTTPNotFound
        content_type, file = _ASSETS[name]
        headers = {**_POLICY, hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: _DAY}
        return web.FileResponse(self._files / file, headers=headers)
