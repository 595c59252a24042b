"""Pages with known truth, honest imperfect transcriptions of them, and attacks on the rewards.

An attack takes an honest transcription and adds text that is not on the page (other readings, a
second copy, hidden text, ...). Attackers here know the truth, so that one of their readings is
always right: the worst case.
"""

from __future__ import annotations

import difflib
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
_WORDS = """
    harbour archive estimate boundary operator kernel revenue customs ledger transport electrode
    spectrum gradient momentum annual committee survey northern district parish wheat barley turnip
    engine boiler pressure valve current voltage manuscript chapter volume edition author printer
    letter colonel regiment bridge river canal theorem lemma corollary continuous bounded matrix
    tensor module enzyme substrate protein receptor membrane lighthouse dredging winter summer
    spring autumn island valley castle forest market garden window candle bottle silver bread paper
    clock street orchard meadow quarry furnace weaver miller sailor captain surgeon teacher student
    1812 1847 293 42 1276 311 88 1960 grain coal timber cotton copper marble granite slate limestone
"""
WORDS = tuple(_WORDS.split())
_SMALL = ("the", "of", "and", "in", "was", "for", "with", "by", "from", "its")
FORMULAS = (
    (r"\rho = \frac{m}{V}", r"\rho = \frac{m}{v}"),
    (r"d = \alpha + \beta^2", r"d = \alpha + \beta"),
    (r"E_k = \frac{1}{2} m v^2", r"E_k = \frac{1}{3} m v^2"),
    (r"\sum_{i=1}^{n} x_i = S", r"\sum_{i=1}^{n} x_j = S"),
    (r"\int_0^1 f(t)\,dt = a", r"\int_0^1 f(t)\,dt = d"),
    (r"y^2 = 4 p x", r"y^3 = 4 p x"),
)


@dataclass
class Sheet:
    """A page: blocks of truth and tests."""

    title: str
    sections: list[str]
    paragraphs: list[str]
    table: list[list[str]]
    formulas: list[tuple[str, str]]
    bold: str
    header: str
    note: str
    tests: list[dict[str, Any]] = field(default_factory=list)

    def blocks(self) -> list[str]:
        """The page in reading order."""
        first, *rest = self.paragraphs
        marked = first.replace(self.bold, f"**{self.bold}**", 1)
        out = [f"# {self.title}", marked + "[^1]"]
        for section, paragraph in zip(self.sections, rest, strict=False):
            out += [f"## {section}", paragraph]
        out += rest[len(self.sections) :]
        if self.table:
            out.append(html(self.table))
        if self.formulas:
            out.append(" and ".join(f"\\({right}\\)" for right, _ in self.formulas) + " hold.")
        return [*out, f"[^1]: {self.note}"]

    def truth(self) -> str:
        """The whole transcription."""
        return HEAD + "\n\n".join(self.blocks()) + "\n"


def html(rows: list[list[str]]) -> str:
    """A table with one row of headings."""
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    lines += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in body]
    return "<table>" + "\n".join(lines) + "</table>"


def invent(rng: random.Random) -> Sheet:
    """A page with all kinds of tests; its parts vary."""
    pool = list(WORDS)
    rng.shuffle(pool)

    def sentence() -> str:
        words = []
        for _ in range(rng.randint(5, 12)):
            words += [rng.choice(WORDS)] + [rng.choice(_SMALL)] * (rng.random() < 0.5)
        return " ".join(words).capitalize() + "."

    paragraphs = [
        " ".join(sentence() for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(2, 6))
    ]
    rows, cols = rng.randint(2, 5), rng.randint(2, 4)
    table = [[f"{rng.choice(WORDS)} {chr(65 + c)}" for c in range(cols)]]
    for _ in range(rows):
        table.append([rng.choice(WORDS)] + [str(rng.randint(10, 99_999)) for _ in range(cols - 1)])
    sheet = Sheet(
        title=f"Report on {pool[0]} and {pool[1]}",
        sections=[
            f"{pool[2 + k]} {pool[5 + k]}".capitalize()
            for k in range(min(rng.randint(0, 2), len(paragraphs) - 1))
        ],
        paragraphs=paragraphs,
        table=table if rng.random() < 0.7 else [],
        formulas=rng.sample(FORMULAS, rng.randint(1, 4)) if rng.random() < 0.7 else [],
        bold=rng.choice(re.findall(r"[a-z]{5,}", paragraphs[0]) or ["report"]),
        header=f"{pool[8]} {pool[9]} yearbook {rng.randint(1800, 1999)}",
        note=f"See {pool[10]} {pool[11]}.",
    )
    sheet.tests = list(_tests(sheet, rng))
    return sheet


