"""Tokens of a fake identity provider: which are accepted, and how often its keys are fetched."""

import asyncio
from collections.abc import AsyncIterator
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
from waitd.outgoing import Outgoing

START = 1_750_000_000.0
ROLES = {"waitd-users": Role.SUBMITTER, "waitd-admins": Role.ADMIN}


@dataclass
class Scene:
    """The provider, and waitd's side of it on a fixed clock."""

    provider: IssuerEndpoint
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    now: float = START
    tokens: OidcVerifier = field(init=False)
    issuer: IssuerKeys = field(init=False)

    def claims(self, **changed: Any) -> dict[str, Any]:
        return self.provider.claims(self.now, **changed)

    def token(self, **changed: Any) -> str:
        return self.provider.token(self.claims(**changed))

    def jwks_asked(self) -> int:
        return self.provider.asked.count("/jwks")


@asynccontextmanager
async def scene_of(
    provider: IssuerEndpoint, url: str | None = None, outgoing: Outgoing | None = None, **how: Any
) -> AsyncIterator[Scene]:
    scene = Scene(provider, **how)
    url = provider.url if url is None else url
    async with IssuerKeys(url, outgoing or Outgoing(), now=lambda: scene.now, timeout=2) as issuer:
        rules = ClaimRules(url, frozenset({AUDIENCE}), "roles", ROLES)
        scene.issuer = issuer
        scene.tokens = OidcVerifier(issuer, rules, scene.algorithms, now=lambda: scene.now)
        yield scene


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with issuer_endpoint() as provider, scene_of(provider) as scene:
        yield scene


async def refused(scene: Scene, token: str) -> str:
    """Why a token is not taken; nothing of it is remembered."""
    with pytest.raises(Unauthenticated) as error:
        await scene.tokens.principal(token)
    assert scene.tokens.cached_fresh(token) is None
    assert len(token) < 2 or token not in str(error.value)
    return error.value.reason


async def test_a_valid_token_is_accepted_and_cached(scene: Scene) -> None:
    token = scene.token()
    assert scene.tokens.cached_fresh(token) is None
    user = Principal("oidc:u1", Role.SUBMITTER, "default")
    assert await scene.tokens.principal(token) == user
    assert scene.tokens.cached_fresh(token) == user
    assert await scene.tokens.principal(scene.token(sub="u2", roles=["waitd-admins"])) == Principal(
        "oidc:u2", Role.ADMIN, "default"
    )
    assert scene.provider.asked == ["/.well-known/openid-configuration", "/jwks"]


async def test_a_cached_token_expires_and_is_verified_again(scene: Scene) -> None:
    short, long = scene.token(exp=START + 10), scene.token(exp=START + 10_000)
    for token in (short, long):
        await scene.tokens.principal(token)
    scene.now += 10
    assert scene.tokens.cached_fresh(short) is None
    assert scene.tokens.cached_fresh(long)
    scene.now = START + CACHE_SECONDS
    assert scene.tokens.cached_fresh(long) is None
    await scene.tokens.principal(long)


async def test_expired_future_and_foreign_tokens_are_refused(scene: Scene) -> None:
    wrong: dict[str, dict[str, Any]] = {
        "expired": {"exp": START - 31},
        "not_yet_valid": {"nbf": START + 31},
        "wrong_audience": {"aud": "another"},
        "wrong_issuer": {"iss": "https://evil.example"},
    }
    assert {reason: await refused(scene, scene.token(**claims)) for reason, claims in wrong.items()} == {
        reason: reason for reason in wrong
    }
    with pytest.raises(Forbidden):
        await scene.tokens.principal(scene.token(roles=["strangers"]))


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", ""])
async def test_an_unsigned_token_is_refused(scene: Scene, alg: str) -> None:
    assert await refused(scene, scene.provider.unsigned(scene.claims(), alg)) == "algorithm_not_allowed"
    assert scene.provider.asked == [], "no key is fetched"


@pytest.mark.parametrize("alg", ["HS256", "HS384", "HS512"])
async def test_an_hmac_with_the_public_key_is_refused(scene: Scene, alg: str) -> None:
    assert await refused(scene, scene.provider.confused(scene.claims(), alg)) == "algorithm_not_allowed"


