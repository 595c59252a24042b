from report_run import new_run, rollout, write_group

from olmrl.report.follow import RunView
from olmrl.report.groups import chosen, judged_tests, ranked, selected
from olmrl.report.views import group_shown


def viewed(tmp_path, *groups):
    view = RunView(new_run(tmp_path))
    for number, (step, rollouts, fate) in enumerate(groups):
        write_group(view.directory, step, rollouts, fate=fate, n=number)
    view.update()
    return view


def test_orders_and_filters(tmp_path):
    view = viewed(
        tmp_path,
        (1, [rollout("x", [True, True], total=1.0)] * 2, "ready"),
        (2, [rollout("x", [False, False], total=t) for t in (0.0, 4.0)], "zero_variance"),
        (6, [rollout("x", [True, False], version="2.3"), rollout("y", [], total=None)], "ready"),
        (7, [rollout("x", [], total=None, error="timed out")], "ready"),
        (8, [rollout("x", [True, True, False])], "scoring_failed"),
    )
    steps = {
        order: [g.step for g in chosen(view.groups, order)]
        for order in ("newest", "worst", "advantage", "stale", "failed")
    }
    assert steps == {
        "newest": [8, 7, 6, 2, 1],
        "worst": [2, 6, 8, 1],
        "advantage": [2, 8, 7, 6, 1],
        "stale": [8, 7, 6, 2, 1],
        "failed": [8, 7],
    }
    stale = {g.step: g.staleness for g in view.groups}
    assert stale[6] == 6 and stale[1] == 1, "the oldest weights count"
    first = view.groups[-1].name
    assert selected(view.groups, 2)[view.groups[0].name] == ["newest", "advantage", "stale",
                                                             "failed"]  # fmt: skip
    assert first not in selected(view.groups, 1)


def test_judged_tests_those_that_most_fail_first():
    rows = judged_tests([rollout("a", [True, False, True]), rollout("b", [True, False]),
                      rollout("c", [False, False, True])])  # fmt: skip
    assert [(row.id, row.passed) for row in rows] == [
        ("t1", (False, False, False)),
        ("t0", (True, True, False)),
        ("t2", (True, None, True)),
    ]


def test_completions_stand_by_reward_and_the_middle_may_be_left_out():
    rollouts = [rollout(f"{total}", [True], total=total) for total in (1.0, None, 3.0, 2.0, 0.0)]
    assert [number for number, _ in ranked(rollouts)] == [2, 3, 0, 4, 1]
    group = {"rollouts": rollouts, "reference": None}
    shown = group_shown(group, None, most=3)
    assert shown.numbers == (2, 3, 1) and shown.left_out == 2
    assert shown.against == "best completion"
    assert [p.kind for p in shown.transcripts[0].pieces] == ["same"]
    assert group_shown({"rollouts": [], "reference": None}, None).transcripts == ()


def test_front_matter_is_no_difference_from_a_plain_truth():
    head = (
        "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
        "is_table: False\nis_diagram: False\n---\n"
    )
    for truth, kinds in (("a b c", ["same", "same", "extra"]), (head + "a b c", ["same", "extra"])):
        group = {"reference": truth, "rollouts": [rollout(head + "a b c d", [True])]}
        (shown,) = group_shown(group, None).transcripts
        assert [piece.kind for piece in shown.pieces] == kinds
        assert "".join(piece.text for piece in shown.pieces) == head + "a b c d"
        assert shown.pieces[-1].text.strip() == "d"
