"""Virtual environments that are created once. Nothing is downloaded."""

from pathlib import Path

import pytest

from waitd.bench.environments import PipFailed, ensure_environment

pytestmark = pytest.mark.slow


def test_an_environment_is_created_once_and_a_failed_one_again(tmp_path: Path) -> None:
    pins, environment = tmp_path / "pins.txt", tmp_path / "cache" / "of-its-own"
    made: list[bool] = []
    pins.write_text(f"nothing @ {(tmp_path / 'absent.whl').as_uri()}\n")
    with pytest.raises(PipFailed, match=r"absent\.whl"):
        ensure_environment(environment, pins, lambda: made.append(False))
    pins.write_text("# nothing\n")
    for _ in range(2):
        assert ensure_environment(environment, pins, lambda: made.append(True)) == environment
    assert made == [False, True]
    assert (environment / "bin" / "python").exists()
