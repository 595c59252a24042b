"""Where verbs read and write: s3:// through a real server, full and read-only disks, journal."""

import errno
import json
import os
import shutil
import subprocess
import sys

import fsspec
import pytest
from mix_support import make_pdf, start, tree
from moto.server import ThreadedMotoServer
from openai_server import OpenAIServer, completion, page_answer

from olmrl.mix import files
from olmrl.mix.__main__ import main
from olmrl.mix.journal import Journal
from olmrl.mix.run import Fail, Outcome, Run, Skip, process


@pytest.fixture
def bucket(monkeypatch):
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for key, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(key, value)
    fsspec.filesystem("s3").clear_instance_cache()
    fs = fsspec.filesystem("s3")
    fs.mkdir("bucket")
    yield fs
    fs.rm("bucket", recursive=True)
    fs.clear_instance_cache()
    server.stop()


def put(fs, folder, target):
    for name, data in tree(folder, without=()).items():
        fs.pipe_file(f"{target}/{name}", data)


def remote_tree(fs, root):
    fs.invalidate_cache()
    names = [name for name in fs.find(root) if "/.mix/" not in name]
    return {name.removeprefix(f"{root}/"): fs.cat_file(name) for name in names}


def test_the_batch_road_on_s3_gives_what_it_gives_on_disk(tmp_path, mix, bucket, api_key):
    for name in ("a", "sub/b", "sub/c"):
        make_pdf(tmp_path / f"pdfs/{name}.pdf", [name])
    put(bucket, tmp_path / "pdfs", "bucket/pdfs")
    answer = lambda key, body: completion(page_answer(natural_text=key))  # noqa: E731

    def road(root, server):
        build = ("openai-build", f"{root}/pdfs", f"{root}/build", "--side", 100, "--workers", 1)
        more = ("--base-url", server.url, "--poll", 0.01)
        for _ in range(2):  # the second start finds everything done
            assert mix(*build) == 0
            assert mix("openai-run", f"{root}/build", f"{root}/results", *more) == 0
            collect = ("openai-collect", f"{root}/results", f"{root}/pdfs", f"{root}/pairs")
            assert mix(*collect, "--workers", 2) == 0

    with OpenAIServer(answer) as server:
        road(tmp_path, server)
        road("s3://bucket", server)
        assert len(server.batches) == 2
    for folder in ("build", "pairs"):
        assert remote_tree(bucket, f"bucket/{folder}") == tree(tmp_path / folder)


def test_a_data_set_on_s3_round_trips(tmp_path, mix, bucket):
    head = "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\nis_table: False\nis_diagram: False\n---\n"  # noqa: E501
    for name in ("x/1", "x/2"):
        make_pdf(tmp_path / f"pairs/{name}.pdf", [name])
        (tmp_path / f"pairs/{name}.md").write_text(head + name)
    put(bucket, tmp_path / "pairs", "bucket/pairs")
    label = ("--subset", "s", "--split", "train")
    package = ("hub-package", "--processed-dir", "s3://bucket/pairs", *label)
    assert mix(*package, "--output-dir", tmp_path / "data") == 0
    assert mix(*package, "--output-dir", "s3://bucket/data") == 0
    assert remote_tree(bucket, "bucket/data") == tree(tmp_path / "data")
    prepare = ("hub-prepare", "--dataset-path", tmp_path / "data", *label, "--workers", 1)
    assert mix(*prepare, "--destination", "s3://bucket/out") == 0
    got = remote_tree(bucket, "bucket/out/processed_s_train")
    assert got.pop("urls.jsonl") == b""
    assert got == tree(tmp_path / "pairs")


