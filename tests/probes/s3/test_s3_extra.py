"""A daemon without the libraries of S3 serves everything else, and says what is missing."""

import sys

import pytest
from raw_server import ScriptedConnections

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Unreachable
from waitd.probes.s3.factory import KINDS, s3_probes


@pytest.mark.parametrize("library", ["re2", "botocore"])
async def test_without_a_library_the_kinds_name_the_extra(
    library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    async with s3_probes(ScriptedConnections([])) as probes:
        assert set(probes) == set(KINDS)
        for kind, probe in probes.items():
            with pytest.raises(InvalidInput, match=rf"{kind}.*waitd\[s3\]"):
                probe.parse({}, namespace="default")
            [verdict] = await probe.poke([object()])  # type: ignore[list-item]  # nothing of a wait is looked at
            assert isinstance(verdict, Unreachable)
            assert probe.origin(None) == "not installed"


async def test_with_them_they_are_served() -> None:
    async with s3_probes(ScriptedConnections([])) as probes:
        assert probes["s3_key"].parse({"bucket_key": "s3://bucket/a"}, namespace="default").key
