"""Every extra that an installed hook of Airflow reads is in waitd's rules for its connection type.

The hooks' sources are read, not run. A hook that is not installed is not checked.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from waitd.core.connections.extras import HTTP_RULES, RULES

pytestmark = pytest.mark.slow

#: The files that read the extras of a connection type, below `airflow/providers`.
READERS = {
    "http": ("http/hooks/http.py",),
    "aws": ("amazon/aws/utils/connection_wrapper.py", "amazon/aws/hooks/base_aws.py"),
    "postgres": ("postgres/hooks/postgres.py", "common/sql/hooks/sql.py"),
    "airbyte": ("airbyte/hooks/airbyte.py",),
    "databricks": ("databricks/hooks/databricks_base.py",),
    "dbt_cloud": ("dbt/cloud/hooks/dbt.py",),
    "github": ("github/hooks/github.py",),
    "google_cloud_platform": ("google/common/hooks/base_google.py",),
    "kafka": ("apache/kafka/hooks/base.py",),
    "kubernetes": ("cncf/kubernetes/hooks/kubernetes.py",),
    "livy": ("apache/livy/hooks/livy.py",),
    "azure": ("microsoft/azure/hooks/base_azure.py",),
    "azure_data_factory": ("microsoft/azure/hooks/data_factory.py",),
    "redis": ("redis/hooks/redis.py",),
    "snowflake": ("snowflake/hooks/snowflake.py",),
    "wasb": ("microsoft/azure/hooks/wasb.py",),
}
INSTALLED = ("http", "aws", "postgres")
#: What hooks call the extras of their connection.
NAMES = {"extra", "extras", "extra_dejson", "extra_config", "extra_dict", "conn_extra", "connection_extra", "conn_extra_options", "conn_extras"}  # fmt: skip
FIELD_READERS = {"_get_field", "get_field", "_ensure_prefixes"}


@pytest.mark.parametrize("conn_type", READERS)
def test_every_extra_that_a_hook_reads_has_a_rule(environment: Path, conn_type: str) -> None:
    [providers] = environment.glob("lib/python3*/site-packages/airflow/providers")
    files = [providers / file for file in READERS[conn_type] if (providers / file).exists()]
    if not files and conn_type not in INSTALLED:
        pytest.skip("this hook is not installed")
    read = {name for file in files for name in extras_read(ast.parse(file.read_text("utf-8")))}
    assert read, "the hook reads its extras in a way that this test does not see"
    assert read - RULES.get(conn_type, HTTP_RULES).known == set()


def test_reading_is_seen_in_each_form() -> None:
    source = """
def get_conn(self, *, by_keyword=None, **kwargs):
    a = conn.extra_dejson.get("by_get")
    b = extra.pop("by_pop", extra.pop("nested", None))
    if "by_in" in extra: c = extra["by_index"]
    d = self._get_field("by_field", None)
    self.get_conn(**extra)
    e = other.get("of_another")
"""
    assert extras_read(ast.parse(source)) == {
        *("by_get", "by_pop", "nested", "by_in", "by_index", "by_field", "by_keyword"),
    }


def extras_read(tree: ast.AST) -> set[str]:
    """The names of the extras that a module reads."""
    spread = {_name(call.func) for call in ast.walk(tree) if isinstance(call, ast.Call) and _spreads(call)}
    return {name for node in ast.walk(tree) for name in _read_by(node, spread)}


def _read_by(node: ast.AST, spread: set[str]) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Attribute(attr="get" | "pop", value=of), args=[ast.Constant(str(name)), *_]):
            if _name(of) in NAMES:
                yield name
        case ast.Call(func=reader, args=args) if _name(reader) in FIELD_READERS:
            yield from (
                arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
            )
        case ast.Subscript(value=of, slice=ast.Constant(str(name))):
            if _name(of) in NAMES:
                yield name
        case ast.Compare(left=ast.Constant(str(name)), ops=[ast.In() | ast.NotIn()], comparators=[of]):
            if _name(of) in NAMES:
                yield name
        case ast.FunctionDef(name=function, args=arguments) if function in spread:
            yield from (argument.arg for argument in arguments.kwonlyargs)


def _spreads(call: ast.Call) -> bool:
    return any(keyword.arg is None and _name(keyword.value) in NAMES for keyword in call.keywords)


def _name(node: ast.AST) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""
