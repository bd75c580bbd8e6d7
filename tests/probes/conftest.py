from collections.abc import Iterator

import pytest
from moto_s3 import S3Server, s3_server
from raw_server import Transport


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def no_aws_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hides this machine's AWS settings and its instance metadata service."""
    for name in ("AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture(params=[False, True], ids=["cold", "warm"])
def cold_and_warm(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pokes open connections and look up credentials, or find both ready and need no task."""
    monkeypatch.setattr(Transport, "warm", request.param)


@pytest.fixture(params=["cold pool", "warm pool", "session"])
def every_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pokes use a new connection, an idle one without a task, or aiohttp's session."""
    monkeypatch.setattr(Transport, "pooled", request.param != "session")
    monkeypatch.setattr(Transport, "warm", request.param == "warm pool")
