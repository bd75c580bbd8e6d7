"""Finds or installs a headless Chromium, and opens pages in it."""

import asyncio
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from pathlib import Path


def find_browser() -> str | None:
    """The path of the browser, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@cache
def install_browser() -> str:
    """Installs a browser with apt if there is none. Returns the reason why that failed, else ""."""
    if find_browser() is not None:
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return "Chromium is not installed, and only root on Debian can install it (apt-get install chromium)"
    error = ""
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
        error = done.stderr[-300:]
    return "" if find_browser() is not None else f"apt-get could not install chromium: {error}"


@asynccontextmanager
async def open_page(url: str, profile: Path, *, resolver_rules: str) -> AsyncIterator[None]:
    """Opens `url` in a browser inside the block. `resolver_rules` are those of --host-resolver-rules."""
    program = find_browser()
    assert program is not None
    process = await asyncio.create_subprocess_exec(
        program,
        "--headless=new",
        "--no-sandbox",  # root cannot use the sandbox; the pages are ours
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--disable-background-networking",
        "--no-first-run",
        f"--user-data-dir={profile}",
        f"--host-resolver-rules={resolver_rules}",
        "--remote-debugging-port=0",  # keeps the browser running
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


async def rendered_html(url: str, profile: Path, *, resolver_rules: str) -> str:
    """The HTML of a page after its scripts have run and everything is loaded."""
    program = find_browser()
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
