"""`waitd submit`: waits from a file or standard input into the daemon."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    DEFAULT_URL,
    Code,
    Json,
    Url,
    ask,
    complain,
    described,
    examples,
    fail,
    notes,
    put_json,
    refusal,
)

if TYPE_CHECKING:
    from waitd.client import Client

#: Lines sent at once: 1,000 of the largest waits stay under the API's limit of bytes, and progress shows.
CHUNK = 1000
#: How many refused waits are named.
MOST_NAMED = 10


def submit(
    file: Annotated[
        str,
        typer.Argument(help="A JSON object, a JSON array or NDJSON; - is standard input.", metavar="FILE|-"),
    ],
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="The same key and body submitted again give the same wait.", metavar="KEY"),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the outcome; the exit code tells it.")
    ] = False,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Submit one wait or many; prints their ids, one on a line.

    Many go in batches with one durable commit each. An object may carry its own idempotency_key, which makes it safe to submit the same
    file again after an error. With --json it prints the daemon's answers, one on a line; with --wait also, the ended waits.
    """
    bodies = read(file)
    if len(bodies) > 1 and idempotency_key:
        fail(
            "--idempotency-key is for one wait; among many, each object carries its own idempotency_key.",
            Code.USAGE,
        )
    accepted = (
        submit_one(url, bodies[0], idempotency_key)
        if len(bodies) == 1
        else submit_many(url, bodies, as_json=as_json)
    )
    code = Code.FAILED if complain_of_refused(accepted) else Code.OK
    ids = [answer["id"] for answer in accepted if "id" in answer]
    if wait:
        from waitd.cli.display.outcome import exit_code_of, wait_for_all

        ended = wait_for_all(url, ids, as_json=as_json)
        raise typer.Exit(exit_code_of(ended) if code is Code.OK else code)
    put(accepted, as_json=as_json)
    raise typer.Exit(code)


def put(answers: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """The daemon's answers on standard output: as they are, or the ids of the accepted waits."""
    for answer in answers:
        if as_json:
            put_json(answer)
        elif "id" in answer:
            sys.stdout.write(answer["id"] + "\n")


def read(file: str) -> Sequence[dict[str, Any]]:
    """The objects of a file (`-`: standard input), whichever of the three forms it has; ends the command where it has none."""
    import orjson

    try:
        text = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except OSError as error:
        fail(f"{file} cannot be read: {error.strerror}", Code.USAGE)
    try:
        whole = orjson.loads(text)
        found = whole if isinstance(whole, list) else [whole]
    except orjson.JSONDecodeError as error:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        if len(lines) < 2 or lines[0][1].strip() in {b"{", b"["}:
            fail(f"{file} is no JSON: {error}", Code.USAGE)
        found = [_decoded(file, n, line) for n, line in lines]
    if not found:
        fail(f"{file} holds no wait.", Code.USAGE)
    for n, body in enumerate(found, 1):
        if not isinstance(body, dict):
            fail(f"{file}: wait {n} is no JSON object.", Code.USAGE)
    return found


def _decoded(file: str, number: int, line: bytes) -> Any:
    import orjson

    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError as error:
        fail(f"{file}, line {number}: no JSON: {error}", Code.USAGE)


def submit_one(url: str, body: Mapping[str, Any], idempotency_key: str | None) -> Sequence[Mapping[str, Any]]:
    """The accepted wait. A key inside the object goes where the API expects it for one wait: in the header."""
    plain = {name: value for name, value in body.items() if name != "idempotency_key"}
    key = idempotency_key or body.get("idempotency_key")
    return [ask(url, lambda client: client.submit(plain, str(key) if key else None))]


def submit_many(
    url: str,
    bodies: Sequence[Mapping[str, Any]],
    *,
    as_json: bool,
    prepared: Callable[[Mapping[str, Any]], Mapping[str, Any]] = dict,
) -> Sequence[Mapping[str, Any]]:
    """The daemon's answer to each wait, in order. `prepared` makes the line to send of a body, just before it is sent."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    answers: list[dict[str, Any]] = []
    if not bodies:
        return answers

    async def work(client: "Client") -> None:
        console = notes()
        columns = (TextColumn("Submitting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
            task = bar.add_task("", total=len(bodies))
            for start in range(0, len(bodies), CHUNK):
                answers.extend(await client.submit_batch(map(prepared, bodies[start : start + CHUNK])))
                bar.update(task, completed=len(answers))

    try:
        ask(url, work)
    except typer.Exit:
        if answers:
            complain(
                f"the first {len(answers)} of {len(bodies)} waits had been answered; see standard output."
            )
            put(answers, as_json=as_json)
        raise
    return answers


def complain_of_refused(answers: Sequence[Mapping[str, Any]]) -> int:
    """Names the first waits that were refused on standard error; how many there are."""
    refused = [(n, answer) for n, answer in enumerate(answers, 1) if "id" not in answer]
    for n, answer in refused[:MOST_NAMED]:
        complain(f"wait {n}: {_refusal(answer)}")
    if len(refused) > MOST_NAMED:
        complain(f"and {len(refused) - MOST_NAMED} more were refused.")
    return len(refused)


def _refusal(answer: Mapping[str, Any]) -> str:
    from waitd.client import RequestRefused

    return refusal(RequestRefused(answer.get("status", 0), answer.get("problem") or {}))


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(
        help=described(submit),
        epilog=examples(
            "waitd submit wait.json",
            "waitd submit waits.ndjson --url http://127.0.0.1:9000",
            "jq -c .waits[] plan.json | waitd submit - --wait",
        ),
    )(submit)