async def test_hmac_algorithms_cannot_be_allowed() -> None:
    """The settings refuse HS256; even if it were allowed, the key's type would not fit."""
    async with issuer_endpoint() as provider, scene_of(provider, algorithms=("RS256", "HS256")) as scene:
        assert await refused(scene, provider.confused(scene.claims())) == "wrong_signature"


async def test_an_algorithm_that_is_not_allowed_is_refused(scene: Scene) -> None:
    assert await refused(scene, scene.provider.token(scene.claims(), alg="RS512")) == "algorithm_not_allowed"


async def test_a_signature_of_another_key_is_refused(scene: Scene) -> None:
    forged = scene.provider.token(scene.claims(), rsa("evil"), kid="k1")
    assert await refused(scene, forged) == "wrong_signature"
    elliptic = scene.provider.token(scene.claims(), ec("evil"), kid="k1")
    assert await refused(scene, elliptic) == "wrong_signature", "the key under this id is of another kind"


async def test_a_modified_token_is_refused(scene: Scene) -> None:
    header, payload, signature = scene.token().split(".")
    _, other, _ = scene.token(roles=["waitd-admins"]).split(".")
    assert await refused(scene, f"{header}.{other}.{signature}") == "wrong_signature"
    assert await refused(scene, f"{header}.{payload}.") == "wrong_signature"


async def test_a_key_in_the_tokens_header_is_not_trusted(scene: Scene) -> None:
    evil = rsa("evil")
    own = scene.provider.token(scene.claims(), evil, kid="k1", jwk=evil.as_dict(private=False))
    assert await refused(scene, own) == "wrong_signature"
    led = scene.provider.token(scene.claims(), evil, kid="k1", jku="https://evil.example/jwks")
    assert await refused(scene, led) == "wrong_signature"


@pytest.mark.parametrize(
    "token",
    ["", "x", "a.b", "a.b.c", "..", "e30.e30.", "eyJhbGciOiJSUzI1NiJ9.e30", "é.é.é", "a.b.c.d.e", "x" * 9000],
)
async def test_a_malformed_token_is_refused(scene: Scene, token: str) -> None:
    assert await refused(scene, token) in {"malformed_token", "algorithm_not_allowed"}
    assert scene.provider.asked == []


async def test_a_rotated_key_is_fetched_when_a_token_names_it(scene: Scene) -> None:
    await scene.tokens.principal(scene.token())
    scene.provider.keys = [ec("k2"), rsa("k1")]
    scene.now += REFRESH_INTERVAL
    await scene.tokens.principal(scene.provider.token(scene.claims(), ec("k2")))
    assert scene.jwks_asked() == 2
    await scene.tokens.principal(scene.token(sub="u9"))  # the old one is still there


async def test_unknown_key_ids_do_not_flood_the_issuer(scene: Scene) -> None:
    await scene.tokens.principal(scene.token())
    bogus = [scene.provider.token(scene.claims(), rsa("evil"), kid=f"bogus{n}") for n in range(50)]
    for token in bogus:
        assert await refused(scene, token) == "unknown_signing_key"
    assert scene.jwks_asked() == 1
    scene.now += REFRESH_INTERVAL
    assert set(await asyncio.gather(*(refused(scene, token) for token in bogus))) == {"unknown_signing_key"}
    assert scene.jwks_asked() == 2


async def test_a_withdrawn_key_is_not_trusted_forever(scene: Scene) -> None:
    await scene.tokens.principal(scene.token())
    scene.provider.keys = [rsa("k2")]
    late = scene.provider.token(scene.claims(exp=START + 10_000), rsa("k1"))
    scene.now += MAX_AGE + 1
    await scene.tokens.principal(late)  # the keys are fetched again in the background
    assert scene.issuer._refreshing is not None
    await scene.issuer._refreshing
    scene.now += CACHE_SECONDS
    assert scene.tokens.cached_fresh(late) is None
    assert await refused(scene, late) == "unknown_signing_key"


