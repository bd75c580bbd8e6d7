"""A wait whose stored row cannot be read, on the command line and over the API of a real daemon."""

import asyncio
import sqlite3
import subprocess
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from cli_process import run_waitd
from daemon import Daemon, daemon, submit, until

pytestmark = pytest.mark.slow
BODY = {"kind": "signal", "params": {"key": "k"}, "timeout": 600}


def set_spec(state_dir: Path, wait_id: str, spec: str) -> None:
    with closing(sqlite3.connect(state_dir / "waitd.db")) as connection:
        connection.execute("UPDATE waits SET spec = ? WHERE id = ?", (spec, wait_id))
        connection.commit()


async def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(partial(run_waitd, *arguments, **variables))  # type: ignore[arg-type]  # environment variables only


async def unreadable(client: aiohttp.ClientSession, waitd: Daemon) -> list[dict[str, Any]]:
    async with client.get(f"{waitd.url}/v1/waits", params={"state": "unreadable"}) as answer:
        assert answer.status == 200, await answer.text()
        waits: list[dict[str, Any]] = (await answer.json())["waits"]
        return waits


async def test_a_daemon_starts_with_an_unreadable_wait_shows_it_and_exports_it(tmp_path: Path) -> None:
    state, export = tmp_path / "state", tmp_path / "waits.ndjson"
    async with aiohttp.ClientSession() as client, daemon(state) as waitd:
        ids = [await submit(client, waitd, BODY) for _ in range(5)]
        await waitd.kill()
        set_spec(state, ids[2], "no json \x1b[31m")
        await waitd.start()

        async def is_known() -> bool:
            return bool(await unreadable(client, waitd))

        await until(is_known)
        [shown] = await unreadable(client, waitd)
        assert (shown["id"], shown["state"], shown["row"]["spec"]) == (
            ids[2],
            "unreadable",
            "no json \x1b[31m",
        )
        async with client.get(f"{waitd.url}/v1/waits/{ids[2]}") as answer:
            assert (answer.status, await answer.json()) == (200, shown)
        async with client.post(f"{waitd.url}/v1/waits/{ids[2]}:cancel", json={}) as answer:
            assert answer.status == 409
            assert "waitd export" in (await answer.json())["detail"]
        async with client.get(f"{waitd.url}/metrics") as answer:
            assert "waitd_unreadable_waits 1.0" in await answer.text()
        listed = await run("list", "--state", "unreadable", WAITD_URL=waitd.url)
        assert ids[2] in listed.stdout
        details = await run("show", ids[2], WAITD_URL=waitd.url)
        assert "no json \\x1b[31m" in details.stdout
        online = await run("export", WAITD_URL=waitd.url)
        await waitd.kill()
        offline = await run("export", "--offline", WAITD_STATE_DIR=str(state))
        assert sorted(online.stdout.splitlines()) == sorted(offline.stdout.splitlines())
        assert "1 unreadable wait written" in online.stderr
        *others, last = map(orjson.loads, offline.stdout.splitlines())
        assert {line["id"] for line in others} == {*ids} - {ids[2]}
        assert last == shown

    mended = {
        **last,
        "row": {
            **last["row"],
            "spec": '{"kind":"signal","params":{"key":"k"},"poke_interval":60,"timeout":600}',
        },
    }
    async with aiohttp.ClientSession() as client, daemon(tmp_path / "other") as waitd:
        export.write_bytes(orjson.dumps(last))
        refused = await run("import", str(export), WAITD_URL=waitd.url)
        assert (refused.returncode, "still unreadable" in refused.stderr) == (1, True)
        export.write_bytes(orjson.dumps(mended))
        imported = await run("import", str(export), WAITD_URL=waitd.url)
        assert (imported.returncode, imported.stdout) == (0, "1 wait imported, 0 already there, 0 refused\n")
