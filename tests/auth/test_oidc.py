"""Tokens of a fake identity provider: which are accepted, and how often its keys are fetched."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from issuer_endpoint import AUDIENCE, IssuerEndpoint, ec, issuer_endpoint, rsa

from waitd.auth.issuer import MAX_AGE, MAX_STALE, REFRESH_INTERVAL, IssuerKeys, IssuerUnavailable
from waitd.auth.oidc import CACHE_SECONDS, OidcVerifier
from waitd.core.auth.claims import ClaimRules
from waitd.core.auth.principal import Principal, Role
from waitd.core.connections.egress import EgressPolicy
from waitd.core.errors import Forbidden, Unauthenticated
from waitd.outgoing import EgressGuard

START = 1_750_000_000.0
ROLES = {"waitd-users": Role.SUBMITTER, "waitd-admins": Role.ADMIN}


@dataclass
class OidcSetup:
    """The provider, waitd's verifier with the issuer's keys, and the clock of both."""

    provider: IssuerEndpoint
    now: float = START
    verifier: OidcVerifier = field(init=False)
    issuer_keys: IssuerKeys = field(init=False)

    def claims(self, **changed: Any) -> dict[str, Any]:
        return self.provider.claims(self.now, **changed)

    def token(self, **changed: Any) -> str:
        return self.provider.token(self.claims(**changed))

    def jwks_requests(self) -> int:
        return self.provider.requests.count("/jwks")

    async def refusal(self, token: str) -> str:
        """The reason for which a token must be refused; it is not cached."""
        with pytest.raises(Unauthenticated) as error:
            await self.verifier.principal(token)
        assert self.verifier.cached_fresh(token) is None
        assert len(token) < 2 or token not in str(error.value)
        return error.value.reason


@asynccontextmanager
async def open_setup(
    url: str | None = None,
    egress: EgressGuard | None = None,
    algorithms: Sequence[str] = ("RS256", "ES256"),
) -> AsyncIterator[OidcSetup]:
    async with issuer_endpoint() as provider:
        setup = OidcSetup(provider)
        url = provider.url if url is None else url
        async with IssuerKeys(url, egress or EgressGuard(), now=lambda: setup.now, timeout=2) as issuer_keys:
            rules = ClaimRules(url, frozenset({AUDIENCE}), "roles", ROLES)
            setup.issuer_keys = issuer_keys
            setup.verifier = OidcVerifier(
                issuer_keys, rules, algorithms, now=lambda: setup.now, monotonic=lambda: setup.now
            )
            yield setup


@pytest.fixture
async def setup() -> AsyncIterator[OidcSetup]:
    async with open_setup() as opened:
        yield opened


async def test_a_valid_token_is_accepted_and_cached(setup: OidcSetup) -> None:
    token = setup.token()
    assert setup.verifier.cached_fresh(token) is None
    user = Principal("oidc:u1", Role.SUBMITTER, "default")
    assert await setup.verifier.principal(token) == user
    assert setup.verifier.cached_fresh(token) == user
    assert await setup.verifier.principal(setup.token(sub="u2", roles=["waitd-admins"])) == Principal(
        "oidc:u2", Role.ADMIN, "default"
    )
    assert setup.provider.requests == ["/.well-known/openid-configuration", "/jwks"]


async def test_a_cached_token_expires_and_is_verified_again(setup: OidcSetup) -> None:
    short, long = setup.token(exp=START + 10), setup.token(exp=START + 10_000)
    for token in (short, long):
        await setup.verifier.principal(token)
    setup.now += 10
    assert setup.verifier.cached_fresh(short) is None
    assert setup.verifier.cached_fresh(long)
    setup.now = START + CACHE_SECONDS
    assert setup.verifier.cached_fresh(long) is None
    await setup.verifier.principal(long)


async def test_expired_future_and_foreign_tokens_are_refused(setup: OidcSetup) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "expired": {"exp": START - 31},
        "not_yet_valid": {"nbf": START + 31},
        "wrong_audience": {"aud": "another"},
        "wrong_issuer": {"iss": "https://evil.example"},
    }
    assert {reason: await setup.refusal(setup.token(**claims)) for reason, claims in wrong.items()} == {
        reason: reason for reason in wrong
    }
    with pytest.raises(Forbidden):
        await setup.verifier.principal(setup.token(roles=["strangers"]))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
async def test_an_unsigned_token_is_refused(setup: OidcSetup, alg: str) -> None:
    assert await setup.refusal(setup.provider.unsigned(setup.claims(), alg)) == "algorithm_not_allowed"
    assert setup.provider.requests == []  # no key is fetched


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
async def test_an_hmac_with_the_public_key_is_refused(setup: OidcSetup, alg: str) -> None:
    assert await setup.refusal(setup.provider.confused(setup.claims(), alg)) == "algorithm_not_allowed"


async def test_hmac_algorithms_cannot_be_allowed() -> None:
    """The settings refuse HS256; even if it were allowed, the key's type would not fit."""
    async with open_setup(algorithms=("RS256", "HS256")) as setup:
        assert await setup.refusal(setup.provider.confused(setup.claims())) == "wrong_signature"