async def test_while_the_issuer_is_down_only_cached_keys_work(
    scene: Scene,
) -> None:
    await scene.tokens.principal(scene.token())
    scene.provider.status = 503
    scene.now += MAX_AGE + 1
    await scene.tokens.principal(scene.token())
    with pytest.raises(IssuerUnavailable, match="503"):
        await scene.tokens.principal(scene.provider.token(scene.claims(), rsa("k2")))
    scene.now = START + MAX_STALE + 1
    with pytest.raises(IssuerUnavailable):
        await scene.tokens.principal(scene.token())


async def test_an_issuer_that_was_down_at_first_is_retried(scene: Scene) -> None:
    scene.provider.status = 500
    for _ in range(5):
        with pytest.raises(IssuerUnavailable, match="500"):
            await scene.tokens.principal(scene.token())
    assert len(scene.provider.asked) == 1
    scene.provider.status = 200
    scene.now += REFRESH_INTERVAL
    await scene.tokens.principal(scene.token())


async def test_an_unreachable_issuer_is_unavailable() -> None:
    async with issuer_endpoint() as provider, scene_of(provider, "http://127.0.0.1:1") as scene:
        with pytest.raises(IssuerUnavailable, match="could not connect to the issuer"):
            await scene.tokens.principal(scene.token(iss="http://127.0.0.1:1"))


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
    scene: Scene, discovered: dict[str, Any], why: str
) -> None:
    scene.provider.discovered = discovered
    with pytest.raises(IssuerUnavailable, match=why):
        await scene.tokens.principal(scene.token())


async def test_a_redirect_is_not_followed(scene: Scene) -> None:
    scene.provider.status = 302
    with pytest.raises(IssuerUnavailable, match="302"):
        await scene.tokens.principal(scene.token())
    assert scene.provider.asked == ["/.well-known/openid-configuration"]


async def test_the_egress_rules_apply_to_the_issuer() -> None:
    denied = Outgoing(EgressPolicy.from_settings([], ["127.0.0.0/8"], private=True))
    async with issuer_endpoint() as provider, scene_of(provider, outgoing=denied) as scene:
        with pytest.raises(IssuerUnavailable, match="egress_deny"):
            await scene.tokens.principal(scene.token())
        assert provider.asked == []


async def test_keys_that_cannot_verify_signatures_are_ignored(scene: Scene) -> None:
    secret = {"kty": "oct", "kid": "k1", "k": "c2VjcmV0"}
    for_encryption = {**rsa("evil").as_dict(private=False), "kid": "enc", "use": "enc"}
    broken = {"kty": "RSA", "kid": "broken", "n": "!", "e": "AQAB"}
    scene.provider.extra_keys = [secret, for_encryption, broken, {"kid": 7}, "no key", None]  # type: ignore[list-item]
    await scene.tokens.principal(scene.token())
    wanted = scene.provider.token(scene.claims(), rsa("evil"), kid="enc")
    assert await refused(scene, wanted) == "unknown_signing_key"


async def test_a_token_without_a_key_id_uses_the_only_key(scene: Scene) -> None:
    token = scene.provider.token(scene.claims(), kid=None)
    await scene.tokens.principal(token)
    scene.provider.keys = [rsa("k1"), rsa("k2")]
    scene.now += CACHE_SECONDS + MAX_AGE
    other = scene.provider.token(scene.claims(sub="u3"), kid=None)
    await scene.tokens.principal(other)
    assert scene.issuer._refreshing is not None
    await scene.issuer._refreshing
    assert (
        await refused(scene, scene.provider.token(scene.claims(sub="u4"), kid=None)) == "unknown_signing_key"
    )


async def test_unknown_header_fields_are_ignored(scene: Scene) -> None:
    token = scene.provider.token(scene.claims(), typ="at+jwt", x5t="abc")
    await scene.tokens.principal(token)


async def test_the_cache_is_bounded(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waitd.auth.oidc.MAX_CACHED", 3)
    tokens = [scene.token(sub=f"u{n}") for n in range(5)]
    for token in tokens:
        await scene.tokens.principal(token)
    assert [scene.tokens.cached_fresh(token) is not None for token in tokens] == [
        False,
        False,
        True,
        True,
        True,
    ]
