"""What the shell proposes where a word of the command line is not finished. Whatever goes wrong, it proposes nothing."""

import asyncio
from pathlib import Path
from typing import Any

import typer

from waitd.cli.common import DEFAULT_URL, api_key

#: How long a person waits for a proposal, in seconds, and how many are worth reading.
PATIENCE = 1.0
MOST = 50

STATES = ("waiting", "success", "failed", "timeout", "cancelled")


def complete_state(incomplete: str) -> list[str]:
    """States of waits."""
    return [state for state in STATES if state.startswith(incomplete)]


def complete_id(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Ids of the newest waits of the daemon that the command asks, each with what it pokes."""
    from waitd.cli.display.waits import target_of
    from waitd.core.errors import WaitdError

    try:
        url, ca_file = context.params.get("url") or DEFAULT_URL, context.find_root().params.get("ca_file")
        key = api_key(context.find_root().params.get("api_key_file"))
        waits = asyncio.run(_newest(str(url), ca_file, key))
    except (WaitdError, ValueError, OSError, typer.Exit):
        return []
    found = [wait for wait in waits if wait["id"].startswith(incomplete)]
    return [(wait["id"], f"{wait['state']} {target_of(wait)}") for wait in found]


async def _newest(url: str, ca_file: Path | None, key: str | None) -> list[dict[str, Any]]:
    from waitd.client import Client

    async with Client(url, timeout=PATIENCE, ca_file=ca_file, api_key=key) as client:
        return await client.find({}, MOST)
