"""Every extra that a hook of Airflow reads is in waitd's rules for its connection type.

The hooks' sources are read, not run, so they are installed without their dependencies.
"""

import ast
import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from installation import not_installable

from waitd.bench.environments import PipFailed, ensure_environment
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
#: These hooks read none themselves: librdkafka gets all of them, and Livy's is an `HttpHook`.
READ_NONE = {"kafka", "livy"}
#: The hooks that are installed beside Airflow; the others have an environment of their own.
BESIDE_AIRFLOW = {"http", "aws", "postgres"}
PINS = Path(__file__).parents[1] / "pins" / "airflow_hooks.txt"
#: What hooks call the extras of their connection.
NAMES = {"extra", "extras", "extra_dejson", "extra_config", "extra_dict", "conn_extra", "connection_extra", "conn_extra_options", "conn_extras"}  # fmt: skip
FIELD_READERS = {"_get_field", "get_field", "_ensure_prefixes"}


@pytest.fixture(scope="session")
def hooks(cache: Path) -> Path:
    """The hooks of `PINS`, installed once."""
    key = hashlib.sha256(PINS.read_bytes() + sys.version.encode()).hexdigest()[:12]
    try:
        return ensure_environment(cache / f"airflow-hooks-{key}", PINS)
    except PipFailed as error:
        not_installable(str(error))


@pytest.mark.parametrize("conn_type", READERS)
def test_every_extra_that_a_hook_reads_has_a_rule(environment: Path, hooks: Path, conn_type: str) -> None:
    installed = environment if conn_type in BESIDE_AIRFLOW else hooks
    read = set()
    for file in READERS[conn_type]:
        [path] = installed.glob(f"lib/python3*/site-packages/airflow/providers/{file}")
        read |= extras_read(ast.parse(path.read_text("utf-8")))
    seen = "the hook reads its extras in a way that this test does not see"
    assert bool(read) == (conn_type not in READ_NONE), seen
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
