import io
import json
from pathlib import Path

import pytest
from cli_process import Run, assert_fails
from rich.console import Console

from waitd.cli.presets import render_presets
from waitd.probes.presets.loading import BUILT_IN, built_in_presets

ACME = (BUILT_IN / "livy.batch.toml").read_text("utf-8").replace("livy.batch", "acme.job")


@pytest.fixture
def acme(tmp_path: Path) -> Path:
    path = tmp_path / "acme.toml"
    path.write_text(ACME)
    return path


def test_the_list_shows_every_kind_with_its_params_and_abilities(waitd: Run) -> None:
    done = waitd("presets", COLUMNS="300")
    assert done.returncode == 0
    lines = {line.split()[0]: line for line in done.stdout.splitlines()[1:]}
    assert set(lines) == set(built_in_presets())
    assert lines["airbyte.job"].split()[1:5] == ["30", "s", "yes", "yes"]
    assert lines["github.run"].split()[1:5] == ["60", "s", "-", "-"]
    assert lines["bigquery.job"].rstrip().endswith("project_id, job_id, [location]")


def test_without_a_known_width_the_list_has_100_columns(waitd: Run) -> None:
    expected = waitd("presets").stdout
    assert {len(line) for line in expected.splitlines()} == {100}
    for columns in ("0", "wide"):
        assert waitd("presets", COLUMNS=columns).stdout == expected


@pytest.mark.parametrize("width", [80, 120, 200])
def test_the_list_fits_the_terminal_with_one_line_for_each_preset(width: int) -> None:
    text = io.StringIO()
    Console(file=text, width=width).print(render_presets(built_in_presets(), width))
    lines = text.getvalue().splitlines()
    assert [line.split()[0] for line in lines[1:]] == list(built_in_presets())
    assert all(len(line) <= width for line in lines)
    assert ("PARAMS" in lines[0]) is (width >= 120)


def test_json_contains_everything_and_the_presets_of_the_directory(waitd: Run, acme: Path) -> None:
    done = waitd("presets", "--json", WAITD_PRESETS_DIR=str(acme.parent))
    listed = {preset["kind"]: preset for preset in json.loads(done.stdout)}
    assert set(listed) == {*built_in_presets(), "acme.job"}
    assert listed["acme.job"]["origin"] == str(acme)
    job = listed["airbyte.job"]
    assert (job["required"], job["poke_interval"], job["min_poke_interval"]) == (["job_id"], 30, 1)
    assert job["example"] == {"kind": "airbyte.job", "params": {"job_id": 42}, "timeout": 14400}
    assert job["params"]["job_id"]["type"] == "integer"


def test_a_preset_is_shown_with_an_example(waitd: Run) -> None:
    done = waitd("presets", "show", "bigquery.job")
    assert done.returncode == 0
    assert '"kind": "bigquery.job"' in done.stdout
    assert "google_cloud_default" in done.stdout
    assert json.loads(waitd("presets", "show", "bigquery.job", "--json").stdout)["submit"] is True
    assert_fails(waitd("presets", "show", "nonsense"), 2, "there is no preset nonsense")
    assert_fails(waitd("presets", "show", "airbyte.jbo"), 2, "did you mean airbyte.job?")


def test_a_file_whose_cases_pass_is_valid(waitd: Run, acme: Path) -> None:
    done = waitd("presets", "check", str(acme))
    assert (done.returncode, done.stdout) == (0, "acme.job: 20 of 20 cases pass.\n")
    report = json.loads(waitd("presets", "check", str(acme), "--json").stdout)
    assert (report["valid"], report["kind"], report["uncovered"], len(report["cases"])) == (
        True,
        "acme.job",
        [],
        20,
    )


def test_failing_cases_are_named(waitd: Run, acme: Path) -> None:
    acme.write_text(
        ACME.replace(
            'failure = ["dead", "error", "killed"]', 'failure = ["dead", "error", "killed", "lost"]'
        ).replace("/batches/42", "/batches/43")
    )
    done = waitd("presets", "check", str(acme))
    assert done.returncode == 1
    assert "requested 'GET /batches/42/state' instead of 'GET /batches/43/state'" in done.stderr
    assert "13 of 21 cases pass" in done.stdout
    acme.write_text(
        ACME.replace('each = "success"', 'name = "success"')
        .replace('state = "{state}" }\nverdict = "success"', 'state = "running" }\nverdict = "pending"')
        .replace('payload = { id = 42, state = "success" }', "")
    )
    done = waitd("presets", "check", str(acme))
    assert (done.returncode, done.stdout) == (
        0,
        "acme.job: 20 of 20 cases pass.\nNo case covers the state success.\n",
    )


def test_the_position_of_a_mistake_is_named(waitd: Run, acme: Path) -> None:
    acme.write_text(ACME.replace('value = "body.state"', 'value = "body..state"'))
    done = waitd("presets", "check", str(acme))
    assert_fails(done, 2, f"{acme}: [state] value: 1:6: Syntax error")
    shown = waitd("presets", "check", str(acme), "--json")
    assert json.loads(shown.stdout)["valid"] is False
    for command in (("presets",), ("serve",)):
        done = waitd(
            *command,
            WAITD_PRESETS_DIR=str(acme.parent),
            WAITD_BIND="127.0.0.1:0",
            WAITD_STATE_DIR=str(acme.parent / "state"),
        )
        assert done.returncode != 0
        assert f"{acme}: [state] value" in done.stderr
        assert "Traceback" not in done.stderr
