"""Shell completion of states and wait ids. Without an answer of the daemon it completes nothing."""

import asyncio
from pathlib import Path
from typing import Any

import typer

from waitd.cli.daemon_calls import read_api_key
from waitd.cli.options import DEFAULT_URL

#: How long a completion may take, in seconds.
TIMEOUT = 1.0
#: How many of the newest waits are offered.
MAX_WAITS = 50

STATES = ("waiting", "success", "failed", "timeout", "cancelled", "unreadable")


def complete_state(incomplete: str) -> list[str]:
    """The states that start with `incomplete`."""
    return [state for state in STATES if state.startswith(incomplete)]


def complete_id(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """The ids of the newest waits that start with `incomplete`, each with a description."""
    from waitd.cli.display.waits import describe_target
    from waitd.core.errors import WaitdError

    try:
        own, before = context.params, context.find_root().params
        url, ca_file = own.get("url") or DEFAULT_URL, own.get("ca_file") or before.get("ca_file")
        key = read_api_key(own.get("api_key_file") or before.get("api_key_file"))
        waits = asyncio.run(_newest_waits(str(url), ca_file, key))
    except (WaitdError, ValueError, OSError, typer.Exit):
        return []
    return [
        (wait["id"], f"{wait['state']} {describe_target(wait)}")
        for wait in waits
        if wait["id"].startswith(incomplete)
    ]


async def _newest_waits(url: str, ca_file: Path | None, key: str | None) -> list[dict[str, Any]]:
    from waitd.client import Client

    async with Client(url, timeout=TIMEOUT, ca_file=ca_file, api_key=key) as client:
        return await client.find({}, MAX_WAITS)
