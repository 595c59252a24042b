"""The page that follows a run: only this machine, only its key, only what the run wrote."""

import http.client
import json
import threading
from contextlib import contextmanager

import pytest
from report_run import PAGES, new_run, rollout, write_evaluation, write_group, write_steps

from olmrl.report import __main__ as door
from olmrl.report import serve
from olmrl.report.serve import Server, Site

HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>"


@pytest.fixture(autouse=True)
def every_look_counts(monkeypatch):
    monkeypatch.setattr(serve, "_LOOK_S", 0.0)


@contextmanager
def served(*directories):
    """Gives `get(path, host=...)`: status, headers and text."""
    with Server(Site(directories), 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()

        def get(path, host=None, key=None):
            connection = http.client.HTTPConnection(*server.server_address[:2], timeout=20)
            name = host or f"127.0.0.1:{server.server_address[1]}"
            connection.request("GET", f"/{key or server.key}/{path}", headers={"Host": name})
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode("utf-8", "replace")

        yield get
        server.shutdown()


@pytest.fixture
def directory(tmp_path):
    directory = new_run(tmp_path / "run")
    write_steps(directory, 1, 4)
    write_evaluation(directory, 0, [1, 1, 2])
    write_group(directory, 3, [rollout(HOSTILE, [False], note=HOSTILE)], page_id=HOSTILE)
    return directory


def test_other_hosts_and_other_keys_get_nothing(directory):
    with served(directory) as get:
        assert get("")[0] == 200
        for host in ("localhost:9999", "LOCALHOST", "[::1]:80", "127.0.0.1"):
            assert get("state", host)[0] == 200, host
        for host in (
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil",
            "10.0.0.1",
            " ",
        ):
            status, _, text = get("state", host)
            assert status == 403 and "run" not in text, host
        for key in ("x", "%00", "a" * 5000, "é".encode().hex()):
            status, _, text = get("state", key=key)
            assert status == 404 and "key" in text
        assert get("../state")[0] == 404


def test_only_what_the_run_wrote_is_served(directory):
    (directory.path / "pages" / "secret.png").write_text("secret")
    with served(directory) as get:
        for path in (
            "picture?run=0&path=../config.yaml", "picture?run=0&path=config.yaml",
            "picture?run=0&path=pages/secret.png", "picture?run=0&path=/etc/passwd",
            "picture?run=0&path=pages/0123456789abcdef.png", "picture?run=7&path=x", "picture",
            "group?run=0&name=../../config.yaml", "group?run=1&name=x", "group?run=-1&name=x",
            "group?run=0", "part?name=document", "part", "groups?order=__class__", "nothing",
            "run.html", "heldout?page=x&step=0", "heldout?page=x&step=1e9", "heldout",
            f"heldout?page={PAGES[0]}&step=99999999999999999999",
        ):  # fmt: skip
            status, _, text = get(path)
            assert status == 404, path
            assert "secret" not in text and "steps: 40" not in text


def test_every_answer_forbids_scripts_but_its_own(directory):
    with served(directory) as get:
        for path in ("", "run.js", "run.css", "state", "part?name=answer", "groups?order=newest",
                     "nothing"):  # fmt: skip
            _, headers, text = get(path)
            policy = headers["Content-Security-Policy"]
            assert "default-src 'none'" in policy and "script-src 'self'" in policy
            assert "unsafe" not in policy and "frame-ancestors 'none'" in policy
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert "Access-Control-Allow-Origin" not in headers
            assert "<script>alert" not in text and "<img src=x" not in text
        assert " style=" not in get("")[2]


def test_a_group_is_shown_with_its_picture_and_as_text(directory):
    with served(directory) as get:
        line = get("groups?order=worst")[2]
        name = line.split('data-name="')[1].split('"')[0]
        card = get(f"group?run=0&name={name}")[2]
        assert "&lt;script&gt;" in card and "<script" not in card
        picture = card.split('<img src="')[1].split('"')[0].replace("&amp;", "&")
        status, headers, _ = get(picture)
        assert status == 200 and headers["Content-Type"] == "image/png"


def test_what_a_run_writes_is_told(directory):
    with served(directory) as get:
        before = json.loads(get("state")[2])
        assert json.loads(get("state")[2]) == before
        assert before["status"] == ["not running: step 4 of 40, last written 0 s ago"]
        write_steps(directory, 5, 6)
        write_evaluation(directory, 6, [3, 4, 4])
        after = json.loads(get("state")[2])
        assert before["steps"] == [0] and after["steps"] == [0, 6]
        changed = {k for k, v in after["stamps"].items() if v != before["stamps"][k]}
        assert changed == {"answer", "curves", "time", "heldout"}
        assert "rose from 0.333 to 0.917" in get("part?name=answer")[2]
        write_group(directory, 6, [rollout("x", [True])], n=9)
        directory.bad_page("a.pdf::1", "a.pdf", "not a PDF")
        last = json.loads(get("state")[2])
        assert {k for k, v in last["stamps"].items() if v != after["stamps"][k]} == {
            "groups", "lists",
        }  # fmt: skip
        assert "not a PDF" in get("part?name=lists")[2]


def test_a_run_of_two_has_the_page_of_the_one_that_read_it(directory, tmp_path):
    other = new_run(tmp_path / "other")
    write_evaluation(other, 8, [1, 1, 1], texts={"x/only.pdf::1": "z"})
    with served(directory, other) as get:
        state = json.loads(get("state")[2])
        assert state["steps"] == [0, 8] and state["pages"] == [*PAGES[:2], "x/only.pdf::1"]
        sheet = get("heldout?page=x/only.pdf::1&step=8")[2]
        assert "picture?run=1" in sheet and "has no transcription" in sheet


def test_a_folder_that_went_away_is_a_sentence(directory):
    with served(directory) as get:
        (directory.path / "config.yaml").unlink()
        status, _, text = get("state")
        assert status == 500 and "config.yaml: No such file" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no", "--serve"], "not a run directory (no config.yaml)"),
        (["RUN", "RUN", "--serve", "RUN"], "one run or two, not 3"),
        (["RUN", "--serve", "--port", "70000"], "a port is a number from 0 to 65535"),
        (["RUN", "--serve", "--compare"], "leave --compare out"),
    ],
)
def test_a_wrong_request_ends_in_one_sentence(directory, capsys, arguments, said):
    assert door.main([str(directory.path) if a == "RUN" else a for a in arguments]) == 2
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_named(directory, capsys):
    with Server(Site([directory]), 0) as server:
        port = server.server_address[1]
        assert door.main([str(directory.path), "--serve", "--port", str(port)]) == 2
    error = capsys.readouterr().err
    taken = f"--port {port}: is taken; choose another, or 0 for a free one"
    assert error == f"python -m olmrl.report: {taken}\n"
