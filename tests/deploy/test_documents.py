"""deploy/README.md: the names in it exist, and its backup command works."""

import asyncio
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from daemon import daemon, job_wait, jobs_and_receiver, until
from known_settings import unknown_variables
from manifests import DEPLOY

from waitd import __version__
from waitd.metrics import Instruments
from waitd.settings import Settings

TEXT = (DEPLOY / "README.md").read_text()


def test_every_named_metric_exists() -> None:
    known = {family.name for family in Instruments(version="test").registry.collect()}
    named = set(re.findall(r"\bwaitd_[a-z_]+\b", TEXT))
    assert {name for name in named if not {name, name.removesuffix("_total")} & known} == set()
    assert len(named) > 10


def test_every_named_setting_exists() -> None:
    assert unknown_variables(set(re.findall(r"\bWAITD_[A-Z_]+\b", TEXT))) == set()
    settings = {"drain_timeout", "capacity", "poke_concurrency", "per_host_concurrency", "state_dir"}
    assert settings <= Settings.model_fields.keys()
    assert all(f"`{word}`" in TEXT for word in settings)


def test_every_named_file_exists() -> None:
    named = set(re.findall(r"(?<!/)\bdeploy/[\w./-]+\w", TEXT)) - {"deploy/.env"}
    of_repository = {path for path in named if not path.startswith("deploy/secrets")}
    assert {path for path in of_repository if not (DEPLOY.parent / path).exists()} == set()
    assert f"waitd:{__version__}" in TEXT


def test_every_threat_names_a_test() -> None:
    """`tests/test_guides.py` looks whether those tests exist."""
    table = TEXT.partition("## Threat model")[2].partition("**Report a hole**")[0]
    _, _, *rows = [row.strip("|").split("|") for row in table.splitlines() if row.startswith("|")]
    assert len(rows) > 15
    for _, _, may_not, shown_by in rows:
        assert may_not.strip()
        assert re.findall(r"`tests/[\w/]+\.py::\w+`", shown_by), may_not


def backup_command(source: Path, copy: Path) -> list[str]:
    """The README's command with other paths and this Python."""
    (block,) = [b for b in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL) if "VACUUM INTO" in b]
    python, *rest = shlex.split(block.replace("\\\n", " "))
    assert python == "python3"
    assert rest[-2:] == ["/var/lib/waitd/waitd.db", "/var/lib/waitd/backup.db"]
    return [sys.executable, *rest[:-2], str(source), str(copy)]


@pytest.mark.slow
async def test_another_daemon_continues_from_a_backup_of_a_running_one(tmp_path: Path) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    after.mkdir()
    async with jobs_and_receiver() as (jobs, receiver, client):
        async with daemon(before) as waitd:
            accepted = []
            for n in range(50):
                body = job_wait(jobs, receiver, f"job{n}", 3600)
                async with client.post(f"{waitd.url}/v1/waits", json=body) as answer:
                    accepted.append((await answer.json())["id"])
            command = backup_command(before / "waitd.db", after / "waitd.db")
            await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
        with sqlite3.connect(after / "waitd.db") as copy:
            assert copy.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        copy.close()
        for name in jobs.first_request_at:
            jobs.first_request_at[name] -= 3600
        shutil.rmtree(before)  # else it would be a copy beside its original
        async with daemon(after):
            await until(lambda: set(receiver.digests) == set(accepted))