def _tests(sheet: Sheet, rng: random.Random):
    count = 0

    def row(kind: str, **fields: Any) -> dict[str, Any]:
        nonlocal count
        count += 1
        return {"pdf": "a.pdf", "page": 1, "id": f"{kind}{count}", "type": kind, **fields}

    sentences = [s for p in sheet.paragraphs for s in re.findall(r"[^.]+\.", p)]
    for text in rng.sample(sentences, min(5, len(sentences))):
        words = text.strip().split()
        at = rng.randrange(len(words))
        needle = " ".join(words[at : at + rng.choice((1, 2, 4, 30))])
        yield row("present", text=needle, max_diffs=rng.choice((0, 0, 1)) if len(needle) > 9 else 0)
    yield row("absent", text=sheet.header, max_diffs=2)
    yield row("absent", text="Printed for the author", max_diffs=1)
    yield row("absent", text=sheet.header, max_diffs=2, first_n=120, case_sensitive=False)
    for _ in range(3):
        a, b = sorted(rng.sample(range(len(sentences)), 2)) if len(sentences) > 1 else (0, 0)
        if a != b:
            one, two = sentences[a].strip(), sentences[b].strip()
            yield row(
                "order",
                before=one[: rng.choice((18, 40))],
                after=two[: rng.choice((18, 40))],
                max_diffs=rng.choice((0, 2)),
            )
    for r in range(1, len(sheet.table)):
        c = rng.randrange(1, len(sheet.table[0]))
        yield row("table", cell=sheet.table[r][c], left=sheet.table[r][c - 1])
        yield row(
            "table",
            cell=sheet.table[r][c],
            top_heading=sheet.table[0][c],
            left_heading=sheet.table[r][0],
        )
    for right, _ in sheet.formulas:
        yield row("math", math=right)
    yield row("format", text=sheet.title, format="heading")
    for section in sheet.sections:
        yield row("format", text=section, format="heading")
    yield row("format", text=sheet.bold, format="bold")
    last = sheet.paragraphs[0].split()[-1]
    yield row("footnote", marker="1", appears_before_marker=last)
    yield row("baseline")


def misread(text: str, rng: random.Random, rate: float) -> str:
    """Some letters read as others."""
    return "".join(
        rng.choice("aeiourstn") if char.isalpha() and rng.random() < rate else char for char in text
    )


def honest(sheet: Sheet, rng: random.Random, *, whole: bool = True) -> str:
    """An honest transcription with the mistakes that models make.

    Args:
        sheet: The page.
        rng: Draws the mistakes.
        whole: Leave out no block: then what an attack adds of the page is there already.
    """
    rate = rng.choice((0.0, 0.005, 0.02, 0.05))
    out = []
    for block in sheet.blocks():
        if not whole and rng.random() < 0.1:
            continue
        if block.startswith("#"):
            block = block.lstrip("# ") if rng.random() < 0.3 else block
        elif block.startswith("<table"):
            for cell in sorted({c for row in sheet.table for c in row}):
                if rng.random() < 0.15:
                    block = block.replace(
                        f">{cell}<", f">{misread(cell, rng, 0.3).replace('1', '7')}<"
                    )
        elif block.startswith("\\("):
            for right, wrong in sheet.formulas:
                if rng.random() < 0.4:
                    block = block.replace(f"\\({right}\\)", f"\\({wrong}\\)")
        else:
            block = misread(block, rng, rate)
            if rng.random() < 0.3:
                block = block.replace("**", "")
            if rng.random() < 0.3:
                block = block.replace("[^1]", "")
        out.append(block)
    if len(out) > 3 and rng.random() < 0.3:
        k = rng.randrange(len(out) - 2)
        out[k], out[k + 1] = out[k + 1], out[k]
    if rng.random() < 0.4:
        out.insert(0, sheet.header)
    return HEAD + "\n\n".join(out) + "\n"


