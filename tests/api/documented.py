"""Checks every answer of a test's API against the OpenAPI document of that API."""

from typing import Any

from aiohttp import web


class Documented:
    """A listener for `on_response_prepare`; `missing` are answers that the `document` lacks."""

    def __init__(self) -> None:
        self.document: dict[str, Any] = {"paths": {}}
        self.missing: list[str] = []

    async def note(self, request: web.Request, response: web.StreamResponse) -> None:
        operation = self._operation(request)
        # The document describes neither internal errors nor methods that no route has.
        if operation is None or response.status in {405, 500}:
            return
        known = operation["responses"].get(str(response.status), {})
        if response.content_type not in known.get("content", {}):
            self.missing.append(f"{request.method} {request.path}: {response.status} {response.content_type}")

    def _operation(self, request: web.Request) -> dict[str, Any] | None:
        resource = request.match_info.route.resource
        if resource is None:
            return None
        method = "get" if request.method == "HEAD" else request.method.lower()
        path: dict[str, Any] = self.document["paths"].get(resource.canonical, {})
        operation: dict[str, Any] | None = path.get(method)
        return operation
