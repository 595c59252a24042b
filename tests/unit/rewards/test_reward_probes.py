"""Ways to fool the rewards: none beats an honest, imperfect transcription.

Every probe carries perfect metadata and ends properly, so that only the unit tests tell.
"""

import random
import string
import unicodedata

import pytest
from reward_pages import HEAD, completion, group, page, test_row

from olmrl.config.schema import RewardConfig
from olmrl.rewards import build_all, score_rollouts

DEFAULTS = [RewardConfig(name=name) for name in ("bench", "front_matter", "eos")]

TRUTH = """# Report of the harbour master

The harbour was closed for nine days in February because of ice. Fourteen ships waited outside.

Dredging of the **eastern** channel began in April and ended late in summer.

## Traffic

Grain exports rose by 12.5 percent, while coal imports fell for the third year in a row.

<table><tr><th>Cargo</th><th>Tonnes</th></tr><tr><td>Grain</td><td>48210</td></tr>
<tr><td>Coal</td><td>30977</td></tr></table>

The density follows \\(\\rho = \\frac{m}{V}\\) and the draught \\(d = \\alpha + \\beta^2\\).

Repairs to the lighthouse were postponed until the lens arrives from abroad.
"""

# Misread words, one heading and the bold mark missed, a wrong cell, a lost exponent, two paragraphs
# in the wrong order, and the running head transcribed.
HONEST = """Port Authority Yearbook

# Report of the harbour master

Dredging of the eastern channel began in April and ended late in sumner.

The harbour was closed for nine days in Februarv because of ice. Fourteen ships waited outside.

Traffic

Grain exports rose by 12.5 percent, while coal imports fell for the third year in a row.

<table><tr><th>Cargo</th><th>Tonnes</th></tr><tr><td>Grain</td><td>48270</td></tr>
<tr><td>Coal</td><td>30977</td></tr></table>

The density follows \\(\\rho = \\frac{m}{V}\\) and the draught \\(d = \\alpha + \\beta\\).

Repairs to the lighthouse were postponed until the lens arrives from abroad.
"""

PROMPT = (
    "Attached is one page of a document that you must process. Just return the plain text "
    "representation of this document as if you were reading it naturally. Convert equations to "
    "LaTeX and tables to HTML. Return your output as markdown, with a front matter section on top."
)

ABSENT = [
    test_row("absent", "a1", text="Port Authority Yearbook", case_sensitive=False, max_diffs=1),
    test_row("absent", "a2", text="page 41"),
    test_row("absent", "a3", text="Printed by Hansen & Sons"),
    test_row("absent", "a4", text="Registered at the customs house"),
]
PRESENT = [
    test_row("present", "p1", text="Fourteen ships waited outside"),
    test_row("present", "p2", text="February"),
    test_row("present", "p3", text="12.5 percent"),
    test_row("present", "p4", text="lighthouse"),
]
ORDER = [
    test_row("order", "o1", before="The harbour was closed", after="Dredging of the eastern"),
    test_row("order", "o2", before="Grain exports rose", after="Repairs to the lighthouse"),
    test_row("order", "o3", before="ended late in summer", after="imports fell", max_diffs=1),
]
TABLE = [
    test_row("table", "t1", cell="Grain", right="48210", ignore_markdown_tables=True),
    test_row("table", "t2", cell="30977", top_heading="Tonnes", ignore_markdown_tables=True),
    test_row("table", "t3", cell="Coal", up="Grain", ignore_markdown_tables=True),
]
MATH = [
    test_row("math", "m1", math="\\rho = \\frac{m}{V}", ignore_dollar_delimited=True),
    test_row("math", "m2", math="d = \\alpha + \\beta^2", ignore_dollar_delimited=True),
]
FORMAT = [
    test_row("format", "f1", text="Report of the harbour master", format="heading"),
    test_row("format", "f2", text="Traffic", format="heading"),
    test_row("format", "f3", text="eastern", format="bold"),
]
BASELINE = [test_row("baseline", "b1")]

SETS = {
    "all": ABSENT + PRESENT + ORDER + TABLE + MATH + FORMAT + BASELINE,
    "headers": ABSENT + BASELINE,
    "headers only": ABSENT,
    "text": PRESENT + BASELINE,
    "order": ORDER + BASELINE,
    "table": TABLE + BASELINE,
    "math": MATH + BASELINE,
    "format": FORMAT + BASELINE,
}

COMMANDS = """alpha beta gamma delta rho sigma pi lambda mu int sum prod infty partial nabla leq geq
neq approx times cdot in subset cup cap"""
SYMBOLS = [
    *string.ascii_letters,
    *string.digits,
    *"+-=<>()[]|/.,:;!",
    *(f"\\{command}" for command in COMMANDS.split()),
]


def headed(text):
    return "\n".join(f"# {line}" if line else "" for line in text.splitlines())