def test_a_kill_on_s3_loses_nothing_that_was_paid(tmp_path, mix, bucket, api_key):
    rows = [{"custom_id": i, "body": {}} for i in ("one", "two")]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    bucket.pipe_file("bucket/in/a.jsonl", lines)
    with OpenAIServer(lambda key, body: completion(page_answer()), polls=1) as server:
        for target in (2, 4):
            first = len(server.requests)
            server.faults = lambda n, r, t=first + target: "kill" if n == t else None
            server.victim = start(
                "openai-run", "s3://bucket/in", "s3://bucket/out", "--base-url", server.url,
                "--poll", "0.01", OPENAI_API_KEY="test-key",
            )  # fmt: skip
            server.victim.communicate(timeout=60)
        server.faults = lambda n, r: None
        more = ("--base-url", server.url, "--poll", 0.01)
        assert mix("openai-run", "s3://bucket/in", "s3://bucket/out", *more) == 0
        assert server.paid == {"one": 1, "two": 1}
    assert len(bucket.cat_file("bucket/out/a.jsonl").splitlines()) == 2


def test_a_read_only_output_is_one_sentence(tmp_path, mix, capsys):
    make_pdf(tmp_path / "pdfs/a.pdf")
    assert mix("render", tmp_path / "pdfs", "/proc/nowhere") == 2
    assert capsys.readouterr().err.startswith("python -m olmrl.mix render: /proc/nowhere")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_stops_the_run_with_one_sentence_and_leaves_nothing_half(tmp_path):
    """The file system is real: a 2 MB tmpfs, where this process may mount one."""
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", small], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a small file system: {mounted.stderr.strip()}")
    try:
        for number in range(12):
            make_pdf(tmp_path / f"pdfs/{number:02d}.pdf", ["text " * 20 + str(number)] * 3)
        command = [sys.executable, "-m", "olmrl.mix", "render", tmp_path / "pdfs", small]
        command += ["--side", "900", "--workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.returncode == 2
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("python -m olmrl.mix render:") and os.strerror(errno.ENOSPC) in last
        whole = list(small.glob("*.png"))
        assert whole and all(p.read_bytes().endswith(b"IEND\xaeB`\x82") for p in whole)
        again = tmp_path / "again"
        shutil.copytree(small, again)
        command[5] = again
    finally:
        subprocess.run(["umount", small], check=True)
    done = subprocess.run(
        [*command, "--state", again / ".mix/render"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(list(again.glob("*.png"))) == 36


def test_two_processes_on_one_folder_are_refused(tmp_path):
    first = Journal(str(tmp_path), {"verb": "x"})
    with pytest.raises(ValueError, match="another process is working in this folder"):
        Journal(str(tmp_path), {"verb": "x"})
    first.close()
    Journal(str(tmp_path), {"verb": "x"}).close()


@pytest.mark.parametrize("cut", [1, 5, 30, 10_000])
def test_a_torn_journal_line_is_dropped_and_only_that(tmp_path, cut):
    journal = Journal(str(tmp_path), {})
    journal.append({"key": "a"})
    journal.append({"key": "b" * 40})
    journal.close()
    path = tmp_path / "journal.jsonl"
    data = path.read_bytes()
    last = len(data) - data.rstrip(b"\n").rfind(b"\n") - 1
    path.write_bytes(data[: -min(cut, last - 1)])
    records = list(Journal(str(tmp_path), {}).records)
    assert records == [{"key": "a"}]


def test_a_run_repeats_what_failed_and_never_what_was_skipped(tmp_path):
    seen = []

    def work(item):
        seen.append(item)
        if item == "never":
            raise Skip("no use")
        if item == "later" and seen.count("later") == 1:
            raise Fail("server down")
        return Outcome(facts={"pages": 2})

    items = [(name, name) for name in ("one", "never", "later")]
    for complete in (False, True):
        with Run("x", str(tmp_path), {}) as run:
            process(run, items, work, workers=2)
            assert run.summary()["complete"] is complete
    summary = json.loads((tmp_path / ".mix/x/summary.json").read_text())
    assert sorted(seen) == ["later", "later", "never", "one"]
    assert summary["counts"] == {"done": 2, "skipped": 1, "failed": 0}
    assert summary["facts"] == {"pages": 4}
    assert summary["problems"] == [{"key": "never", "status": "skipped", "reason": "no use"}]


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", "a/../b", "/a", "a\\..\\b", "C:x", "a\x00b", "x" * 300, "s3://b/c", "~root/x",
     "a\nb", "\ud800"],
)  # fmt: skip
def test_names_that_could_leave_a_folder_are_refused(name):
    with pytest.raises(ValueError, match="name "):
        files.safe_relative(name)


def test_plain_names_pass_and_slugs_stay_distinct():
    assert files.safe_relative("ab/c d-ü.pdf") == "ab/c d-ü.pdf"
    assert files.safe_relative("a//./b") == "a/b"
    names = ["a/b", "a:b", "a b", "a_b", "..", "", "ü", "x" * 300, "x" * 301]
    slugs = [files.slug(name) for name in names]
    assert len(set(slugs)) == len(names)
    assert all("/" not in s and ".." not in s and 0 < len(s) <= 160 for s in slugs)


def test_every_verb_has_help_that_names_its_module(mix, capsys):
    assert mix() == 2
    verbs = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line[:2] == "  "]
    assert len(verbs) == 18
    for verb in verbs:
        with pytest.raises(SystemExit) as stop:
            mix(verb, "--help")
        assert stop.value.code == 0
        assert f"python -m olmrl.mix {verb}" in capsys.readouterr().out
    assert mix("sampel") == 2
    assert "unknown verb 'sampel'" in capsys.readouterr().err


