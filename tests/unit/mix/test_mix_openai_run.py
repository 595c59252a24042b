"""openai-run against a local server: partial failure, expiry, limits, dropped answers, kill -9."""

import json

import pytest
from mix_support import start, tree
from openai_server import OpenAIServer, completion, page_answer


def write_requests(folder, name, ids, filler=10):
    folder.mkdir(parents=True, exist_ok=True)
    rows = [
        {
            "custom_id": i,
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"x": "y" * filler},
        }
        for i in ids
    ]
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))


def results(path):
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [(row["custom_id"], (row["response"] or {}).get("status_code")) for row in rows]


def answer(custom_id, body):
    return completion(page_answer(natural_text=custom_id))


def run(mix, server, folder, *more):
    return mix(
        "openai-run", folder, folder.parent / "out", "--base-url", server.url, "--poll", 0.01, *more
    )


def test_results_come_back_in_request_order_with_cost(tmp_path, mix, api_key):
    write_requests(tmp_path / "in", "a.jsonl", ["one", "two", "three"])
    write_requests(tmp_path / "in", "b.jsonl", ["four"])
    with OpenAIServer(answer) as server:
        assert run(mix, server, tmp_path / "in") == 0
        assert run(mix, server, tmp_path / "in") == 0
    assert results(tmp_path / "out/a.jsonl") == [("one", 200), ("two", 200), ("three", 200)]
    assert results(tmp_path / "out/b.jsonl") == [("four", 200)]
    assert len(server.batches) == 2
    assert all(value["content"] is None for value in server.files.values())
    facts = json.loads((tmp_path / "out/.mix/openai-run/summary.json").read_text())["facts"]
    assert facts["prompt_tokens"] == 4000
    # gpt-4.1: 2 and 8 dollars per million tokens, half of it in a batch
    assert facts["cost_usd"] == pytest.approx(4 * (1000 * 2 + 100 * 8) / 1e6 / 2)


def test_expired_limited_and_lost_requests_are_asked_again_but_refused_ones_are_not(
    tmp_path, mix, api_key
):
    write_requests(tmp_path / "in", "a.jsonl", ["fine", "late", "limited", "lost", "bad"])
    plan = {"late": ["expired"], "limited": [429], "lost": ["lost", 500], "bad": [400]}
    with OpenAIServer(answer, plan, polls=1) as server:
        assert run(mix, server, tmp_path / "in") == 0
    assert results(tmp_path / "out/a.jsonl") == [
        ("fine", 200),
        ("late", 200),
        ("limited", 200),
        ("lost", 200),
        ("bad", 400),
    ]
    assert server.paid == {"fine": 1, "late": 1, "limited": 1, "lost": 1}
    assert len(server.batches) == 3
    errors = (tmp_path / "out/errors/a.attempt0.jsonl").read_text()
    assert "batch_expired" in errors and "status 400" in errors
    facts = json.loads((tmp_path / "out/.mix/openai-run/summary.json").read_text())["facts"]
    assert facts["refused"] == 1 and facts["unanswered"] == 0


def test_requests_that_never_get_an_answer_are_named_and_a_later_start_may_try_more(
    tmp_path, mix, api_key
):
    write_requests(tmp_path / "in", "a.jsonl", ["fine", "late"])
    with OpenAIServer(answer, {"late": ["expired"] * 3}) as server:
        assert run(mix, server, tmp_path / "in", "--attempts", 2) == 1
        summary = json.loads((tmp_path / "out/.mix/openai-run/summary.json").read_text())
        assert "1 of 2 requests have no answer after 2 attempts" in summary["problems"][0]["reason"]
        assert run(mix, server, tmp_path / "in", "--attempts", 4) == 0
    assert results(tmp_path / "out/a.jsonl") == [("fine", 200), ("late", 200)]
    assert server.paid == {"fine": 1, "late": 1}


def test_a_full_queue_costs_no_attempt(tmp_path, mix, api_key):
    write_requests(tmp_path / "in", "a.jsonl", ["one"])
    with OpenAIServer(answer) as server:
        server.batch_failures = ["token_limit_exceeded"] * 3
        assert run(mix, server, tmp_path / "in", "--attempts", 1) == 0
    assert server.paid == {"one": 1}


