"""A job server and a display that every test of the bench can use."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from fakes import SilentDisplay

from waitd.bench.job_server import JobServerUrls, serve


@pytest.fixture
async def job_server() -> AsyncIterator[JobServerUrls]:
    """A job server with two origins and S3, in this process."""
    stopped = asyncio.Event()
    started: asyncio.Future[JobServerUrls] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve("127.0.0.1", 0, 2, stopped, started.set_result, with_s3=True))
    yield await started
    stopped.set()
    await task


@pytest.fixture
def display() -> SilentDisplay:
    return SilentDisplay()
