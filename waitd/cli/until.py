"""`waitd until …`: one wait on the command line, without a daemon. It waits; its exit code says how it ended."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from waitd.cli.common import Code, Json, described, examples, fail
from waitd.cli.until_run import until

PokeInterval = Annotated[float, typer.Option(help="Seconds between pokes.")]
Timeout = Annotated[
    float | None,
    typer.Option(help="Seconds until it gives up. (default: 7 days, or the setting default_timeout)"),
]
RequestTimeout = Annotated[float | None, typer.Option(help="Seconds that one poke may take. (default: 10)")]
Backoff = Annotated[bool, typer.Option("--exponential-backoff", help="Double the interval each time.")]
MaxWait = Annotated[float | None, typer.Option(help="The longest interval of the backoff, in seconds.")]
SilentFail = Annotated[bool, typer.Option("--silent-fail", help="A refusal, e.g. 403, is poked again.")]


def until_http(
    url: Annotated[
        str, typer.Argument(help="An http(s) URL, or a path below --http-conn-id.", metavar="URL")
    ],
    success_when: Annotated[
        str | None, typer.Option(help="CEL over status, headers, body, text. (default: a 2xx)")
    ] = None,
    failure_when: Annotated[str | None, typer.Option(help="CEL; true ends the wait as failed.")] = None,
    poke_interval: PokeInterval = 60.0,
    timeout: Timeout = None,
    method: Annotated[str | None, typer.Option(help="The request's method. (default: GET)")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="May be repeated.", metavar="'NAME: VALUE'")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The request's body.")] = None,
    http_conn_id: Annotated[
        str | None, typer.Option(help="Whose credentials: AIRFLOW_CONN_<ID> names them.")
    ] = None,
    request_timeout: RequestTimeout = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-status", help="An error status that means not yet; may be repeated. (default: 404)"
        ),
    ] = None,
    exponential_backoff: Backoff = False,
    max_wait: MaxWait = None,
    silent_fail: SilentFail = False,
    message: Annotated[str | None, typer.Option(help="CEL for the outcome's message.")] = None,
    result: Annotated[
        str | None, typer.Option(help="CEL for what is printed on success. (default: the JSON body)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Poke a URL until it says success or failure, or the time is over.

    An endpoint that cannot be reached, a timeout, a 5xx or a 429 is no failure: it is poked again. On success the result is printed;
    with --json, the outcome however it ends.
    """
    params = {
        "endpoint": url,
        "http_conn_id": http_conn_id,
        "method": method,
        "headers": headers_of(header or ()) or None,
        "data": data,
        "request_timeout": request_timeout,
        "response_error_codes_allowlist": allow,
        "success_when": success_when,
        "failure_when": failure_when,
        "message": message,
        "result": result,
    }
    pace = pace_of(poke_interval, timeout, exponential_backoff, max_wait, silent_fail)
    until({"kind": "http", "params": given(params), **pace}, as_json=as_json)


def until_s3(
    key: Annotated[
        list[str],
        typer.Argument(help="s3://bucket/key; several: all must be there.", metavar="S3URL"),
    ],
    wildcard: Annotated[
        bool, typer.Option("--wildcard", help="The keys are Unix wildcards; quote them.")
    ] = False,
    regex: Annotated[bool, typer.Option("--regex", help="The keys are regular expressions (RE2).")] = False,
    check: Annotated[
        str | None,
        typer.Option(help="CEL over files, the keys that matched; it must be true, too."),
    ] = None,
    metadata_keys: Annotated[
        list[str] | None,
        typer.Option(
            "--metadata-key",
            help="What check and the result see of a file: Key, Size, LastModified, ETag, *; may be repeated. (default: Size, Key)",
        ),
    ] = None,
    aws_conn_id: Annotated[
        str | None,
        typer.Option(
            help="Whose credentials and endpoint: AIRFLOW_CONN_<ID> names them. "
            "(default: aws_default, else the environment's)"
        ),
    ] = None,
    region_name: Annotated[str | None, typer.Option(help="The region. (default: the connection's)")] = None,
    poke_interval: PokeInterval = 60.0,
    timeout: Timeout = None,
    request_timeout: RequestTimeout = None,
    exponential_backoff: Backoff = False,
    max_wait: MaxWait = None,
    silent_fail: SilentFail = False,
    as_json: Json = False,
) -> None:
    """Look for keys in S3, or in a store that speaks as S3 does, until all are there or the time is over.

    A store that cannot be reached, a 5xx or SlowDown is no failure: it is asked again. On success what is known of the files is printed;
    with --json, the outcome however it ends.
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
    pace = pace_of(poke_interval, timeout, exponential_backoff, max_wait, silent_fail)
    until({"kind": "s3_key", "params": given(params), **pace}, as_json=as_json)


def given(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters that were given; of the others the probe knows the defaults."""
    return {name: value for name, value in params.items() if value is not None}


def pace_of(
    poke_interval: float, timeout: float | None, backoff: bool, max_wait: float | None, silent_fail: bool
) -> dict[str, Any]:
    """What every wait has beside its kind and parameters, as the API takes it."""
    return {
        "poke_interval": poke_interval,
        "timeout": timeout,
        "exponential_backoff": backoff,
        "max_wait": max_wait,
        "silent_fail": silent_fail,
    }


def headers_of(lines: Sequence[str]) -> dict[str, str]:
    """Headers as curl writes them."""
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name.strip():
            fail(f"--header {line!r}: write it as 'Name: value'.", Code.USAGE)
        headers[name.strip()] = value.strip()
    return headers


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich")

    @group.callback()
    def _until() -> None:
        """Wait for one thing, here and now, without a daemon; the exit code says how it ended."""

    group.command(
        "http",
        help=described(until_http),
        epilog=examples(
            "waitd until http http://127.0.0.1:8000/health --poke-interval 1 --timeout 60",
            """waitd until http https://api.example.org/jobs/17 --success-when "body.status == 'SUCCEEDED'" """
            """--failure-when "body.status in ['FAILED', 'CANCELLED']" --result body.output""",
            """waitd until http /api/v1/jobs/17 --http-conn-id airbyte --success-when "body.job.status == 'succeeded'" """,
        ),
    )(until_http)
    group.command(
        "s3",
        help=described(until_s3),
        epilog=examples(
            "waitd until s3 s3://landing/orders/2026-11-21/_SUCCESS --timeout 3600",
            "waitd until s3 's3://landing/*.parquet' --wildcard --check 'size(files) >= 24'",
            "waitd until s3 s3://landing/a.csv s3://landing/b.csv --aws-conn-id minio",
        ),
    )(until_s3)
    app.add_typer(group, name="until")
