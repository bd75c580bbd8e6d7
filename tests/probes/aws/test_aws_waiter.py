"""The kind `aws_waiter`, with every protocol against moto's server.

A stub plays what moto does not: errors, malformed responses, refused signatures.
"""

import json
import re
import threading
from typing import Any

import pytest
from anyio import CapacityLimiter
from moto_s3 import S3Server
from raw_server import CLOSE, Poked, Script, ScriptedConnections, answer, raw_server
from s3_pokes import aws
from stream_server import ClosingServer, stream_server

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput, UnknownConnection
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.probes.aws import probe as aws_waiter
from waitd.probes.aws.models import AwsModels
from waitd.probes.aws.probe import AwsWaiterProbe

TABLE = {"service": "dynamodb", "waiter": "table_exists", "params": {"TableName": "jobs"}}
ROLE = json.dumps({"Version": "2012-10-17", "Statement": []})


async def poke(connection: Connection | Exception, *more: Connection, **params: Any) -> Verdict:
    """The verdict of one poke by a new probe on parameters that were checked as at submit."""
    async with AwsWaiterProbe(ScriptedConnections([connection, *more]), now=lambda: 1_795_000_000.0) as probe:
        await probe.prepare(params)
        [verdict] = await probe.poke([Poked(probe.parse(params, namespace="default"))])
    return verdict


async def problems_with(**params: Any) -> dict[str, str]:
    """What is wrong with these parameters, by pointer."""
    async with AwsWaiterProbe(ScriptedConnections([])) as probe:
        await probe.prepare(params)
        with pytest.raises(InvalidInput) as error:
            probe.parse(params, namespace="default")
    return {problem.pointer: problem.detail for problem in error.value.problems}


async def test_ec2_speaks_its_own_xml(s3: S3Server) -> None:
    ec2 = s3.client("ec2")
    image = "ami-12c6146b"  # one that moto knows; it takes long to list them all
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    wait: dict[str, Any] = {"service": "ec2", "params": {"InstanceIds": [instance]}}
    running = await poke(s3.connection(), waiter="instance_running", **wait)
    assert isinstance(running, Success), running
    assert running.payload["Reservations"][0]["Instances"][0]["InstanceId"] == instance
    stopped = await poke(s3.connection(), waiter="InstanceStopped", **wait)
    assert stopped == Pending(
        "pending", "InstanceStopped: not yet; Reservations[].Instances[].State.Name: running"
    )
    ec2.terminate_instances(InstanceIds=[instance])
    terminated = await poke(s3.connection(), waiter="instance_running", **wait)
    assert isinstance(terminated, Failure), terminated
    assert terminated.message.endswith("any of Reservations[].Instances[].State.Name is terminated")
    assert not terminated.silenceable
    missing = await poke(
        s3.connection(),
        service="ec2",
        waiter="instance_running",
        params={"InstanceIds": ["i-0123456789abcdef0"]},
    )
    assert missing == Pending(
        "pending", "InstanceRunning: not yet; error InvalidInstanceID.NotFound"
    )  # the acceptor of this error says "retry"
    ec2.close()


