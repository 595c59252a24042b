import json

from olmrl.run.events import EventLog
from olmrl.types import PolicyVersion


def test_an_event_says_who_when_and_under_which_weights(tmp_path):
    log = EventLog(tmp_path, "learner", 3)
    log.write("step", PolicyVersion(2, 7), seconds={"learner": 1.5})
    EventLog(tmp_path, "learner", 3).write("begins")
    first, second = map(
        json.loads, (tmp_path / "logs" / "learner-3.jsonl").read_text().splitlines()
    )
    assert (first["role"], first["rank"], first["version"]) == ("learner", 3, "2.7")
    assert first["seconds"] == {"learner": 1.5} and first["time"] <= second["time"]
    assert second["event"] == "begins" and "version" not in second
