"""The Containerfile: linted, and compared with the package.

No container engine is needed.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from known_settings import DEFAULT_PORT, unknown_variables
from manifests import DEPLOY, ROOT, STANDALONE, Object, find_object, pod_of

from waitd import __version__

CONTAINERFILE = DEPLOY / "Containerfile"
#: Extras for development, for plots and for Airflow's own environment, and a part of `server`.
NOT_IN_THE_IMAGE = {"test", "plot", "airflow", "client"}


@pytest.fixture
def lines() -> list[str]:
    """The instructions without comments; continued lines are joined."""
    text = re.sub(r"^#.*\n", "", CONTAINERFILE.read_text(), flags=re.MULTILINE)
    return [line for line in re.sub(r"\\\n\s*", " ", text).splitlines() if line]


def instructions(lines: list[str], name: str) -> list[str]:
    return [line.removeprefix(name + " ") for line in lines if line.startswith(name + " ")]


def test_hadolint_finds_no_problem() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [hadolint, "--failure-threshold", "style", CONTAINERFILE], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_all_extras_are_in_the_image(lines: list[str]) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = [a.partition("=")[2] for a in instructions(lines, "ARG") if a.startswith("EXTRAS=")]
    assert set(extras.split(",")) == project["optional-dependencies"].keys() - NOT_IN_THE_IMAGE


def test_the_labels_and_the_version_are_set(lines: list[str]) -> None:
    assert f"VERSION={__version__}" in instructions(lines, "ARG")
    (labels,) = instructions(lines, "LABEL")
    assert set(re.findall(r"org\.opencontainers\.image\.(\w+)=", labels)) >= {
        "title",
        "description",
        "licenses",
        "version",
        "revision",
    }


def test_its_variables_are_settings_and_match_the_manifests(
    lines: list[str], deployments: dict[str, list[Object]]
) -> None:
    (environment,) = instructions(lines, "ENV")
    variables = dict(pair.split("=", 1) for pair in environment.split())
    assert unknown_variables(name for name in variables if name.startswith("WAITD_")) == set()
    assert variables["WAITD_BIND"] == f"127.0.0.1:{DEFAULT_PORT}"
    pod = pod_of(find_object(deployments["standalone"], "StatefulSet", "waitd"))
    assert variables["WAITD_STATE_DIR"] == pod.environment["WAITD_STATE_DIR"]
    (user,) = instructions(lines, "USER")
    context = pod.container["securityContext"]
    assert user == f"{context['runAsUser']}:{context['runAsGroup']}"


def test_the_last_stage_copies_only_the_environment(lines: list[str]) -> None:
    stages = [n for n, line in enumerate(lines) if line.startswith("FROM ")]
    assert len(stages) == 2
    last = lines[stages[-1] :]
    assert [c for c in instructions(last, "COPY") if not c.startswith(("--from=build", "--chmod"))] == []
    assert not any("pip" in run or "apt" in run for run in instructions(last, "RUN"))


def test_waitd_is_the_entrypoint_and_gets_sigterm(lines: list[str]) -> None:
    assert instructions(lines, "ENTRYPOINT") == ['["waitd"]']
    assert instructions(lines, "CMD") == ['["serve"]']
    assert instructions(lines, "STOPSIGNAL") == ["SIGTERM"]


def test_the_build_context_is_exactly_what_is_copied() -> None:
    copied = re.findall(r"^COPY (?!--from)(?:--\S+ )?(.+) \S+$", CONTAINERFILE.read_text(), re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    included = re.findall(r"^!(.+)$", (DEPLOY / ".containerignore").read_text(), re.MULTILINE)
    assert {path.removesuffix("/**") for path in included} == sources
    assert all((ROOT / source).exists() for source in sources)
    assert (DEPLOY / "Containerfile.dockerignore").resolve() == DEPLOY / ".containerignore"


def test_the_manifests_name_the_image(deployments: dict[str, list[Object]]) -> None:
    assert STANDALONE.is_dir()
    assert (
        pod_of(find_object(deployments["standalone"], "StatefulSet", "waitd"))
        .container["image"]
        .startswith("waitd:")
    )
