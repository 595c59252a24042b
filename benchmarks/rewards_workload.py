"""A seeded workload like a GRPO step's rewards: pages with unit tests, and noisy transcriptions.

Text, table and formula pages in the proportions measured on the public sample, with tests mined in
the same way: about 32 tests and 4,400 characters a page. Each page has `variants` transcriptions
that differ from the truth by typing errors, lost lines and broken markup, as a policy's samples do.
"""

import random
from dataclasses import dataclass, field
from typing import Any

_WORDS = """
    the of and to in that is was for on with as by at from an this which or be are not have
    its measurement temperature province harbour archive estimate residual boundary operator
    kernel revenue customs ledger transport electrode spectrum gradient momentum annual
    committee survey northern district parish wheat barley turnip engine boiler pressure valve
    current voltage manuscript chapter volume edition author printer letter colonel regiment
    bridge river canal hypothesis theorem lemma corollary continuous bounded convex matrix
    tensor module algebra 1812 1847 293.15 42 0.05 1,276 311 88 7.5 1960 enzyme substrate
    protein receptor membrane
"""
WORDS = tuple(_WORDS.split())
FORMULAS = (
    r"\int_{A}^{B} f(X)\,dX = F(B) - F(A)",
    r"\sum_{i=1}^{N} X_i^2 = \frac{N(N+1)(2N+1)}{6}",
    r"\frac{\partial X}{\partial A} + B \frac{\partial^2 X}{\partial C^2} = 0",
    r"\lim_{N\to\infty}\left(1+\frac{X}{N}\right)^N = e^X",
    r"\begin{pmatrix} A & B \\ C & D \end{pmatrix}^{-1} = \frac{1}{AD-BC}"
    r"\begin{pmatrix} D & -B \\ -C & A \end{pmatrix}",
    r"\nabla \cdot \mathbf{E} = \frac{\rho}{\varepsilon_0}",
    r"\|X\|_2 = \sqrt{\sum_{i} X_i^2}",
    r"P(A \mid B) = \frac{P(B \mid A)\,P(A)}{P(B)}",
    r"\hat{A} = \arg\min_{A} \sum_{i=1}^{N} (B_i - A C_i)^2",
    r"X = \frac{-B \pm \sqrt{B^2 - 4AC}}{2A}",
    r"\Gamma(A) = \int_0^\infty t^{A-1} e^{-t}\,dt",
    r"A_{i,j} = \delta_{ij} + \epsilon_{ijk} B^k",
    r"\mathcal{L}(\theta) = -\sum_{i=1}^{N} \log p_\theta(X_i \mid A_i)",
    r"A \xrightarrow{B} C \oplus D",
    r"f(X) = \begin{cases} A & X > 0 \\ B & \text{otherwise} \end{cases}",
    r"\prod_{k=1}^{N} \left(1 + \frac{A}{k}\right) \leq e^{B}",
    r"\overline{A \cup B} = \overline{A} \cap \overline{B}",
    r"A^2 + B^2 = C^2",
    r"\operatorname{Var}(X) = \mathbb{E}[X^2] - (\mathbb{E}[X])^2",
    r"\frac{d}{dt} \frac{\partial L}{\partial \dot{A}} = \frac{\partial L}{\partial A}",
)
LETTERS = ("x", "y", "z", "a", "b", "c", "u", "v", "w", r"\alpha", r"\beta", r"\lambda", r"\mu")


@dataclass
class WorkPage:
    """One page: tests and noisy transcriptions."""

    name: str
    truth: str = ""
    tests: list[dict[str, Any]] = field(default_factory=list)
    variants: list[str] = field(default_factory=list)

    def add(self, kind: str, **fields: Any) -> None:
        """Appends a test."""
        test_id = f"{self.name}_{len(self.tests)}"
        common = {"pdf": f"{self.name}.pdf", "page": 1, "id": test_id, "type": kind}
        self.tests.append({**common, **fields})


def make_workload(pages: int, variants: int, seed: int) -> list[WorkPage]:
    """Pages of three kinds in turn: text, tables, formulas."""
    makers = (_text_page, _table_page, _formula_page)
    made = []
    for index in range(pages):
        rng = random.Random(f"{seed}/{index}")
        page = WorkPage(f"page{index:03}")
        makers[index % len(makers)](page, rng)
        page.add("baseline")
        page.variants = [_noisy(page.truth, rng) for _ in range(variants)]
        made.append(page)
    return made


def _sentence(rng: random.Random) -> str:
    words = [rng.choice(WORDS) for _ in range(rng.randrange(8, 22))]
    return " ".join(words).capitalize() + "."


