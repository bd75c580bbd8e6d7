"""What `waitd until …` does, whatever it waits for: checks the request as the daemon would, waits, and shows what it sees meanwhile."""

import asyncio
from typing import TYPE_CHECKING, Any

import typer

from waitd.cli.common import Code, complain, notes, put_json, settings_from

if TYPE_CHECKING:
    from rich.console import Console

    from waitd.cli.one_wait import OneWait
    from waitd.core.waits.step import Finish
    from waitd.models import WaitRequest
    from waitd.settings import Settings

#: How the options are called that do not have the name of the field which they set.
OPTIONS = {
    "bucket_key": "S3URL",
    "endpoint": "URL",
    "headers": "--header",
    "metadata_keys": "--metadata-key",
    "response_error_codes_allowlist": "--allow-status",
    "use_regex": "--regex",
    "wildcard_match": "--wildcard",
}


def until(request: dict[str, Any], *, as_json: bool) -> None:
    """Runs one wait, given as the API would take it, and ends the command with its exit code."""
    from waitd.core.errors import InvalidInput
    from waitd.core.waits.wait import WaitState
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
    return OPTIONS.get(name, "--" + name.replace("_", "-") if name else "the wait")


async def _run(asked: "WaitRequest", settings: "Settings") -> "Finish":
    from waitd.app import open_probes
    from waitd.cli.one_wait import OneWait, wait_for
    from waitd.core.errors import InvalidInput
    from waitd.core.waits.schedule import Pacing
    from waitd.engine.clock import SystemClock

    async with open_probes(settings) as probes:
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

    from waitd.cli.display.formatting import span
    from waitd.cli.display.waits import word

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

    from waitd.cli.display.waits import word

    outcome, runs = finish.outcome, finish.progress.runs
    took = f" after {finish.progress.pokes} pokes" if finish.progress.pokes != 1 else " at the first poke"
    said = outcome.message or (outcome.reason if outcome.reason != outcome.state.value else "")
    console.print(Text.assemble(word(outcome.state.value), took, f": {said}" if said else ""), soft_wrap=True)
    if outcome.state.value != "success" and len(runs) > 1:
        for run in runs:
            often = "once" if run.times == 1 else f"{run.times} times"
            console.print(f"  {often} {run.verdict} · {run.reason}", style="dim", markup=False)
