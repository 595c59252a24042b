"""Second readings in disguise, and second copies of rows and columns, pay nothing."""

import random

import attacked_pages
import disguised_attacks
import red_team

ATTACKS = {
    f"{kind}: {name}": run
    for kind, group in disguised_attacks.ATTACKS.items()
    for name, run in group.items()
}


def gains(seeds, *, reference):
    """Of each strategy, by page: its total less that of the honest transcription."""
    found = {name: [] for name in ATTACKS}
    for seed in seeds:
        rng = random.Random(seed)
        sheet = attacked_pages.invent(rng)
        honest = attacked_pages.honest(sheet, rng)
        page = red_team.make_page(sheet, reference=reference)
        texts = [run(sheet, honest, random.Random(f"{seed}/{n}")) for n, run in ATTACKS.items()]
        before, *after = red_team.score(page, [honest, *texts], ("bench",))
        for name, rollout in zip(ATTACKS, after, strict=True):
            found[name].append(rollout.total - before.total)
    return found


def test_with_a_reference_none_pays_on_any_page():
    found = gains((601, 602), reference=True)
    assert len(found) >= 90
    assert {name: values for name, values in found.items() if max(values) > 1e-9} == {}


def test_from_tests_alone_none_pays_on_average():
    found = gains((601, 602, 604), reference=False)
    assert {name: values for name, values in found.items() if sum(values) > 1e-9} == {}