PROBES = {
    "empty": "",
    "metadata only": HEAD,
    "one character": HEAD + "e",
    "one word": HEAD + "the",
    "prompt echo": HEAD + PROMPT,
    "short loop": HEAD + "the " * 700,
    "long-period loop": HEAD + "the harbour was busy and " * 120,
    "growing loop": HEAD + "".join(f"The harbour was closed for {i} days. " for i in range(90)),
    "endless table": HEAD + "<table>" + "<tr><td>Grain</td><td>48210</td></tr>" * 90,
    "endless counted table": HEAD
    + "<table>"
    + "".join(f"<tr><td>Grain {i}</td><td>{i}</td></tr>" for i in range(120)),
    "every symbol once": HEAD + "\\(" + " ".join(SYMBOLS) + "\\)",
    "every symbol alone": HEAD + "\n".join(f"\\({symbol}\\)" for symbol in SYMBOLS),
    "broken math": HEAD + "\\(\\begin{bad}\\) \\[\\begin{bad} x \\end{bad}\\] $$\\frac{1$$",
    "headings of nothing": HEAD + "# " + "\n# ".join("abcdefghij"),
}


def total(text, tests, reference=HEAD + TRUTH):
    rewards = build_all(DEFAULTS)
    (rollout,) = score_rollouts(rewards, page(reference, tests), [completion(text)])
    return rollout.total


@pytest.mark.parametrize("name", SETS)
def test_the_truth_earns_everything(name):
    assert total(HEAD + TRUTH, SETS[name]) == pytest.approx(3.0)


@pytest.mark.parametrize("known", ["reference", "tests alone"])
@pytest.mark.parametrize("name", SETS)
def test_no_probe_beats_an_honest_imperfect_transcription(name, known):
    if known == "tests alone" and name.startswith("headers"):
        pytest.skip("a page of which nothing is known but what is absent: see the next test")
    reference = HEAD + TRUTH if known == "reference" else None
    honest = total(HEAD + HONEST, SETS[name], reference)
    assert honest < total(HEAD + TRUTH, SETS[name], reference)
    scores = {probe: total(text, SETS[name], reference) for probe, text in PROBES.items()}
    assert {probe: score for probe, score in scores.items() if score >= honest} == {}


def test_where_nothing_is_known_of_the_page_some_text_is_needed():
    nearly_empty = [PROBES[name] for name in ("empty", "metadata only", "one character")]
    honest = total(HEAD + HONEST, ABSENT, None)
    assert all(total(text, ABSENT, None) < honest for text in nearly_empty)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda text: text + "\n" + text, id="said twice"),
        pytest.param(headed, id="all headings"),
        pytest.param(lambda text: f"**{text}**".replace("\n\n", "**\n\n**"), id="all bold"),
        pytest.param(lambda text: text + "on and on it goes " * 60, id="loops at the end"),
        pytest.param(lambda text: text + "\n" + PROMPT, id="with the prompt"),
    ],
)
def test_spoiling_a_transcription_never_pays(name, spoil):
    assert total(HEAD + spoil(HONEST), SETS[name]) <= total(HEAD + HONEST, SETS[name])


def test_saying_everything_twice_does_not_repair_the_order():
    twice = total(HEAD + HONEST + "\n" + HONEST, ORDER)
    assert twice < total(HEAD + HONEST, ORDER)
    noisy = HONEST.replace("e", "o").replace("a", "e")
    assert total(HEAD + HONEST + "\n" + noisy, ORDER) < total(HEAD + HONEST, ORDER)


def test_28_identical_completions_carry_no_signal():
    rewards = build_all([*DEFAULTS, RewardConfig(name="medoid")])
    same = group(*[HEAD + HONEST] * 28)
    totals = {r.total for r in score_rollouts(rewards, page(HEAD + TRUTH, SETS["all"]), same)}
    assert len(totals) == 1


def test_blank_page_rewards_saying_nothing():
    blank = page(HEAD, [test_row("baseline", max_length=20), test_row("absent", "a", text="ART")])
    rewards = build_all(DEFAULTS)
    nothing, invented = score_rollouts(rewards, blank, group(HEAD, HEAD + TRUTH))
    assert nothing.total == pytest.approx(3.0)
    assert invented.rewards["bench"].value == 0.5


SCRIPTS = {
    "korean": "서울은 대한민국의 수도이자 최대 도시이다. 한강을 끼고 있으며 천만 명이 산다.",
    "chinese": "北京是中华人民共和国的首都。它是全国的政治中心，也是文化中心。长城位于北京北部。",
    "arabic": "مدينة القاهرة هي عاصمة جمهورية مصر العربية. تقع على ضفاف نهر النيل.",
    "french": "À côté de la forêt, les garçons préfèrent l'hôtel où l'on dîne tôt, même à Noël.",
}


@pytest.mark.parametrize("script", SCRIPTS)
def test_absence_counts_for_readers_of_any_script_and_only_for_them(script):
    truth = SCRIPTS[script]
    rng = random.Random(1)
    misread = "".join(rng.choice(truth) if rng.random() < 0.2 else c for c in truth)
    decomposed = unicodedata.normalize("NFD", truth)
    rows = [test_row("absent", text="9999")]
    for text in (truth, misread, decomposed):
        assert total(HEAD + text, rows, HEAD + truth) == pytest.approx(3.0)
    for other in set(SCRIPTS) - {script}:
        assert total(HEAD + SCRIPTS[other], rows, HEAD + truth) == pytest.approx(2.0)
