"""What lay in the folders is said, and adds up."""

import json
from pathlib import Path

from data_pdfs import write_pdf

from olmrl.data.found import FoundBench, FoundPairs, untested
from olmrl.data.page import scan_bench


def test_pairs_add_up():
    found = FoundPairs(["/a/x.MD", "/a/y.pdf", "/a/z.PDF"], 4, 1, 2, 16, 3)
    assert found.pairs == 23
    assert str(found) == (
        "23 page pairs (beside them 1 .md without a PDF, 2 PDF without a .md): 4 refused, "
        "1 dropped by rules on their text, 2 beyond a limit, 16 kept; "
        "3 without front matter, taken as upright pages of text"
    )
    assert str(FoundPairs([], 0, 0, 0, 3, 0)) == (
        "3 page pairs: 0 refused, 0 dropped by rules on their text, 3 kept"
    )


def test_pdfs_that_no_test_names_are_found(tmp_path: Path):
    for name in ("a.pdf", "sub/B.PDF", "c.PDF"):
        write_pdf(tmp_path / "pdfs" / name)
    rows = [{"pdf": pdf, "page": 1, "id": pdf, "type": "baseline"} for pdf in ("a.pdf", "gone.pdf")]
    (tmp_path / "t.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lone = untested(str(tmp_path), scan_bench(str(tmp_path)))
    assert [str(Path(p).relative_to(tmp_path / "pdfs")) for p in lone] == ["c.PDF", "sub/B.PDF"]
    assert str(FoundBench(lone, 3, 5)) == (
        "8 pages with tests (beside them 2 PDF without a test): 3 beyond data.max_pages, 5 kept"
    )