async def test_an_algorithm_that_is_not_allowed_is_refused(setup: OidcSetup) -> None:
    assert await setup.refusal(setup.provider.token(setup.claims(), alg="RS512")) == "algorithm_not_allowed"


async def test_a_signature_of_another_key_is_refused(setup: OidcSetup) -> None:
    forged = setup.provider.token(setup.claims(), rsa("evil"), kid="k1")
    assert await setup.refusal(forged) == "wrong_signature"
    elliptic = setup.provider.token(setup.claims(), ec("evil"), kid="k1")
    assert await setup.refusal(elliptic) == "wrong_signature"  # the key with this id has another type


async def test_a_modified_token_is_refused(setup: OidcSetup) -> None:
    header, payload, signature = setup.token().split(".")
    _, other, _ = setup.token(roles=["waitd-admins"]).split(".")
    assert await setup.refusal(f"{header}.{other}.{signature}") == "wrong_signature"
    assert await setup.refusal(f"{header}.{payload}.") == "wrong_signature"


async def test_a_key_in_the_tokens_header_is_not_trusted(setup: OidcSetup) -> None:
    evil = rsa("evil")
    with_key = setup.provider.token(setup.claims(), evil, kid="k1", jwk=evil.as_dict(private=False))
    assert await setup.refusal(with_key) == "wrong_signature"
    with_url = setup.provider.token(setup.claims(), evil, kid="k1", jku="https://evil.example/jwks")
    assert await setup.refusal(with_url) == "wrong_signature"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "..", "e30.e30.", "eyJhbGciOiJSUzI1NiJ9.e30", "é.é.é", "a.b.c.d.e", "x" * 9000],
)
async def test_a_malformed_token_is_refused(setup: OidcSetup, token: str) -> None:
    assert await setup.refusal(token) in {"malformed_token", "algorithm_not_allowed"}
    assert setup.provider.requests == []


async def test_a_rotated_key_is_fetched_when_a_token_names_it(setup: OidcSetup) -> None:
    await setup.verifier.principal(setup.token())
    setup.provider.keys = [ec("k2"), rsa("k1")]
    setup.now += REFRESH_INTERVAL
    await setup.verifier.principal(setup.provider.token(setup.claims(), ec("k2")))
    assert setup.jwks_requests() == 2
    await setup.verifier.principal(setup.token(sub="u9"))  # the old key is still published


async def test_unknown_key_ids_do_not_flood_the_issuer(setup: OidcSetup) -> None:
    await setup.verifier.principal(setup.token())
    bogus = [setup.provider.token(setup.claims(), rsa("evil"), kid=f"bogus{n}") for n in range(50)]
    for token in bogus:
        assert await setup.refusal(token) == "unknown_signing_key"
    assert setup.jwks_requests() == 1
    setup.now += REFRESH_INTERVAL
    assert set(await asyncio.gather(*(setup.refusal(token) for token in bogus))) == {"unknown_signing_key"}
    assert setup.jwks_requests() == 2


async def test_a_withdrawn_key_is_not_trusted_forever(setup: OidcSetup) -> None:
    await setup.verifier.principal(setup.token())
    setup.provider.keys = [rsa("k2")]
    late = setup.provider.token(setup.claims(exp=START + 10_000), rsa("k1"))
    setup.now += MAX_AGE + 1
    await setup.verifier.principal(late)  # the keys are fetched again in the background
    assert setup.issuer_keys._refreshing is not None
    await setup.issuer_keys._refreshing
    setup.now += CACHE_SECONDS
    assert setup.verifier.cached_fresh(late) is None
    assert await setup.refusal(late) == "unknown_signing_key"


