"""The wheel is complete: each extra works without the others, and the daemon runs the demo."""

import json
import subprocess
import sys
import venv
import zipfile
from email import message_from_bytes
from email.message import Message
from pathlib import Path

import pytest
from cli_process import free_address, serving
from wheel import ROOT, build_wheel, run

from waitd import __version__

pytestmark = pytest.mark.slow


def refused(*command: str | Path) -> str:
    """The sentence of a command that misses libraries."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    (sentence,) = done.stderr.splitlines()
    return sentence


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = [f for f in (ROOT / "waitd").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("waitd/")}
    assert packed == {str(file.relative_to(ROOT)) for file in files}


@pytest.fixture(scope="module")
def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"waitd-{__version__}.dist-info/METADATA"))


def test_the_license_is_in_the_wheel(wheel: Path, metadata: Message) -> None:
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE"]
    with zipfile.ZipFile(wheel) as archive:
        text = archive.read(f"waitd-{__version__}.dist-info/licenses/LICENSE").decode()
    assert text == (ROOT / "LICENSE").read_text()
    assert "Apache License\n                           Version 2.0, January 2004" in text


def test_the_metadata_has_python_versions_the_provider_and_project_urls(metadata: Message) -> None:
    classifiers = metadata.get_all("Classifier", [])
    assert "Framework :: Apache Airflow :: Provider" in classifiers
    versions = {
        c.rpartition(" :: ")[2] for c in classifiers if c.startswith("Programming Language :: Python :: 3.")
    }
    assert versions == {"3.11", "3.12", "3.13"}
    assert metadata["Requires-Python"] == ">=3.11"
    # PEP 639: a license expression excludes license classifiers.
    assert not [c for c in classifiers if c.startswith("License ::")]
    urls = dict(url.split(", ", 1) for url in metadata.get_all("Project-URL", []))
    assert urls.keys() == {"Documentation", "Source", "Changelog", "Issues"}
    assert all(url.startswith("https://github.com/waitd/waitd") for url in urls.values())


@pytest.mark.long
def test_each_part_that_is_installed_works_and_names_the_next_one(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    venv.create(environment)
    pip = (Path(sys.executable), "-m", "pip", "--python", environment / "bin" / "python")
    pins = ROOT / "config" / "constraints.txt"
    # Step by step: each extra is tried without what the next one brings.
    run(*pip, "install", "--quiet", "-c", pins, wheel, cwd=tmp_path)
    waitd = environment / "bin" / "waitd"
    assert "pip install 'waitd[client]'" in refused(waitd, "list")
    run(*pip, "install", "--quiet", "-c", pins, f"{wheel}[client]", cwd=tmp_path)
    with serving(tmp_path / "state", free_address()) as (url, _):
        (tmp_path / "wait.json").write_text('{"kind": "signal", "params": {"key": "k"}, "timeout": 600}')
        wait_id = run(waitd, "submit", "wait.json", cwd=tmp_path, WAITD_URL=url).strip()
        assert wait_id in run(waitd, "list", cwd=tmp_path, WAITD_URL=url)
        run(waitd, "signal", "k", cwd=tmp_path, WAITD_URL=url)
        for command in ("watch", "show"):
            assert "success" in run(waitd, command, wait_id, cwd=tmp_path, WAITD_URL=url)
    for parts in (["serve"], ["demo"], ["demo", "--airflow"], ["check", "true"], ["presets"]):
        assert "pip install 'waitd[server]'" in refused(waitd, *parts)
    run(*pip, "install", "--quiet", "-c", pins, f"{wheel}[server]", cwd=tmp_path)
    version = run(waitd, "--version", cwd=tmp_path, WAITD_BUILD="0123abc")
    assert version == f"waitd {__version__} (build 0123abc)\n"
    result = json.loads(run(waitd, "demo", "--json", cwd=tmp_path, TMPDIR=str(tmp_path)))
    assert result["good"] is True
    assert result["lost"] == 0
