"""A table that is never closed: nothing that follows closes it."""

import pytest

from olmrl.rewards import score
from olmrl.rewards.closed_tables import closed_tables

ONE = "<table><tr><td>salt</td><td>1812</td></tr><tr><td>rye</td><td>1813</td></tr></table>"
TWO = "<table><tr><td>wheat</td><td>left</td></tr><tr><td>barley</td><td>77121</td></tr></table>"
FIRST = "The salt tax of this year was high and nobody knew why the river moved."
LAST = "A survey of the valley found copper and limestone beneath the old quarry."
PAGES = {"one table": f"{FIRST}\n\n{ONE}\n\n{LAST}", "two": f"{FIRST}\n\n{ONE}\n\n{LAST}\n\n{TWO}"}
ADDED = (
    *(ONE, ONE.replace("rye", "oats"), "<table></table>", "<table><tr><td>zz</td></tr></table>"),
    *(
        "</table>",
        "<tr></tr></table>",
        ONE + "</table>",
        "<table><tr><td>zz</td></tr></table></table>",
    ),
    "<table><caption>salt 1812</caption></table>",
)


@pytest.mark.parametrize("name", ["rect_tables", "validity", "element_count", "teds"])
@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("lost", ["</table>", "</tr></table>"])
def test_no_later_table_or_tag_repairs_it(lost, page, name):
    reference = PAGES[page]
    honest = reference.replace(ONE, ONE.removesuffix(lost))
    added = [f"{honest}\n\n{more}" for more in ADDED]
    added += [honest.replace(FIRST, f"{FIRST}\n\n{more}") for more in (ONE, TWO)]
    before, *after = score(name, [honest, *added], references=[reference] * (1 + len(added)))
    assert max(after) <= before < 1 or (name, before) == ("teds", 1.0)


def test_the_true_table_after_it_counts():
    reference = PAGES["two"]
    honest = reference.replace(ONE, ONE.removesuffix("</table>"))
    without = honest.replace(TWO, "")
    for name in ("rect_tables", "validity"):
        some, none = score(name, [honest, without], references=[reference] * 2)
        assert some > none


@pytest.mark.parametrize(
    ("body", "spans", "unpaired"),
    [
        (ONE + TWO, [ONE, TWO], 0),
        ("<table><tr><td>a<td>b</table> c", ["<table><tr><td>a<td>b</table>"], 0),
        (f"<table>{ONE}", [ONE], 1),
        (f"<table><tr><td>{ONE}</td></tr></table>", [f"<table><tr><td>{ONE}</td></tr></table>"], 0),
        (ONE.removesuffix("</table>") + TWO, [TWO], 1),
        (ONE.removesuffix("</table>") + "\n\nText.\n</table>", [], 2),
        (f"{ONE[:-8]}\n\n\n</table>", [f"{ONE[:-8]}\n\n\n</table>"], 0),
        ("</table>" + ONE, [ONE], 1),
        ("<table><tr><td>a\n\nb</td></tr></table>", ["<table><tr><td>a\n\nb</td></tr></table>"], 0),
    ],
)  # fmt: skip
def test_by_hand(body, spans, unpaired):
    found, open_tags = closed_tables(body)
    assert [body[start:end] for start, end in found] == spans
    assert open_tags == unpaired
