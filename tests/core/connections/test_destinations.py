"""Queue URLs and regions, which become a destination's host, are checked."""

import pytest

from waitd.core.connections.connection import Origin
from waitd.core.connections.destinations import check_region, queue_origin

QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/jobs"


@pytest.mark.parametrize(
    ("url", "host"),
    [
        (QUEUE, "sqs.eu-west-1.amazonaws.com"),
        (f"{QUEUE}.fifo", "sqs.eu-west-1.amazonaws.com"),
        ("https://eu-west-1.queue.amazonaws.com/123456789012/jobs", "eu-west-1.queue.amazonaws.com"),
        ("https://sqs-fips.eu-west-1.api.aws/123456789012/jobs", "sqs-fips.eu-west-1.api.aws"),
    ],
)
def test_a_queue_of_aws_is_at_its_regions_endpoint(url: str, host: str) -> None:
    assert queue_origin(url, endpoint=None, region="eu-west-1") == Origin("https", host, 443)


def test_a_queue_of_another_store_is_at_the_connections_endpoint() -> None:
    endpoint = "http://localhost:4566"
    assert queue_origin(f"{endpoint}/000000000000/q", endpoint=endpoint, region=None).port == 4566


@pytest.mark.parametrize(
    "url",
    [
        "https://evil.example/123456789012/jobs", "http://sqs.eu-west-1.amazonaws.com/123456789012/jobs",
        "https://sqs.eu-west-1.amazonaws.com:444/123456789012/jobs", "https://sqs.eu-west-1.amazonaws.com.evil.example/1/jobs",
        "https://evil.example/sqs.eu-west-1.amazonaws.com/jobs", "https://sqs.eu-west-1.amazonaws.com@evil.example/1/jobs",
        "https://u:planted@sqs.eu-west-1.amazonaws.com/1/jobs", "https://sqs.us-east-1.amazonaws.com/123456789012/jobs",
        "https://xsqs.eu-west-1.amazonaws.com/1/jobs", "//sqs.eu-west-1.amazonaws.com/1/jobs", "sqs.eu-west-1.amazonaws.com/1/jobs",
        f"{QUEUE}?Action=DeleteQueue", f"{QUEUE}/../other", f"{QUEUE}%2f..", f"{QUEUE}#x", f"{QUEUE}\\x", "https://sqs.eu-west-1.amazonaws.com",
        "https://sqs.eu-west-1.amazonaws.com//evil", "https://169.254.169.254/1/jobs", "https://s3.eu-west-1.amazonaws.com/1/jobs",
    ],
)  # fmt: skip
def test_a_foreign_queue_is_refused(url: str) -> None:
    with pytest.raises(ValueError) as raised:
        queue_origin(url, endpoint=None, region="eu-west-1")
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    ["http://localhost:4567/1/q", "https://localhost:4566/1/q", "http://localhost.:4566/1/q", "http://127.0.0.1:4566/1/q", QUEUE],
)  # fmt: skip
def test_a_queue_at_another_endpoint_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="the connection's endpoint"):
        queue_origin(url, endpoint="http://localhost:4566", region=None)


@pytest.mark.parametrize(
    "region", ["eu-west-1", "us-gov-west-1", "cn-north-1", "us-east-1", "minio", "auto", "garage", "x"]
)
def test_a_region_may_be_any_label_of_a_host_name(region: str) -> None:
    assert check_region(region) == region


@pytest.mark.parametrize(
    "region",
    ["", "eu-west-1.evil.example", "eu-west-1/", "evil.example#", "eu-west-1@evil", "../x", "EU-WEST-1", "eu west", "eu-west-1:80", "eu-west-1\n", "-x", "x-", "A", "a\n", "a" * 64, "eu-wést-1"],
)  # fmt: skip
def test_an_invalid_region_is_refused(region: str) -> None:
    with pytest.raises(ValueError):
        check_region(region)
