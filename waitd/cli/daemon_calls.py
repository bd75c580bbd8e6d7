"""Calls a daemon for a command, and turns failures into messages and exit codes."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from waitd.cli.console import ExitCode, describe_refusal, fail

if TYPE_CHECKING:
    from waitd.client import Client

T = TypeVar("T")

#: The values of the options `--ca-file` and `--api-key-file`.
CA_FILE: ContextVar[Path | None] = ContextVar("CA_FILE", default=None)
API_KEY_FILE: ContextVar[Path | None] = ContextVar("API_KEY_FILE", default=None)


def use_ca_file(file: Path | None) -> None:
    """Sets the CA certificates of the following calls, unless `file` is None."""
    if file is not None:
        CA_FILE.set(file)


def use_api_key_file(file: Path | None) -> None:
    """Sets the file with the API key of the following calls, unless `file` is None."""
    if file is not None:
        API_KEY_FILE.set(file)


def call_daemon(url: str, work: "Callable[[Client], Awaitable[T]]") -> T:
    """Runs `work` with a client of the daemon at `url` and returns its result.

    Ends the command with an error message if the daemon cannot be reached or refuses.
    """
    from waitd.client import Client, DaemonUnreachable, RequestRefused

    ca_file = CA_FILE.get()
    key = read_api_key(API_KEY_FILE.get())
    try:
        client = Client(url, ca_file=ca_file, api_key=key)
    except OSError as error:
        fail(f"cannot use the certificates in {ca_file}: {error}.", ExitCode.USAGE)
    except ValueError as error:
        fail(f"{url} is not the URL of a daemon: {error}.", ExitCode.USAGE)

    async def run() -> T:
        async with client:
            return await work(client)

    try:
        return asyncio.run(run())
    except DaemonUnreachable as error:
        fail(
            f"{error}. Start a daemon with `waitd serve`, or name another one with --url or WAITD_URL.",
            ExitCode.UNREACHABLE,
        )
    except RequestRefused as error:
        hint = "\nSet WAITD_API_KEY, or pass a file with an API key as --api-key-file."
        fail(describe_refusal(error) + (hint if error.status == 401 else ""))


def read_api_key(file: Path | None) -> str | None:
    """The API key in `file`, or else in WAITD_API_KEY.

    It is never a command-line argument, because every user of the machine can read those.
    """
    if file is None:
        return os.environ.get("WAITD_API_KEY") or None
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text file"
        fail(f"cannot read the API key in {file}: {reason}.", ExitCode.USAGE)
    if len(text.split()) != 1:
        fail(f"the file {file} must contain exactly one API key.", ExitCode.USAGE)
    return text
