"""The Containerfile: linted, and true to the package.

No container engine is needed, and none is used.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from known_settings import DEFAULT_PORT, unknown
from manifests import DEPLOY, ROOT, STANDALONE, Object, one, pod_of

from waitd import __version__

CONTAINERFILE = DEPLOY / "Containerfile"
#: Extras for those who work on waitd, who draw its figures, and for Airflow's own environment.
NOT_IN_THE_IMAGE = {"test", "plot", "airflow"}


@pytest.fixture
def lines() -> list[str]:
    """The instructions, continued lines joined, comments left out."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    return [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line]


def instructions(lines: list[str], name: str) -> list[str]:
    return [line.removeprefix(name + " ") for line in lines if line.startswith(name + " ")]


def test_hadolint_has_nothing_to_say() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", CONTAINERFILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_extras_are_in_the_image(lines: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = [a.partition("=")[2] for a in instructions(lines, "ARG") if a.startswith("EXTRAS=")]
    assert set(extras.split(",")) == project["optional-dependencies"].keys() - NOT_IN_THE_IMAGE


def test_it_says_which_version_it_is(lines: list[str]) -> None:
    assert f"VERSION={__version__}" in instructions(lines, "ARG")
    (labels,) = instructions(lines, "LABEL")
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) >= {
        "title",
        "description",
        "licenses",
        "version",
        "revision",
    }


def test_its_variables_are_settings_and_point_where_the_manifests_do(
    lines: list[str], ways: dict[str, list[Object]]
) -> None:
    (environment,) = instructions(lines, "ENV")
    given = dict(pair.split("=", 1) for pair in environment.split())
    assert unknown(name for name in given if name.startswith("WAITD_")) == set()
    assert given["WAITD_BIND"] == f"127.0.0.1:{DEFAULT_PORT}"
    pod = pod_of(one(ways["standalone"], "StatefulSet", "waitd"))
    assert given["WAITD_STATE_DIR"] == pod.environment["WAITD_STATE_DIR"]
    (user,) = instructions(lines, "USER")
    context = pod.container["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_the_last_stage_is_a_fresh_one_that_takes_only_the_environment(lines: list[str]) -> None:
    stages = [n for n, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) == 2
    last = lines[stages[-1] :]
    assert [c for c in instructions(last, "COPY") if not c.startswith(("--from=build", "--chmod"))] == []
    assert not any("pip" in run or "apt" in run for run in instructions(last, "RUN"))


def test_waitd_is_the_first_process_and_gets_sigterm_itself(lines: list[str]) -> None:
    assert instructions(lines, "ENTRYPOINT") == ['["waitd"]']
    assert instructions(lines, "CMD") == ['["serve"]']
    assert instructions(lines, "STOPSIGNAL") == ["SIGTERM"]


def test_everything_it_copies_is_in_the_context_and_nothing_else() -> None:
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    kept = re.findall(r"^!(.+)$", (DEPLOY / ".containerignore").read_text(), re.MULTILINE)
    assert {path.removesuffix("/**") for path in kept} == sources
    assert all((ROOT / source).exists() for source in sources)
    assert (DEPLOY / "Containerfile.dockerignore").resolve() == DEPLOY / ".containerignore"


def test_the_manifests_take_the_image_by_its_name(ways: dict[str, list[Object]]) -> None:
    assert STANDALONE.is_dir()
    assert pod_of(one(ways["standalone"], "StatefulSet", "waitd")).container["image"].startswith("waitd:")