def pair(folder, name="a"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text("---\nprimary_language: en\n---\nText.")
    (folder / f"{name}.pdf").write_bytes(b"%PDF-1.4")
    return folder


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


SAME = "is the folder that is read; name another one to write"
AROUND = "must lie beside pairs, not in it or around it"


@pytest.mark.parametrize(
    ("output", "said"),
    [("pairs", SAME), ("pairs/", SAME), ("link", SAME), ("pairs/x", AROUND), (".", AROUND)],
)
def test_pairs_are_never_filtered_onto_themselves(tmp_path, monkeypatch, capsys, output, said):
    monkeypatch.chdir(tmp_path)
    before = contents(pair(tmp_path / "pairs"))
    (tmp_path / "link").symlink_to("pairs")
    (tmp_path / "drop.jsonl").write_text("")
    assert main(["filter", "pairs", output, "--drop", "drop.jsonl"]) == 2
    assert said in capsys.readouterr().err
    assert contents(tmp_path / "pairs") == before


def test_a_file_is_never_linked_to_itself(tmp_path):
    folder = pair(tmp_path / "pairs")
    (tmp_path / "link").symlink_to("pairs")
    for target in (folder / "a.md", tmp_path / "link/a.md"):
        with pytest.raises(ValueError, match="is the file that it would be made from"):
            files.place(str(folder / "a.md"), str(target))
    assert not (folder / "a.md").is_symlink()


def test_contaminated_pages_are_not_moved_onto_themselves(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    before = contents(pair(tmp_path / "pairs"))
    words = ["decontaminate", "pairs", "out", "--bench", "bench", "--move-to", "pairs"]
    assert main(words) == 2
    assert SAME in capsys.readouterr().err
    assert contents(tmp_path / "pairs") == before


@pytest.mark.parametrize(
    "option", ["--parquet-name", "--manifest-name", "--pdf-chunk-dir", "--pdf-chunk-prefix"]
)
def test_a_packaged_data_set_stays_in_its_folder(tmp_path, monkeypatch, capsys, option):
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "pairs")
    words = ["hub-package", "--processed-dir", "pairs", "--subset", "a", "--split", "train"]
    assert main([*words, "--output-dir", "out", option, "../x"]) == 2
    assert f"{option} '../x': becomes a part of file names" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("output", ["file", "file/x"])
def test_an_output_that_is_a_file_is_refused(tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    pair(tmp_path / "pairs")
    (tmp_path / "file").write_text("kept")
    (tmp_path / "drop.jsonl").write_text("")
    assert main(["filter", "pairs", output, "--drop", "drop.jsonl"]) == 2
    assert "file is a file, not a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "kept"
