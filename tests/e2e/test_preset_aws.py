"""AWS presets and `aws_waiter` with moto's server, which verifies every signature.

moto lacks Glue's BatchStopJobRun, EMR's CancelSteps, Batch jobs that take time (without Docker they
end at once), and idempotent submits in Athena and EMR Serverless. Glue runs, EMR steps and Athena
queries change their state only when a test changes it.
"""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from daemon import Daemon, daemon
from moto import settings
from moto.athena.models import athena_backends
from moto.core.config import default_user_config
from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.emr.models import emr_backends
from moto.emrserverless import models
from moto.glue.models import glue_backends
from moto.moto_api import state_manager
from moto_s3 import S3Server, s3_server
from preset_waits import cancel, last_verdict_is, post, submit_wait, wait_until, wait_until_ended

pytestmark = [pytest.mark.slow, pytest.mark.long]
REGION = "us-east-1"
ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Aws:
    """moto with one user and a role for jobs."""

    def __init__(self, server: S3Server) -> None:
        self.server = server
        policy = json.dumps(ALL)
        with closing(server.client("iam")) as iam:
            iam.create_user(UserName="waitd")
            iam.put_user_policy(UserName="waitd", PolicyName="all", PolicyDocument=policy)
            self._key = iam.create_access_key(UserName="waitd")["AccessKey"]
            self.role = iam.create_role(RoleName="jobs", AssumeRolePolicyDocument=policy)["Role"]["Arn"]

    def client(self, service: str) -> Any:
        key = {"aws_access_key_id": self._key["AccessKeyId"]}
        key |= {"aws_secret_access_key": self._key["SecretAccessKey"]}
        session = botocore.session.Session()
        return closing(
            session.create_client(service, region_name=REGION, endpoint_url=self.server.url, **key)
        )

    def connection(self, secret: str | None = None) -> str:
        connection = {
            "conn_type": "aws",
            "login": self._key["AccessKeyId"],
            "password": secret or self._key["SecretAccessKey"],
            "extra": {"endpoint_url": self.server.url, "region_name": REGION},
        }
        return json.dumps(connection)


@pytest.fixture(scope="module")
def aws() -> Iterator[Aws]:
    with s3_server() as server:
        yield Aws(server)


@pytest.fixture
async def served(aws: Aws, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Daemon]:
    monkeypatch.setattr(
        settings, "INITIAL_NO_AUTH_ACTION_COUNT", 0
    )  # verify signatures from the first request
    connections = {
        "AIRFLOW_CONN_AWS_DEFAULT": aws.connection(),
        "AIRFLOW_CONN_WRONG": aws.connection("planted-secret"),
    }
    async with daemon(tmp_path / "state", **connections) as running:
        yield running


@contextmanager
def manual_transitions(model: str) -> Iterator[None]:
    """Makes jobs of a moto model keep their state until the test changes it."""
    state_manager.set_transition(model, {"progression": "manual", "times": 1_000_000})
    try:
        yield
    finally:
        state_manager.unset_transition(model)


async def cancel_job(served: Daemon, wait: dict[str, Any]) -> str:
    """Cancels a wait, and returns the state of its job's cancellation when that is final."""
    await cancel(served, wait)
    cancelled = await wait_until(
        served, wait, lambda now: now["submit"]["cancel"]["state"] not in {"due", "pending", "queued"}
    )
    return str(cancelled["submit"]["cancel"]["state"])


async def test_glue_runs_a_job(aws: Aws, served: Daemon) -> None:
    with aws.client("glue") as glue, manual_transitions("glue::job_run"):
        glue.create_job(Name="orders", Role=aws.role, Command={"Name": "glueetl"})
        backend = glue_backends[DEFAULT_ACCOUNT_ID][REGION]
        ends = ("SUCCEEDED", "FAILED", "TIMEOUT", "EXPIRED")
        for state in ends:
            submit = {"arguments": {"--day": "2026-11-21"}}
            wait = await submit_wait(
                served, kind="glue.job", params={"job_name": "orders"}, submit=submit, poke_interval=1
            )
            running = await wait_until(served, wait, last_verdict_is("running", "STARTING"))
            run = backend.get_job_run("orders", running["submit"]["handle"]["run_id"])
            run.status = state
            wait = await wait_until_ended(served, wait)
            assert wait["state"] == ("success" if state == "SUCCEEDED" else "failed"), wait
            payload = wait["outcome"]["payload"]
            assert (payload["JobRunState"], payload["Arguments"]) == (state, submit["arguments"])
        assert len(glue.get_job_runs(JobName="orders")["JobRuns"]) == len(ends)


