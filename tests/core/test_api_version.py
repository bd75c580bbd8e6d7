from waitd.core.api_version import API_VERSION, format_version, serves


def test_a_daemon_serves_callers_of_its_major_version_and_of_no_later_minor_one() -> None:
    answers = ("1.1", "1.2", "1.10", "1.0", "2.1", "0.9", "1", "1.x", "")
    assert [serves(header, (1, 1)) for header in answers] == [True] * 3 + [False] * 6
    assert serves(format_version(API_VERSION))
