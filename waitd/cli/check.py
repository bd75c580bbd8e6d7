"""`waitd check`: try a condition on a sample answer."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_json, print_line
from waitd.cli.options import (
    DEFAULT_URL,
    Json,
    check_wait_id,
    examples,
    help_text,
    load_settings,
    or_global,
)
from waitd.cli.until import option_name, parse_headers
from waitd.core.suggestions import did_you_mean

if TYPE_CHECKING:
    from waitd.probes.cel.explain import Part
    from waitd.probes.cel.expressions import CelEnvironment

#: The longest text of a value that is printed.
_VALUE_LENGTH = 200
#: What a poke asks instead of the wait's own conditions, to see what these would see.
_SEE_ALL = {
    "http": {"success_when": "status > 0", "result": "{'status': status, 'headers': headers, 'text': text}"},
    "sql": {"success_when": "true", "result": "rows"},
    "s3_key": {},
}
_CONDITIONS = ("check", "success_when", "failure_when", "message", "result", "response_error_codes_allowlist")
_KINDS = ("http", "sql", "s3_key", "signal")


def check(
    expression: Annotated[str, typer.Argument(help="The CEL to try.", metavar="EXPRESSION")],
    body: Annotated[
        Path | None,
        typer.Option(
            help="The sample: the body of an answer; for --kind s3_key the JSON of files, for sql of rows, "
            "for signal of the payload.",
            metavar="FILE",
        ),
    ] = None,
    url: Annotated[
        str | None,
        typer.Option(help="Ask this http, https or s3 URL once; its answer is the sample.", metavar="URL"),
    ] = None,
    wait: Annotated[
        str | None,
        typer.Option(
            help="Poke once for this wait of the daemon, from here, with the connections that are here.",
            metavar="ID",
        ),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="The kind of wait, with --body: http, s3_key, sql or signal.", metavar="KIND")
    ] = "http",
    status: Annotated[int, typer.Option(help="The status of the sample, with --body.")] = 200,
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="A header of the sample, or of the request with --url. May be repeated.",
            metavar="'NAME: VALUE'",
        ),
    ] = None,
    as_json: Json = False,
    daemon: Annotated[
        str,
        typer.Option(
            "--daemon",
            envvar="WAITD_URL",
            help="URL of the daemon, for --wait.",
            metavar="URL",
            callback=or_global("url"),
        ),
    ] = DEFAULT_URL,
) -> None:
    """Try a condition on a sample, and show what it saw: the value of each part, and the fields
    that the part reads.

    The exit code is 0 if the condition is true, and 1 if it is not. Another expression, such as a
    message, is 0 unless it is an error.
    """
    from waitd.probes.cel.explain import explain
    from waitd.probes.cel.workers import run_with_limited_memory

    if sum(source is not None for source in (body, url, wait)) != 1:
        fail("name one sample: --body FILE, --url URL or --wait ID.", ExitCode.USAGE)
    headers = parse_headers(header or ())
    if body is not None:
        environment, variables = _sample(kind, _read(body), status, headers)
    else:
        kind, params = _wait_of(daemon, wait) if wait is not None else _wait_for(str(url), headers)
        environment, variables = asyncio.run(_poke(kind, params))
    try:
        parts = run_with_limited_memory(explain, environment, expression, variables)
    except ValueError as error:
        fail(str(error), ExitCode.USAGE)
    except MemoryError:
        fail("the expression needs over 1 GiB of memory.")
    if as_json:
        print_json([_view(part) for part in parts])
    else:
        _print(parts)
    raise typer.Exit(ExitCode.OK if _holds(parts[0].value) else ExitCode.FAILED)


def _holds(value: Any) -> bool:
    from waitd.probes.cel.expressions import ErrorValue

    return value is not False and not isinstance(value, ErrorValue)


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", ExitCode.USAGE)


def _sample(
    kind: str, content: bytes, status: int, headers: Mapping[str, str]
) -> "tuple[CelEnvironment, Any]":
    """The variables of a kind, from the content of a file."""
    from waitd.probes.cel.expressions import replace_json_nul
    from waitd.probes.cel.files import FILES_ENV
    from waitd.probes.cel.response import RESPONSE_ENV, ResponseVariables, decode_json, lowercase_headers
    from waitd.probes.signal import SIGNAL_ENV
    from waitd.probes.sql.evaluation import ROWS_ENV

    if kind == "http":
        return RESPONSE_ENV, ResponseVariables(status, lowercase_headers(headers), content, None)
    documents = {"s3_key": ("files", FILES_ENV), "sql": ("rows", ROWS_ENV), "signal": ("payload", SIGNAL_ENV)}
    if kind not in documents:
        fail(f"--kind {kind} has no conditions to try{_did_you_mean(kind)}", ExitCode.USAGE)
    name, environment = documents[kind]
    value, is_json = decode_json(replace_json_nul(content))
    if not is_json:
        fail(f"the sample of --kind {kind} must be JSON.", ExitCode.USAGE)
    if kind != "signal" and not (isinstance(value, list) and all(isinstance(item, dict) for item in value)):
        fail(f"the sample of --kind {kind} must be a JSON array of objects: {name}.", ExitCode.USAGE)
    return environment, SimpleNamespace(**{name: value})


def _did_you_mean(kind: str) -> str:
    return did_you_mean(kind, _KINDS) or f"; those of {', '.join(_KINDS)} can be tried."


def _wait_for(url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The kind and the parameters of a wait for what this URL names."""
    if url.startswith("s3://"):
        return "s3_key", {"bucket_key": url, "metadata_keys": ["*"]}
    return "http", {"endpoint": url, "headers": headers}


