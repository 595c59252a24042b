"""Typing errors in pages that a model wrote."""

from pathlib import Path

from olmrl.bench import load_case
from olmrl.synth.pdfs.model_html import read_model_html, truth_html
from olmrl.synth.pdfs.printing import Printed
from olmrl.synth.pdfs.typo_pages import printed_html, typo_pages
from olmrl.synth.proof.html_truth import read_html

HTML = (
    "<!DOCTYPE html><html lang='en'><head><title>Title words</title></head><body>"
    "<header><span>Running header words</span></header><h1>Heading words</h1>"
    "<p>The harbour was measured carefully, because winter storms damage wooden quays.</p>"
    "<table><tr><th>Column</th><td>quantity</td></tr></table></body></html>"
)


class Browsers:
    """Print nothing, and say what the test wants of each page."""

    def __init__(self, faults=()):
        self.faults = faults
        self.jobs = []

    def map(self, job, needs):
        for need in needs:
            self.jobs.append(need)
            Path(need.pdf).write_bytes(b"%PDF")
            yield Printed(1.0, self.faults)


def make(folder, shares, faults=()):
    browsers = Browsers(faults)
    for name in ("a", "b"):
        printed_html(folder, name).write_text(HTML)
    papers = {"a": (600, 800), "b": (700, 900)}
    return typo_pages(folder, papers, shares, 0, browsers), browsers


def test_pages_are_printed_again_with_errors_that_their_truth_keeps(tmp_path):
    facts, browsers = make(tmp_path, {"typos": 1.0})
    assert set(facts) == {"a-typos", "b-typos"} and facts["a-typos"]["of"] == "a"
    assert [(job.width, job.height) for job in browsers.jobs] == [(600, 800), (700, 900)]
    before = read_html(truth_html(read_model_html(HTML))).markdown
    after = (tmp_path / "a-typos.md").read_text()
    assert len(facts["a-typos"]["typos"]) == 5
    for _, typo in facts["a-typos"]["typos"]:
        case = load_case(
            {"pdf": "a", "page": 1, "id": "x", "type": "present", "text": typo, "max_diffs": 0}
        )
        assert case.run(after).passed and not case.run(before).passed
    for kept in ("Running header words", "Heading words", "quantity", "Title words"):
        assert kept in browsers.jobs[0].html
    assert (tmp_path / "a-typos.pdf").exists() and (tmp_path / "a-typos.html").exists()


def test_pages_with_faults_and_those_not_drawn_are_left_out(tmp_path):
    facts, _ = make(tmp_path, {"typos": 1.0}, faults=("does not fit",))
    assert facts == {} and not list(tmp_path.glob("*.pdf"))
    assert make(tmp_path, {"scan": 1.0})[0] == {}
