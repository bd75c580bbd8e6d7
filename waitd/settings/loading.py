"""Loads the settings of a daemon from the environment and a file."""

from pathlib import Path
from typing import Any

from pydantic_settings import SettingsConfigDict

from waitd.settings.daemon import Settings


def load(config: Path | None = None, **overrides: Any) -> Settings:
    """Loads the settings: `overrides`, then the environment, then the TOML file `config`, then
    defaults.

    Raises:
        FileNotFoundError: the file `config` does not exist.
        pydantic.ValidationError: a value is invalid, or a name is unknown.
    """
    if config is None:
        return Settings(**overrides)
    if not config.is_file():
        raise FileNotFoundError(f"the settings file {config} does not exist")

    class FromFile(Settings):
        model_config = SettingsConfigDict(toml_file=config)

    return FromFile(**overrides)
