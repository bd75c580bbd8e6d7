"""The OpenAPI document is true: schemathesis tries the whole API of a real daemon by it, stateful links too."""

import asyncio
import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from daemon import daemon, jobs_and_receiver

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
#: Callers have to authenticate here, so that it is also tried whether anything is answered to those who do not.
ADMIN = "waitd_contract_" + "k" * 43
#: Where an answer of the document's is a wait, it has links to what can be done with it.
LINKS = {"getWait", "listPokes", "cancelWait", "pokeWait", "redeliverWait"}


def followed(report: Path) -> Iterator[str]:
    """The document's links that schemathesis went along, to the wait that the answer before was about, and found it: the operation."""
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
                # As schemathesis names it: POST /v1/waits -> [201] getWait -> GET /v1/waits/{id}
                yield link["id"].partition("] ")[2].partition(" ->")[0]


async def test_no_request_gets_a_mistake_or_an_answer_that_is_not_documented(tmp_path: Path) -> None:
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
        assert set(followed(tmp_path / "calls.ndjson")) == LINKS, report
        # It was no walk past closed doors: waits were taken, ended in every way, and their deliveries died.
        for query in ("waits?state=success", "waits?state=cancelled", "deliveries?state=dead"):
            async with client.get(
                f"{waitd.url}/v1/{query}", headers={"Authorization": f"Bearer {ADMIN}"}
            ) as answer:
                found = await answer.json()
                assert found["waits" if "waits" in found else "deliveries"], f"{query}\n{report}"
