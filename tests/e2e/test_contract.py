"""The OpenAPI document is true: schemathesis tries the whole API of a real daemon by it, stateful links too."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from daemon import daemon, world

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
#: Callers have to authenticate here, so that it is also tried whether anything is answered to those who do not.
ADMIN = "waitd_contract_" + "k" * 43


async def test_no_request_gets_a_mistake_or_an_answer_that_is_not_documented(tmp_path: Path) -> None:
    keys = tmp_path / "api-keys"
    keys.write_text(f"{ADMIN} admin\n")
    settings = {"WAITD_LADDER": "[0]", "WAITD_LOG_LEVEL": "info", "WAITD_API_KEYS_FILE": str(keys)}
    async with (
        world() as (jobs, receiver, client),
        daemon(tmp_path / "state", **settings) as waitd,
    ):
        done = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "contract.toml")),
            *("run", f"{waitd.url}/openapi.json", "--no-color"),
            *("--header", f"Authorization: Bearer {ADMIN}"),
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
        assert [line for line in waitd.log if line.get("event") == "request failed"] == []
        # It was no walk past closed doors: waits were taken, ended in every way, and their deliveries died.
        for query in ("waits?state=success", "waits?state=cancelled", "deliveries?state=dead"):
            async with client.get(
                f"{waitd.url}/v1/{query}", headers={"Authorization": f"Bearer {ADMIN}"}
            ) as answer:
                found = await answer.json()
                assert found["waits" if "waits" in found else "deliveries"], f"{query}\n{report}"
