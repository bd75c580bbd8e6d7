"""Keys that a connection does not hold itself: the environment's, as boto3 finds them, and those of assumed roles.

botocore looks them up (environment variables, profiles, web identity, container and instance roles) and renews those that expire. All of
it blocks, so all of it runs in a thread; what was found is used for a minute without asking again.
"""

import asyncio
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from anyio import to_thread

from waitd.core.aws.signature import AwsKeys
from waitd.core.connections.aws import AwsKeySource
from waitd.core.errors import ConnectionUnavailable

#: Seconds for which found keys are used before botocore is asked whether they are still the ones.
CACHE_SECONDS = 60.0
#: Seconds between two look-ups from scratch, for keys that were refused.
REFRESH_INTERVAL = 30.0
#: How many sources are kept.
_MAX_SOURCES = 1000
_ROLE_SESSION = "waitd"


class _Held(NamedTuple):
    keys: AwsKeys
    until: float
    found_at: float
    #: botocore's own, which has no types.
    credentials: Any


class AwsCredentials:
    """The keys of a `AwsKeySource`. `now` is a monotonic clock in seconds."""

    def __init__(self, *, now: Callable[[], float]) -> None:
        self._now = now
        self._held: dict[AwsKeySource, _Held] = {}
        self._turn = asyncio.Lock()

    async def keys(self, source: AwsKeySource) -> AwsKeys:
        """The keys, at hand or looked up.

        Raises:
            ConnectionUnavailable: whoever gives them out does not answer.
            ValueError: there are none, or they are refused.
        """
        if source.given is not None and source.role is None:
            return source.given
        held = self._held.get(source)
        if held is not None and self._now() < held.until:
            return held.keys
        async with self._turn:
            held = self._held.get(source)
            if held is not None and self._now() < held.until:
                return held.keys
            return await self._look_up(source, held)

    async def refreshed(self, source: AwsKeySource) -> AwsKeys:
        """The keys, looked up from scratch, but for at most one look-up in 30 s. Raises as `keys` does."""
        async with self._turn:
            held = self._held.get(source)
            if held is not None and self._now() - held.found_at >= REFRESH_INTERVAL:
                del self._held[source]
        return await self.keys(source)

    async def _look_up(self, source: AwsKeySource, held: _Held | None) -> AwsKeys:
        credentials, keys = await to_thread.run_sync(_found, source, held.credentials if held else None)
        if len(self._held) >= _MAX_SOURCES and source not in self._held:
            del self._held[next(iter(self._held))]
        now = self._now()
        self._held[source] = _Held(keys, now + CACHE_SECONDS, held.found_at if held else now, credentials)
        return keys


class EnvironmentDefaults(NamedTuple):
    """What the environment says of S3 where a connection does not: region and endpoint, or None."""

    region: str | None
    endpoint: str | None


async def environment_defaults(profile: str | None, service: str = "S3") -> EnvironmentDefaults:
    """Region and endpoint as boto3 would take them from the environment. `service`: its id as `AWS_ENDPOINT_URL_<ID>` has it.

    Raises:
        ValueError: there is no such profile.
        ImportError: botocore is not installed.
    """
    return await to_thread.run_sync(_surroundings, profile, service)


# botocore is large, and imported where the first wait needs it: in a thread, not when the daemon starts.


def _surroundings(profile: str | None, service: str) -> EnvironmentDefaults:
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415
    from botocore.session import Session  # noqa: PLC0415

    try:
        region = Session(profile=profile).get_config_variable("region")
    except BotoCoreError:
        raise ValueError("the environment has no such AWS profile") from None
    endpoint = os.environ.get(f"AWS_ENDPOINT_URL_{service}") or os.environ.get("AWS_ENDPOINT_URL")
    return EnvironmentDefaults(region or None, endpoint or None)


def _found(source: AwsKeySource, credentials: Any | None) -> tuple[Any, AwsKeys]:
    """What botocore makes of a source, made where there is none yet, and the keys that it gives out now."""
    from botocore.exceptions import (  # noqa: PLC0415
        BotoCoreError,
        ClientError,
        ConnectionError,  # noqa: A004 - botocore's own, which is no OSError
        CredentialRetrievalError,
        HTTPClientError,
        MetadataRetrievalError,
    )

    try:
        credentials = credentials or _credentials(source)
        found = credentials.get_frozen_credentials()
    except (ConnectionError, HTTPClientError, CredentialRetrievalError, MetadataRetrievalError) as error:
        raise ConnectionUnavailable(type(error).__name__) from None
    except ClientError as error:
        raise ValueError(f"the role cannot be assumed, {error.response['Error']['Code']}") from None
    except BotoCoreError as error:  # of its own text nobody knows what it quotes
        raise ValueError(f"botocore cannot use it, {type(error).__name__}") from None
    return credentials, AwsKeys(found.access_key, found.secret_key, found.token or None)


def _credentials(source: AwsKeySource) -> Any:
    from botocore.config import Config  # noqa: PLC0415
    from botocore.credentials import (  # noqa: PLC0415
        AssumeRoleCredentialFetcher,
        Credentials,
        DeferredRefreshableCredentials,
    )
    from botocore.session import Session  # noqa: PLC0415

    session = Session(profile=source.profile)
    session.set_default_client_config(
        Config(retries={"total_max_attempts": 1}, connect_timeout=5, read_timeout=5)
    )
    given, role = source.given, source.role
    found = (
        Credentials(given.access_key_id, given.secret_access_key, given.session_token)
        if given
        else session.get_credentials()
    )
    if found is None:
        raise ValueError("there are no AWS credentials, neither in a connection nor in the environment")
    if role is None:
        return found

    def client(*args: Any, **options: Any) -> Any:
        return session.create_client(*args, region_name=source.region, endpoint_url=role.endpoint, **options)

    extra = {"RoleSessionName": _ROLE_SESSION, **dict(role.options)}
    fetcher = AssumeRoleCredentialFetcher(client, found, role.arn, extra_args=extra)
    return DeferredRefreshableCredentials(fetcher.fetch_credentials, "assume-role")
