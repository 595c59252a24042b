"""olmOCR-bench as a library: cases, folders of cases, and their verdicts on markdown.

    case = load_case({"type": "present", "pdf": "a.pdf", "page": 1, "id": "t1", "text": "Hello"})
    case.run("Hello world").passed

Cases of the same page can share its parsing: `page = ParsedPage(markdown)`, then
`case.run_parsed(page)` for each. `README.md` in this folder lists how the default mode differs
from `compat=True`, which reproduces the public benchmark.
"""

from olmrl.bench.case import Case, CaseError, Verdict
from olmrl.bench.cases import load_case
from olmrl.bench.document import ParsedPage
from olmrl.bench.folder import BenchFolder, BenchPage, load_folder

__all__ = [
    "BenchFolder",
    "BenchPage",
    "Case",
    "CaseError",
    "ParsedPage",
    "Verdict",
    "load_case",
    "load_folder",
]
