"""A run without a signal ends with numbers that add up."""

from olmrl.grpo.refills import dropped_since, fractions, no_signal, no_step


def test_fractions_are_of_the_dropped_groups_and_the_most_frequent_stands_first():
    said = fractions({"stale": 1, "zero_variance": 6, "generation_failed": 1})
    assert said.startswith("75 % zero variance")
    assert said.index("generation failed") < said.index("stale") and said.count("12.5 %") == 2


def test_only_groups_dropped_in_between_count():
    before = {"issued": 9, "dropped/stale": 2, "dropped/zero_variance": 1}
    now = {"issued": 20, "committed": 3, "dropped/stale": 2, "dropped/zero_variance": 5,
           "dropped/bad_page": 4}  # fmt: skip
    assert dropped_since(now, before) == {"zero_variance": 4}


def test_the_sentences_name_key_step_and_numbers():
    said = no_signal({"zero_variance": 30, "scoring_failed": 10}, step=12, ready=2, needed=7)
    for part in ("algorithm.max_refills", "step 12", "40 prompt groups", "2 of 7", "75 % zero",
                 "25 % scoring failed"):  # fmt: skip
        assert part in said
    assert "all 8 prompt groups were dropped: 100 % stale" in no_step({"stale": 8})
    assert "no page was usable" in no_step({})
