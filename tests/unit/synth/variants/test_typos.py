"""Typing errors: where they may stand, and that their tests tell the two pages apart."""

import random
import re

import pytest

from olmrl.bench import load_case
from olmrl.synth.proof.html_truth import read_html
from olmrl.synth.variants.typos import with_typos

BLOCKS = [
    "<h1>Heading with several letters</h1>",
    "<p>The harbour was <b>measured</b> carefully, because winter <i>storms</i> damage wooden "
    'quays. See <code>function</code> and <span class="tex">alphabet</span> below.</p>',
    "<table><tr><th>Column</th><td>quantity</td></tr></table>",
    "<ul><li>lanterns along the western shore</li></ul><pre>printf letters</pre>",
]
RUSSIAN = ["<p>Москва является столицей страны и крупнейшим городом северной части.</p>"]
CHINESE = ["<p>北京是中华人民共和国的首都也是一座历史悠久的城市</p>"]


def truth(blocks):
    return read_html(f"<html lang='en'><body>{''.join(blocks)}</body></html>").markdown


@pytest.mark.parametrize("blocks", [BLOCKS, RUSSIAN], ids=["latin", "cyrillic"])
def test_each_error_tells_the_page_from_the_one_without(blocks):
    for seed in range(20):
        changed, typos = with_typos(blocks, random.Random(seed), 4)
        assert len(typos) == 4
        before, after = truth(blocks), truth(changed)
        assert before != after
        for number, typo in enumerate(typos):
            assert typo.before != typo.after
            row = {"pdf": "a.pdf", "page": 1, "id": str(number), "type": "present"}
            test = load_case(row | {"text": typo.after, "max_diffs": 0})
            assert not test.run(before).passed and test.run(after).passed


def test_only_running_text_is_changed():
    for seed in range(40):
        changed, typos = with_typos(BLOCKS, random.Random(seed), 8)
        text = "".join(changed)
        for kept in (BLOCKS[0], "<code>function</code>", ">alphabet<", BLOCKS[2], "printf letters"):
            assert kept in text
        words = [re.sub(r"<[^>]*>", "", block) for block in (*BLOCKS, *changed)]
        assert typos and words


def test_the_same_seed_makes_the_same_errors_and_another_does_not():
    first = with_typos(BLOCKS, random.Random(1), 4)
    assert first == with_typos(BLOCKS, random.Random(1), 4)
    assert first != with_typos(BLOCKS, random.Random(2), 4)


def test_without_suitable_words_nothing_changes():
    assert with_typos(CHINESE, random.Random(0), 4) == (CHINESE, [])
    assert with_typos(["<p>a b c 1234567</p>"], random.Random(0), 4)[1] == []