async def test_athena_runs_a_query_and_stops_another(aws: Aws, served: Daemon) -> None:
    submit = {"query": "SELECT 1", "result_configuration": {"OutputLocation": "s3://results/"}}
    backend = athena_backends[DEFAULT_ACCOUNT_ID][REGION]
    with manual_transitions("athena::execution"):
        wait = await submit_wait(served, kind="athena.query", submit=submit, poke_interval=1)
        running = await wait_until(served, wait, last_verdict_is("running", "QUEUED"))
        backend.executions[running["submit"]["handle"]["query_execution_id"]].status = "SUCCEEDED"
        wait = await wait_until_ended(served, wait)
        assert (wait["state"], wait["outcome"]["payload"]["Query"]) == ("success", "SELECT 1")
        submit["cancel_job_on"] = ["cancelled"]
        wait = await submit_wait(served, kind="athena.query", submit=submit, poke_interval=1)
        running = await wait_until(served, wait, last_verdict_is("running", "QUEUED"))
        assert await cancel_job(served, wait) == "cancelled"
        params = running["submit"]["handle"]
        assert backend.executions[params["query_execution_id"]].status == "CANCELLED"
        other = await submit_wait(served, kind="athena.query", params=params, poke_interval=1)
        assert (await wait_until_ended(served, other))["state"] == "failed"


MACHINES = {
    "passes": {"Type": "Pass", "Result": {"rows": 3}, "End": True},
    "fails": {"Type": "Fail", "Error": "NoRows", "Cause": "the file was empty"},
    "waits": {"Type": "Wait", "Seconds": 600, "End": True},
}


