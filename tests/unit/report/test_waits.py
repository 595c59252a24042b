import pytest

from olmrl.report.waits import waits

CONFIG = {"algorithm": {"max_staleness": 0}}


def columns(**seconds):
    named = {"rollout/engines": 2.0} | {f"time/{name}": value for name, value in seconds.items()}
    return {name: ([1, 2], [99.0, value][1:] * 2) for name, value in named.items()}


@pytest.mark.parametrize(
    ("seconds", "staleness", "said"),
    [
        ({"lease_wait": 6, "learner": 4, "engine_busy": 8}, 0, "they take turns"),
        ({"lease_wait": 6, "learner": 4, "engine_busy": 8}, 1, "both wait"),
        ({"lease_wait": 6, "learner": 4, "engine_busy": 19}, 0, "generation is the bottleneck"),
        ({"lease_wait": 0, "learner": 10, "engine_busy": 8}, 0, "the learner is the bottleneck"),
        ({"lease_wait": 1, "learner": 9, "engine_busy": 19}, 1, "neither holds the other up"),
    ],
)
def test_who_waits_for_whom(seconds, staleness, said):
    found = waits(columns(step=10, **seconds), {"algorithm": {"max_staleness": staleness}})
    assert said in found.sentence
    learner, engines = found.sides
    assert learner.share("waits for groups") == pytest.approx(seconds["lease_wait"] / 10)
    assert engines.share("generate") == pytest.approx(seconds["engine_busy"] / 20)
    assert all(sum(s for _, s in side.parts) == pytest.approx(1) for side in found.sides)


def test_engines_that_are_busy_in_evaluations_too_fill_their_bar_and_no_more():
    found = waits(columns(step=1, lease_wait=1, engine_busy=50, engine_sync=2), CONFIG)
    assert found.sides[1].parts == (("generate", 1.0),)


def test_an_sft_run_waits_for_pages_or_not():
    rows = {"time/data_wait": ([1], [3.0]), "time/learner": ([1], [1.0])}
    assert "waits for pages 75 % of a step: rendering" in waits(rows, {}).sentence
    rows["time/data_wait"] = ([1], [0.01])
    assert "it waits for pages 1 % of a step." in waits(rows, {}).sentence
    assert waits({}, {}) is None
