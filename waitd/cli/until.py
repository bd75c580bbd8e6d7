"""`waitd until http` and `waitd until s3`: wait on the command line, without a daemon."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_error, print_json, stderr_console
from waitd.cli.options import Json, examples, help_text, load_settings

if TYPE_CHECKING:
    from waitd.core.waits.step import Finish
    from waitd.settings import Settings

PokeInterval = Annotated[float, typer.Option(help="Seconds between pokes.")]
Timeout = Annotated[
    float | None,
    typer.Option(help="Give up after this many seconds. (default: the setting default_timeout, 7 days)"),
]
RequestTimeout = Annotated[float | None, typer.Option(help="Timeout of one poke, in seconds. (default: 10)")]
Backoff = Annotated[bool, typer.Option("--exponential-backoff", help="Double the interval after each poke.")]
MaxWait = Annotated[
    float | None,
    typer.Option(help="The longest interval with --exponential-backoff, in seconds. (default: no limit)"),
]
SilentFail = Annotated[
    bool, typer.Option("--silent-fail", help="Poke again after a refusal such as 403, instead of failing.")
]

#: Options and arguments that are not named after the field of the request that they set.
_OPTION_NAMES = {
    "bucket_key": "S3URL",
    "endpoint": "URL",
    "headers": "--header",
    "metadata_keys": "--metadata-key",
    "response_error_codes_allowlist": "--allow-status",
    "use_regex": "--regex",
    "wildcard_match": "--wildcard",
}


def until_http(
    url: Annotated[
        str,
        typer.Argument(help="An http or https URL, or a path on the host of --http-conn-id.", metavar="URL"),
    ],
    success_when: Annotated[
        str | None,
        typer.Option(
            help="CEL condition over status, headers, body and text that ends the wait with success. "
            "(default: a 2xx status)"
        ),
    ] = None,
    failure_when: Annotated[
        str | None, typer.Option(help="CEL condition that ends the wait as failed.")
    ] = None,
    poke_interval: PokeInterval = 60.0,
    timeout: Timeout = None,
    method: Annotated[str | None, typer.Option(help="HTTP method. (default: GET)")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="Request header. May be repeated.", metavar="'NAME: VALUE'")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Request body.")] = None,
    http_conn_id: Annotated[
        str | None,
        typer.Option(help="Connection with host and credentials, from AIRFLOW_CONN_<ID>.", metavar="ID"),
    ] = None,
    request_timeout: RequestTimeout = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-status", help='Error status that means "not yet". May be repeated. (default: 404)'
        ),
    ] = None,
    exponential_backoff: Backoff = False,
    max_wait: MaxWait = None,
    silent_fail: SilentFail = False,
    message: Annotated[str | None, typer.Option(help="CEL expression for the outcome's message.")] = None,
    result: Annotated[
        str | None,
        typer.Option(help="CEL expression for the result printed on success. (default: the JSON body)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Poke a URL until it answers with success or failure, or until the timeout.

    An unreachable endpoint, a request timeout, a 5xx or a 429 status does not fail the wait: it is
    poked again. On success the result is printed. With --json the outcome is printed, whatever it
    is.
    """
    params = {
        "endpoint": url,
        "http_conn_id": http_conn_id,
        "method": method,
        "headers": parse_headers(header or ()) or None,
        "data": data,
        "request_timeout": request_timeout,
        "response_error_codes_allowlist": allow,
        "success_when": success_when,
        "failure_when": failure_when,
        "message": message,
        "result": result,
    }
    pace = pace_fields(poke_interval, timeout, exponential_backoff, max_wait, silent_fail)
    run_until_ended({"kind": "http", "params": without_unset(params), **pace}, as_json=as_json)


def until_s3(
    key: Annotated[
        list[str],
        typer.Argument(help="s3://bucket/key. With several keys, all of them must exist.", metavar="S3URL"),
    ],
    wildcard: Annotated[
        bool, typer.Option("--wildcard", help="Treat the keys as Unix wildcards. Quote them for the shell.")
    ] = False,
    regex: Annotated[
        bool, typer.Option("--regex", help="Treat the keys as regular expressions (RE2).")
    ] = False,
    check: Annotated[
        str | None,
        typer.Option(help="CEL condition over files, the matching keys, that must be true as well."),
    ] = None,
    metadata_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata-key",
            help="Field of a file in --check and in the result, such as Size, StorageClass or Metadata, or * "
            "for all. May be repeated. (default: Size and Key)",
        ),
    ] = None,
    aws_conn_id: Annotated[
        str | None,
        typer.Option(
            help="Connection with credentials and endpoint, from AIRFLOW_CONN_<ID>. "
            "(default: aws_default, or else the environment's credentials)",
            metavar="ID",
        ),
    ] = None,
    region_name: Annotated[
        str | None, typer.Option(help="AWS region. (default: the connection's region)")
    ] = None,
    poke_interval: PokeInterval = 60.0,
    timeout: Timeout = None,
    request_timeout: RequestTimeout = None,
    exponential_backoff: Backoff = False,
    max_wait: MaxWait = None,
    silent_fail: SilentFail = False,
    as_json: Json = False,
) -> None:
    """Poke S3, or a compatible store, until all keys exist or until the timeout.

    An unreachable store, a 5xx status or SlowDown does not fail the wait: it is poked again. On
    success the attributes of the files are printed. With --json the outcome is printed, whatever it
    is.
    """
    params = {
        "bucket_key": key,
        "wildcard_match": wildcard or None,
        "use_regex": regex or None,
        "check": check,
        "metadata_keys": metadata_keys,
        "aws_conn_id": aws_conn_id,
        "region_name": region_name,
        "request_timeout": request_timeout,
    }
    pace = pace_fields(poke_interval, timeout, exponential_backoff, max_wait, silent_fail)
    run_until_ended({"kind": "s3_key", "params": without_unset(params), **pace}, as_json=as_json)