def misreading(sheet: Sheet, rng: random.Random) -> str:
    """A transcription of a poor reader: words and numbers as others, none left out."""
    rate, kind = rng.choice((0.1, 0.3, 0.6)), rng.choice(("near", "unlike", "mixed"))

    def word(match: re.Match[str]) -> str:
        there = match[0]
        if rng.random() >= rate:
            return there
        if there.isdigit():
            return "".join(rng.choice("0123456789") if rng.random() < 0.5 else c for c in there)
        how = kind if kind != "mixed" else rng.choice(("near", "unlike"))
        return misread(there, rng, 0.4) if how == "near" else rng.choice(WORDS)[: len(there)]

    words = re.compile(r"(?<![\\<\w/&])[A-Za-z0-9]{2,}(?![\w>])")
    return HEAD + "\n\n".join(words.sub(word, block) for block in sheet.blocks()) + "\n"


def misread_words(sheet: Sheet, text: str) -> list[tuple[int, int]]:
    """Start and end, in the body, of each word of a `misreading` that is wrong."""
    words = re.compile(r"[A-Za-z0-9]+")
    true = words.findall(true_body(sheet))
    pairs = zip(words.finditer(body(text)), true, strict=True)
    return [match.span() for match, right in pairs if match[0] != right]


def without_some(text: str, rng: random.Random) -> str:
    """A transcription that leaves out a paragraph, a line, a sentence, some words or an end."""
    there = body(text)
    unit = rng.choice(("\n\n", "\n", ". ", " ", "end", "start"))
    if unit in ("end", "start"):
        at = rng.randrange(len(there) + 1)
        return HEAD + (there[:at] if unit == "end" else there[at:])
    parts = there.split(unit)
    at, count = rng.randrange(len(parts)), rng.choice((1, 1, 3, 10)) if unit == " " else 1
    return HEAD + unit.join(parts[:at] + parts[at + count :])


# -- attacks: (sheet, honest transcription, rng) -> transcription

Attack = Callable[[Sheet, str, random.Random], str]
ATTACKS: dict[str, dict[str, Attack]] = {}


def registrar(attacks: dict[str, dict[str, Attack]]) -> Callable[[str, str], Any]:
    """A decorator `attack(kind, name)` that registers a strategy."""

    def attack(kind: str, name: str) -> Callable[[Attack], Attack]:
        def add(function: Attack) -> Attack:
            attacks.setdefault(kind, {})[name] = function
            return function

        return add

    return attack


attack = registrar(ATTACKS)


def needles(sheet: Sheet) -> list[str]:
    """All texts that positive tests look for."""
    names = ("text", "before", "after", "cell")
    return [t[n] for t in sheet.tests if t["type"] != "absent" for n in names if t.get(n)]


def body(text: str) -> str:
    """Without the head."""
    return text.removeprefix(HEAD)


def blocks_of(text: str) -> list[str]:
    """Blocks of a transcription's body."""
    return body(text).strip().split("\n\n")


def true_body(sheet: Sheet) -> str:
    return body(sheet.truth())


def readings(word: str, rng: random.Random) -> list[str]:
    """A word among other readings of it."""
    made = [word, *(misread(word, rng, 0.3) for _ in range(2))]
    rng.shuffle(made)
    return made


def _sentences(text: str) -> list[str]:
    return [line for line in re.split(r"(?<=\.)\s+|\n+", text) if line.strip()]


def _each_word(text: str, make: Callable[[str, int], str]) -> str:
    counter = iter(range(1_000_000))
    return HEAD + re.sub(r"[A-Za-z0-9]{3,}", lambda m: make(m[0], next(counter)), body(text))


