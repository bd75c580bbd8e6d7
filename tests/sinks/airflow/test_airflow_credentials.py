"""The requests of the airflow sink: tokens, roles, and an Airflow that fails or is not reached."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from airflow_setup import ANY_TEXT, AirflowSetup, rejection
from certificates import Authority
from deliveries import failure
from fake_airflow import TASK, problem
from stream_server import answering, stream_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryPostponed


async def test_one_token_is_shared_until_a_fifth_of_its_lifetime_is_left(setup: AirflowSetup) -> None:
    receipts = [setup.deliver("dag_run", wait_id=f"w{n}") for n in range(10)]
    assert set(await asyncio.gather(*receipts)) == {Delivered()}
    setup.clock.at += 0.79 * 86_400
    await setup.deliver()
    assert setup.airflow.logins == 1
    setup.clock.at += 0.02 * 86_400
    await setup.deliver()
    assert setup.airflow.logins == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_replaced_once(setup: AirflowSetup, status: int) -> None:
    await setup.deliver()
    if status == 401:
        setup.airflow.valid_tokens.clear()
    else:
        setup.airflow.fail["GET", f"/{TASK}/-1"] = problem(403, "Invalid JWT token")
    assert isinstance(await setup.deliver(), DeliveryPostponed)
    assert setup.airflow.logins == 2


async def test_a_403_that_is_a_rate_limit_is_retried(setup: AirflowSetup) -> None:
    limited = problem(403, "slow down")
    limited.headers["Retry-After"] = "2.5"
    setup.airflow.fail["GET", f"/{TASK}/-1"] = limited
    assert await setup.deliver() == DeliveryFailed(ANY_TEXT, 2.5)


async def test_wrong_credentials_are_retried(setup: AirflowSetup) -> None:
    setup.resolver.by_id["airflow"] = Connection(
        "airflow", "airflow", host=setup.airflow.url, password="static"
    )
    error = failure(await setup.deliver())
    assert "does not accept the connection's credentials" in error
    assert "static" not in error
    assert setup.airflow.logins == 0


@pytest.mark.parametrize(
    ("extra", "says"),
    [({"timeout": 0.2}, "in time"), ({"check_response": False}, "check_response is not supported")],
)
async def test_the_options_of_the_connection_hold_or_are_refused(
    setup: AirflowSetup, extra: dict[str, Any], says: str
) -> None:
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await silent.wait()

    async with stream_server(serve) as port:
        host = f"http://127.0.0.1:{port}"
        setup.resolver.by_id["airflow"] = Connection("airflow", "airflow", host, password="t", extra=extra)
        assert says in failure(await setup.deliver())


async def test_airflow_is_reached_over_the_tls_of_the_connection(setup: AirflowSetup, tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    handler = answering(b"HTTP/1.1 418 Teapot\r\nContent-Length: 0\r\n\r\n")
    async with stream_server(handler, tls=authority.demanding_context()) as port:
        setup.resolver.by_id["airflow"] = Connection(
            "airflow", "airflow", host=f"https://127.0.0.1:{port}", password="static", extra=authority.extra
        )
        assert failure(await setup.deliver()) == "Airflow answered 418"


@pytest.mark.parametrize("extra", [{"token": "static"}, {}])
async def test_a_static_bearer_token_is_sent_unchanged(setup: AirflowSetup, extra: dict[str, str]) -> None:
    setup.airflow.valid_tokens.add("static")
    setup.resolver.by_id["airflow"] = Connection(
        "airflow", "airflow", host=setup.airflow.url, password=None if extra else "static", extra=extra
    )
    assert await setup.deliver_after_hold_off() == Delivered()
    assert setup.airflow.logins == 0


@pytest.mark.parametrize(
    ("mode", "role"), [("set_state", "User"), ("dag_run", "User"), ("asset_event", "Op")]
)
async def test_an_error_names_the_missing_role(setup: AirflowSetup, mode: str, role: str) -> None:
    setup.airflow.role = "viewer"
    assert rejection(await setup.deliver(mode)).endswith(f"needs the role {role}")


@pytest.mark.parametrize("status", [429, 500, 502, 503, 301])
async def test_a_failing_airflow_is_retried(setup: AirflowSetup, status: int) -> None:
    setup.airflow.fail["GET", f"/{TASK}/-1"] = status
    assert await setup.deliver() == DeliveryFailed(ANY_TEXT, None)


async def test_an_unreachable_airflow_is_retried(setup: AirflowSetup) -> None:
    setup.airflow.valid_tokens.add("static")
    setup.resolver.by_id["airflow"] = Connection(
        "airflow", "airflow", host="http://127.0.0.1:9", password="static"
    )
    assert await setup.deliver() == DeliveryFailed("could not connect to Airflow")


async def test_an_airflow_at_a_metadata_address_is_blocked(setup: AirflowSetup) -> None:
    setup.resolver.by_id["airflow"] = Connection(
        "airflow", "airflow", host="http://169.254.169.254", password="t"
    )
    error = failure(await setup.deliver())
    assert "169.254" in error or "metadata" in error
