"""The signatures that botocore makes of the same requests."""

from collections.abc import Mapping
from datetime import datetime, timezone
from unittest.mock import patch

from botocore.auth import S3SigV4Auth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from waitd.core.aws.signature import AwsSigner

#: The time of each signature.
MOMENT = datetime(2026, 11, 21, 2, 41, 7, tzinfo=timezone.utc)  # noqa: UP017 - botocore's own spelling


def botocore_headers(
    signer: AwsSigner, method: str, url: str, headers: Mapping[str, str], body: bytes | None
) -> dict[str, str]:
    """The headers of a request that botocore signed for the same service, region and keys."""
    keys = signer.keys
    credentials = Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token)
    request = AWSRequest(method, url, headers=dict(headers), data=body)
    sign = S3SigV4Auth if signer.service == "s3" else SigV4Auth
    with patch("botocore.auth.get_current_datetime", return_value=MOMENT):
        sign(credentials, signer.service, signer.region).add_auth(request)
    return dict(request.headers.items())