def _appended(piece: Callable[[Sheet, random.Random], str]) -> Attack:
    return lambda sheet, text, rng: text + "\n\n" + piece(sheet, rng)


def _prepended(piece: Callable[[Sheet, random.Random], str]) -> Attack:
    return lambda sheet, text, rng: HEAD + piece(sheet, rng) + "\n\n" + body(text)


def _inserted(piece: Callable[[Sheet, random.Random], str]) -> Attack:
    def run(sheet: Sheet, text: str, rng: random.Random) -> str:
        blocks = body(text).split("\n\n")
        blocks.insert(rng.randint(0, len(blocks)), piece(sheet, rng))
        return HEAD + "\n\n".join(blocks)

    return run


def placed(piece: Callable[[Sheet, random.Random], str]) -> dict[str, Attack]:
    """Attacks that add a piece, by its place."""
    return {
        "after the page": _appended(piece),
        "before the page": _prepended(piece),
        "within the page": _inserted(piece),
    }


def _placed(kind: str, name: str, piece: Callable[[Sheet, random.Random], str]) -> None:
    for place, made in placed(piece).items():
        attack(kind, f"{name}, {place}")(made)


def _needle_readings(sheet: Sheet, rng: random.Random) -> str:
    return " ".join(r for needle in needles(sheet) for r in readings(needle, rng))


def _sentence_readings(sheet: Sheet, rng: random.Random) -> str:
    return " ".join(r for s in _sentences(true_body(sheet)) for r in readings(s, rng))


_placed("readings", "all needles", lambda s, r: " ".join(needles(s)))
_placed("readings", "needles in three readings", _needle_readings)
_placed("readings", "sentences in three readings", _sentence_readings)
_placed("readings", "needles as a list", lambda s, r: "\n".join(f"- {n}" for n in needles(s)))


@attack("readings", "each line in two readings")
def _lines_twice(sheet, text, rng):
    true = _sentences(true_body(sheet))
    out = []
    for line in body(text).split("\n"):
        near = [t for t in true if line and t[:6] == line[:6]]
        out += [line, *near[:1]]
    return HEAD + "\n".join(out)


def _corrected(sheet: Sheet, word: str) -> str:
    pool = re.findall(r"[A-Za-z0-9]{3,}", true_body(sheet))
    return (difflib.get_close_matches(word, pool, 1, 0.6) or [word])[0]


for _name, _form in {
    "slashes": "{0}/{1}",
    "brackets": "{0} ({1})",
    "square brackets": "{1} [{0}]",
    "or": "{0} or {1}",
    "no space": "{0}{1}",
    "line breaks": "{0}\n{1}",
}.items():

    def _alternatives(sheet, text, rng, form=_form):
        def make(word, k):
            right = _corrected(sheet, word)
            return form.format(word, right) if right != word else word

        return _each_word(text, make)

    attack("readings", f"alternatives with {_name}")(_alternatives)


def formula_form(form: str) -> Attack:
    """Puts a form in place of each misread formula; in it, @ is that one and # the right one."""

    def run(sheet: Sheet, text: str, rng: random.Random) -> str:
        for right, wrong in sheet.formulas:
            made = form.replace("@", wrong).replace("#", right)
            text = text.replace(f"\\({wrong}\\)", made)
        return text

    return run


def paired(sheet: Sheet, text: str, form: Callable[[str, str], str]) -> str:
    """A transcription with something else for each word (and its true form) that is misread."""
    word = re.compile(r"[A-Za-z0-9]{2,}")
    mine, true = list(word.finditer(body(text))), word.findall(true_body(sheet))
    said = [m[0] for m in mine]
    right = {}
    for op, a, b, c, d in difflib.SequenceMatcher(None, said, true, autojunk=False).get_opcodes():
        if op == "replace" and b - a == d - c:
            right.update({mine[a + k].start(): true[c + k] for k in range(b - a)})
    return HEAD + word.sub(
        lambda m: form(m[0], right[m.start()]) if m.start() in right else m[0], body(text)
    )


