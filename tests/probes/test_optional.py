"""Without the libraries of an extra, its kinds refuse waits and name the extra."""

import sys

import pytest
from raw_server import ScriptedConnections

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Unreachable
from waitd.probes.optional import EXTRAS, NotInstalledProbe, optional_probes


@pytest.mark.parametrize(
    ("library", "missing"),
    [("botocore", {"s3", "aws"}), ("asyncpg", {"sql"}), ("aiomysql", {"sql"})],
)
async def test_without_a_library_the_kinds_name_the_extra(
    library: str, missing: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    async with optional_probes(ScriptedConnections([])) as probes:
        for name, extra in EXTRAS.items():
            for kind in extra.kinds:
                probe = probes[kind]
                assert isinstance(probe, NotInstalledProbe) is (name in missing)
                if name not in missing:
                    continue
                with pytest.raises(InvalidInput, match=rf"{kind}.*waitd\[{name}\]"):
                    probe.parse({}, namespace="default")
                [verdict] = await probe.poke([object()])  # type: ignore[list-item]  # it reads nothing of a wait
                assert isinstance(verdict, Unreachable)
                assert probe.origin(None) == "not installed"


async def test_with_all_libraries_every_kind_is_served() -> None:
    async with optional_probes(ScriptedConnections([])) as probes:
        assert set(probes) == {kind for extra in EXTRAS.values() for kind in extra.kinds}
        assert probes["s3_key"].parse({"bucket_key": "s3://bucket/a"}, namespace="default").key
