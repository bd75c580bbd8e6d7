"""The OpenAPI document, and a page that shows it with Swagger UI.

The daemon serves the page and the files of Swagger UI, which come from the package `offapi`. So the
page works without a network, and its content security policy allows no other source.
"""

import asyncio
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import orjson
from aiohttp import hdrs, web

from waitd.api.server.bodies import json_response

_HTML_TYPE = "text/html; charset=utf-8"
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
#: What the page may load: scripts and styles from the files below, images as data: URLs in the
#: style sheet.
_SECURITY_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}
#: The files that the page loads: by name, the content type and the file in `offapi`.
_ASSETS = {
    "viewer.js": ("text/javascript", "swagger_bundle.js"),
    "viewer.css": ("text/css", "swagger_style.css"),
}
_FOR_A_DAY = "max-age=86400"


class DocsHandlers:
    """The handlers of `/openapi.json` and `/docs`."""

    def __init__(self, build: Callable[[], dict[str, Any]]) -> None:
        """`build` builds the OpenAPI document.

        It takes a second with all kinds, so it runs in a thread, at the first request.
        """
        self._document: asyncio.Future[bytes] | None = None
        self._build = build
        # Importing the package would load all of its files into memory.
        self._files = Path(str(distribution("offapi").locate_file("offapi")))

    async def openapi(self, _: web.Request) -> web.StreamResponse:
        """`GET /openapi.json`."""
        if self._document is None:
            self._document = asyncio.ensure_future(asyncio.to_thread(lambda: orjson.dumps(self._build())))
        return json_response(await asyncio.shield(self._document))

    async def page(self, _: web.Request) -> web.StreamResponse:
        """`GET /docs`."""
        return web.Response(body=_PAGE, headers={**_SECURITY_HEADERS, hdrs.CONTENT_TYPE: _HTML_TYPE})

    async def asset(self, request: web.Request) -> web.StreamResponse:
        """`GET /docs/{name}`: a file that the page loads."""
        name = request.match_info["name"]
        if name == "start.js":
            return web.Response(
                body=_START, headers={**_SECURITY_HEADERS, hdrs.CONTENT_TYPE: "text/javascript"}
            )
        if name not in _ASSETS:
            raise web.HTTPNotFound
        content_type, file = _ASSETS[name]
        headers = {**_SECURITY_HEADERS, hdrs.CONTENT_TYPE: content_type, hdrs.CACHE_CONTROL: _FOR_A_DAY}
        return web.FileResponse(self._files / file, headers=headers)