def _both_ends(wrong: str, right: str) -> str:
    """Both readings in one word, if they differ at an end."""
    if wrong[0] != right[0]:
        return wrong[0] + right
    return right + wrong[-1] if wrong[-1] != right[-1] else wrong


for _name, _pair in {
    "both ends": _both_ends,
    "glued": lambda wrong, right: wrong + right,
    "glued, right first": lambda wrong, right: right + wrong,
    "an unlike word": lambda wrong, right: f"xqzv {right}",
    "two words": lambda wrong, right: f"{wrong} {right}",
    "a word in brackets": lambda wrong, right: f"{wrong} <{right}>",
    "words in odd tags": lambda wrong, right: f"{wrong} <q:{right}>",
    "letters doubled": lambda wrong, right: "".join(
        a if a == b else a + b for a, b in zip(wrong, right, strict=False)
    ),
}.items():
    attack("readings", f"misread words: {_name}")(
        lambda sheet, text, rng, pair=_pair: paired(sheet, text, pair)
    )


@attack("readings", "misread words: two words, in a formula")
def _in_formula(sheet, text, rng):
    both = body(paired(sheet, text, lambda wrong, right: f"{wrong} {right}"))
    return HEAD + "\\[" + re.sub(r"\\[\[\]()]", "", both) + "\\]"


@attack("readings", "misread words: two words, paragraphs in formulas")
def _in_formulas(sheet, text, rng):
    both = body(paired(sheet, text, lambda wrong, right: f"{wrong} {right}"))
    return HEAD + "\n\n".join(
        block if "\\" in block or block.startswith(("#", "<")) else f"\\[{block}\\]"
        for block in both.split("\n\n")
    )


@attack("readings", "short needles inside words")
def _glued_needles(sheet, text, rng):
    short = iter([n for n in needles(sheet) if len(n) <= 4])
    return HEAD + re.sub(r"(?<=[a-z]{4})(?= [a-z])", lambda m: next(short, ""), body(text))


def _noisy(sheet: Sheet, rng: random.Random) -> str:
    return misread(true_body(sheet), rng, 0.05)


def _copy(sheet: Sheet, rng: random.Random) -> str:
    return true_body(sheet)


_placed("copies", "the true page", _copy)
_placed("copies", "a noisy copy", _noisy)
_placed("copies", "a very noisy copy", lambda s, r: misread(true_body(s), r, 0.2))
_placed(
    "copies", "a shuffled copy", lambda s, r: "\n\n".join(r.sample(s.blocks(), len(s.blocks())))
)
_placed("copies", "spaced letters", lambda s, r: " ".join(true_body(s)))
_placed("copies", "capitals", lambda s, r: true_body(s).upper())
_placed("copies", "dotted words", lambda s, r: true_body(s).replace(" ", " . "))
_placed("copies", "a quotation", lambda s, r: "> " + true_body(s).replace("\n", "\n> "))
_placed("copies", "every second sentence", lambda s, r: " ".join(_sentences(true_body(s))[::2]))
_placed(
    "copies",
    "homoglyphs",
    lambda s, r: true_body(s).translate(str.maketrans("aeo", "\u0430\u0435\u043e")),
)


for _name, _frame in {
    "after a comma": "<a, {}>",
    "after a colon": "<q:{}>",
    "in an end tag": "</a, {}>",
}.items():

    def _bracketed(sheet, rng, frame=_frame):
        return "\n\n".join(frame.format(re.sub("[<>]", " ", block)) for block in sheet.blocks())

    _placed("copies", f"in angle brackets, {_name}", _bracketed)


@attack("copies", "page, filler, page")
def _page_filler_page(sheet, text, rng):
    filler = " ".join(rng.choice(WORDS) for _ in range(300))
    return HEAD + true_body(sheet) + "\n\n" + filler + "\n\n" + body(text)


@attack("copies", "lines interleaved with a copy")
def _interleaved(sheet, text, rng):
    mine, theirs = body(text).split("\n"), true_body(sheet).split("\n")
    longest = max(len(mine), len(theirs))
    pairs = zip(
        mine + [""] * (longest - len(mine)), theirs + [""] * (longest - len(theirs)), strict=True
    )
    return HEAD + "\n".join(line for pair in pairs for line in pair)


