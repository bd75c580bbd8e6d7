"""What is said of an expression that does not compile."""

from time import thread_time

import pytest

from waitd.probes.cel.files import FILES_ENV
from waitd.probes.cel.hints import LITERAL_RULES, RULES, Rule
from waitd.probes.cel.response import RESPONSE_ENV
from waitd.probes.signal import SIGNAL_ENV


def said_of(source: str) -> str:
    with pytest.raises(ValueError, match=r".+") as raised:
        RESPONSE_ENV.compile(source)
    return str(raised.value)


@pytest.mark.parametrize("rule", [*RULES, *LITERAL_RULES], ids=lambda rule: rule.example)
def test_each_spelling_has_its_cel(rule: Rule) -> None:
    assert f"did you mean: {rule.suggestion}; " in said_of(rule.example)
    RESPONSE_ENV.compile(rule.suggestion)


@pytest.mark.parametrize(
    ("source", "suggestion"),
    [
        ("state == 'done'", "body.state == 'done'"),
        (".job.state == 'done'", "body.job.state == 'done'"),
        ("bdy.state == 'done'", "body.state == 'done'"),
        ("header['x'] == 'a'", "headers['x'] == 'a'"),
        ("body.state == 'a and b' and not body.x", "body.state == 'a and b' && !body.x"),
        ("body.get('job').get('state') in ('a' or 'b')", None),
        ("body.get('job').get('state') is None", "body['job']['state'] == null"),
        ("response.json()['a'] == \"it's None\" and True", "body['a'] == \"it's None\" && true"),
        (".items[0].state = 'done'", "body.items[0].state == 'done'"),
        ("length(items[?status=='x']) > `0`", None),
        ('body.x == f"{body.y}-{status}"', 'body.x == (string(body.y) + "-" + string(status))'),
        ("body.items.exists(i, i.state is None)", "body.items.exists(i, i.state == null)"),
        ("((((", None),
        ("body.x ==", None),
    ],
)  # fmt: skip
def test_a_suggestion_is_made_only_where_it_compiles(source: str, suggestion: str | None) -> None:
    said = said_of(source)
    assert said.endswith("the variables are status, headers, body, text")
    if suggestion is None:
        assert "did you mean" not in said
    else:
        assert f"did you mean: {suggestion}; " in said


def test_the_hint_names_the_variables_of_the_kind() -> None:
    assert "the variables are files" in str(FILES_ENV.problem("body.x == 1"))
    assert "did you mean: payload.ok == true; the variables are payload" in str(
        SIGNAL_ENV.problem("ok == True")
    )


def test_functions_that_only_kubernetes_has_are_named() -> None:
    assert "there is no function quantity here" in said_of("quantity('1Gi').isGreaterThan(body.x)")


@pytest.mark.parametrize("source", ["(" * 1000, "a.get(" * 170, "a|" * 500, "a in " * 200, "f'{" * 300, "not " * 250, "[?" * 500, "a.b" * 300, "a<" * 500])  # fmt: skip
def test_a_long_mistake_is_answered_at_once(source: str) -> None:
    started = thread_time()
    said_of(source)
    assert thread_time() - started < 5
