"""Webhook signatures, verified by the standard's own library."""

import base64
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook

from waitd.core.connections.webhook_signature import parse_webhook_secrets, sign_webhook


def test_the_standards_example_has_its_signature() -> None:
    keys = parse_webhook_secrets("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    signature = sign_webhook(keys, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert signature == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


@given(
    key=st.binary(min_size=1, max_size=64), message_id=st.text("abc-0", min_size=1), body=st.text(max_size=40)
)
def test_the_standards_library_verifies_a_signature(key: bytes, message_id: str, body: str) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    now = int(time.time())
    headers = {
        "webhook-id": message_id,
        "webhook-timestamp": str(now),
        "webhook-signature": sign_webhook(parse_webhook_secrets(secret), message_id, now, body.encode()),
    }
    Webhook(secret).verify(body.encode(), headers, json_parse=False)


def test_secrets_are_separated_by_space_and_sign_in_order() -> None:
    keys = parse_webhook_secrets(" whsec_YQ== raw\twhsec_Yg ")
    assert keys == (b"a", b"raw", b"b")
    assert sign_webhook(keys, "m", 1, b"x").split() == [sign_webhook([key], "m", 1, b"x") for key in keys]


@pytest.mark.parametrize(
    "secrets", ["", " ", "whsec_", "whsec_a", "whsec_!!!!", "raw whsec_=", "whsec_plan-ted1---"]
)
def test_a_malformed_secret_is_refused_and_not_quoted(secrets: str) -> None:
    with pytest.raises(ValueError, match="webhook secret") as raised:
        parse_webhook_secrets(secrets)
    assert "plan-ted1---" not in str(raised.value)
