"""A receiver of webhooks in a process of its own: `python webhook_server.py PORT FILE`.

It takes what comes with the right login, and has it in a file before it says so; what it took outlives a kill. `POST /answers` makes it
refuse: `{"status": 429, "headers": {"Retry-After": "1"}}`, or `{}` to take again.
"""

import base64
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

LOGIN, PASSWORD = "waitd", "planted-password"
#: The largest event that it takes, in bytes.
MAX = 256 * 1024


def application(file: Path) -> web.Application:
    file.touch()
    refusal: dict[str, Any] = {}
    right = "Basic " + base64.b64encode(f"{LOGIN}:{PASSWORD}".encode()).decode()

    async def answers(request: web.Request) -> web.Response:
        refusal.clear()
        refusal.update(await request.json())
        return web.Response()

    async def take(request: web.Request) -> web.Response:
        body = await request.read()  # 413 where it is too large
        if request.headers.get("Authorization") != right:
            return web.Response(status=401)
        if refusal:
            return web.Response(**refusal)
        headers = {name.lower(): value for name, value in request.headers.items()}
        with file.open("a") as taken:
            taken.write(json.dumps({"place": request.path, "headers": headers, "body": body.decode()}) + "\n")
        return web.Response(status=204)

    app = web.Application(client_max_size=MAX)
    app.router.add_post("/answers", answers)
    app.router.add_post("/{place}", take)
    return app


if __name__ == "__main__":
    web.run_app(
        application(Path(sys.argv[2])), host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None
    )
