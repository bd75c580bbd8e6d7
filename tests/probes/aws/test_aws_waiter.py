"""The kind `aws_waiter`: every protocol against moto's server, and against a stub what moto does not do: errors, hostile answers, signatures."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from moto_s3 import S3Server
from raw_server import CLOSE, Poked, Script, ScriptedConnections, answer, raw_server
from s3_looks import aws

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput, UnknownConnection
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.probes.aws import probe as aws_waiter
from waitd.probes.aws.probe import AwsWaiterProbe

TABLE = {"service": "dynamodb", "waiter": "table_exists", "params": {"TableName": "jobs"}}
ROLE = json.dumps({"Version": "2012-10-17", "Statement": []})


async def look(connection: Connection | Exception, *more: Connection, **params: Any) -> Verdict:
    """What one look of a new probe says, to parameters that were checked as at submit."""
    async with AwsWaiterProbe(ScriptedConnections([connection, *more]), now=lambda: 1_795_000_000.0) as probe:
        await probe.prepare(params)
        [found] = await probe.poke([Poked(probe.parse(params, namespace="default"))])
    return found


async def refused(**params: Any) -> dict[str, str]:
    """What is wrong with parameters, by pointer."""
    async with AwsWaiterProbe(ScriptedConnections([])) as probe:
        await probe.prepare(params)
        with pytest.raises(InvalidInput) as error:
            probe.parse(params, namespace="default")
    return {problem.pointer: problem.detail for problem in error.value.problems}


async def test_ec2_speaks_its_own_xml(s3: S3Server) -> None:
    ec2 = s3.client("ec2")
    image = "ami-12c6146b"  # one that moto knows; to list them all takes it long
    instance = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    wait: dict[str, Any] = {"service": "ec2", "params": {"InstanceIds": [instance]}}
    running = await look(s3.connection(), waiter="instance_running", **wait)
    assert isinstance(running, Success), running
    assert running.payload["Reservations"][0]["Instances"][0]["InstanceId"] == instance
    stopped = await look(s3.connection(), waiter="InstanceStopped", **wait)
    assert stopped == Pending(
        "pending", "InstanceStopped: not yet; Reservations[].Instances[].State.Name: running"
    )
    ec2.terminate_instances(InstanceIds=[instance])
    gone = await look(s3.connection(), waiter="instance_running", **wait)
    assert isinstance(gone, Failure), gone
    assert gone.message.endswith("any of Reservations[].Instances[].State.Name is terminated")
    assert not gone.silenceable
    missing = await look(
        s3.connection(),
        service="ec2",
        waiter="instance_running",
        params={"InstanceIds": ["i-0123456789abcdef0"]},
    )
    assert missing == Pending(
        "pending", "InstanceRunning: not yet; error InvalidInstanceID.NotFound"
    )  # an acceptor takes this error for "try again"
    ec2.close()


async def test_dynamodb_speaks_json(s3: S3Server) -> None:
    dynamodb = s3.client("dynamodb")
    assert isinstance(await look(s3.connection(), **TABLE), Pending)
    dynamodb.create_table(
        TableName="jobs",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        BillingMode="PAY_PER_REQUEST",
    )
    found = await look(s3.connection(), **TABLE)
    assert isinstance(found, Success), found
    assert found.payload["Table"]["TableStatus"] == "ACTIVE"
    dynamodb.delete_table(TableName="jobs")
    dynamodb.close()


async def test_s3_speaks_xml_and_heads(s3: S3Server) -> None:
    bucket = s3.bucket("a b/c")
    there = {"service": "s3", "waiter": "bucket_exists", "params": {"Bucket": bucket}}
    assert isinstance(await look(s3.connection(), **there), Success)
    missing = await look(s3.connection(), **there | {"params": {"Bucket": "no-such-bucket-here"}})
    assert isinstance(missing, Pending), missing
    key = {"service": "s3", "waiter": "object_exists", "params": {"Bucket": bucket, "Key": "a b/c"}}
    assert isinstance(await look(s3.connection(), **key), Success)


async def test_lambda_speaks_json_over_paths(s3: S3Server) -> None:
    wait = {"service": "lambda", "waiter": "function_exists", "params": {"FunctionName": "none-such"}}
    found = await look(s3.connection(), **wait)
    assert isinstance(found, Pending), found
    eks = await look(s3.connection(), service="eks", waiter="cluster_deleted", params={"name": "none"})
    assert isinstance(eks, Success), eks  # that it is not found is what is waited for
    assert eks.payload["Error"]["Code"] == "ResourceNotFoundException"


async def test_cloudformation_and_rds_speak_query(s3: S3Server) -> None:
    cloudformation = s3.client("cloudformation")
    template = {
        "Resources": {"queue": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "of-a-stack"}}}
    }
    cloudformation.create_stack(StackName="jobs", TemplateBody=json.dumps(template))
    done = {"service": "cloudformation", "waiter": "stack_create_complete", "params": {"StackName": "jobs"}}
    assert isinstance(await look(s3.connection(), **done), Success)
    none = await look(s3.connection(), **done | {"params": {"StackName": "no-such-stack"}})
    assert isinstance(none, Failure), none  # the acceptor names this error
    assert none.message.endswith("error ValidationError")
    gone = await look(
        s3.connection(), service="rds", waiter="db_instance_deleted", params={"DBInstanceIdentifier": "none"}
    )
    assert isinstance(gone, Success), gone
    cloudformation.close()


async def test_what_there_is_no_waiter_for_is_refused_with_a_list() -> None:
    [(pointer, detail)] = (await refused(service="dinamo", waiter="table_exists")).items()
    assert (pointer, "dynamodb" in detail) == ("/service", True)
    [(pointer, detail)] = (await refused(service="dynamodb", waiter="table_is_there")).items()
    assert (pointer, "table_exists, table_not_exists" in detail) == ("/waiter", True)


async def test_parameters_are_checked_against_the_model() -> None:
    wrong = {"InstanceIds": "i-1", "Filters": [{"Name": 3, "Nome": "x"}], "MaxResults": "5"}
    problems = await refused(service="ec2", waiter="instance_running", params=wrong)
    assert problems["/params/InstanceIds"] == "it is to be a list"
    assert problems["/params/Filters/0/Name"] == "it is to be a string"
    assert problems["/params/Filters/0/Nome"].startswith("unknown field; known are: Name, Values")
    assert problems["/params/MaxResults"] == "it is to be a whole number"
    assert await refused(service="dynamodb", waiter="table_exists") == {"/params/TableName": "Field required"}
    unnamed = await refused(
        service="dynamodb", waiter="table_exists", params=TABLE["params"], region_name="A b"
    )
    assert list(unnamed) == ["/region_name"]


async def test_a_wait_from_before_a_restart_is_understood_without_its_model() -> None:
    async with AwsWaiterProbe(ScriptedConnections([])) as probe:
        target = probe.parse(TABLE, namespace="default")
        assert probe.origin(target) == "dynamodb of connection aws_default"
        equal = probe.parse(TABLE | {"params": {"TableName": "jobs"}}, namespace="default")
        assert target.key == equal.key
        assert target.key != probe.parse(TABLE, namespace="other").key
        assert target.key != probe.parse(TABLE | {"params": {"TableName": "others"}}, namespace="default").key


def error(status: int, code: str, *headers: str, message: str = "") -> bytes:
    return answer(status, json.dumps({"__type": f"com.amazon#{code}", "message": message}).encode(), *headers)


SAID: list[tuple[str, Script, type[Verdict], str]] = [
    ("throttled", [error(400, "ThrottlingException")], Unreachable, "http_400"),
    ("5xx", [error(500, "InternalServerError")], Unreachable, "http_500"),
    ("a proxy's 502", [answer(502, b"<html>")], Unreachable, "http_502"),
    ("429", [answer(429)], Unreachable, "http_429"),
    ("an expired token", [error(400, "ExpiredTokenException")], Unreachable, "credentials_expired"),
    ("an unknown key", [error(400, "UnrecognizedClientException")], Failure, "invalid_access_key_id"),
    ("a wrong secret", [error(400, "InvalidSignatureException")], Failure, "bad_signature"),
    ("no right", [error(400, "AccessDeniedException")], Failure, "access_denied"),
    ("403 of a proxy", [answer(403, b"<html>")], Failure, "access_denied"),
    ("another error", [error(400, "ValidationException", message="no such name")], Failure, "http_400"),
    ("closed", [CLOSE], Unreachable, "disconnected"),
    ("a page in place of JSON", [answer(200, b"<html>you are not logged in")], Unreachable, "bad_answer"),
    ("JSON that is no object", [answer(200, b"[1]")], Unreachable, "bad_answer"),
    ("half of JSON", [answer(200, b'{"Table": {"TableStatus": "ACT')], Pending, "pending"),
    ("a redirect", [answer(302, b"", "Location: http://169.254.169.254/")], Unreachable, "http_302"),
    ("an unknown state", [answer(200, b'{"Table": {"TableStatus": "RESTING"}}')], Pending, "pending"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("script", "kind", "reason"), [case[1:] for case in SAID], ids=[case[0] for case in SAID]
)
async def test_what_no_acceptor_names_is_judged_as_any_services(
    script: Script, kind: type[Verdict], reason: str
) -> None:
    async with raw_server(script) as server:
        found = await look(aws(server.url), **TABLE)
    assert isinstance(found, kind), found
    assert found.reason == reason
    if isinstance(found, Failure):
        assert found.silenceable
    if reason == "pending" and b"RESTING" in script[0]:
        assert found.message == "TableExists: not yet; Table.TableStatus: RESTING"


async def test_retry_after_is_heard() -> None:
    async with raw_server([error(503, "ServiceUnavailable", "Retry-After: 9")]) as server:
        found = await look(aws(server.url), **TABLE)
    assert isinstance(found, Unreachable)
    assert found.retry_after == 9.0


async def test_refused_credentials_are_looked_up_afresh_once_and_requests_are_signed() -> None:
    active = answer(200, b'{"Table": {"TableStatus": "ACTIVE"}}')
    old = Connection("aws_default", "aws", login="OLD", password="old-secret")
    new = Connection("aws_default", "aws", login="NEW", password="new-secret")

    def script(head: str, _: int) -> Script:
        return [
            active
            if "Credential=NEW/20261118/eu-west-1/dynamodb/aws4_request" in head
            else error(403, "InvalidClientTokenId")
        ]

    async with raw_server(script) as server:
        extra = {"endpoint_url": server.url, "region_name": "eu-west-1"}
        old, new = (
            Connection(each.conn_id, "aws", login=each.login, password=each.password, extra=extra)
            for each in (old, new)
        )
        found = await look(old, new, **TABLE)
        assert isinstance(found, Success), found
        assert len(server.requests) == 2
        assert "secret" not in "".join(server.requests)
        assert '{"TableName": "jobs"}' in server.requests[0]


async def test_large_answers_are_parsed_off_the_loop_and_too_large_ones_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import threading

    where: list[bool] = []
    judge = aws_waiter.evaluate_response

    def watched(*args: Any) -> Any:
        where.append(threading.current_thread() is threading.main_thread())
        return judge(*args)

    monkeypatch.setattr(aws_waiter, "evaluate_response", watched)
    for size, inline in ((10, True), (100_000, False)):
        body = json.dumps({"Table": {"TableStatus": "ACTIVE", "TableName": "x" * size}}).encode()
        async with raw_server([answer(200, body)]) as server:
            found = await look(aws(server.url), **TABLE)
        assert isinstance(found, Success)
        assert (where.pop(), found.reason) == (inline, "success" if inline else "result_omitted")
    async with raw_server([answer(200, b'{"a": "' + b"x" * aws_waiter.MAX_ANSWER + b'"}')]) as server:
        found = await look(aws(server.url), **TABLE)
    assert isinstance(found, Unreachable)
    assert found.reason == "too_large"


async def test_a_connection_that_cannot_be_had_ends_nothing() -> None:
    found = await look(UnknownConnection("mine"), aws_conn_id="mine", **TABLE)
    assert isinstance(found, Unreachable)
    assert found.reason == "unknown_connection"


@pytest.fixture
async def probe() -> AsyncIterator[AwsWaiterProbe]:
    async with AwsWaiterProbe(ScriptedConnections([])) as started:
        yield started


@pytest.mark.parametrize(
    ("service", "region", "url"),
    [
        ("dynamodb", "eu-central-1", "https://dynamodb.eu-central-1.amazonaws.com"),
        ("dynamodb", "cn-north-1", "https://dynamodb.cn-north-1.amazonaws.com.cn"),
        ("cloudfront", "eu-central-1", "https://cloudfront.amazonaws.com"),
        ("acm", "eu-central-1", "https://acm.eu-central-1.amazonaws.com"),
    ],
)
async def test_aws_own_endpoints_are_where_botocores_rules_say(
    probe: AwsWaiterProbe, service: str, region: str, url: str
) -> None:
    model = await probe._models.service(service)
    assert model is not None
    found = await probe._models.endpoint(model, region)
    assert found.url == url
    assert found.signing_region == ("us-east-1" if service == "cloudfront" else None)


async def test_an_operation_with_a_host_of_its_own_has_it_at_aws_alone(probe: AwsWaiterProbe) -> None:
    model = await probe._models.service("deadline")
    assert model is not None
    params = {"farmId": "farm-" + "0" * 32, "queueId": "a/b", "jobId": "j"}
    for own, host in ((True, "management.deadline.example"), (False, "deadline.example")):
        made = model.waiters["job_complete"].prepared(params, "https://deadline.example", own=own)
        assert made.url == f"https://{host}/2023-10-12/farms/farm-{'0' * 32}/queues/a%2Fb/jobs/j"
