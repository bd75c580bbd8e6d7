"""The parameters of the kind `signal`."""

import pytest

from waitd.core.errors import InvalidInput
from waitd.probes.signal import SignalProbe


@pytest.mark.parametrize(
    "key", ["a\u202eb", "\u2066a", "a\u061c", "a\x1b[2J", "a\nb", "a\u200b", "a\u00a0", ""]
)
def test_a_key_that_no_signal_can_have_is_refused(key: str) -> None:
    with pytest.raises(InvalidInput) as raised:
        SignalProbe().parse({"key": key}, namespace="default")
    assert [problem.pointer for problem in raised.value.problems] == ["/key"]


@pytest.mark.parametrize("key", ["a", "a/b c", "日本", "e\u0301", "x" * 256])
def test_any_printable_key_is_accepted(key: str) -> None:
    assert SignalProbe().parse({"key": key}, namespace="default").name == key
