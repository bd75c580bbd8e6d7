"""Runs Airflow's own sensors in its own Python, and pokes with ours."""

import asyncio
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from waitd.core.waits.verdict import Success
from waitd.core.waits.wait import Progress, record_verdict
from waitd.ports import Probe, Target


@dataclass
class PokedWait:
    """A wait, as a probe sees it."""

    target: Target
    progress: Progress = field(default_factory=Progress)


async def sensors_say(
    environment: Path, script: str, directory: Path, url: str, pokes: list[dict[str, Any]]
) -> list[str]:
    """What the script's sensors say of each of `pokes`."""
    asked, answered = directory / "pokes.json", directory / "answers.json"
    asked.write_text(json.dumps(pokes), "utf-8")
    process = await asyncio.create_subprocess_exec(
        *(environment / "bin/python", Path(__file__).with_name(script), url, asked, answered),
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(directory)},
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    said: list[str] = json.loads(answered.read_text("utf-8"))
    return said


async def last_verdict(probe: Probe, params: dict[str, Any], pokes: int = 1) -> str:
    """The name of the verdict of the last of so many pokes."""
    wait = PokedWait(probe.parse(params, namespace="default"))
    for second in range(pokes):
        [verdict] = await probe.poke([wait])
        wait.progress = record_verdict(wait.progress, verdict, float(second))
    return "success" if isinstance(verdict, Success) else type(verdict).__name__.lower()