def _wait_of(url: str, wait_id: str) -> tuple[str, dict[str, Any]]:
    """The kind and the parameters of a wait, without its conditions."""
    from waitd.cli.daemon_calls import call_daemon

    wait = call_daemon(url, lambda client: client.get(check_wait_id(wait_id)))
    if wait["kind"] not in _SEE_ALL:
        fail(
            f"a wait of kind {wait['kind']} cannot be poked for --wait; save its answer in a file and use --body.",
            ExitCode.USAGE,
        )
    return wait["kind"], {name: value for name, value in wait["params"].items() if name not in _CONDITIONS}


async def _poke(kind: str, params: Mapping[str, Any]) -> "tuple[CelEnvironment, Any]":
    """The variables of a kind, from one poke."""
    import orjson

    from waitd.app import open_probes
    from waitd.cli.until_loop import StandaloneWait, poke_once
    from waitd.core.errors import InvalidInput
    from waitd.core.waits.schedule import Pacing
    from waitd.core.waits.verdict import Success

    async with open_probes(load_settings(None)) as probes:
        try:
            target = probes[kind].parse({**params, **_SEE_ALL[kind]}, namespace="default")
        except InvalidInput as error:
            problems = [f"{option_name(problem.pointer)}: {problem.detail}" for problem in error.problems]
            fail("; ".join(problems), ExitCode.USAGE)
        wait = StandaloneWait(target, Pacing(60.0, False, None), 0.0)
        verdict = await poke_once(wait, probes[kind], target.request_timeout)
    if not isinstance(verdict, Success):
        fail(f"no answer to try the condition on: {verdict.reason}: {verdict.message or ''}")
    seen = verdict.payload
    if seen is None:
        fail("the answer is over 64 KiB; save it in a file and use --body.")
    if kind == "http":
        return _sample(kind, seen["text"].encode(), seen["status"], seen["headers"])
    return _sample(kind, orjson.dumps(seen), 200, {})


def _view(part: "Part") -> dict[str, Any]:
    from waitd.probes.cel.explain import Missing
    from waitd.probes.cel.expressions import ErrorValue

    is_error = isinstance(part.value, ErrorValue)
    return {
        "expression": part.source,
        "value": None if is_error else _plain(part.value),
        "error": str(part.value) if is_error else None,
        "saw": {name: value for name, value in part.saw.items() if not isinstance(value, Missing)},
        "missing": [name for name, value in part.saw.items() if isinstance(value, Missing)],
    }


def _plain(value: Any) -> Any:
    """The value, or its text if JSON has none like it."""
    import orjson

    return orjson.loads(orjson.dumps(value, str, option=orjson.OPT_NON_STR_KEYS))


def _print(parts: "list[Part]") -> None:
    for number, part in enumerate(parts):
        print_line(f"{'' if not number else '  '}{part.source}: {_text_of(part.value)}")
        if number or len(parts) == 1:
            for name, value in part.saw.items():
                print_line(f"    {name} {_text_of(value)}")


def _text_of(value: Any) -> str:
    import orjson

    from waitd.probes.cel.explain import Missing
    from waitd.probes.cel.expressions import ErrorValue

    if isinstance(value, Missing):
        return f"is missing; beside it: {', '.join(value.beside)[:_VALUE_LENGTH] or 'nothing'}"
    if isinstance(value, ErrorValue):
        return f"error: {value}"
    text = orjson.dumps(value, str, option=orjson.OPT_NON_STR_KEYS).decode()
    return text if len(text) <= _VALUE_LENGTH else f"{text[:_VALUE_LENGTH]}…"


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=help_text(check),
        epilog=examples(
            """waitd check "body.status == 'SUCCEEDED'" --body answer.json""",
            """waitd check "status == 503 && headers['x-state'] == 'busy'" --body answer.txt --status 503 --header 'X-State: busy'""",
            """waitd check "body.state in ['DONE', 'FAILED']" --url http://127.0.0.1:8000/jobs/17""",
            """waitd check "size(files) >= 24" --kind s3_key --body files.json""",
        ),
    )(check)