async def test_step_functions_execute_state_machines(
    aws: Aws, served: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """moto executes state machines itself."""
    monkeypatch.setitem(default_user_config, "stepfunctions", {"execute_state_machine": True})
    waits = {}
    with aws.client("stepfunctions") as states:
        for name, only in MACHINES.items():
            definition = json.dumps({"StartAt": "only", "States": {"only": only}})
            made = states.create_state_machine(name=name, definition=definition, roleArn=aws.role)
            submit = {"state_machine_arn": made["stateMachineArn"], "cancel_job_on": ["cancelled"]}
            waits[name] = await submit_wait(
                served, kind="stepfunctions.execution", submit=submit, poke_interval=1
            )
        done, failed = [await wait_until_ended(served, waits[name]) for name in ("passes", "fails")]
        assert json.loads(done["outcome"]["payload"]["output"]) == {"rows": 3}
        assert (failed["state"], failed["outcome"]["message"]) == (
            "failed",
            "FAILED: NoRows: the file was empty",
        )
        running = await wait_until(served, waits["waits"], last_verdict_is("running", "RUNNING"))
        assert await cancel_job(served, waits["waits"]) == "cancelled"
        arn = running["submit"]["handle"]["execution_arn"]
        assert arn.endswith(waits["waits"]["id"])  # the execution is named after the wait
        other = await submit_wait(
            served, kind="stepfunctions.execution", params={"execution_arn": arn}, poke_interval=1
        )
        other = await wait_until_ended(served, other)
        assert (other["state"], other["outcome"]["payload"]["status"]) == ("failed", "ABORTED")


async def test_emr_runs_steps(aws: Aws, served: Daemon) -> None:
    with aws.client("emr") as emr:
        instances = {
            "MasterInstanceType": "m5.large",
            "SlaveInstanceType": "m5.large",
            "InstanceCount": 1,
            "KeepJobFlowAliveWhenNoSteps": True,
        }
        cluster = emr.run_job_flow(Name="jobs", Instances=instances, ReleaseLabel="emr-7.0.0")["JobFlowId"]
    step = {"Name": "a", "HadoopJarStep": {"Jar": "command-runner.jar", "Args": ["true"]}}
    body = {
        "kind": "emr.step",
        "params": {"cluster_id": cluster},
        "submit": {"step": step},
        "poke_interval": 1,
    }
    first = await submit_wait(served, **body)
    await wait_until(served, first, last_verdict_is("running", "RUNNING"))
    second = await submit_wait(served, **body)
    await wait_until(served, second, last_verdict_is("running", "PENDING"))
    steps = emr_backends[DEFAULT_ACCOUNT_ID][REGION].clusters[cluster].steps
    assert len(steps) == 2
    steps[0].state, steps[1].state = "COMPLETED", "INTERRUPTED"
    assert [(await wait_until_ended(served, wait))["state"] for wait in (first, second)] == [
        "success",
        "failed",
    ]


async def test_emr_serverless_runs_jobs_and_cancels_one(
    aws: Aws, served: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    # moto refuses every signature of a GET with path parameters, also botocore's.
    monkeypatch.setattr(settings, "INITIAL_NO_AUTH_ACTION_COUNT", float("inf"))
    monkeypatch.setattr(models, "JOB_STATUS", "QUEUED")
    with aws.client("emr-serverless") as emr:
        application = emr.create_application(name="jobs", releaseLabel="emr-7.0.0", type="SPARK")
    params = {"application_id": application["applicationId"]}
    submit = {"execution_role_arn": aws.role, "job_driver": {"sparkSubmit": {"entryPoint": "s3://a/b.py"}}}
    submit["cancel_job_on"] = ["cancelled"]
    body = {"kind": "emr.serverless", "params": params, "submit": submit, "poke_interval": 1}
    first, second = [await submit_wait(served, **body) for _ in range(2)]
    for wait in (first, second):
        await wait_until(served, wait, last_verdict_is("running", "QUEUED"))
    runs = models.emrserverless_backends[DEFAULT_ACCOUNT_ID][REGION].job_runs[params["application_id"]]
    assert [run.client_token for run in runs] == [first["id"], second["id"]]
    runs[0].state = "SUCCESS"
    done = await wait_until_ended(served, first)
    assert (done["state"], done["outcome"]["payload"]["jobRunId"]) == ("success", runs[0].id)
    assert await cancel_job(served, second) == "cancelled"
    other = {"kind": body["kind"], "params": params | {"job_run_id": runs[1].id}}
    other_wait = await wait_until_ended(served, await submit_wait(served, **other))
    assert (other_wait["state"], other_wait["outcome"]["payload"]["state"]) == ("failed", "CANCELLED")


async def test_batch_runs_jobs(aws: Aws, served: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(default_user_config, "batch", {"use_docker": False})
    with aws.client("batch") as batch:
        environment = batch.create_compute_environment(
            computeEnvironmentName="all", type="UNMANAGED", state="ENABLED", serviceRole=aws.role
        )
        order = [{"order": 1, "computeEnvironment": environment["computeEnvironmentArn"]}]
        batch.create_job_queue(
            jobQueueName="jobs", state="ENABLED", priority=1, computeEnvironmentOrder=order
        )
        container = {"image": "busybox", "vcpus": 1, "memory": 128, "command": ["true"]}
        batch.register_job_definition(
            jobDefinitionName="orders", type="container", containerProperties=container
        )
    submit = {"job_name": "orders", "job_queue": "jobs", "job_definition": "orders"}
    body = {"kind": "batch.job", "submit": submit, "poke_interval": 1}
    done = await wait_until_ended(served, await submit_wait(served, **body))
    assert (done["state"], done["outcome"]["payload"]["jobName"]) == ("success", "orders")
    monkeypatch.setenv("MOTO_SIMPLE_BATCH_FAIL_AFTER", "0")
    failed = await wait_until_ended(served, await submit_wait(served, **body))
    assert (failed["state"], failed["outcome"]["payload"]["status"]) == ("failed", "FAILED")
    missing = {"job_id": "876da822-4198-45f2-a252-6cea32512ea8"}
    await wait_until(
        served, await submit_wait(served, kind="batch.job", params=missing), last_verdict_is("not_found")
    )


async def test_a_wrong_secret_is_reported_and_not_quoted(served: Daemon) -> None:
    params = {"aws_conn_id": "wrong", "query_execution_id": "a1b2c3d4-5678-90ab-cdef-111122223333"}
    wait = await wait_until_ended(served, await submit_wait(served, kind="athena.query", params=params))
    assert (wait["state"], wait["outcome"]["reason"]) == ("failed", "http_403")  # all that moto reports
    assert "planted" not in json.dumps(wait)


async def test_any_waiter_is_run(aws: Aws, served: Daemon) -> None:
    """Kind `aws_waiter`: invalid params are refused, and the wait ends with the waiter."""
    table = {"service": "dynamodb", "waiter": "table_exists", "params": {"TableName": "orders"}}
    status, problem = await post(
        f"{served.url}/v1/waits", {"kind": "aws_waiter", "params": table | {"params": {"Table": "orders"}}}
    )
    assert status == 422
    assert {error["pointer"] for error in problem["errors"]} == {
        "/params/params/Table",
        "/params/params/TableName",
    }
    wait = await submit_wait(served, kind="aws_waiter", params=table, poke_interval=1)
    await wait_until(served, wait, last_verdict_is("pending", "ResourceNotFoundException"))
    with aws.client("dynamodb") as dynamodb:
        dynamodb.create_table(
            TableName="orders",
            KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
    wait = await wait_until_ended(served, wait)
    assert (wait["state"], wait["outcome"]["payload"]["Table"]["TableStatus"]) == ("success", "ACTIVE")
    refused = await submit_wait(served, kind="aws_waiter", params=table | {"aws_conn_id": "wrong"})
    refused = await wait_until_ended(served, refused)
    assert (refused["state"], refused["outcome"]["reason"]) == ("failed", "access_denied")
