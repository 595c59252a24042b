"""Nothing that a file does to its parser goes past the fence."""

import errno
import os
import resource
import signal
import time

import hostile_parser
import pytest
from data_pdfs import field_pdf, raw_pdf, write_pdf

from olmrl.data import fence
from olmrl.data.anchor import anchor_text
from olmrl.data.bad_page import BadPage
from olmrl.data.render import page_count, render_page
from olmrl.mix import pdf
from olmrl.synth.derived.furniture import margin_lines


@pytest.mark.parametrize(
    ("path", "reason"),
    [("hang", "took longer than 3 s"), ("crash", "SIGABRT"), ("swell", "needs more than 8 GiB")],
)
def test_what_takes_the_reader_along_is_the_pages_failure_and_is_not_met_again(
    monkeypatch, path, reason
):
    pool = fence.FencedPool(1, deadline_s=3)
    monkeypatch.setattr(fence, "_own_pool", lambda pid: pool)
    with pool:
        for _ in range(2):
            with pytest.raises(BadPage, match=reason) as caught:
                fence.call(hostile_parser.read, path, 7)
            assert (caught.value.path, caught.value.page_number) == (path, 7)
            child = pool._children[0].process
        if path != "swell":  # a child that only refused goes on
            assert child is None
        assert fence.call(hostile_parser.read, "fine", 7).startswith("fine 7 ")


def test_a_machine_without_descriptors_is_no_files_failure(tmp_path, monkeypatch):
    path = str(write_pdf(tmp_path / "a.pdf"))
    pool = fence.FencedPool(1)
    monkeypatch.setattr(fence, "_own_pool", lambda pid: pool)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pool:
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
        try:
            with pytest.raises(OSError, match="PDF reader") as caught:
                page_count(path)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert caught.value.errno == errno.EMFILE
        assert page_count(path) == 1


def test_an_interrupted_call_leaves_no_answer_for_the_next(monkeypatch):
    """Ray cancels a task by an exception in its thread, wherever that is."""

    def interrupt(*_):
        raise KeyboardInterrupt

    pool = fence.FencedPool(1)
    monkeypatch.setattr(fence, "_own_pool", lambda pid: pool)
    before = signal.signal(signal.SIGALRM, interrupt)
    with pool:
        assert fence.call(hostile_parser.read, "fine", 1)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                fence.call(hostile_parser.read, "nap", 7)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
        time.sleep(1)  # its answer would be there by now
        assert fence.call(hostile_parser.read, "fine", 2).startswith("fine 2 ")


def test_parsers_run_in_one_child_of_the_process():
    found = {fence.call(hostile_parser.read, "fine", 1) for _ in range(3)}
    assert len(found) == 1 and str(os.getpid()) not in found.pop().split()


@pytest.mark.parametrize(
    "error", [RecursionError(), AssertionError("x"), NotImplementedError("y"), OSError(5, "z")]
)
def test_any_exception_is_the_pages_failure_with_its_reason(error):
    reason = rf"^a\.pdf, page 3: broken \({type(error).__name__}"
    with pytest.raises(BadPage, match=reason) as bad, fence.untrusted("a.pdf", 3, "broken"):
        raise error
    assert "\n" not in str(bad.value)


def test_ctrl_c_is_nobodys_failure():
    with pytest.raises(KeyboardInterrupt), fence.untrusted("a.pdf", 1):
        raise KeyboardInterrupt


def without_page(path):
    """A PDF whose page tree names an object that is not there."""
    path.write_bytes(raw_pdf("/MediaBox [0 0 100 100]", "").replace(b"3 0 obj", b"9 0 obj"))
    return str(path)


@pytest.mark.parametrize(
    "reader",
    [
        lambda path: render_page(path, 1, 100),
        lambda path: pdf.page_text(path, 1),
        lambda path: pdf.page_size(path),
        lambda path: pdf.cut_pages(path, (1,)),
        margin_lines,
    ],
    ids=["render", "text", "size", "cut", "margins"],
)
def test_a_page_that_cannot_be_loaded_is_bad_for_every_reader(tmp_path, reader):
    path = without_page(tmp_path / "a.pdf")
    assert page_count(path) == 1
    with pytest.raises(BadPage, match=r"a\.pdf, page 1: "):
        reader(path)


def replaced(path, old, new):
    write_pdf(path)
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new, 1))
    return str(path)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        (b"/FlateDecode", b"/FlateDecoxx", "NotImplementedError"),
        (b"/Contents 7 0 R", b"/Contents (7 0)", ""),
        (b"/MediaBox [ 0 0 200 300 ]", b"/MediaBox [ 0 0 /A /B ]  ", ""),
    ],
)
def test_anchor_text_of_a_damaged_page_fails_with_its_reason(tmp_path, old, new, error):
    path = replaced(tmp_path / "a.pdf", old, new)
    try:
        assert anchor_text(path, 1, 500).startswith("Page dimensions")
    except BadPage as bad:
        assert "no anchor text can be made (" in str(bad) and error in str(bad)
    else:
        assert not error


def dark(path):
    return int((render_page(str(path), 1, 400).max(axis=2) < 100).sum())


@pytest.mark.parametrize("form", [True, False], ids=["in its form", "cut out of its form"])
def test_values_of_fields_are_drawn(tmp_path, form):
    (tmp_path / "a.pdf").write_bytes(field_pdf(form))
    (tmp_path / "cut.pdf").write_bytes(pdf.cut_pages(str(tmp_path / "a.pdf"), (1,))[1])
    # the appearance is a black square of 50 x 50 points on a page of 100 x 200
    assert dark(tmp_path / "a.pdf") == dark(tmp_path / "cut.pdf") == 100 * 100


def test_an_xfa_form_is_drawn_without_advice_on_other_builds(tmp_path, capfd):
    (tmp_path / "a.pdf").write_bytes(field_pdf(True, xfa=True))
    assert dark(tmp_path / "a.pdf") == 100 * 100
    assert capfd.readouterr().err == ""
