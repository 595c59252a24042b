import json

from olmrl.run.timeline import GroupLanes, Timeline


def test_the_file_is_a_chrome_trace_of_the_first_steps(tmp_path):
    timeline = Timeline(tmp_path / "timeline.json", steps=2)
    assert timeline.wants(2) and not timeline.wants(3)
    timeline.add("engines", ("page", 10.0, 12.5), lane=3)
    timeline.step([(0, (("lease_wait", 10.0, 13.0), ("learner", 13.0, 14.0)))])
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    names = {e["pid"]: e["args"]["name"] for e in events if e["ph"] == "M"}
    drawn = [
        (names[e["pid"]], e["tid"], e["name"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"
    ]
    assert drawn == [
        ("engines", 3, "page", 10e6, 2.5e6),
        ("learner rank 0", 0, "lease_wait", 10e6, 3e6),
        ("learner rank 0", 0, "learner", 13e6, 1e6),
    ]


def test_overlapping_groups_do_not_share_a_lane():
    lanes = GroupLanes()
    assert [lanes.lane(*span) for span in [(0, 5), (1, 2), (2, 3), (4, 6), (5, 7)]] == [
        0,
        1,
        1,
        1,
        0,
    ]
