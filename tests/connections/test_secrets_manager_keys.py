"""The requests to Secrets Manager, and keys that AWS no longer accepts."""

import orjson
import pytest
from aiohttp import web
from daemon import serving
from test_secrets_manager import NOW, StaticKeys, lookup

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.errors import ConnectionUnavailable

OLD, NEW = AwsKeys("OLD", "planted1", "token"), AwsKeys("NEW", "planted2")


class FakeSecretsManager:
    """Accepts one key only, and records the requests."""

    def __init__(self, accepted: str) -> None:
        self.accepted = accepted
        self.requests: list[tuple[dict[str, str], bytes]] = []

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append((dict(request.headers), body))
        if f"Credential={self.accepted}/" not in request.headers["Authorization"]:
            return web.json_response(
                {"__type": "com.amazon#ExpiredTokenException", "message": "x"}, status=400
            )
        return web.json_response({"Name": "x", "SecretString": "http://h"})


async def test_expired_keys_are_refreshed_once() -> None:
    aws, keys = FakeSecretsManager("NEW"), StaticKeys(OLD, NEW)
    async with serving("POST", "/", aws.answer) as url:
        assert (await lookup(url, "api", keys)).host == "h"
    assert (len(aws.requests), keys.refreshes) == (2, 1)


async def test_keys_that_are_refused_twice_are_unavailable() -> None:
    aws = FakeSecretsManager("OTHER")
    async with serving("POST", "/", aws.answer) as url:
        with pytest.raises(ConnectionUnavailable, match="400 ExpiredTokenException"):
            await lookup(url, "api", StaticKeys(OLD))


async def test_the_request_is_signed_and_names_the_secret() -> None:
    aws = FakeSecretsManager("OLD")
    async with serving("POST", "/", aws.answer) as url:
        await lookup(url, "team/api", StaticKeys(OLD))
    [(headers, body)] = aws.requests
    assert orjson.loads(body) == {"SecretId": "airflow/connections/team/api"}
    sent = {name: headers[name] for name in ("Content-Type", "X-Amz-Target")}
    expected = AwsSigner("secretsmanager", "eu-west-1", OLD).headers("POST", f"{url}/", sent, body, now=NOW)
    assert headers["Authorization"] == expected["Authorization"]
    assert headers["X-Amz-Security-Token"] == "token"


@pytest.mark.parametrize("code", ["AKIApl4nted", "c2Vzc2lvbnRva2Vu"])
async def test_an_error_code_that_repeats_the_request_is_not_shown(code: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"__type": code}, status=400)

    async with serving("POST", "/", answer) as url:
        with pytest.raises(ConnectionUnavailable, match=r"answered 400$"):
            await lookup(url, "api", StaticKeys(AwsKeys("AKIApl4nted", "never sent", "sessiontoken")))
