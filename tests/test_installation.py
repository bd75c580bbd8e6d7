"""Packages that tests install: one process installs while the others wait, and CI does not skip."""

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest
from installation import install_apt_package, not_installable, require_apt_package

#: Fails if another one runs, or if there is a file `broken`; else it installs.
APT_GET = """#!/bin/sh
cd "$(dirname "$0")"
echo "$@" >> log
mkdir running || exit 1
sleep 0.1
rmdir running
[ -e broken ] && echo "no network" >&2 && exit 1
touch installed
"""


@pytest.fixture
def apt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of an apt-get that creates `installed`, unless there is a file `broken`."""
    script = tmp_path / "apt-get"
    script.write_text(APT_GET)
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_one_process_installs_while_the_others_wait(apt: Path) -> None:
    # A file lock excludes threads as it excludes processes. Each call gets another function, so
    # that no result is cached.
    checks = [partial((apt / "installed").exists) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(partial(install_apt_package, "some-server"), checks)) == [""] * 4
    [call] = (apt / "log").read_text().splitlines()
    assert "DPkg::Lock::Timeout=" in call
    assert call.endswith("install some-server")


def test_an_old_index_is_updated_before_the_second_attempt(apt: Path) -> None:
    (apt / "broken").touch()
    reason = install_apt_package("some-server", (apt / "installed").exists)
    assert reason == "apt-get cannot install some-server: no network\n"
    assert [line.split()[-1] for line in (apt / "log").read_text().splitlines()] == [
        *("some-server", "update", "some-server")
    ]


def test_a_missing_package_skips_a_test_but_fails_it_on_ci(
    apt: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (apt / "broken").touch()
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no network"):
        require_apt_package("some-server", (apt / "installed").exists)
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no network"):
        require_apt_package("some-server", (apt / "installed").exists)
    with pytest.raises(pytest.fail.Exception, match="npm"):
        not_installable("npm cannot install it")
