"""`waitd until …`: one wait on the command line, without a daemon. It waits; its exit code says how it ended."""

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import Code, Json, complain, described, examples, fail, notes, put_json, settings_from

if TYPE_CHECKING:
    from rich.console import Console

    from waitd.cli.one_wait import OneWait
    from waitd.core.step import Finish
    from waitd.models import WaitRequest
    from waitd.settings import Settings


def until_http(
    url: Annotated[
        str, typer.Argument(help="An http(s) URL, or a path below --http-conn-id.", metavar="URL")
    ],
    success_when: Annotated[
        str | None, typer.Option(help="CEL over status, headers, body, text. (default: a 2xx)")
    ] = None,
    failure_when: Annotated[str | None, typer.Option(help="CEL; true ends the wait as failed.")] = None,
    poke_interval: Annotated[float, typer.Option(help="Seconds between pokes.")] = 60.0,
    timeout: Annotated[
        float | None,
        typer.Option(help="Seconds until it gives up. (default: 7 days, or the setting default_timeout)"),
    ] = None,
    method: Annotated[str | None, typer.Option(help="The request's method. (default: GET)")] = None,
    header: Annotated[
        list[str] | None, typer.Option(help="May be repeated.", metavar="'NAME: VALUE'")
    ] = None,
    data: Annotated[str | None, typer.Option(help="The request's body.")] = None,
    http_conn_id: Annotated[
        str | None, typer.Option(help="Whose credentials: AIRFLOW_CONN_<ID> names them.")
    ] = None,
    request_timeout: Annotated[
        float | None, typer.Option(help="Seconds that one poke may take. (default: 10)")
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-status", help="An error status that means not yet; may be repeated. (default: 404)"
        ),
    ] = None,
    exponential_backoff: Annotated[
        bool, typer.Option("--exponential-backoff", help="Double the interval each time.")
    ] = False,
    max_wait: Annotated[
        float | None, typer.Option(help="The longest interval of the backoff, in seconds.")
    ] = None,
    silent_fail: Annotated[
        bool, typer.Option("--silent-fail", help="A refusal, e.g. 403, is poked again.")
    ] = False,
    message: Annotated[str | None, typer.Option(help="CEL for the outcome's message.")] = None,
    result: Annotated[
        str | None, typer.Option(help="CEL for what is printed on success. (default: the JSON body)")
    ] = None,
    as_json: Json = False,
) -> None:
    """Poke a URL until it says success or failure, or the time is over.

    An endpoint that cannot be reached, a timeout, a 5xx or a 429 is no failure: it is poked again. On success the result is printed;
    with --json, the outcome however it ends. Exit code 0 success, 1 failed, 124 timeout, 130 Ctrl-C.
    """
    params: dict[str, Any] = {
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
    request = {
        "kind": "http",
        "params": {name: value for name, value in params.items() if value is not None},
        "poke_interval": poke_interval,
        "timeout": timeout,
        "exponential_backoff": exponential_backoff,
        "max_wait": max_wait,
        "silent_fail": silent_fail,
    }
    until(request, as_json=as_json)


def headers_of(lines: "list[str] | tuple[()]") -> dict[str, str]:
    """Headers as curl writes them."""
    headers = {}
    for line in lines:
        name, separator, value = line.partition(":")
        if not separator or not name.strip():
            fail(f"--header {line!r}: write it as 'Name: value'.", Code.USAGE)
        headers[name.strip()] = value.strip()
    return headers


def until(request: dict[str, Any], *, as_json: bool) -> None:
    """Runs one wait, given as the API would take it, and ends the command with its exit code."""
    from waitd.core.errors import InvalidInput
    from waitd.core.wait import WaitState
    from waitd.models import WaitRequest, parsed

    settings = settings_from(None)
    try:
        asked = parsed(WaitRequest, request)
        check_limits(asked, settings)
        finish = asyncio.run(_run(asked, settings))
    except InvalidInput as error:
        for problem in error.problems:
            complain(f"{option_of(problem.pointer)}: {problem.detail}")
        raise typer.Exit(Code.USAGE) from None
    outcome = finish.outcome
    if as_json:
        put_json(
            {
                "state": outcome.state.value,
                "payload": outcome.payload,
                "message": outcome.message,
                "reason": outcome.reason,
                "pokes": finish.progress.pokes,
            }
        )
    elif outcome.state is WaitState.SUCCESS and outcome.payload is not None:
        put_json(outcome.payload)
    _print_end(notes(), finish)
    codes = {WaitState.SUCCESS: Code.OK, WaitState.TIMEOUT: Code.TIMEOUT}
    raise typer.Exit(codes.get(outcome.state, Code.FAILED))


def check_limits(asked: "WaitRequest", settings: "Settings") -> None:
    """The settings' limits, as the daemon holds them against a wait. Raises InvalidInput."""
    from waitd.core.errors import InvalidInput

    if asked.poke_interval < settings.min_poke_interval:
        raise InvalidInput.at(
            "/poke_interval", f"at least {settings.min_poke_interval:g} s (WAITD_MIN_POKE_INTERVAL)"
        )
    if asked.timeout is not None and asked.timeout > settings.max_timeout:
        raise InvalidInput.at("/timeout", f"at most {settings.max_timeout:g} s (WAITD_MAX_TIMEOUT)")


def option_of(pointer: str) -> str:
    """The option that set the field at a pointer of the request."""
    name = pointer.removeprefix("/params").removeprefix("/").partition("/")[0]
    special = {"endpoint": "URL", "headers": "--header", "response_error_codes_allowlist": "--allow-status"}
    return special.get(name, "--" + name.replace("_", "-") if name else "the wait")


async def _run(asked: "WaitRequest", settings: "Settings") -> "Finish":
    from waitd.app import probes_of
    from waitd.cli.one_wait import OneWait, wait_for
    from waitd.core.errors import InvalidInput
    from waitd.core.schedule import Pacing
    from waitd.engine.clock import SystemClock

    async with probes_of(settings) as probes:
        probe = probes[asked.kind]
        try:
            target = probe.parse(asked.params, namespace="default")
        except InvalidInput as error:
            raise error.below("/params") from None
        clock = SystemClock()
        pacing = Pacing(asked.poke_interval, asked.exponential_backoff, asked.max_wait)
        wait = OneWait(
            target, pacing, clock.now() + (asked.timeout or settings.default_timeout), asked.silent_fail
        )
        console = notes()
        if not console.is_terminal:
            return await wait_for(wait, probe, clock, _Lines(console, wait).seen)
        from rich.live import Live

        with Live(
            get_renderable=lambda: status_of(wait, clock.now()),
            console=console,
            transient=True,
            refresh_per_second=4,
        ):
            return await wait_for(wait, probe, clock, lambda: None)


def status_of(wait: "OneWait", now: float) -> Any:
    """What the wait last saw, and what comes next, as one line that grows no wider than the terminal."""
    from rich.text import Text

    from waitd.cli.views import span, word

    left = f"{span(wait.deadline - now)} left"
    following = f"next poke in {span(wait.due - now)}" if wait.due is not None else "poking"
    if not wait.progress.runs:
        return Text(f"{following} · {left}", no_wrap=True, overflow="ellipsis")
    run = wait.progress.runs[-1]
    since = f"for {span(now - run.first_at)}"
    tail = f" · {since} · {wait.progress.pokes} pokes · {following} · {left}"
    return Text.assemble(
        word(run.verdict), f" {run.message or run.reason}"[:60], tail, no_wrap=True, overflow="ellipsis"
    )


class _Lines:
    """Where there is no terminal: a line whenever something else is seen than before."""

    def __init__(self, console: "Console", wait: "OneWait") -> None:
        self._console = console
        self._wait = wait
        self._shown: tuple[str, str, str] | None = None

    def seen(self) -> None:
        run = self._wait.progress.runs[-1]
        said = run.verdict, run.reason, run.message
        if said != self._shown:
            self._shown = said
            self._console.print(" · ".join(filter(None, said)), markup=False)


def _print_end(console: "Console", finish: "Finish") -> None:
    from rich.text import Text

    from waitd.cli.views import word

    outcome, runs = finish.outcome, finish.progress.runs
    took = f" after {finish.progress.pokes} pokes" if finish.progress.pokes != 1 else " at the first poke"
    said = outcome.message or (outcome.reason if outcome.reason != outcome.state.value else "")
    console.print(Text.assemble(word(outcome.state.value), took, f": {said}" if said else ""), soft_wrap=True)
    if outcome.state.value != "success" and len(runs) > 1:
        for run in runs:
            console.print(f"  {run.count} times {run.verdict} · {run.reason}", style="dim", markup=False)


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
    app.add_typer(group, name="until")
