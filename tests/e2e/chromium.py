"""Finds or installs a headless Chromium, and opens pages in it."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from installation import require_apt_package


def find_browser() -> str | None:
    """The path of the browser, if it is installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def require_browser() -> None:
    require_apt_package("chromium", has_browser)


def has_browser() -> bool:
    return find_browser() is not None


@asynccontextmanager
async def open_page(url: str, profile: Path, *, resolver_rules: str) -> AsyncIterator[None]:
    """Opens `url` in a browser inside the block.

    `resolver_rules` are those of --host-resolver-rules.
    """
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