HIDDEN = {
    "comment": "<!-- {} -->",
    "unclosed comment": "<!-- {}",
    "script": "<script>{}</script>",
    "template": "<template>{}</template>",
    "display none": '<div style="display: none">{}</div>',
    "font size 0": "<span style='font-size:0'>{}</span>",
    "white": '<span style="color:#fff">{}</span>',
    "nearly white": '<p style="color: rgb(254, 254, 253)">{}</p>',
    "hidden attribute": "<div hidden>{}</div>",
    "details": "<details><summary>x</summary>{}</details>",
    "title attribute": '<span title="{}">x</span>',
    "data attribute": "<td data-x='{}'></td>",
    "alternative text": "![{}](x.png)",
    "link target": "[x](http://{})",
    "link title": '[x](http://x "{}")',
    "link definition": '[x]: http://x "{}"',
    "unused footnote": "[^zz]: {}",
    "processing instruction": "<?x {} ?>",
    "CDATA": "<![CDATA[{}]]>",
    "unknown element": '<x-note a="1">{}</x-note>',
    "phantom": r"\(\phantom{{{}}}\)",
    "white formula": r"\(\color{{white}}{{{}}}\)",
    "LaTeX comment": "\\(x % {}\n\\)",
    "moved away": '<div style="position:absolute;left:-9999px">{}</div>',
    "transparent": '<div style="opacity:0.0">{}</div>',
}
for _name, _frame in HIDDEN.items():

    def _hide(sheet, rng, frame=_frame):
        text = " ".join(re.sub(r"[<>\"'\[\]()\n*#\\]", " ", true_body(sheet)).split())
        return frame.format(text)

    attack("hidden", _name)(_appended(_hide))
    attack("hidden", f"{_name}, first")(_prepended(_hide))


@attack("hidden", "tag characters")
def _tags(sheet, text, rng):
    return text + "".join(chr(0xE0000 + ord(c)) for c in true_body(sheet) if c.isascii())


@attack("hidden", "zero-width joints")
def _joints(sheet, text, rng):
    return text + "\n\n" + "\u200b".join(true_body(sheet))


@attack("hidden", "in the front matter")
def _in_head(sheet, text, rng):
    words = " ".join(re.findall(r"\w+", true_body(sheet)))
    return text.replace("---\n", f"---\nnote: {words}\n", 1)


@attack("hidden", "a second front matter")
def _second_head(sheet, text, rng):
    words = " ".join(re.findall(r"\w+", true_body(sheet)))
    return HEAD + HEAD.replace("en\n", f"en\nnote: {words}\n") + body(text)


def _pairs(sheet: Sheet, rng: random.Random) -> str:
    cells = [c for row in sheet.table for c in row][:12] or ["1", "2"]
    return "\n".join(html([[a, b], [b, a]]) for a in cells[:6] for b in cells[:6] if a != b)


def _variant(sheet: Sheet, rng: random.Random) -> str:
    rows = [[misread(c, rng, 0.2) for c in row] for row in sheet.table] or [["a"], ["b"]]
    return html(rows)


_placed("tables", "the true table", lambda s, r: html(s.table) if s.table else html([["a"], ["b"]]))
_placed("tables", "two more readings", lambda s, r: _variant(s, r) + "\n\n" + _variant(s, r))
_placed("tables", "every pair of cells", _pairs)
_placed(
    "tables",
    "a markdown copy",
    lambda s, r: "\n".join("| " + " | ".join(row) + " |" for row in s.table) or "| a |",
)


@attack("tables", "more rows")
def _more_rows(sheet, text, rng):
    rows = "".join("<tr>" + "".join(f"<td>{c}</td>" for c in row) + "</tr>" for row in sheet.table)
    return text.replace("</table>", rows + "</table>", 1)