async def test_dynamodb_speaks_json(s3: S3Server) -> None:
    dynamodb = s3.client("dynamodb")
    assert isinstance(await poke(s3.connection(), **TABLE), Pending)
    dynamodb.create_table(
        TableName="jobs",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    verdict = await poke(s3.connection(), **TABLE)
    assert isinstance(verdict, Success), verdict
    assert verdict.payload["Table"]["TableStatus"] == "ACTIVE"
    dynamodb.delete_table(TableName="jobs")
    dynamodb.close()


async def test_s3_speaks_xml_and_heads(s3: S3Server) -> None:
    bucket = s3.bucket("a b/c")
    wait = {"service": "s3", "waiter": "bucket_exists", "params": {"Bucket": bucket}}
    assert isinstance(await poke(s3.connection(), **wait), Success)
    missing = await poke(s3.connection(), **wait | {"params": {"Bucket": "no-such-bucket-here"}})
    assert isinstance(missing, Pending), missing
    key = {"service": "s3", "waiter": "object_exists", "params": {"Bucket": bucket, "Key": "a b/c"}}
    assert isinstance(await poke(s3.connection(), **key), Success)


async def test_lambda_speaks_json_over_paths(s3: S3Server) -> None:
    wait = {"service": "lambda", "waiter": "function_exists", "params": {"FunctionName": "none-such"}}
    verdict = await poke(s3.connection(), **wait)
    assert isinstance(verdict, Pending), verdict
    eks = await poke(s3.connection(), service="eks", waiter="cluster_deleted", params={"name": "none"})
    assert isinstance(eks, Success), eks  # the waiter waits for this error
    assert eks.payload["Error"]["Code"] == "ResourceNotFoundException"


async def test_cloudformation_and_rds_speak_query(s3: S3Server) -> None:
    cloudformation = s3.client("cloudformation")
    template = {
        "Resources": {"queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-a-stack"}}}
    }
    cloudformation.create_stack(StackName="jobs", TemplateBody=json.dumps(template))
    done = {"service": "cloudformation", "waiter": "stack_create_complete", "params": {"StackName": "jobs"}}
    assert isinstance(await poke(s3.connection(), **done), Success)
    none = await poke(s3.connection(), **done | {"params": {"StackName": "no-such-stack"}})
    assert isinstance(none, Failure), none  # the acceptor names this error
    assert none.message.endswith("error ValidationError")
    deleted = await poke(
        s3.connection(), service="rds", waiter="db_instance_deleted", params={"DBInstanceIdentifier": "none"}
    )
    assert isinstance(deleted, Success), deleted
    cloudformation.close()


async def test_an_unknown_service_or_waiter_is_refused_with_the_known_names() -> None:
    [(pointer, detail)] = (await problems_with(service="dinamo", waiter="table_exists")).items()
    assert (pointer, "dynamodb" in detail) == ("/service", True)
    [(pointer, detail)] = (await problems_with(service="dynamodb", waiter="table_is_there")).items()
    assert (pointer, "table_exists, table_not_exists" in detail) == ("/waiter", True)


async def test_parameters_are_checked_against_the_model() -> None:
    wrong = {"InstanceIds": "i-1", "Filters": [{"Name": 3, "Nome": "x"}], "MaxResults": "5"}
    problems = await problems_with(service="ec2", waiter="instance_running", params=wrong)
    assert problems["/params/InstanceIds"] == "must be a list"
    assert problems["/params/Filters/0/Name"] == "must be a string"
    assert problems["/params/Filters/0/Nome"].startswith("unknown field; known are: Name, Values")
    assert problems["/params/MaxResults"] == "must be a whole number"
    assert await problems_with(service="dynamodb", waiter="table_exists") == {
        "/params/TableName": "Field required"
    }
    unnamed = await problems_with(
        service="dynamodb", waiter="table_exists", params=TABLE["params"], region_name="A b"
    )
    assert list(unnamed) == ["/region_name"]


async def test_a_wait_loaded_at_a_restart_is_parsed_without_its_model() -> None:
    async with AwsWaiterProbe(ScriptedConnections([])) as probe:
        target = probe.parse(TABLE, namespace="default")
        assert probe.origin(target) == "dynamodb of connection aws_default"
        equal = probe.parse(TABLE | {"params": {"TableName": "jobs"}}, namespace="default")
        assert target.key == equal.key
        assert target.key != probe.parse(TABLE, namespace="other").key
        assert target.key != probe.parse(TABLE | {"params": {"TableName": "others"}}, namespace="default").key


def error(status: int, code: str, *headers: str, message: str = "") -> bytes:
    return answer(status, json.dumps({"__type": f"com.amazon#{code}", "message": message}).encode(), *headers)


