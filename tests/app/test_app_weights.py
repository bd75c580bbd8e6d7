"""The weights of namespaces, from the settings."""

from waitd.settings import Settings
from waitd.settings.types import entry_of


def test_a_namespace_has_its_own_weight_that_of_the_others_or_one() -> None:
    table = Settings(namespaces={"team": {"weight": 3}, "*": {"weight": 0.5}}).namespaces
    assert entry_of(table, "team").weight == 3
    assert entry_of(table, "else").weight == 0.5
    assert entry_of({}, "team").weight == 1


def test_an_entry_with_nothing_but_a_weight_or_limits_says_nothing_about_what_waits_may_use() -> None:
    table = Settings(
        namespaces={"a": {"weight": 3, "limits": {}}, "b": {}, "c": {"weight": 2, "dag_ids": []}}
    ).namespaces
    assert {name for name, entry in table.items() if entry.has_rules} == {"b", "c"}
