"""The parameters of the kind `time`."""

import pytest

from waitd.core.errors import InvalidInput
from waitd.probes.time import TimeProbe


@pytest.mark.parametrize(
    ("at", "seconds"),
    [
        ("2026-12-01T06:00:00+01:00", 1_796_101_200.0),
        ("2026-12-01T05:00:00Z", 1_796_101_200.0),
        ("2026-12-01 05:00:00.25Z", 1_796_101_200.25),
        ("20261201T050000Z", 1_796_101_200.0),
        ("1970-01-01T00:00:00Z", 0.0),
        ("9999-12-31T23:59:59Z", 253_402_300_799.0),
    ],
)
def test_a_moment_is_a_date_with_an_offset(at: str, seconds: float) -> None:
    assert TimeProbe().parse({"at": at}, namespace="default").at == seconds


@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("2026-12-01T06:00:00", "no offset from UTC"),
        ("2026-12-01", "no offset from UTC"),
        ("2026-02-30T06:00:00Z", "ISO 8601"),
        ("2026-12-01T06:00:00+25:00", "ISO 8601"),
        ("2026-12-01\x0006:00:00Z", "ISO 8601"),
        ("tomorrow", "ISO 8601"),
        ("9999-12-31T23:59:59-10:00", "between the years 1970 and 9999"),
        ("0001-01-01T00:00:00+10:00", "between the years 1970 and 9999"),
        ("2" * 65, "at most 64 characters"),
        (1_796_101_200, "valid string"),
        (None, "valid string"),
    ],
)
def test_what_is_no_moment_is_refused_by_name(at: object, error: str) -> None:
    with pytest.raises(InvalidInput, match=error) as refused:
        TimeProbe().parse({"at": at}, namespace="default")
    assert refused.value.problems[0].pointer == "/at"