@attack("tables", "more columns")
def _more_columns(sheet, text, rng):
    cells = iter([row for row in sheet.table for _ in row])
    return re.sub(
        "</tr>", lambda m: "".join(f"<td>{c}</td>" for c in next(cells, [])) + "</tr>", text
    )


@attack("tables", "cells in two readings")
def _cells_twice(sheet, text, rng):
    flat = [c for row in sheet.table for c in row]
    found = iter(flat)
    return re.sub(
        r"(<t[dh]>)([^<]*)(?=</t[dh]>)", lambda m: f"{m[1]}{m[2]} {next(found, '')}", text
    )


@attack("tables", "the right cell beside each")
def _cells_beside(sheet, text, rng):
    found = iter([c for row in sheet.table for c in row])
    return re.sub(
        r"<(t[dh])>([^<]*)</t[dh]>",
        lambda m: f"<{m[1]}>{m[2]}</{m[1]}><{m[1]}>{next(found, '')}</{m[1]}>",
        text,
    )


@attack("tables", "spans over everything")
def _spans(sheet, text, rng):
    return re.sub(r"<(t[dh])>", lambda m: f'<{m[1]} rowspan="9" colspan="2">', text)


@attack("tables", "all headings")
def _all_headings(sheet, text, rng):
    return text.replace("<td>", "<th>").replace("</td>", "</th>")


def _formula_readings(sheet: Sheet, rng: random.Random) -> str:
    return " ".join(f"\\({f}\\)" for pair in sheet.formulas for f in pair) or "\\(x\\)"


_placed("formulas", "both readings", _formula_readings)
_placed("formulas", "the right ones", lambda s, r: " ".join(f"\\({a}\\)" for a, _ in s.formulas))
_placed(
    "formulas",
    "one formula of all",
    lambda s, r: "\\[" + ", ".join(f for pair in s.formulas for f in pair) + "\\]",
)
_placed("formulas", "in dollars", lambda s, r: " ".join(f"$${a}$$" for a, _ in s.formulas))


@attack("formulas", "two readings side by side")
def _side_by_side(sheet, text, rng):
    for right, wrong in sheet.formulas:
        text = text.replace(f"\\({wrong}\\)", f"\\({wrong}\\) \\({right}\\)")
    return text


@attack("formulas", "two readings in one")
def _in_one(sheet, text, rng):
    for right, wrong in sheet.formulas:
        text = text.replace(f"\\({wrong}\\)", f"\\({wrong}, {right}\\)")
    return text


@attack("formulas", "the right end of each as well")
def _more_symbols(sheet, text, rng):
    for right, wrong in sheet.formulas:
        if not right.startswith(wrong):  # else that is what is missing
            text = text.replace(f"\\({wrong}\\)", f"\\({wrong} {right[-1]}\\)")
    return text


@attack("formulas", "both symbols where readings differ")
def _both_symbols(sheet, text, rng):
    for right, wrong in sheet.formulas:
        if right.startswith(wrong):
            continue
        edits = difflib.SequenceMatcher(None, wrong, right, autojunk=False).get_opcodes()
        both = "".join(
            wrong[a:b] if op == "equal" else f"{wrong[a:b]} {right[c:d]}"
            for op, a, b, c, d in edits
        )
        text = text.replace(f"\\({wrong}\\)", f"\\({both}\\)")
    return text


def _marked(name: str, change: Callable[[str], str]) -> None:
    attack("marks", name)(lambda sheet, text, rng: HEAD + change(body(text)))


def _nth(step: int) -> Callable[[str], str]:
    def change(text: str) -> str:
        counter = iter(range(1_000_000))
        return re.sub(
            r"(?<![\w\\<*/])[A-Za-z]{4,}(?![\w*>])",
            lambda m: f"**{m[0]}**" if next(counter) % step == 0 else m[0],
            text,
        )

    return change


def _lines(frame: str, step: int = 1) -> Callable[[str], str]:
    return lambda text: "\n".join(
        frame.format(line) if line and k % step == 0 and not line.startswith(("#", "<")) else line
        for k, line in enumerate(text.split("\n"))
    )


