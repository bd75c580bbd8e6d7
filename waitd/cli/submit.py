"""`waitd submit`: submit waits from a file or standard input."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import (
    ExitCode,
    describe_refusal,
    fail,
    print_error,
    print_json,
    print_line,
    stderr_console,
)
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.options import DEFAULT_URL, Json, Url, examples, help_text

if TYPE_CHECKING:
    from waitd.client import Client

#: Waits per request: 1,000 of the largest stay below the API's limit of bytes, and the progress bar
#: moves.
BATCH_SIZE = 1000
#: A whole body, for `--help`; each line is shown on one.
_BODY = """\
{
  "kind": "http",
  "params": {
    "endpoint": "http://127.0.0.1:8000/jobs/17",
    "success_when": "body.state == 'DONE'",
    "failure_when": "body.state == 'FAILED'"
  },
  "poke_interval": 30,
  "timeout": 14400,
  "sinks": [{"kind": "webhook", "url": "http://127.0.0.1:9000/done"}],
  "labels": {"dag_id": "orders", "task_id": "sync"}
}"""
#: How many refused waits are printed; the others are only counted.
MAX_PRINTED_REFUSALS = 10


def submit(
    file: Annotated[
        str,
        typer.Argument(
            help="A JSON object, a JSON array, or one JSON object a line. - reads standard input.",
            metavar="FILE|-",
        ),
    ],
    idempotency_key: Annotated[
        str | None,
        typer.Option(
            help="Submitting the same wait again with the same key returns the first one.", metavar="KEY"
        ),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until the waits end; the exit code tells their outcome.")
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit one wait or many, and print their ids, one on a line.

    Many waits are sent in batches; each batch is one durable commit. Each object may contain its
    own idempotency_key, so that the file can safely be submitted again after an error. With --json
    the daemon's answers are printed, one on a line; with --wait, the ended waits.
    """
    bodies = read_waits(file)
    if len(bodies) > 1 and idempotency_key:
        fail(
            "--idempotency-key is for a single wait; with several, give each object its own idempotency_key.",
            ExitCode.USAGE,
        )
    answers = (
        submit_one(url, bodies[0], idempotency_key)
        if len(bodies) == 1
        else submit_many(url, bodies, as_json=as_json)
    )
    code = ExitCode.FAILED if print_refused(answers) else ExitCode.OK
    if wait:
        from waitd.cli.outcomes import outcome_exit_code, wait_for_outcomes

        ids = [answer["id"] for answer in answers if "id" in answer]
        ended = wait_for_outcomes(url, ids, as_json=as_json)
        raise typer.Exit(outcome_exit_code(ended) if code is ExitCode.OK else code)
    print_accepted(answers, as_json=as_json)
    raise typer.Exit(code)


def read_waits(file: str) -> Sequence[dict[str, Any]]:
    """The JSON objects of a file, or of standard input (`-`).

    Ends the command if there are none.
    """
    import orjson

    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(f"cannot read {file}: {error.strerror}", ExitCode.USAGE)
    try:
        document = orjson.loads(text)
        bodies = document if isinstance(document, list) else [document]
    except orjson.JSONDecodeError as error:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2 or lines[0][1].strip() in {b"{", b"["}:
            fail(f"{file} is not JSON: {error}", ExitCode.USAGE)
        bodies = [_decode_line(file, n, line) for n, line in lines]
    if not bodies:
        fail(f"{file} contains no wait.", ExitCode.USAGE)
    for n, body in enumerate(bodies, 1):
        if not isinstance(body, dict):
            fail(f"{file}: wait {n} is not a JSON object.", ExitCode.USAGE)
    return bodies


def _decode_line(file: str, number: int, line: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        fail(f"{file}, line {number} is not JSON: {error}", ExitCode.USAGE)


def submit_one(url: str, body: Mapping[str, Any], idempotency_key: str | None) -> Sequence[Mapping[str, Any]]:
    """Submits one wait. For a single wait the API takes the idempotency key as a header."""
    fields = {name: value for name, value in body.items() if name != "idempotency_key"}
    key = idempotency_key or body.get("idempotency_key")
    return [call_daemon(url, lambda client: client.submit(fields, str(key) if key else None))]


def submit_many(
    url: str,
    bodies: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    prepare: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Sequence[Mapping[str, Any]]:
    """Submits waits in batches and returns the daemon's answers in order.

    `prepare` makes the wait to submit from a body, immediately before it is sent. If a batch fails,
    the answers to the earlier ones are printed and the command ends.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    answers: list[dict[str, Any]] = []
    if not bodies:
        return answers

    async def work(client: "Client") -> None:
        console = stderr_console()
        columns = (TextColumn("Submitting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=len(bodies))
            for start in range(0, len(bodies), BATCH_SIZE):
                answers.extend(await client.submit_batch(map(prepare, bodies[start : start + BATCH_SIZE])))
                bar.update(task, completed=len(answers))

    try:
        call_daemon(url, work)
    except typer.Exit:
        if answers:
            print_error(
                f"the daemon answered the first {len(answers)} of {len(bodies)} waits; "
                "their answers are on standard output."
            )
            print_accepted(answers, as_json=as_json)
        raise
    return answers


def print_accepted(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Prints the ids of the accepted waits; with `as_json`, all of the daemon's answers."""
    for answer in answers:
        if as_json:
            print_json(answer)
        elif "id" in answer:
            print_line(answer["id"])


def print_refused(answers: Sequence[Mapping[str, Any]]) -> int:
    """Prints the first refused waits on standard error, and returns how many were refused."""
    from waitd.client import RequestRefused

    refused = [(n, answer) for n, answer in enumerate(answers, 1) if "id" not in answer]
    for n, answer in refused[:MAX_PRINTED_REFUSALS]:
        refusal = RequestRefused(answer.get("status", 0), answer.get("problem") or {})
        print_error(f"wait {n}: {describe_refusal(refusal)}")
    if len(refused) > MAX_PRINTED_REFUSALS:
        print_error(f"{len(refused) - MAX_PRINTED_REFUSALS} more waits were refused.")
    return len(refused)


def register(app: typer.Typer) -> None:
    """Adds the command."""
    from rich.markup import escape

    body = "\n\n".join(f"[cyan]{escape(line)}[/]" for line in _BODY.splitlines())
    app.command(
        help=help_text(submit),
        epilog=f"[bold]A wait[/] (kind and params are needed)\n\n{body}\n\n"
        + examples(
            """waitd submit - --wait <<< '{"kind": "http", "params": {"endpoint": "http://127.0.0.1:8000/health"}}'""",
            "waitd submit wait.json --idempotency-key nightly-2026-11-21",
            "waitd submit waits.ndjson --url http://127.0.0.1:9000",
            "jq -c .waits[] plan.json | waitd submit - --wait",
        ),
    )(submit)
