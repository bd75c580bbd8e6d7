import json

import pytest
from cli_process import Run, assert_fails

from waitd.cli.docs import GUIDES


def test_the_list_names_every_guide(waitd: Run) -> None:
    done = waitd("docs")
    assert done.returncode == 0
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(GUIDES)
    listed = json.loads(waitd("docs", "--json").stdout)
    assert [item["guide"] for item in listed] == list(GUIDES)
    assert all(item["title"] for item in listed)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_is_shown_with_its_title(waitd: Run, guide: str) -> None:
    text = json.loads(waitd("docs", guide, "--json").stdout)["text"]
    title = text.partition("\n")[0].removeprefix("# ")
    shown = waitd("docs", guide)
    assert shown.returncode == 0
    assert title in shown.stdout


def test_an_unknown_guide_is_refused_with_the_names_of_those_that_exist(waitd: Run) -> None:
    assert_fails(waitd("docs", "nonsense"), 2, "nonsense", "kinds, presets, sinks")