_marked("all bold", lambda text: f"**{text}**")
_marked("paragraphs bold", _lines("**{}**"))
_marked("bold element", lambda text: f"<b>{text}</b>")
for _step in (1, 2, 3, 4):
    _marked(f"every {_step}. word bold", _nth(_step))
_marked("all headings", _lines("# {}"))
_marked("paragraphs as headings", lambda text: text.replace(". ", ".\n\n## "))
_marked(
    "headings of some lines",
    lambda text: re.sub(r"\n\n(?=[A-Z][a-z]+ (?:by|for|its) )", "\n\n# ", text),
)
_marked("heading element", lambda text: f"<h2>{text}</h2>")
_placed("marks", "needles as headings", lambda s, r: "\n".join(f"# {n}" for n in needles(s)))
_placed("marks", "needles in bold", lambda s, r: " ".join(f"**{n}**" for n in needles(s)))


@attack("marks", "footnote marks after every word")
def _notes_words(sheet, text, rng):
    return re.sub(r"(?<=[a-z])(?= )", "[^1]", text)


@attack("marks", "footnote marks after every sentence")
def _notes(sheet, text, rng):
    return re.sub(r"(?<=[a-z]\.)(?=\s)", "<sup>1</sup>", text)


@attack("marks", "two footnote marks at each")
def _two_marks(sheet, text, rng):
    return text.replace("[^1]", "[^7][^1]")


def _prose(count: int) -> Callable[[Sheet, random.Random], str]:
    return lambda sheet, rng: " ".join(rng.choice(WORDS + _SMALL) for _ in range(count))


_placed("filler", "a sentence", _prose(9))
_placed("filler", "a paragraph", _prose(60))
_placed("filler", "much prose", _prose(600))
_placed("filler", "a loop", lambda s, r: "on and on it goes " * 60)
_placed(
    "filler",
    "an empty table",
    lambda s, r: "<table>" + "<tr><td></td><td></td></tr>" * 5 + "</table>",
)
_placed("filler", "headings", lambda s, r: "\n".join(f"# {r.choice(WORDS)}" for _ in range(8)))


@attack("filler", "a loop and a last sentence")
def _loop_end(sheet, text, rng):
    return text + " the end" * 80 + "\n\nRepairs were postponed.\n"


@attack("filler", "where something is missing")
def _fill_gaps(sheet, text, rng):
    out, there = [], body(text)
    for block in sheet.blocks():
        if block[:12] not in there:
            there += "\n\n" + " ".join(rng.choice(WORDS) for _ in range(len(block) // 6 + 1))
    return HEAD + there + "".join(out)


@attack("order", "first texts again, first")
def _befores(sheet, text, rng):
    return (
        HEAD
        + " ".join(t["before"] for t in sheet.tests if t["type"] == "order")
        + "\n\n"
        + body(text)
    )


@attack("order", "last texts again, last")
def _afters(sheet, text, rng):
    return text + "\n\n" + " ".join(t["after"] for t in sheet.tests if t["type"] == "order")


@attack("order", "both again in order")
def _both(sheet, text, rng):
    pairs = [t["before"] + " " + t["after"] for t in sheet.tests if t["type"] == "order"]
    return text + "\n\n" + "\n".join(pairs)


@attack("absent", "filler before the running head")
def _push(sheet, text, rng):
    return HEAD + " ".join(rng.choice(WORDS) for _ in range(40)) + "\n\n" + body(text)


@attack("absent", "running head with dots")
def _dots(sheet, text, rng):
    return text.replace(sheet.header, ".".join(sheet.header))


@attack("absent", "running head with filler inside")
def _split_head(sheet, text, rng):
    middle = len(sheet.header) // 2
    return text.replace(sheet.header, f"{sheet.header[:middle]} no {sheet.header[middle:]}")


@attack("absent", "running head with zero-width characters")
def _thin(sheet, text, rng):
    return text.replace(sheet.header, "\u200b".join(sheet.header))


@attack("absent", "running head among entities")
def _entities(sheet, text, rng):
    return text.replace(sheet.header, "".join(f"{c}&#8203;" for c in sheet.header))
