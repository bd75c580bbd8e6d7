"""Tables of the guides that are generated from the code.

`python tests/guide_tables.py` writes them, and `test_guides.py` compares the files with them. Each
table stands between `<!-- table: NAME -->` and `<!-- end -->`.
"""

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import orjson
import typer
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from waitd.cli import app
from waitd.cli.console import EXIT_CODE_MEANINGS
from waitd.core.connections.extras import AUTH_EXTRAS, AWS_RULES, HTTP_RULES, RULES, ExtraRules
from waitd.probes.aws.probe import AwsWaiterParams
from waitd.probes.http.params import HttpParams
from waitd.probes.http.submit import HttpSubmit
from waitd.probes.s3.params import S3KeyParams, S3KeysUnchangedParams
from waitd.probes.signal import SignalParams
from waitd.probes.sql.params import SqlParams
from waitd.probes.time import TimeParams
from waitd.settings import Settings
from waitd.sinks.airflow.params import AirflowParams
from waitd.sinks.brokers.amqp import AmqpParams
from waitd.sinks.brokers.kafka import KafkaParams
from waitd.sinks.brokers.nats import NatsParams
from waitd.sinks.brokers.redis import RedisParams
from waitd.sinks.brokers.sqs import SqsParams
from waitd.sinks.webhook import WebhookParams

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
#: Every guide that people read; all of them are checked by `test_guides.py`.
GUIDES = [
    README,
    *(
        ROOT / folder / "README.md"
        for folder in (
            "waitd",
            "waitd/probes",
            "waitd/sinks",
            "waitd/airflow",
            "waitd/api",
            "config",
            "deploy",
            "tests",
        )
    ),
]
KINDS: Mapping[str, type[BaseModel]] = {
    "http": HttpParams, "s3_key": S3KeyParams, "s3_keys_unchanged": S3KeysUnchangedParams,
    "aws_waiter": AwsWaiterParams, "sql": SqlParams, "signal": SignalParams, "time": TimeParams,
}  # fmt: skip
SINKS: Mapping[str, type[BaseModel]] = {
    "webhook": WebhookParams, "airflow": AirflowParams, "sqs": SqsParams, "redis": RedisParams, "nats": NatsParams, "kafka": KafkaParams,
    "amqp": AmqpParams,
}  # fmt: skip
#: What every vendor's connection may have: the options of http, and what an auth_type reads.
_OVER_HTTP = RULES["dbt_cloud"].used
#: Defaults that depend on the user who runs waitd.
DESCRIBED_DEFAULTS = {"state_dir": "`$XDG_STATE_HOME/waitd`, else `~/.local/state/waitd`"}


def tables() -> dict[str, str]:
    """Every table by its name."""
    parameters = {f"kind {name}": _fields(model) for name, model in KINDS.items()}
    sinks = [row for name, model in SINKS.items() for row in _rows(model, prefix=[f"`{name}`"])]
    return {
        **parameters,
        "submit": _fields(HttpSubmit),
        "sinks": _table(["Sink", "Parameter", "Default", ""], sinks),
        "settings": _table(["Setting", "Default", ""], _rows(Settings)),
        "extras": _extras(),
        "commands": _table(["Command", ""], _commands(typer.main.get_command(app), "waitd")),
        "exit codes": _table(
            ["Exit code", ""], ([str(code.value), text] for code, text in EXIT_CODE_MEANINGS.items())
        ),
    }


def _fields(model: type[BaseModel]) -> str:
    return _table(["Parameter", "Default", ""], _rows(model))


def _rows(model: type[BaseModel], prefix: Sequence[str] = (), within: str = "") -> list[list[str]]:
    rows: list[list[str]] = []
    for name, field in model.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += _rows(field.annotation, prefix, f"{within}{name}.")
        else:
            shown = f"`{within}{field.alias or name}`"
            rows.append([*prefix, shown, _default(name, field), field.description or ""])
    assert all(row[-1] for row in rows), f"a field of {model.__name__} has no description"
    return rows


def _extras() -> str:
    """What is done with extras of each connection type, besides those of every type over HTTP."""

    def names(of: Iterable[str]) -> str:
        return ", ".join(f"`{name}`" for name in sorted(of))

    def row(conn_type: str, rules: ExtraRules) -> list[str]:
        used = rules.used - _OVER_HTTP if rules.used >= _OVER_HTTP else rules.used
        refused = {*rules.refused, *rules.credentials}
        others = "a header" if rules.headers else "ignored"
        return [f"`{conn_type}`", names(used), names(rules.ignored), names(refused), others]

    aws = AWS_RULES._replace(used=AUTH_EXTRAS["aws_sigv4"])
    shown = {"http": HTTP_RULES, **RULES, "aws": aws}
    rows = [row(conn_type, rules) for conn_type, rules in sorted(shown.items())]
    return _table(["Type", "Used", "Ignored", "Refused", "Any other"], rows)


def _default(name: str, field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if name in DESCRIBED_DEFAULTS:
        return DESCRIBED_DEFAULTS[name]
    if value is PydanticUndefined:
        return "required"
    if value is None or value in ({}, [], (), "") or isinstance(value, SecretStr):
        return ""
    return f"`{value}`" if isinstance(value, str | Path) else f"`{orjson.dumps(value).decode()}`"


def _commands(command: Any, path: str) -> list[list[str]]:
    rows = []
    for name, sub in command.commands.items():
        if hasattr(sub, "commands"):
            if sub.invoke_without_command:
                rows.append([f"`{path} {name}`", _first_sentence(sub.help)])
            rows += _commands(sub, f"{path} {name}")
        else:
            arguments = [p for p in sub.params if p.param_type_name == "argument"]
            words = [f"{p.metavar}..." if p.nargs == -1 else p.metavar for p in arguments]
            shown = [word if p.required else f"[{word}]" for word, p in zip(words, arguments, strict=True)]
            needed = [p for p in sub.params if p.param_type_name == "option" and p.required]
            shown += [f"{p.opts[0]} {p.metavar}" for p in needed]
            rows.append([f"`{' '.join([path, name, *shown])}`", _first_sentence(sub.help)])
    return rows


def _first_sentence(help_text: str) -> str:
    return re.split(r"(?<=\.)\s", help_text.strip())[0]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


def with_tables(texts: Mapping[Path, str]) -> dict[Path, str]:
    """The texts of all guides, with each table generated from the code."""
    generated = tables()

    def replaced(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{generated.pop(match[1])}\n<!-- end -->"

    pattern = re.compile(r"<!-- table: ([\w ]+) -->\n.*?<!-- end -->", flags=re.DOTALL)
    filled = {path: pattern.sub(replaced, text) for path, text in texts.items()}
    assert not generated, f"no guide has the table: {', '.join(generated)}"
    return filled


def read_guides() -> dict[Path, str]:
    """The texts of all guides by their paths."""
    return {path: path.read_text("utf-8") for path in GUIDES}


if __name__ == "__main__":
    for path, text in with_tables(read_guides()).items():
        path.write_text(text, "utf-8")
    sys.stdout.write("the guides' tables are up to date\n")