def test_a_batch_that_fails_as_a_whole_reports_why(tmp_path, mix, api_key):
    write_requests(tmp_path / "in", "a.jsonl", ["one"])
    with OpenAIServer(answer) as server:
        server.batch_failures = ["invalid_json_line"] * 2
        assert run(mix, server, tmp_path / "in", "--attempts", 2) == 1
    row = json.loads((tmp_path / "out/a.jsonl").read_text())
    assert row["error"]["message"] == "batch says invalid_json_line"


def test_bytes_in_processing_stay_within_the_budget(tmp_path, mix, api_key):
    for number in range(4):
        write_requests(tmp_path / "in", f"{number}.jsonl", [f"id{number}"], filler=1000)
    with OpenAIServer(answer) as server:
        assert run(mix, server, tmp_path / "in", "--max-gb", "0.0000025") == 0
    assert 1000 < server.most_in_flight <= 2500
    assert len(server.batches) == 4


@pytest.mark.parametrize("fault", ["drop", "refuse", "limit", "error"])
def test_troubles_at_any_request_pay_nothing_twice(tmp_path, mix, api_key, fault):
    """Every third request goes wrong; a dropped answer was nevertheless acted upon."""
    troubles = {
        "limit": (429, {"Retry-After": "0"}, {"error": {"message": "slow down"}}),
        "error": (503, {}, b"down for a moment"),
    }
    write_requests(tmp_path / "in", "a.jsonl", ["one", "two"])
    write_requests(tmp_path / "in", "b.jsonl", ["three"])
    faults = lambda number, request: troubles.get(fault, fault) if number % 3 == 1 else None  # noqa: E731
    with OpenAIServer(answer, {"two": ["expired"]}, faults) as server:
        assert run(mix, server, tmp_path / "in") == 0
    assert server.paid == {"one": 1, "two": 1, "three": 1}
    assert results(tmp_path / "out/a.jsonl") == [("one", 200), ("two", 200)]


def test_kill_at_every_request_gives_the_same_output_and_pays_once(tmp_path, api_key):
    """The process is killed -9 at request 0, the next one at its request 1, and so on."""
    plan = {"two": ["expired"], "bad": [400]}

    def one(folder, kill):
        write_requests(folder / "in", "a.jsonl", ["one", "two", "bad"])
        starts = 0
        with OpenAIServer(answer, plan, polls=1) as server:
            while True:
                first = len(server.requests)
                when = "kill" if starts % 2 else "kill-before"
                target = first + starts if kill else -1
                server.faults = lambda n, r, t=target, w=when: w if n == t else None
                server.victim = start(
                    "openai-run", folder / "in", folder / "out", "--base-url", server.url,
                    "--poll", "0.01", OPENAI_API_KEY="test-key",
                )  # fmt: skip
                _, errors = server.victim.communicate(timeout=60)
                assert server.victim.returncode in (0, -9), errors
                if server.victim.returncode == 0:
                    break
                starts += 1
        assert server.paid == {"one": 1, "two": 1}
        assert len(server.batches) == 2
        return starts, tree(folder / "out")

    starts, killed = one(tmp_path / "killed", kill=True)
    _, quiet = one(tmp_path / "quiet", kill=False)
    assert starts >= 4
    assert killed == quiet


def test_what_cannot_work_is_said_in_one_sentence(tmp_path, mix, capsys, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    write_requests(tmp_path / "in", "a.jsonl", ["one"])
    assert mix("openai-run", tmp_path / "in") == 2
    assert "set the environment variable OPENAI_API_KEY" in capsys.readouterr().err
    with OpenAIServer(answer) as server:
        monkeypatch.setenv("OPENAI_API_KEY", "wrong-key")
        assert run(mix, server, tmp_path / "in") == 2
        assert "HTTP 401 invalid_api_key: wrong key" in capsys.readouterr().err
        monkeypatch.setenv("OPENAI_API_KEY", "test-key")
        (tmp_path / "in/b.jsonl").write_text('{"custom_id": "x"}\n{"custom_id": "x"}\n')
        (tmp_path / "in/c.jsonl").write_text("{broken\n")
        assert run(mix, server, tmp_path / "in") == 1
    summary = json.loads((tmp_path / "out/.mix/openai-run/summary.json").read_text())
    reasons = {row["key"]: row["reason"] for row in summary["problems"]}
    assert "b.jsonl, line 2: custom_id 'x' repeats line 1" in reasons["b"]
    assert "c.jsonl, line 1: not valid JSON" in reasons["c"]
    assert results(tmp_path / "out/a.jsonl") == [("one", 200)]
