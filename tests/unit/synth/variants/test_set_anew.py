"""Variants that are set anew: which pages get them, and what a dense page holds."""

import random
from dataclasses import replace

import pytest

from olmrl.synth.variants.set_anew import LEAST_GAIN, versions
from olmrl.synth.web.document import text_of
from olmrl.synth.web.pages import fill
from olmrl.synth.web.style import FAMILIES, draw_look

LOOK = replace(
    draw_look(random.Random(0), "en", FAMILIES),
    width=800,
    height=1100,
    margin=80,
    columns=1,
    font_px=15.0,
)
SAID = "the harbour has lanterns, meadows, orchards, pebbles, quarries and some timber, " * 3
BLOCKS = [f"<p>Block {n} says {SAID}and ends.</p>" for n in range(40)]


def measure(blocks, look):
    """Heights that grow with the type, as a browser would tell them."""
    return [(len(text_of(b)) * look.font_px**2 / look.column_width, 5.0, 5.0, 0.0) for b in blocks]


@pytest.fixture
def pages():
    return list(fill(BLOCKS, measure(BLOCKS, LOOK), LOOK, lambda reason: None))


def made(pages, shares, seed=0, blocks=BLOCKS):
    asked = []

    def counted(shown, look):
        asked.append(look)
        return measure(shown, look)

    found = list(versions(pages, blocks, LOOK, counted, shares=shares, seed=seed, name="doc"))
    return found, asked


def test_without_variants_there_are_the_pages_and_nothing_is_measured(pages):
    found, asked = made(pages, {})
    assert [version.page for version in found] == pages and asked == []
    assert all(version.look == LOOK and not version.facts for version in found)


def test_a_dense_page_starts_alike_and_holds_more(pages):
    found, asked = made(pages, {"density": 1.0})
    assert len(asked) == 1  # the whole document is measured once
    dense = {version.page.number: version for version in found if version.suffix == "-density"}
    assert 1 in dense and pages[-1].number not in dense  # nothing follows the last page
    for number, version in dense.items():
        page = pages[number - 1]
        assert version.page.blocks[: len(page.blocks)] == page.blocks
        longer = sum(len(text_of(block)) for block in version.page.blocks)
        assert longer >= LEAST_GAIN * sum(len(text_of(block)) for block in page.blocks)
        assert version.look.font_px < LOOK.font_px and version.look.margin < LOOK.margin
        assert version.facts == {"variant": "density", "of": f"doc-p{number}"}


def test_a_variant_follows_its_page_and_names_it(pages):
    found, _ = made(pages, {"typos": 1.0})
    order = [(version.page.number, version.suffix) for version in found]
    assert order == [(page.number, suffix) for page in pages for suffix in ("", "-typos")]
    for before, after in zip(found[::2], found[1::2], strict=True):
        assert after.facts["of"] == f"doc-p{before.page.number}" and after.look == LOOK
        assert len(after.page.blocks) == len(before.page.blocks)
        assert after.page.blocks != before.page.blocks
        assert len(after.facts["typos"]) == 5


def test_variants_follow_the_seed(pages):
    shares = {"typos": 0.5}
    assert made(pages, shares, 1)[0] == made(pages, shares, 1)[0]
    drawn = {tuple(v.suffix for v in made(pages, shares, seed)[0]) for seed in range(12)}
    assert len(drawn) > 3