def _add_text_tests(
    page: WorkPage, sentences: list[str], rng: random.Random, present: int, order: int
) -> None:
    for _ in range(present):
        words = rng.choice(sentences).split()
        at = rng.randrange(len(words) - 3)
        text = " ".join(words[at : at + rng.randrange(1, 5)])
        page.add("present", text=text, max_diffs=rng.choice((0, 0, 1, 2)) if len(text) > 9 else 0)
    for number in range(3):
        page.add("absent", text=f"Journal of Results, page {number + 17}", max_diffs=1)
    for _ in range(order):
        first, second = sorted(rng.sample(range(len(sentences)), 2))
        before, after = sentences[first][:60], sentences[second][:60]
        page.add("order", before=before, after=after, max_diffs=rng.choice((1, 2, 3)))


def _text_page(page: WorkPage, rng: random.Random) -> None:
    sentences = [_sentence(rng) for _ in range(45)]
    blocks = [" ".join(sentences[i : i + 5]) for i in range(0, 45, 5)]
    title = "Report on " + rng.choice(WORDS)
    page.truth = f"# {title}\n\n" + "\n\n".join(blocks)
    page.truth += "\n\nThe salt tax[^4] rose **in every province** again.\n\n[^4]: See volume 2.\n"
    _add_text_tests(page, sentences, rng, present=12, order=9)
    page.add("format", text=title, format="heading", max_diffs=1)
    page.add("format", text="in every province", format="bold")
    page.add("footnote", marker="4", appears_before_marker="The salt tax", max_diffs=1)


def _table_page(page: WorkPage, rng: random.Random) -> None:
    sentences = [_sentence(rng) for _ in range(14)]
    n_rows, n_cols = rng.randrange(12, 28), rng.randrange(5, 10)
    heads = ["Region", *(f"{rng.choice(WORDS)} {2010 + col}" for col in range(1, n_cols))]
    grid = [
        [f"{rng.choice(WORDS)} {row}", *(f"{rng.randrange(10, 99_999):,}" for _ in heads[1:])]
        for row in range(n_rows)
    ]
    page.truth = " ".join(sentences[:7]) + "\n\n" + _html(heads, grid) + "\n\n"
    small = [row[:4] for row in grid[:5]]
    lines = [heads[:4], ["---"] * 4, *small]
    page.truth += "\n".join("| " + " | ".join(line) + " |" for line in lines)
    page.truth += "\n\n" + " ".join(sentences[7:])
    _add_text_tests(page, sentences, rng, present=4, order=3)
    slots = [(row, col) for row in range(1, n_rows - 1) for col in range(1, n_cols - 1)]
    for row, col in rng.sample(slots, min(26, len(slots))):
        relations = {
            "up": grid[row - 1][col],
            "down": grid[row + 1][col],
            "left": grid[row][col - 1],
            "right": grid[row][col + 1],
            "top_heading": heads[col],
            "left_heading": grid[row][0],
        }
        kept = rng.sample(sorted(relations), rng.randrange(1, 7))
        page.add("table", cell=grid[row][col], **{name: relations[name] for name in kept})


def _html(heads: list[str], grid: list[list[str]]) -> str:
    rows = ["<tr>" + "".join(f"<th>{head}</th>" for head in heads) + "</tr>"]
    rows += ["<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in grid]
    return "<table>\n" + "\n".join(rows) + "\n</table>"


def _formula_page(page: WorkPage, rng: random.Random) -> None:
    sentences = [_sentence(rng) for _ in range(30)]
    formulas = [_formula(rng) for _ in range(rng.randrange(16, 25))]
    parts = []
    for index, sentence in enumerate(sentences):
        parts.append(sentence)
        if index < len(formulas):
            form = rng.choice((r"\( {} \)", "\\[\n{}\n\\]", "$$ {} $$"))
            parts.append(form.replace("{}", formulas[index]))
    page.truth = "\n\n".join(parts)
    _add_text_tests(page, sentences, rng, present=3, order=2)
    for formula in formulas:
        page.add("math", math=formula, ignore_dollar_delimited=False)


def _formula(rng: random.Random) -> str:
    formula = rng.choice(FORMULAS)
    for name, letter in zip("XABCDN", rng.sample(LETTERS, 6), strict=True):
        # only single capitals are placeholders: "\Gamma" and "\mathbf{E}" stay
        formula = "".join(
            f"{letter} " if char == name and not formula[max(0, i - 1)].isalpha() else char
            for i, char in enumerate(formula)
        )
    return formula


def _noisy(truth: str, rng: random.Random) -> str:
    """A transcription with some typing errors, and rarely a lost or doubled line."""
    chars = list(truth)
    for _ in range(int(len(chars) * rng.choice((0.0, 0.001, 0.003, 0.01)))):
        at = rng.randrange(len(chars))
        chars[at] = rng.choice(("", chars[at] * 2, rng.choice("aeinorst01 ")))
    lines = "".join(chars).split("\n")
    if rng.random() < 0.3:
        del lines[rng.randrange(len(lines))]
    if rng.random() < 0.1:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    return "\n".join(lines)