ERRORS: list[tuple[str, Script, type[Verdict], str]] = [
    ("throttled", [error(400, "ThrottlingException")], Unreachable, "http_400"),
    ("5xx", [error(500, "InternalServerError")], Unreachable, "http_500"),
    ("a proxy's 502", [answer(502, b"<html>")], Unreachable, "http_502"),
    ("429", [answer(429)], Unreachable, "http_429"),
    ("an expired token", [error(400, "ExpiredTokenException")], Unreachable, "credentials_expired"),
    ("an unknown key", [error(400, "UnrecognizedClientException")], Failure, "invalid_access_key_id"),
    ("a wrong secret", [error(400, "InvalidSignatureException")], Failure, "bad_signature"),
    ("access denied", [error(400, "AccessDeniedException")], Failure, "access_denied"),
    ("403 of a proxy", [answer(403, b"<html>")], Failure, "access_denied"),
    ("another error", [error(400, "ValidationException", message="no such name")], Failure, "http_400"),
    ("closed", [CLOSE], Unreachable, "disconnected"),
    ("a page instead of JSON", [answer(200, b"<html>you are not logged in")], Unreachable, "bad_answer"),
    ("JSON that is not an object", [answer(200, b"[1]")], Unreachable, "bad_answer"),
    ("truncated JSON", [answer(200, b'{"Table": {"TableStatus": "ACT')], Pending, "pending"),
    ("a redirect", [answer(302, b"", "Location: http://169.254.169.254/")], Unreachable, "http_302"),
    ("an unknown state", [answer(200, b'{"Table": {"TableStatus": "RESTING"}}')], Pending, "pending"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "kind", "reason"), [case[1:] for case in ERRORS], ids=[case[0] for case in ERRORS]
)
async def test_a_response_that_no_acceptor_matches_has_the_verdict_of_any_service(
    script: Script, kind: type[Verdict], reason: str
) -> None:
    async with raw_server(script) as server:
        verdict = await poke(aws(server.url), **TABLE)
    assert (type(verdict), verdict.reason) == (kind, reason), verdict
    if isinstance(verdict, Failure):
        assert verdict.silenceable
    if reason == "pending" and b"RESTING" in script[0]:
        assert verdict.message == "TableExists: not yet; Table.TableStatus: RESTING"


async def test_retry_after_is_passed_on() -> None:
    async with raw_server([error(503, "ServiceUnavailable", "Retry-After: 9")]) as server:
        verdict = await poke(aws(server.url), **TABLE)
    assert isinstance(verdict, Unreachable)
    assert verdict.retry_after == 9.0


async def test_a_poke_that_meets_a_connection_closed_while_idle_is_sent_again() -> None:
    server = ClosingServer(answer(200, b'{"Table": {"TableStatus": "ACTIVE"}}'))
    async with (
        stream_server(server.serve) as port,
        AwsWaiterProbe(ScriptedConnections([aws(f"http://127.0.0.1:{port}")])) as probe,
    ):
        for _ in range(3):
            [verdict] = await probe.poke([Poked(probe.parse(TABLE, namespace="default"))])
            assert isinstance(verdict, Success)
    assert server.requests == 3


async def test_refused_credentials_are_refreshed_once_and_requests_are_signed() -> None:
    active = answer(200, b'{"Table": {"TableStatus": "ACTIVE"}}')

    def script(head: str, _: int) -> Script:
        return [
            active
            if "Credential=NEW/20261118/eu-west-1/dynamodb/aws4_request" in head
            else error(403, "InvalidClientTokenId")
        ]

    async with raw_server(script) as server:
        extra = {"endpoint_url": server.url, "region_name": "eu-west-1"}
        old, new = (
            Connection("aws_default", "aws", login=login, password="secret", extra=extra)
            for login in ("OLD", "NEW")
        )
        verdict = await poke(old, new, **TABLE)
        assert isinstance(verdict, Success), verdict
        assert len(server.requests) == 2
        assert "secret" not in "".join(server.requests)
        assert '{"TableName": "jobs"}' in server.requests[0]


