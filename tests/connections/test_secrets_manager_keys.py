"""What Secrets Manager is sent, and what becomes of keys that AWS no longer takes."""

import orjson
import pytest
from aiohttp import web
from daemon import serving
from test_secrets_manager import NOW, StaticKeys, resolver

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.errors import ConnectionUnavailable

OLD, NEW = AwsKeys("OLD", "planted1", "token"), AwsKeys("NEW", "planted2")


class Aws:
    """Takes one key only, and keeps what came."""

    def __init__(self, good: str) -> None:
        self.good = good
        self.requests: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        if f"Credential={self.good}/" not in request.headers["Authorization"]:
            return web.json_response(
                {"__type": "com.amazon#ExpiredTokenException", "message": "x"}, status=400
            )
        return web.json_response({"Name": "x", "SecretString": "http://found"})


async def test_expired_keys_are_refreshed_once() -> None:
    aws, keys = Aws("NEW"), StaticKeys(OLD, NEW)
    async with serving("POST", "/", aws.answer) as url, resolver(url, keys) as resolved:
        assert (await resolved.lookup("api")).host == "found"
    assert (len(aws.requests), keys.refreshes) == (2, 1)


async def test_keys_that_are_refused_twice_are_unavailable() -> None:
    aws = Aws("OTHER")
    async with serving("POST", "/", aws.answer) as url, resolver(url, StaticKeys(OLD)) as resolved:
        with pytest.raises(ConnectionUnavailable, match="400 ExpiredTokenException"):
            await resolved.lookup("api")


async def test_the_request_is_signed_and_names_the_secret() -> None:
    aws = Aws("OLD")
    async with serving("POST", "/", aws.answer) as url, resolver(url, StaticKeys(OLD)) as resolved:
        await resolved.lookup("team/api")
    [(headers, body)] = aws.requests
    assert orjson.loads(body) == {"SecretId": "airflow/connections/team/api"}
    sent = {name: headers[name] for name in ("Content-Type", "X-Amz-Target")}
    expected = AwsSigner("secretsmanager", "eu-west-1", OLD).headers("POST", f"{url}/", sent, body, now=NOW)
    assert headers["Authorization"] == expected["Authorization"]
    assert headers["X-Amz-Security-Token"] == "token"
