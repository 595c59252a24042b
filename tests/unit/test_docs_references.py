"""What code and documents refer to is in the repository, and stays there."""

import ast
import re
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = (".ci", "olmrl", "tests", "configs", "launch", "benchmarks", "docs")
SUFFIXES = {".py", ".md", ".yaml", ".yml", ".toml", ".sh", ".sbatch", ".html", ".js", ".txt", ""}
FILES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("*.toml"), *ROOT.glob("Makefile"), *ROOT.glob(".*.yaml")]
    + [
        path
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in SUFFIXES and "__pycache__" not in path.parts
    ]
)
MARKDOWN = [path for path in FILES if path.suffix == ".md"]
MODULES = [path for path in FILES if path.suffix == ".py" and path.is_relative_to(ROOT / "olmrl")]

MENTION = re.compile(r"(?<![\w/.])(docs/[\w/-]+\.\w+)(?:#([\w-]+))?")
LINK = re.compile(r"\]\((?!\w+:)([^()#\s]*)(?:#([^()\s]+))?\)")
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
OUTSIDE = re.compile(
    # codes of papers that only their writers had
    r"\bspec(?:s|ification)? (?:sections? )?[A-J]\d{0,2}\b|\([A-J]\d{1,2}\)"
    r"|(?<![\w/.(\[])(?:design|formats|olmocr2|style)\.md\b|\.\./shared/|/work/"
)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


@cache
def anchors(path: Path) -> frozenset[str]:
    """Anchors that GitHub gives to the headings of a document."""
    found: set[str] = set()
    text = re.sub(r"^```.*?^```", "", text_of(path), flags=re.MULTILINE | re.DOTALL)
    for heading in re.findall(r"^#{1,6} +(.+?) *$", text, re.MULTILINE):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        number = sum(
            re.fullmatch(rf"{re.escape(slug)}(-\d+)?", other) is not None for other in found
        )
        found.add(f"{slug}-{number}" if number else slug)
    return frozenset(found)


def missing(target: Path, anchor: str | None) -> str:
    """Why a reference leads nowhere; empty for a good one."""
    if not target.exists():
        return "no such file"
    if anchor and anchor not in anchors(target):
        return f"no heading #{anchor}; there are {', '.join(sorted(anchors(target)))}"
    return ""


def test_mentioned_documents_and_headings_exist():
    problems = [
        f"{name(path)} refers to {target}#{anchor}: {problem}"
        for path in FILES
        for target, anchor in MENTION.findall(text_of(path))
        if (problem := missing(ROOT / target, anchor))
    ]
    assert not problems, "\n".join(problems)


def test_links_of_documents_lead_somewhere():
    problems = [
        f"{name(path)} links to {target}#{anchor}: {problem}"
        for path in MARKDOWN
        for target, anchor in LINK.findall(CODE.sub("", text_of(path)))
        if (problem := missing(path.parent / target if target else path, anchor))
    ]
    assert not problems, "\n".join(problems)


def test_nothing_refers_to_papers_outside_the_repository():
    problems = [
        f"{name(path)}:{number} refers to {found[0]!r}, which nobody else has"
        for path in FILES
        if path != Path(__file__)
        for number, line in enumerate(text_of(path).splitlines(), start=1)
        if (found := OUTSIDE.search(line))
    ]
    assert not problems, "\n".join(problems)


def shown_texts(path: Path) -> list[str]:
    """Texts of a module that its commands may show: arguments named help, description or epilog,
    docstrings that become help, and what a configuration key means.
    """
    tree = ast.parse(text_of(path))
    shown = [
        node.value
        for call in ast.walk(tree)
        if isinstance(call, ast.Call)
        for keyword in call.keywords
        if keyword.arg in ("help", "description", "epilog")
        for node in ast.walk(keyword.value)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    if "__doc__" in text_of(path) or path.parent.name == "verbs":
        shown.append(ast.get_docstring(tree) or "")
    if path.name == "schema.py":
        classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
        shown += [
            node.value
            for part in classes
            for node in ast.walk(part)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]
    return shown


def test_help_texts_explain_instead_of_referring():
    problems = [
        f"{name(path)}: help shows {found[0]!r}, a file that users may not have"
        for path in MODULES
        for text in shown_texts(path)
        if (found := MENTION.search(text))
    ]
    assert not problems, "\n".join(problems)


def test_help_texts_are_found():
    shown = {name(path): shown_texts(path) for path in MODULES}
    assert any("one PDF path per line" in text for text in shown["olmrl/mix/verbs/sample.py"])
    assert any("(public Muon" in text for text in shown["olmrl/config/schema.py"])
    assert sum(len(texts) > 1 for texts in shown.values()) > 20


def test_anchors_are_githubs(tmp_path):
    document = tmp_path / "d.md"
    document.write_text(
        "# A `b`, c\n```\n# no heading\n```\n## 4. Fail closed!\n## Again\n## Again\n"
    )
    assert anchors(document) == {"a-b-c", "4-fail-closed", "again", "again-1"}
