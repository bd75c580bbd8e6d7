"""The OpenAPI document, and a page that shows it: Swagger UI, from the package `offapi`.

The daemon serves the page and everything that it loads, so it works without a network. The page's
content security policy allows nothing else.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import orjson
from aiohttp import hdrs, web

from waitd.api.server.bodies import json_response

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
#: By default (`validatorUrl`) Swagger UI sends the document to a public validator.
_START = b"""SwaggerUIBundle({
  url: "openapi.json", dom_id: "#viewer", validatorUrl: null, deepLinking: true, tryItOutEnabled: true,
  queryConfigEnabled: false,
});
"""
#: Scripts and styles come from the files below; images are data: URLs in the style sheet.
_POLICY = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
#: By name in the page: the content type, and the file of the package.
_ASSETS = {
    "viewer.js": ("text/javascript", "swagger_bundle.js"),
    "viewer.css": ("text/css", "swagger_style.css"),
}
_DAY = "max-age=86400"


class DocsHandlers:
    """The handlers of `/openapi.json` and `/docs`."""

    def __init__(self, build: Callable[[], dict[str, Any]]) -> None:
        """`build` returns the document.

        It takes a second with all kinds, so it runs at the first request, in a thread.
        """
        self._document: asyncio.Future[bytes] | None = None
        self._build = build
        # The package is not imported, because that loads all of its files into memory.
        self._files = Path(str(distribution("offapi").locate_file("offapi")))

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        """`GET /openapi.json`."""
        if self._document is None:
            self._document = asyncio.ensure_future(asyncio.to_thread(lambda: orjson.dumps(self._build())))
        return json_response(await asyncio.shield(self._document))

    async def page(self, _: web.Request) -> web.StreamResponse:
        """`GET /docs`."""
        return web.Response(body=_PAGE, headers={**_POLICY, hdrs.CONTENT_TYPE: _HTML})

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """`GET /docs/{name}`: a file that the page loads."""
        name = request.match_info["name"]
        if name == "start.js":
            return web.Response(body=_START, headers={**_POLICY, hdrs.CONTENT_TYPE: "text/javascript"})
        if name not in _ASSETS:
            raise web.HTTPNotFound
        content_type, file = _ASSETS[name]
        headers = {**_POLICY, hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: _DAY}
        return web.FileResponse(self._files / file, headers=headers)
