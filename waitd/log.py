"""Configures logging: one line for each event, as JSON or in colour, with secrets masked.

Logs go to standard error. Standard output is for the results of commands.
"""

import logging
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import orjson
import structlog

from waitd.core.connections.masking import MASK
from waitd.core.visible_text import visible, visible_json, visible_lines, visible_values

_SECRET_NAME = re.compile(r"password|passwd|secret|token|authorization|api[-_]?key|cookie", re.IGNORECASE)
_URL_SECRETS = re.compile(
    r"(?P<scheme>[a-z][a-z0-9+.-]*://)(?:[^/\s@]*@)?(?P<rest>[^\s?#'\"]*)(?:\?[^\s'\"]*)?", re.IGNORECASE
)


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Masks values with secret-like names, and strips credentials and queries from URLs."""
    for name, value in event.items():
        if _SECRET_NAME.search(name) and value is not None:
            event[name] = MASK
        elif isinstance(value, str):
            event[name] = _redact_urls(value)
    return event


def _redact_urls(text: str) -> str:
    return _URL_SECRETS.sub(r"\g<scheme>\g<rest>", text) if "://" in text else text


def configure(*, level: str = "info", log_format: str = "auto", version: str = "") -> None:
    """Configures structlog for this process.

    `log_format` is json, console, or auto: console if standard error is a terminal, else json.
    Every line contains `version`, unless it is empty.
    """
    console = log_format == "console" or (log_format == "auto" and sys.stderr.isatty())
    threshold = getattr(logging, level.upper())
    shared: list[structlog.types.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        redact,
    ]
    if console:
        shared.append(_escape_controls)
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())],
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=structlog.WriteLoggerFactory(file=sys.stderr),
            cache_logger_on_first_use=True,
        )
    else:
        structlog.configure(
            processors=[*shared, structlog.processors.JSONRenderer(serializer=_to_json)],
            wrapper_class=structlog.make_filtering_bound_logger(threshold),
            logger_factory=structlog.BytesLoggerFactory(file=sys.stderr.buffer),
            cache_logger_on_first_use=True,
        )
    if version:
        structlog.contextvars.bind_contextvars(version=version)
    # Libraries use the standard library's logging. Only their warnings and errors are logged.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LibraryFormatter("%(levelname)s %(name)s %(message)s"))
    logging.basicConfig(level=max(threshold, logging.WARNING), handlers=[handler])


def _escape_controls(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Makes visible what a terminal would obey; a traceback keeps its lines."""
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = (visible_lines if name == "exception" else visible)(value)
        elif isinstance(value, list | tuple | dict):
            event[name] = visible_values(value)
    return event


def _to_json(event: Any, **options: Any) -> bytes:
    line = orjson.dumps(event, **options)
    return line if line.isascii() and b"\x7f" not in line else visible_json(line.decode()).encode()


class _LibraryFormatter(logging.Formatter):
    """Formats what libraries log, whose errors may quote the URL of a broker or a database."""

    def format(self, record: logging.LogRecord) -> str:
        """See `logging.Formatter`."""
        return visible_lines(_redact_urls(super().format(record)))
