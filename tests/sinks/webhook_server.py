"""A webhook receiver as a process: `python webhook_server.py PORT FILE`.

It requires a login and writes each event to the file before it answers, so events survive a kill.
`POST /response` sets the response: `{"status": 429, "headers": {"Retry-After": "1"}}`, or `{}` to
accept events again.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

LOGIN, PASSWORD = "waitd", "planted-password"
#: The largest event that it accepts, in bytes.
MAX_BYTES = 256 * 1024


def application(file: Path) -> web.Application:
    file.touch()
    response: dict[str, Any] = {}
    authorization = "Basic " + base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()

    async def set_response(request: web.Request) -> web.Response:
        response.clear()
        response.update(await request.json())
        return web.Response()

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()  # raises 413 for a body over MAX_BYTES
        if request.headers.get("Authorization") != authorization:
            return web.Response(status=401)
        if response:
            return web.Response(**response)
        headers = {name.lower(): value for name, value in request.headers.items()}
        with file.open("a") as received:
            received.write(
                json.dumps({"path": request.path, "headers": headers, "body": body.decode()}) + "\n"
            )
        return web.Response(status=204)

    app = web.Application(client_max_size=MAX_BYTES)
    app.router.add_post("/response", set_response)
    app.router.add_post("/{path}", receive)
    return app


if __name__ == "__main__":
    web.run_app(
        application(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None
    )
