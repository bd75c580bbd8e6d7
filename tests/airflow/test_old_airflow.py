"""Beside an Airflow that is too old, the provider says so."""

import subprocess
import sys
from pathlib import Path

from waitd import __version__


def test_below_airflow_3_the_import_names_both_versions(tmp_path: Path) -> None:
    (tmp_path / "airflow.py").write_text("__version__ = '2.11.2'\n")
    for module in ("sensors", "operators", "links"):
        program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import waitd.airflow.{module}"
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
        last = done.stderr.splitlines()[-1]
        sentence = f"The provider waitd {__version__} needs Airflow 3.0 or later; this is Airflow 2.11.2."
        assert last == f"RuntimeError: {sentence}"
