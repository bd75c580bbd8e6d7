"""Loading of presets: every mistake in a file is reported with its table and key."""

from pathlib import Path

import pytest

from waitd.probes.presets.loading import PresetInvalid, built_in_presets, load_preset, load_presets

VALID = """
kind = "acme.job"
title = "Acme: a job"
docs = "Acme's manual"
tested = "nothing yet"

[connection]
param = "acme_conn_id"
default = "acme_default"

[params.job_id]
type = "integer"
description = "The job."
required = true
example = 7

[request]
path = "/jobs/{job_id}"

[state]
value = "body.state"
success = ["done"]
failure = ["broken"]
running = ["busy"]

[[golden]]
each = "running"
json = { state = "{state}" }
verdict = "pending"
"""
WITH_SUBMIT = VALID.replace(
    "[[golden]]",
    """
[submit]
path = "/jobs"
json = { name = "{job_name}" }
idempotent = false
[submit.params.job_name]
type = "string"
description = "Its name."
[submit.handle]
job_id = "body.id"
[[golden]]""",
)


def write(directory: Path, text: str, name: str = "acme.toml") -> Path:
    path = directory / name
    path.write_text(text, "utf-8")
    return path


def test_a_valid_file_is_loaded(tmp_path: Path) -> None:
    preset = load_preset(write(tmp_path, VALID))
    assert preset.file.kind == "acme.job"
    assert preset.file.pace.poke_interval == 60
    assert load_preset(write(tmp_path, WITH_SUBMIT)).submit_model is not None


MISTAKES = [
    ("[state]", "[stat]", "[stat]", "unknown key"),
    ('kind = "acme.job"', 'kind = "acme"', "kind", "pattern"),
    ('kind = "acme.job"', 'kind = "s3_key"', "kind", "pattern"),
    ('title = "Acme: a job"', "", "title", "missing"),
    ('title = "Acme: a job"', "title = 7", "title", "string"),
    ("required = true", "required = 1", "[params.job_id] required", "boolean"),
    ("example = 7", "", "[params.job_id]", "a required parameter needs an example"),
    ('type = "integer"', 'type = "number"', "[params.job_id] type", "'string', 'integer'"),
    ("/jobs/{job_id}", "/jobs/{jobid}", "[request] path", "{jobid} is not a parameter"),
    ("/jobs/{job_id}", "/jobs", "[params.job_id]", "is never used"),
    ("required = true", "", "[request] path", "job_id may be missing"),
    ('"body.state"', '"body..state"', "[state] value", "1:6: Syntax error"),
    ('"body.state"', '"body.state == 1"', "[state] value", "evaluates to BOOL"),
    ('"body.state"', '"boddy.state"', "[state] value", "undeclared reference"),
    ('["busy"]', '["busy", "done"]', "[state]", "on more than one list: done"),
    ('["busy"]', "[3]", "[state]", "mix numbers and strings"),
    ('success = ["done"]', "success = []", "[state] success", "at least 1"),
    ('value = "body.state"', "", "[state]", "either value or items"),
    ("[[golden]]", '[outcome]\nerror = "size(body)"\n[[golden]]', "[outcome] error", "evaluates to INT"),
    (
        "[[golden]]",
        '[[answers]]\nwhen = "body.x"\nmeans = "gone"\n[[golden]]',
        "[[answers]] 1 means",
        "not_now",
    ),
    (
        "[[golden]]",
        "[pace]\npoke_interval = 1.0\nmin_poke_interval = 2.0\n[[golden]]",
        "[pace]",
        "larger than poke_interval",
    ),
    ('verdict = "pending"', 'verdict = "running"', "[[golden]] 1 verdict", "'success', 'failure'"),
    ('each = "running"', "", "[[golden]] 1", "either name or each"),
    ('param = "acme_conn_id"', 'param = "connection"', "[connection] param", "pattern"),
    ('default = "acme_default"', 'auth = "magic"', "[connection] auth", "one of none, basic"),
    ("[[golden]]", "[cancel]\npath = '/jobs/{job_id}'\n[[golden]]", "[cancel]", "needs a [submit]"),
    (
        "[params.job_id]",
        "[params.copy]\ntype = 'string'\ndescription = 'x'\n[params.job_id]",
        "[params.copy]",
        "taken",
    ),
]


