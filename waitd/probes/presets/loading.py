"""Loads the presets that come with waitd and those in `presets_dir`."""

import tomllib
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from waitd.core.errors import WaitdError
from waitd.probes.presets.checks import find_mistakes
from waitd.probes.presets.preset import Preset
from waitd.probes.presets.schema import PresetFile

#: The directory of the presets that come with waitd.
BUILT_IN = Path(__file__).with_name("data")
#: The largest file, in bytes.
_MAX_FILE = 256 * 1024


class PresetInvalid(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """A preset's file has mistakes. Each of `lines` names file, table and key."""

    def __init__(self, lines: Sequence[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(["a preset cannot be used:", *(f"  {line}" for line in self.lines)]))


@lru_cache(maxsize=1)
def built_in_presets() -> Mapping[str, Preset]:
    """Loads the presets that come with waitd, by kind."""
    return {preset.file.kind: preset for preset in map(load_preset, sorted(BUILT_IN.glob("*.toml")))}


def load_presets(directory: Path | None) -> Mapping[str, Preset]:
    """Loads the presets that come with waitd and those of a directory, by kind.

    A file may replace a built-in preset only with `replaces = true`, so that no wait changes its
    meaning by accident.

    Raises:
        PresetInvalid: all mistakes in all files.
    """
    presets = dict(built_in_presets())
    if directory is None:
        return presets
    if not directory.is_dir():
        raise PresetInvalid([f"{directory}: presets_dir is not a directory"])
    added: dict[str, Preset] = {}
    mistakes: list[str] = []
    for path in sorted(directory.glob("*.toml")):
        try:
            preset = load_preset(path)
        except PresetInvalid as error:
            mistakes += error.lines
            continue
        kind = preset.file.kind
        if kind in added:
            mistakes.append(f"{path}: kind: {kind} is also the kind of {added[kind].origin}")
        elif kind in presets and not preset.file.replaces:
            mistakes.append(f"{path}: kind: waitd has a preset {kind}; set replaces = true to replace it")
        added.setdefault(kind, preset)
    if mistakes:
        raise PresetInvalid(mistakes)
    return presets | added


def load_preset(path: Path) -> Preset:
    """Loads one file.

    Raises:
        PresetInvalid: the file cannot be read, is not TOML, or has mistakes.
    """
    file = _validate(path, _read(path))
    if mistakes := [f"{path}: {mistake}" for mistake in find_mistakes(file)]:
        raise PresetInvalid(mistakes)
    return Preset(file, str(path))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > _MAX_FILE:
            raise PresetInvalid([f"{path}: larger than {_MAX_FILE} bytes"])
        return tomllib.loads(path.read_text("utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise PresetInvalid([f"{path}: {error}"]) from None
    except UnicodeDecodeError:
        raise PresetInvalid([f"{path}: not UTF-8"]) from None
    except OSError as error:
        raise PresetInvalid([f"{path}: cannot be read: {error.strerror}"]) from None


def _validate(path: Path, tables: Mapping[str, Any]) -> PresetFile:
    try:
        return PresetFile.model_validate(tables)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        lines = [f"{path}: {_table_and_key(item['loc'], tables)}: {_message(item)}" for item in errors]
        raise PresetInvalid(lines) from None


def _table_and_key(loc: Sequence[str | int], tables: Mapping[str, Any]) -> str:
    """Names the table and the key: `[params.job_id] type`, `[[golden]] 3 verdict`."""
    if len(loc) > 1 and isinstance(loc[1], int) and isinstance(tables.get(str(loc[0])), list):
        return " ".join([f"[[{loc[0]}]]", str(loc[1] + 1), *map(str, loc[2:])])
    value: Any = tables
    for name in loc:
        value = value.get(name) if isinstance(value, Mapping) else None
    names = [str(name) for name in loc]
    if isinstance(value, Mapping):
        return f"[{'.'.join(names)}]"
    return f"[{'.'.join(names[:-1])}] {names[-1]}" if len(names) > 1 else (names or ["the file"])[0]


def _message(item: Mapping[str, Any]) -> str:
    if item["type"] == "extra_forbidden":
        return "unknown key"
    if item["type"] == "missing":
        return "is missing"
    return str(item["msg"]).removeprefix("Value error, ")