async def test_while_the_issuer_is_down_only_cached_keys_work(setup: OidcSetup) -> None:
    await setup.verifier.principal(setup.token())
    setup.provider.status = 503
    setup.now += MAX_AGE + 1
    await setup.verifier.principal(setup.token())
    with pytest.raises(IssuerUnavailable, match="503"):
        await setup.verifier.principal(setup.provider.token(setup.claims(), rsa("k2")))
    setup.now = START + MAX_STALE + 1
    with pytest.raises(IssuerUnavailable):
        await setup.verifier.principal(setup.token())


async def test_an_issuer_that_was_down_at_first_is_retried(setup: OidcSetup) -> None:
    setup.provider.status = 500
    for _ in range(5):
        with pytest.raises(IssuerUnavailable, match="500"):
            await setup.verifier.principal(setup.token())
    assert len(setup.provider.requests) == 1
    setup.provider.status = 200
    setup.now += REFRESH_INTERVAL
    await setup.verifier.principal(setup.token())


async def test_an_unreachable_issuer_is_unavailable() -> None:
    async with open_setup("http://127.0.0.1:1") as setup:
        with pytest.raises(IssuerUnavailable, match="could not connect to the issuer"):
            await setup.verifier.principal(setup.token(iss="http://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("discovered", "why"),
    [
        ({"issuer": "https://evil.example"}, "another issuer"),
        ({"jwks_uri": None}, "no jwks_uri"),
        ({"jwks_uri": "jwks"}, "not a URL"),
        ({"jwks_uri": "http://169.254.169.254/latest"}, "the egress rules block"),
    ],
)
async def test_an_invalid_discovery_document_is_unavailable(
    setup: OidcSetup, discovered: dict[str, Any], why: str
) -> None:
    setup.provider.discovered = discovered
    with pytest.raises(IssuerUnavailable, match=why):
        await setup.verifier.principal(setup.token())


async def test_a_redirect_is_not_followed(setup: OidcSetup) -> None:
    setup.provider.status = 302
    with pytest.raises(IssuerUnavailable, match="302"):
        await setup.verifier.principal(setup.token())
    assert setup.provider.requests == ["/.well-known/openid-configuration"]


async def test_the_egress_rules_apply_to_the_issuer() -> None:
    denied = EgressGuard(EgressPolicy.from_settings([], ["127.0.0.0/8"], private=True))
    async with open_setup(egress=denied) as setup:
        with pytest.raises(IssuerUnavailable, match="egress_deny"):
            await setup.verifier.principal(setup.token())
        assert setup.provider.requests == []


async def test_keys_that_cannot_verify_signatures_are_ignored(setup: OidcSetup) -> None:
    secret = {"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}
    for_encryption = {**rsa("evil").as_dict(private=False), "kid": "enc", "use": "enc"}
    broken = {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}
    setup.provider.extra_keys = [secret, for_encryption, broken, {"kid": 7}, "no key", None]  # type: ignore[list-item]
    await setup.verifier.principal(setup.token())
    encryption = setup.provider.token(setup.claims(), rsa("evil"), kid="enc")
    assert await setup.refusal(encryption) == "unknown_signing_key"


async def test_a_token_without_a_key_id_uses_the_only_key(setup: OidcSetup) -> None:
    await setup.verifier.principal(setup.provider.token(setup.claims(), kid=None))
    setup.provider.keys = [rsa("k1"), rsa("k2")]
    setup.now += CACHE_SECONDS + MAX_AGE
    await setup.verifier.principal(setup.provider.token(setup.claims(sub="u3"), kid=None))
    assert setup.issuer_keys._refreshing is not None
    await setup.issuer_keys._refreshing
    assert (
        await setup.refusal(setup.provider.token(setup.claims(sub="u4"), kid=None)) == "unknown_signing_key"
    )


async def test_unknown_header_fields_are_ignored(setup: OidcSetup) -> None:
    await setup.verifier.principal(setup.provider.token(setup.claims(), typ="at+jwt", x5t="abc"))


async def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waitd.auth.oidc.MAX_CACHED", 3)
    async with open_setup() as setup:
        tokens = [setup.token(sub=f"u{n}") for n in range(5)]
        for token in tokens:
            await setup.verifier.principal(token)
        cached = [setup.verifier.cached_fresh(token) is not None for token in tokens]
    assert cached == [False, False, True, True, True]
