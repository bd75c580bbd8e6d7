"""The benchmark of fairness, with one storm of half a second."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.mark.slow
async def test_a_short_storm_has_figures_and_a_plot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import check_costs
    import fairness

    result = await fairness.run_storm("submits", 0.5)
    assert set(result.answers) == {"201"}
    assert all(result.alone[kind] and result.stormy[kind] for kind in fairness.KINDS)
    assert [figure.name for figure in result.figures("storm")][-1] == "storm: memory"
    fairness.draw(tmp_path / "fairness.png", {"submits": result})
    assert (tmp_path / "fairness.png").stat().st_size > 1000
    assert [figure.unit for figure in check_costs.measure_costs()] == ["µs"] * 4
