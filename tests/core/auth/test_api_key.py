"""API keys: their form, their verification, and the keys file."""

from dataclasses import replace

import pytest

from waitd.core.auth.api_key import (
    ApiKey,
    PresentedKey,
    format_key,
    format_key_line,
    parse_key,
    parse_keys_file,
    secret_digest,
)
from waitd.core.auth.principal import Role

NOW = 1_750_000_000.0
SECRET = "s" * 43
KEY = ApiKey("ops1", secret_digest(SECRET), Role.OPERATOR, "team_a", NOW, "key:root")


def test_a_token_has_the_keys_id_and_secret() -> None:
    presented = parse_key(format_key("ops1", SECRET))
    assert presented == PresentedKey("ops1", SECRET)
    assert KEY.matches(presented)
    assert not KEY.matches(PresentedKey("ops1", SECRET[:-1] + "t"))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "waitd_",
        "waitd_ops1",
        "waitd_ops1_short",
        f"waitd__{SECRET}",
        f"waitd_OPS_{SECRET}",
        f"waitd_ops1_{SECRET} ",
        f"waitd_ops1_{SECRET}\n",
        f"waitd_ops1_{'s' * 129}",
        f"waitd_ops1_{SECRET}é",
        f"other_ops1_{SECRET}",
        f"waitd_ops1_sha256:{secret_digest(SECRET).hex()}",
    ],
)
def test_malformed_tokens_are_not_keys(text: str) -> None:
    assert parse_key(text) is None


def test_a_secret_may_have_underscores() -> None:
    assert parse_key(format_key("a", "_" * 40)) == PresentedKey("a", "_" * 40)


def test_the_repr_of_a_key_hides_its_secret() -> None:
    assert SECRET not in repr(PresentedKey("ops1", SECRET))
    assert repr(secret_digest(SECRET)) not in repr(KEY)


def test_a_key_is_valid_until_it_expires_or_is_revoked() -> None:
    assert KEY.invalid_reason(NOW + 1e9) is None
    expiring = replace(KEY, expires_at=NOW + 10)
    assert (expiring.invalid_reason(NOW + 9.9), expiring.invalid_reason(NOW + 10)) == (None, "expired")
    revoked = replace(expiring, revoked_at=NOW + 5)
    assert revoked.invalid_reason(NOW + 6) == "revoked"
    assert [
        revoked.invalid_since(NOW + 20),
        expiring.invalid_since(NOW + 20),
        expiring.invalid_since(NOW),
    ] == [
        NOW + 5,
        NOW + 10,
        None,
    ]


def test_a_keys_file_has_whole_and_hashed_keys() -> None:
    text = f"""
# the operators
waitd_ops1_{SECRET} operator team_a
  waitd_ops2_sha256:{secret_digest(SECRET).hex()}   admin

waitd_ops3_{SECRET} viewer expires=2027-01-31T00:00:00Z
"""
    keys = parse_keys_file(text, NOW)
    assert keys["ops1"] == replace(KEY, created_by="file")
    assert (keys["ops2"].role, keys["ops2"].namespace) == (Role.ADMIN, "default")
    assert keys["ops2"].matches(PresentedKey("ops2", SECRET))
    assert keys["ops3"].expires_at == 1_801_353_600.0


def test_the_line_of_a_key_is_parsed_as_that_key_and_has_no_secret() -> None:
    key = replace(KEY, created_by="file", expires_at=NOW + 100)
    assert parse_keys_file(format_key_line(key), NOW) == {"ops1": key}
    assert SECRET not in format_key_line(key)


@pytest.mark.parametrize(
    ("line", "detail"),
    [
        ("waitd_ops1_short admin", "must be a key"),
        (f"waitd_ops1_{SECRET}", "role"),
        (f"waitd_ops1_{SECRET} root", "role"),
        (f"waitd_ops1_{SECRET} admin a/b", "namespace"),
        (f"waitd_ops1_{SECRET} admin team_a more", "role"),
        (f"waitd_ops1_{SECRET} admin expires=tomorrow", "expires="),
        (f"waitd_ops1_{SECRET} admin expires=2027-01-31T00:00:00", "offset"),
        (f"waitd_ops1_{SECRET} expires=2027-01-31T00:00:00Z", "role"),
        (f"waitd_ops1_sha256:{'0' * 63} admin", "must be a key"),
        (f"waitd_same_{SECRET} admin\nwaitd_same_{SECRET} viewer", "line 3: the key id same is already used"),
    ],
)
def test_an_invalid_line_is_reported_by_its_number_and_not_quoted(line: str, detail: str) -> None:
    with pytest.raises(ValueError, match=detail) as raised:
        parse_keys_file(f"# first\n{line}", NOW)
    assert str(raised.value).startswith(("line 2: ", "line 3: "))
    assert SECRET not in str(raised.value)