def without_unset(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that are set. The probe knows the defaults of the others."""
    return {name: value for name, value in params.items() if value is not None}


def pace_fields(
    poke_interval: float, timeout: float | None, backoff: bool, max_wait: float | None, silent_fail: bool
) -> dict[str, Any]:
    """The fields of the request that do not depend on its kind."""
    return {
        "poke_interval": poke_interval,
        "timeout": timeout,
        "exponential_backoff": backoff,
        "max_wait": max_wait,
        "silent_fail": silent_fail,
    }


def parse_headers(lines: Sequence[str]) -> dict[str, str]:
    """Headers in curl's form, `Name: value`. Ends the command if one is malformed."""
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name.strip():
            fail(f"--header {line!r}: write it as 'Name: value'.", ExitCode.USAGE)
        headers[name.strip()] = value.strip()
    return headers


def run_until_ended(body: dict[str, Any], *, as_json: bool) -> None:
    """Runs the wait (a body of `POST /v1/waits`), and ends the command with its exit code."""
    from waitd.cli.display.until import print_outcome
    from waitd.core.errors import InvalidInput
    from waitd.core.waits.wait import WaitState
    from waitd.models import parse_wait

    settings = load_settings(None)
    try:
        request = parse_wait(body)
        check_limits(request, settings)
        finish = asyncio.run(_run(request, settings))
    except InvalidInput as error:
        for problem in error.problems:
            print_error(f"{option_name(problem.pointer)}: {problem.detail}")
        raise typer.Exit(ExitCode.USAGE) from None
    outcome = finish.outcome
    if as_json:
        print_json(
            {
                "state": outcome.state.value,
                "payload": outcome.payload,
                "message": outcome.message,
                "reason": outcome.reason,
                "pokes": finish.progress.pokes,
            }
        )
    elif outcome.state is WaitState.SUCCESS and outcome.payload is not None:
        print_json(outcome.payload)
    print_outcome(stderr_console(), finish)
    codes = {WaitState.SUCCESS: ExitCode.OK, WaitState.TIMEOUT: ExitCode.TIMEOUT}
    raise typer.Exit(codes.get(outcome.state, ExitCode.FAILED))


def check_limits(request: Any, settings: "Settings") -> None:
    """Checks the request against the limits of the settings, as the daemon does.

    Raises:
        InvalidInput: it exceeds one of them.
    """
    from waitd.core.errors import InvalidInput

    if request.poke_interval < settings.min_poke_interval:
        raise InvalidInput.at(
            "/poke_interval", f"at least {settings.min_poke_interval:,.15g} s (WAITD_MIN_POKE_INTERVAL)"
        )
    if request.timeout is not None and request.timeout > settings.max_timeout:
        raise InvalidInput.at("/timeout", f"at most {settings.max_timeout:,.15g} s (WAITD_MAX_TIMEOUT)")


def option_name(pointer: str) -> str:
    """The option that sets the field at this JSON pointer of the request."""
    field = pointer.removeprefix("/params").removeprefix("/").partition("/")[0]
    return _OPTION_NAMES.get(field, "--" + field.replace("_", "-") if field else "the wait")


async def _run(request: Any, settings: "Settings") -> "Finish":
    from waitd.app import open_probes
    from waitd.cli.display.until import UntilDisplay
    from waitd.cli.until_loop import StandaloneWait, run_wait
    from waitd.core.errors import InvalidInput
    from waitd.core.waits.schedule import Pacing
    from waitd.engine.clock import SteadyClock

    async with open_probes(settings) as probes:
        probe = probes[request.kind]
        try:
            target = probe.parse(request.params, namespace="default")
        except InvalidInput as error:
            raise error.below("/params") from None
        clock = SteadyClock()
        pacing = Pacing(request.poke_interval, request.exponential_backoff, request.max_wait)
        deadline = clock.now() + (request.timeout or settings.default_timeout)
        wait = StandaloneWait(target, pacing, deadline, request.silent_fail)
        with UntilDisplay(stderr_console(), wait, clock.now) as display:
            return await run_wait(wait, probe, clock, display.refresh)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

    @group.callback()
    def _until() -> None:
        """Wait for one thing without a daemon. The exit code tells how it ended."""

    group.command(
        "http",
        help=help_text(until_http),
        epilog=examples(
            "waitd until http http://127.0.0.1:8000/health --poke-interval 1 --timeout 60",
            """waitd until http https://api.example.org/jobs/17 --success-when "body.status == 'SUCCEEDED'" """
            """--failure-when "body.status in ['FAILED', 'CANCELLED']" --result body.output""",
            """waitd until http /api/v1/jobs/17 --http-conn-id airbyte --success-when "body.job.status == 'succeeded'" """,
        ),
    )(until_http)
    group.command(
        "s3",
        help=help_text(until_s3),
        epilog=examples(
            "waitd until s3 s3://landing/orders/2026-11-21/_SUCCESS --timeout 3600",
            "waitd until s3 's3://landing/*.parquet' --wildcard --check 'size(files) >= 24'",
            "waitd until s3 s3://landing/a.csv s3://landing/b.csv --aws-conn-id minio",
        ),
    )(until_s3)
    app.add_typer(group, name="until")
