"""The guides match the code: their tables, commands, examples and links."""

import json
import re
import shlex
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest
import typer
from guide_tables import KINDS, README, ROOT, SINKS, read_guides, with_tables

from waitd.api.route_table import route_table
from waitd.app import Adapters, open_adapters
from waitd.cli import app
from waitd.connections.environment import EnvironmentResolver
from waitd.metrics import Instruments
from waitd.models import parse_wait
from waitd.probes.presets.probe import PresetProbe
from waitd.settings import Settings

GUIDES = read_guides()
TEXT = "\n".join(GUIDES.values())
API, DAGS, KIND_PAGE, SINK_PAGE = (
    GUIDES[ROOT / "waitd" / name / "README.md"] for name in ("api", "airflow", "probes", "sinks")
)
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, flags=re.DOTALL | re.MULTILINE)


@pytest.fixture
async def adapters() -> AsyncIterator[Adapters]:
    async with open_adapters(Settings(), Instruments(version="test")) as adapters:
        yield adapters


def test_the_tables_match_the_code(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.delenv(name, raising=False)
    assert with_tables(GUIDES) == GUIDES, "run `python tests/guide_tables.py`"


def test_every_kind_and_sink_has_a_table_and_a_line(adapters: Adapters) -> None:
    assert set(KINDS) == {
        kind for kind, probe in adapters.probes.items() if not isinstance(probe, PresetProbe)
    }
    assert set(SINKS) == set(adapters.sinks)
    assert [name for name in KINDS if f"## Kind `{name}`" not in KIND_PAGE] == []
    delivered = SINK_PAGE.partition("| Sink | Delivered when |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `(\w+)`", delivered, flags=re.MULTILINE) == list(SINKS)


def test_every_route_is_in_the_table_of_the_api() -> None:
    lines = API.partition("## API")[2].partition("\n\n|")[2].partition("\n\n")[0]
    routes = route_table(MagicMock(), MagicMock())
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
    inline = "\n".join(span for span in spans if re.match(r"waitd [a-z]", span))
    for line in f"{shell}\n{inline}".splitlines():
        if not re.search(r"(^|[\s/])waitd\s", line):
            continue
        for part in re.split(r"&&|\s[|>]\s", line):
            lexer = shlex.shlex(part, posix=True, punctuation_chars=False)
            lexer.whitespace_split = True
            words = [word for word in lexer if not re.fullmatch(r"[A-Z_]+=.*", word)]
            if words and words[0].rpartition("/")[2] == "waitd":
                yield words[1:]


def test_every_command_is_accepted_by_the_command_line() -> None:
    command_lines = list(commands())
    for arguments in command_lines:
        parse(typer.main.get_command(app), arguments)
    assert len(command_lines) > 25
    with pytest.raises(Exception, match="No such option: --nonsense"):
        parse(typer.main.get_command(app), ["until", "s3", "--nonsense"])


def parse(command: Any, arguments: list[str], parent: Any = None) -> None:
    """Parses a command line without running it."""
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


def test_every_wait_of_an_example_is_accepted(adapters: Adapters) -> None:
    waits = [parse_wait(json.loads(text)) for text in examples()]
    for wait in waits:
        probe: Any = adapters.probes[wait.kind]
        if wait.submit is None:
            probe.parse(wait.params, namespace="default")
        else:
            probe.parse_submit(wait.submit, wait.params, namespace="default")
        for sink in wait.sinks:
            adapters.sinks[sink.kind].parse(sink.model_dump(exclude={"kind"}))
    assert {wait.kind for wait in waits} == {
        "http",
        "s3_key",
        "s3_keys_unchanged",
        "gcs_key",
        "azure_blob",
        "signal",
        "time",
        "airbyte.job",
        "sql",
        "aws_waiter",
    }


async def test_every_connection_of_an_example_is_resolved() -> None:
    exported = re.findall(r"^export (AIRFLOW_CONN_\w+)='(.*)'$", TEXT, flags=re.MULTILINE)
    assert exported
    for name, value in exported:
        resolver = EnvironmentResolver({name: value})
        connection = await resolver.lookup(name.removeprefix("AIRFLOW_CONN_").lower())
        assert connection is not None


def anchors(text: str) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_has_a_file_and_a_heading(page: Path) -> None:
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", GUIDES[page]) if "://" not in link]
    for link in links:
        target, _, anchor = link.partition("#")
        file = page.parent / target if target else page
        assert file.exists(), link
        if anchor:
            assert anchor in anchors(file.read_text("utf-8")), link


def test_every_guide_names_its_readers_and_is_linked_from_the_readme() -> None:
    for page, text in GUIDES.items():
        if page != README:
            assert re.match(r"# .+\n\nFor ", text), page
            assert f"({page.relative_to(ROOT)})" in GUIDES[README], page
    assert len(GUIDES[README].splitlines()) <= 220


def test_every_named_path_exists() -> None:
    named = re.findall(r"`((?:waitd|tests)/[\w/.]+)`", TEXT)
    assert named
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_named_test_exists() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert named
    texts = {path: (ROOT / path).read_text("utf-8") for path in {path for path, _ in named}}
    assert [test for path, test in named if f"def {test}(" not in texts[path]] == []


def test_the_dag_of_the_guide_is_the_tested_one() -> None:
    """`tests/e2e/airflow/test_presets_of_airflow.py` runs it."""
    dag = ROOT / "tests" / "e2e" / "airflow" / "dags" / "sync_orders.py"
    assert f"```python\n{dag.read_text('utf-8')}```\n" in DAGS