async def test_what_was_sent_is_masked_in_answers_that_repeat_it() -> None:
    def script(head: str, _: int) -> Script:
        sent = head.partition("Authorization: ")[2].partition("\r\n")[0]
        return [
            answer(200, json.dumps({"Table": {"TableStatus": "ACTIVE", "TableName": head + sent}}).encode())
        ]

    async with raw_server(script) as server:
        extra = {
            "endpoint_url": server.url,
            "region_name": "eu-west-1",
            "aws_session_token": "pl4nted/token+1=",
        }
        verdict = await poke(
            Connection("aws_default", "aws", login="AKIAPLANTED1", password="secret", extra=extra), **TABLE
        )
        assert "pl4nted/token+1=" in server.requests[0]
        [signature] = re.findall("Signature=([0-9a-f]{64})", server.requests[0])
    assert isinstance(verdict, Success)
    for secret in ("pl4nted", "AKIAPLANTED1", signature):
        assert secret not in repr(verdict)
    assert "Signature=***" in repr(verdict)


async def test_large_responses_are_parsed_in_a_thread_and_too_large_ones_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    in_main_thread: list[bool] = []
    evaluate = aws_waiter.evaluate_response

    def recorded(*args: Any, **options: Any) -> Any:
        in_main_thread.append(threading.current_thread() is threading.main_thread())
        return evaluate(*args, **options)

    monkeypatch.setattr(aws_waiter, "evaluate_response", recorded)
    for size, inline in ((10, True), (100_000, False)):
        body = json.dumps({"Table": {"TableStatus": "ACTIVE", "TableName": "x" * size}}).encode()
        async with raw_server([answer(200, body)]) as server:
            verdict = await poke(aws(server.url), **TABLE)
        assert isinstance(verdict, Success)
        assert (in_main_thread.pop(), verdict.reason) == (inline, "success" if inline else "result_omitted")
    async with raw_server([answer(200, b'{"a": "' + b"x" * aws_waiter.MAX_RESPONSE + b'"}')]) as server:
        verdict = await poke(aws(server.url), **TABLE)
    assert (type(verdict), verdict.reason) == (Unreachable, "too_large")


async def test_an_unknown_connection_ends_no_wait() -> None:
    verdict = await poke(UnknownConnection("mine"), aws_conn_id="mine", **TABLE)
    assert (type(verdict), verdict.reason) == (Unreachable, "unknown_connection")


@pytest.fixture
def models() -> AwsModels:
    return AwsModels(CapacityLimiter(1))


@pytest.mark.parametrize(
    ("service", "region", "url"),
    [
        ("dynamodb", "eu-central-1", "https://dynamodb.eu-central-1.amazonaws.com"),
        ("dynamodb", "cn-north-1", "https://dynamodb.cn-north-1.amazonaws.com.cn"),
        ("cloudfront", "eu-central-1", "https://cloudfront.amazonaws.com"),
        ("acm", "eu-central-1", "https://acm.eu-central-1.amazonaws.com"),
    ],
)
async def test_the_endpoints_of_aws_follow_botocores_rules(
    models: AwsModels, service: str, region: str, url: str
) -> None:
    loaded = await models.load(service)
    assert loaded is not None
    endpoint = await models.endpoint(loaded, region)
    assert endpoint.url == url
    assert endpoint.signing_region == ("us-east-1" if service == "cloudfront" else None)


async def test_a_host_prefix_of_an_operation_is_used_only_at_aws(models: AwsModels) -> None:
    loaded = await models.load("deadline")
    assert loaded is not None
    params = {"farmId": "farm-" + "0" * 32, "queueId": "a/b", "jobId": "j"}
    for aws_endpoint, host in ((True, "management.deadline.example"), (False, "deadline.example")):
        waiter = loaded.waiters["job_complete"]
        request = waiter.build_request(params, "https://deadline.example", aws_endpoint=aws_endpoint)
        assert request.url == f"https://{host}/2023-10-12/farms/farm-{'0' * 32}/queues/a%2Fb/jobs/j"
