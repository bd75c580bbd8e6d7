"""The README is held against the code: its tables, its commands, its examples, and where its links lead."""

import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from typing import Any
from unittest.mock import MagicMock

import pytest
import typer
from readme_tables import KINDS, README, SINKS, with_tables

from waitd.api.route_table import Handlers, table
from waitd.app import Parts, open_parts
from waitd.cli import app
from waitd.connections.environment import EnvironmentResolver
from waitd.metrics import Instruments
from waitd.models import WaitRequest, parsed
from waitd.probes.presets.probe import PresetProbe
from waitd.settings import Settings

TEXT = README.read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
async def parts() -> AsyncIterator[Parts]:
    async with open_parts(Settings(), Instruments(version="test")) as parts:
        yield parts


def test_the_tables_are_those_of_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.delenv(name, raising=False)
    assert with_tables(TEXT) == TEXT, "run `python tests/readme_tables.py`"


def test_every_kind_and_sink_has_its_table_and_its_line(parts: Parts) -> None:
    assert set(KINDS) == {kind for kind, probe in parts.probes.items() if not isinstance(probe, PresetProbe)}
    assert set(SINKS) == set(parts.sinks)
    assert [name for name in KINDS if f"### Kind `{name}`" not in TEXT] == []
    delivered = TEXT.partition("| Sink | Delivered when |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", delivered, flags=re.MULTILINE) == list(SINKS)


def test_every_route_is_in_the_table_of_the_api() -> None:
    lines = TEXT.partition("## API")[2].partition("\n\n|")[2].partition("\n\n")[0]
    routes = table(Handlers(*(MagicMock() for _ in Handlers._fields)))
    missing = []
    for route in routes:
        path = re.sub(r"\{(\w+):.*?\}", r"{\1}", route.path)
        last = path.removeprefix("/v1/waits/{id}") if path.startswith("/v1/waits/{id}:") else path
        if f"{last}`" not in lines and not path.startswith("/docs/"):
            missing.append(path)
    assert missing == []


def commands() -> Iterator[list[str]]:
    """The arguments of every `waitd …` in a block of shell or in a sentence."""
    shell = "\n".join(text for language, text in BLOCKS if language == "sh").replace("\\\n", " ")
    prose = re.sub(r"^```.*?^```", "", TEXT, flags=re.DOTALL | re.MULTILINE)
    spans = (span.replace("\n", " ").replace("\\|", "|") for span in re.findall(r"`([^`]+)`", prose))
    spoken = "\n".join(span for span in spans if span.startswith("waitd "))
    for line in f"{shell}\n{spoken}".splitlines():
        if not re.search(r"(^|[\s/])waitd\s", line):
            continue
        for part in re.split(r"&&|\s[|>]\s", line):
            lexer = shlex.shlex(part, posix=True, punctuation_chars=False)
            lexer.whitespace_split = True
            words = [word for word in lexer if not re.fullmatch(r"[A-Z_]+=.*", word)]
            if words and words[0].rpartition("/")[2] == "waitd":
                yield words[1:]


def test_every_command_is_one_that_the_command_line_takes() -> None:
    found = list(commands())
    for arguments in found:
        parse(typer.main.get_command(app), arguments)
    assert len(found) > 25
    with pytest.raises(Exception, match="No such option: --nonsense"):
        parse(typer.main.get_command(app), ["until", "s3", "--nonsense"])


def parse(command: Any, arguments: list[str], parent: Any = None) -> None:
    """Parses, and runs nothing."""
    context = command.make_context("waitd", [argument.strip("[]") for argument in arguments], parent=parent)
    if hasattr(command, "commands"):
        words = [*context._protected_args, *context.args]
        if not words and command.invoke_without_command:
            return
        _, sub, rest = command.resolve_command(context, words)
        assert sub is not None
        parse(sub, rest, context)


def examples() -> Iterator[str]:
    for language, text in BLOCKS:
        if language in {"json", "jsonc"}:
            yield re.sub(r"\s+//.*", "", text)
        elif language == "sh":
            words = shlex.split(text)
            yield from (body for option, body in pairwise(words) if option == "-d")


def test_every_wait_shown_is_one_that_is_taken(parts: Parts) -> None:
    found = [parsed(WaitRequest, json.loads(text)) for text in examples()]
    for wait in found:
        probe: Any = parts.probes[wait.kind]
        if wait.submit is None:
            probe.parse(wait.params, namespace="default")
        else:
            probe.parse_submit(wait.submit, wait.params, namespace="default")
        for sink in wait.sinks:
            parts.sinks[sink.kind].parse(sink.model_dump(exclude={"kind"}))
    assert {wait.kind for wait in found} == {
        "http",
        "s3_key",
        "s3_keys_unchanged",
        "gcs_key",
        "azure_blob",
        "signal",
        "airbyte.job",
        "sql",
        "aws_waiter",
    }


async def test_every_connection_shown_can_be_read() -> None:
    shown = re.findall(r"^export (AIRFLOW_CONN_\w+)='(.*)'$", TEXT, flags=re.MULTILINE)
    assert shown
    for name, value in shown:
        resolver = EnvironmentResolver({name: value})
        connection = await resolver.lookup(name.removeprefix("AIRFLOW_CONN_").lower())
        assert connection is not None


def test_every_link_into_the_repository_leads_somewhere() -> None:
    targets = [target for target in re.findall(r"\]\(([^)]+)\)", TEXT) if "://" not in target]
    assert targets
    assert [target for target in targets if not (README.parent / target.partition("#")[0]).exists()] == []


def test_every_folder_and_test_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:waitd|tests)/[\w/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (README.parent / path).exists()] == []


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert named
    there = {path: (README.parent / path).read_text("utf-8") for path in {path for path, _ in named}}
    assert [test for path, test in named if f"def {test}(" not in there[path]] == []
