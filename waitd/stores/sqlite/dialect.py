"""How SQLAlchemy writes statements for SQLite."""

from typing import Any

from sqlalchemy import FromClause
from sqlalchemy.dialects.sqlite.base import SQLiteCompiler, SQLiteDialect


class _Compiler(SQLiteCompiler):
    """SQLAlchemy's, with hints: which index a table is read by."""

    def get_from_hint_text(self, table: FromClause, text: str | None) -> str | None:  # noqa: ARG002 - SQLAlchemy's signature
        """The hint stands behind the table as it is."""
        return text


class _Dialect(SQLiteDialect):
    statement_compiler = _Compiler
    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        super().__init__(paramstyle="qmark", **options)


DIALECT = _Dialect()
