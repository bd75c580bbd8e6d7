"""The DAG of the README is the one that a real Airflow runs, in `tests/e2e/airflow/test_presets_of_airflow.py`."""

from readme_tables import README

DAG = README.parent / "tests" / "e2e" / "airflow" / "dags" / "sync_orders.py"


def test_the_readme_shows_the_file() -> None:
    assert f"```python\n{DAG.read_text('utf-8')}```\n" in README.read_text("utf-8")