SUBMIT_MISTAKES = [
    ("job_id = ", "id = ", "[submit.handle] id", "not a parameter of this kind"),
    ('"body.id"', '"body."', "[submit.handle] job_id", "Syntax error"),
    ("idempotent = false", "idempotent = true", "[submit] idempotent", "the key is not sent"),
    (
        "idempotent = false",
        'idempotent = false\non_conflict = ["adopt"]',
        "[submit]",
        "needs the table [submit.adopt]",
    ),
    ("job_name", "resume", "[submit.params.resume]", "taken"),
    ("{job_name}", "{name}", "[submit] json", "{name} is not a parameter"),
]


@pytest.mark.parametrize(
    ("valid", "old", "new", "key", "words"),
    [*((VALID, *mistake) for mistake in MISTAKES), *((WITH_SUBMIT, *mistake) for mistake in SUBMIT_MISTAKES)],
    ids=[f"{key}: {words}" for _, _, key, words in [*MISTAKES, *SUBMIT_MISTAKES]],
)
def test_a_mistake_is_reported_with_its_table_and_key(
    tmp_path: Path, valid: str, old: str, new: str, key: str, words: str
) -> None:
    path = write(tmp_path, valid.replace(old, new))
    with pytest.raises(PresetInvalid) as caught:
        load_preset(path)
    lines = caught.value.lines
    assert all(line.startswith(f"{path}: ") for line in lines)
    assert any(line.startswith(f"{path}: {key}") and words in line for line in lines), lines


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"kind = ", "Invalid value (at end of document)"),
        (b"kind = '\xff'", "not UTF-8"),
        (b"#" * 300_000, "larger than 262144 bytes"),
    ],
)
def test_an_unreadable_file_is_reported(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "x.toml"
    path.write_bytes(content)
    with pytest.raises(PresetInvalid, match="a preset cannot be used") as caught:
        load_preset(path)
    assert words in str(caught.value)
    with pytest.raises(PresetInvalid, match="No such file"):
        load_preset(tmp_path / "absent.toml")


# ---------------------------------------------------------------- a directory


def test_a_directorys_presets_are_added_to_those_of_waitd(tmp_path: Path) -> None:
    write(tmp_path, VALID)
    write(tmp_path, "not a preset", "README.md")
    assert set(load_presets(tmp_path)) == {*built_in_presets(), "acme.job"}
    assert set(load_presets(None)) == set(built_in_presets())


def test_all_mistakes_of_all_files_are_reported_at_once(tmp_path: Path) -> None:
    first = write(tmp_path, VALID.replace("[state]", "[stat]"), "a.toml")
    second = write(tmp_path, "kind =", "b.toml")
    with pytest.raises(PresetInvalid) as caught:
        load_presets(tmp_path)
    assert {line.partition(": ")[0] for line in caught.value.lines} == {str(first), str(second)}
    with pytest.raises(PresetInvalid, match="presets_dir is not a directory"):
        load_presets(tmp_path / "absent")


def test_a_preset_of_waitd_is_replaced_only_with_replaces(tmp_path: Path) -> None:
    own = VALID.replace("acme.job", "airbyte.job")
    write(tmp_path, own)
    with pytest.raises(PresetInvalid, match=r"waitd has a preset airbyte\.job; set replaces = true"):
        load_presets(tmp_path)
    write(tmp_path, "replaces = true" + own)
    assert load_presets(tmp_path)["airbyte.job"].file.title == "Acme: a job"
    assert built_in_presets()["airbyte.job"].file.title != "Acme: a job"


def test_two_files_of_one_kind_are_refused(tmp_path: Path) -> None:
    first = write(tmp_path, VALID, "a.toml")
    write(tmp_path, VALID, "b.toml")
    with pytest.raises(PresetInvalid, match=f"acme\\.job is also the kind of {first}"):
        load_presets(tmp_path)
