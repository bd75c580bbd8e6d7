"""The daemon conforms to its OpenAPI document: schemathesis tests the whole API, links included."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import daemon, jobs_and_receiver

pytestmark = [pytest.mark.slow, pytest.mark.long]
HERE = Path(__file__).parent
#: The daemon requires authentication, so that schemathesis also tests requests without it.
ADMIN = "waitd_contract_" + "k" * 43
#: The links from an answer that is a wait to the operations on it.
LINKS = {"getWait", "listPokes", "cancelWait", "pokeWait", "redeliverWait"}


def followed_links(report: Path) -> Iterator[str]:
    """The operations that schemathesis reached by links, with the wait of the previous answer."""
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        calls = recorder.get("interactions", {})
        for case_id, case in recorder.get("cases", {}).items():
            link = case.get("transition")
            if link is None or link["is_inferred"] or not case["is_transition_applied"]:
                continue
            before, call = calls[link["parent_id"]], calls[case_id]
            wait = json.loads(base64.b64decode(before["response"]["content"]["$base64"]))
            if f"/v1/waits/{wait['id']}" in call["request"]["uri"] and call["response"]["status_code"] != 404:
                # An id of a link is: POST /v1/waits -> [201] getWait -> GET /v1/waits/{id}
                yield link["id"].partition("] ")[2].partition(" ->")[0]


async def test_every_answer_is_documented_and_none_is_a_server_error(tmp_path: Path) -> None:
    keys = tmp_path / "api-keys"
    keys.write_text(f"{ADMIN} admin\n")
    settings = {
        "WAITD_DELIVERY_RETRY_DELAYS": "[0]",
        "WAITD_LOG_LEVEL": "info",
        "WAITD_API_KEYS_FILE": str(keys),
    }
    async with (
        jobs_and_receiver() as (jobs, receiver, client),
        daemon(tmp_path / "state", **settings) as waitd,
    ):
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "contract.toml")),
            *("run", f"{waitd.url}/openapi.json", "--no-color"),
            *("--header", f"Authorization: Bearer {ADMIN}"),
            *("--report", "ndjson", "--report-ndjson-path", str(tmp_path / "calls.ndjson")),
            cwd=tmp_path,
            env=os.environ
            | {
                "SCHEMATHESIS_HOOKS": "contract_hooks",
                "PYTHONPATH": str(HERE),
                "JOBS": jobs.url,
                "HOOK": f"{receiver.url}/hook",
            },
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            output, _ = await asyncio.wait_for(done.communicate(), timeout=900)
        finally:
            if done.returncode is None:
                done.kill()
                await done.wait()
        report = output.decode()
        assert done.returncode == 0, report
        assert [line for line in waitd.log if line.get("event") == "request_failed"] == []
        assert set(followed_links(tmp_path / "calls.ndjson")) == LINKS, report
        # The test did real work: waits succeeded and were cancelled, and deliveries died.
        for query in ("waits?state=success", "waits?state=cancelled", "deliveries?state=dead"):
            async with client.get(
                f"{waitd.url}/v1/{query}", headers={"Authorization": f"Bearer {ADMIN}"}
            ) as answer:
                page = await answer.json()
                assert page["waits" if "waits" in page else "deliveries"], f"{query}\n{report}"
