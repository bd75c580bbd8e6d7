"""A headless browser: found or installed, and run on one page that tells a server what it could do."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path


def browser() -> str | None:
    """The browser's program."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@cache
def install_browser() -> str:
    """Makes sure of a browser; why there is none, else "". Without an index of packages, apt says what it lacks."""
    if browser() is not None:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "Chromium is not installed, and only root on Debian can install it (apt-get install chromium)"
    said = ""
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "-y", "--no-install-recommends", "chromium"],
    ):
        done = subprocess.run(
            command,
            env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        said = done.stderr[-300:]
    return "" if browser() is not None else f"apt-get could not install chromium: {said}"


@asynccontextmanager
async def visiting(url: str, profile: Path, *, resolver_rules: str) -> AsyncIterator[None]:
    """A browser shows `url` inside the block. `resolver_rules`: where names lead, as --host-resolver-rules has it."""
    program = browser()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        "--headless=new",
        "--no-sandbox",  # which root may not use; the pages are ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={profile}",
        f"--host-resolver-rules={resolver_rules}",
        "--remote-debugging-port=0",  # keeps it running until it is ended
        url,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        if process.returncode is None:
            process.terminate()
        await asyncio.wait_for(process.wait(), 30)


async def shown(url: str, profile: Path, *, resolver_rules: str) -> str:
    """What a page has become once its scripts have run and nothing is left to load, as HTML."""
    program = browser()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"),
        *("--disable-background-networking", "--no-first-run", "--virtual-time-budget=30000"),
        *(f"--user-data-dir={profile}", f"--host-resolver-rules={resolver_rules}", "--dump-dom", url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        page, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return page.decode()
