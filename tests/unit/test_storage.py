import errno
import json
import os
import resource
import signal

import pytest
from children import CONTEXT, run_child

from olmrl import storage
from olmrl.mix import files as mix_files
from olmrl.mix.run import Run


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    storage.write_text(path, "old")
    with pytest.raises(RuntimeError), storage.atomic_open(path, "w") as stream:
        stream.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_a_written_file_has_the_rights_of_any_new_file(tmp_path):
    (tmp_path / "plain").touch()
    storage.write_text(tmp_path / "written", "x")
    assert (tmp_path / "written").stat().st_mode == (tmp_path / "plain").stat().st_mode


def append_on_a_full_disk(path, most, results):
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        storage.append(path, b"second line\n")
    except OSError as error:
        results.put(error.errno)


@pytest.mark.parametrize("room", [0, 1, 11])
def test_a_line_that_does_not_fit_leaves_nothing_of_it(tmp_path, room):
    path, results = tmp_path / "rows.jsonl", CONTEXT.Queue()
    storage.append(path, b"first line\n")
    assert run_child(append_on_a_full_disk, path, path.stat().st_size + room, results) == 0
    assert results.get(timeout=10) == errno.EFBIG
    assert path.read_bytes() == b"first line\n"
    storage.append(path, b"third line\n")
    assert path.read_bytes() == b"first line\nthird line\n"


def test_jsonl_errors_name_file_and_line(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1}\n\n{"a": \n')
    with pytest.raises(ValueError, match=r"a.jsonl, line 3"):
        list(storage.read_jsonl(path))


def test_text_that_is_not_utf8_names_the_byte(tmp_path):
    path = tmp_path / "a.md"
    path.write_bytes(b"ab\xff")
    with pytest.raises(ValueError, match=r"a.md.*byte 2"):
        storage.read_text(path)


def test_listing_follows_symlinked_folders_in_order(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "b.pdf").touch()
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "a.pdf").touch()
    (tmp_path / "root" / "link").symlink_to(tmp_path / "real")
    names = [p.removeprefix(str(tmp_path)) for p in storage.list_files(tmp_path / "root", ".pdf")]
    assert names == ["/root/a.pdf", "/root/link/b.pdf"]
    with pytest.raises(ValueError, match="no such folder"):
        storage.list_files(tmp_path / "nowhere")


def test_links_back_to_a_folder_they_lie_in_are_not_followed(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.md").touch()
    (tmp_path / "a" / "other").symlink_to(tmp_path / "b")
    (tmp_path / "b" / "other").symlink_to(tmp_path / "a")
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    names = [p.removeprefix(str(tmp_path)) for p in storage.list_files(tmp_path)]
    assert names == ["/a/a.md", "/a/other/b.md", "/b/b.md", "/b/other/a.md"]


def test_remote_paths_work_through_fsspec():
    storage.write_json("memory://box/a.json", {"x": 1})
    assert storage.exists("memory://box/a.json")
    assert '"x": 1' in storage.read_text("memory://box/a.json")
    assert storage.join("s3://bucket/a/", "b", "c") == "s3://bucket/a/b/c"
    with pytest.raises(RuntimeError), storage.atomic_open("memory://box/a.json", "w") as stream:
        stream.write("half")
        raise RuntimeError
    assert '"x": 1' in storage.read_text("memory://box/a.json")
    with pytest.raises(ValueError, match="nope://"):
        storage.read_bytes("nope://x/y")


@pytest.mark.parametrize(
    "data",
    [
        b"---\na: 1\n---\n\xc3\xa9\n",
        b"\xef\xbb\xbf---\r\na: 1\r\n---\r\n\xc3\xa9\r\n",
        b"---\ra: 1\r---\r\xc3\xa9\r",
        "---\r\na: 1\n---\né\n".encode("utf-16"),
        "\ufeff---\na: 1\n---\né\n".encode("utf-16-be"),
        "---\na: 1\n---\né\n".encode("utf-32"),
    ],
)
def test_documents_of_any_editor_read_alike(tmp_path, data):
    path = tmp_path / "a.md"
    path.write_bytes(data)
    assert storage.read_document(path) == "---\na: 1\n---\né\n"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"caf\xe9", r"a\.md: not UTF-8 text \(byte 3 is 0xE9, perhaps Windows-1252\); save it as"),
        (b"\x81\xff", r"not UTF-8 text \(byte 0 is 0x81\)"),
        ("한국어 글".encode("cp949"), r"is 0xC7, perhaps CP949 or "),
        ("日本語の文書".encode("shift_jis"), r"perhaps .*Shift JIS"),
        ("page".encode("utf-16-le"), "not UTF-8 text .* as UTF-16 has"),
        (b"\xff\xfea", r"not UTF-16 text \(byte 2"),
    ],
)
def test_other_encodings_are_named(tmp_path, data, reason):
    path = tmp_path / "a.md"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=reason):
        storage.read_document(path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.md")
    for read in (
        storage.read_document,
        storage.read_text,
        lambda path: [*storage.read_jsonl(path)],
    ):
        with pytest.raises(OSError, match="is a pipe, socket or device"):
            read(tmp_path / "a.md")


@pytest.mark.parametrize("name", ["a::b", "a b", "~", "memory::x", "%41", "é"])
def test_any_name_of_a_local_file_is_that_file(tmp_path, name):
    (tmp_path / "a").write_text("another")
    path = tmp_path / name / f"{name}.json"
    storage.write_json(path, name)
    assert json.loads(path.read_text()) == name == json.loads(storage.read_text(path))
    assert storage.list_files(tmp_path, ".json") == [str(path)] and storage.exists(path)


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c"])
def test_only_a_newline_ends_a_json_line(tmp_path, separator):
    path = tmp_path / "a.jsonl"
    rows = [{"text": f"a{separator}b"}, {"text": "c"}]
    storage.write_jsonl(path, rows)
    assert [row for _, row in storage.read_jsonl(path)] == rows
    windows = b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")
    path.write_bytes(windows)
    assert [row for _, row in storage.read_jsonl(path)] == rows


@pytest.mark.parametrize("line", [b"[" * 100_000, b"9" * 5000, b'"\xff"', b"{} {}", b"\xff\xfe"])
def test_lines_that_no_parser_likes_name_their_place(tmp_path, line):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"1\n" + line + b"\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2: not "):
        list(storage.read_jsonl(path))


def test_a_lone_surrogate_in_a_row_is_kept_as_an_escape(tmp_path):
    rows = [{"text": "caf\u00e9 \ud800"}, {"text": "caf\u00e9"}]
    storage.write_jsonl(tmp_path / "a.jsonl", rows)
    assert [row for _, row in storage.read_jsonl(tmp_path / "a.jsonl")] == rows
    storage.write_json(tmp_path / "a.json", rows[0])
    assert "\\ud800" in (tmp_path / "a.json").read_text()


@pytest.mark.parametrize(
    "write",
    [
        lambda place: storage.write_text(place, "a"),
        lambda place: storage.write_jsonl(place, [{}]),
        lambda place: mix_files.write(place, b"a"),
        lambda place: mix_files.write_lines(place, ["a"]),
        lambda place: Run("stats", place, {}),
    ],
)
def test_nothing_is_written_to_the_hub_without_the_word_push(write):
    for place in ("hf://datasets/org/name/a.txt", "hf://org/name/a.txt"):
        with pytest.raises(ValueError, match="nothing is written to the Hub but by `olmrl check"):
            write(place)
