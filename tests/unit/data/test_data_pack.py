from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from olmrl.data.encoded import IGNORED, EncodedExample
from olmrl.data.pack import GroupItem, ScoredCompletion, pack_examples, pack_groups
from olmrl.models.mrope import VisionTokens
from olmrl.types import EncodedPage, PackedBatch

IMAGE = 7
VISION = VisionTokens(image_token_id=IMAGE, merge_size=2)


def make_page(name: str, rows: int, columns: int, text: int = 4, images: int = 1) -> EncodedPage:
    """A prompt of text, images of rows x columns patches, and more text."""
    tokens = rows * columns // 4
    rng = np.random.default_rng(len(name) + rows * 31 + columns)
    ids = [11] * text
    for _ in range(images):
        ids += [8, *[IMAGE] * tokens, 9]
    ids += rng.integers(20, 90, text).tolist()
    return EncodedPage(
        page_id=name,
        prompt_ids=np.array(ids, np.int64),
        patches=rng.integers(0, 256, (rows * columns * images, 6), np.uint8),
        image_grid_thw=np.array([[1, rows, columns]] * images, np.int64),
    )


def make_completion(length: int, seed: int) -> ScoredCompletion:
    rng = np.random.default_rng(seed)
    return ScoredCompletion(
        token_ids=rng.integers(20, 90, length).astype(np.int32),
        logprobs=-rng.random(length, dtype=np.float32),
        advantage=float(rng.normal()),
        weights=rng.integers(0, 2, length).astype(np.float32),
    )


def make_groups(lengths: list[list[int]]) -> list[GroupItem]:
    return [
        GroupItem(
            make_page(f"page{g}", 4 + 2 * g, 6),
            [make_completion(length, 100 * g + k) for k, length in enumerate(group)],
        )
        for g, group in enumerate(lengths)
    ]


def visible(batch: PackedBatch, t: int) -> list[int]:
    """Tokens that token t sees, by the words of `PackedBatch`, one at a time."""
    return [
        s
        for s in range(t + 1)
        if batch.segment_ids[s] == batch.segment_ids[t]
        or batch.segment_ids[s] == batch.prefix_ids[t]
    ]


def predictions(batch: PackedBatch) -> dict[int, list[tuple]]:
    """Per sequence: (context ids, context positions, target, weight, advantage, log-prob)."""
    out: dict[int, list[tuple]] = {}
    for n, at in enumerate(batch.predict_at.tolist()):
        seen = visible(batch, at)
        scalars = tuple(
            float(values[n]) if values is not None else None
            for values in (batch.weights, batch.advantages, batch.behaviour_logprobs)
        )
        row = (
            tuple(batch.token_ids[seen].tolist()),
            tuple(map(tuple, batch.position_ids[:, seen].T.tolist())),
            int(batch.targets[n]),
            *scalars,
        )
        out.setdefault(int(batch.sequence_ids[n]), []).append(row)
    return out


def slow_predictions(page: EncodedPage, ids: list[int], labels: list[int], extras: list[tuple]):
    """What an unpacked model would see for each learnt token of one sequence."""
    whole = np.concatenate([page.prompt_ids, np.array(ids, np.int64)])
    positions, _ = VISION.positions(whole, page.image_grid_thw)
    out = []
    for r, label in enumerate(labels):
        if label != IGNORED:
            context = len(page.prompt_ids) + r
            out.append(
                (
                    tuple(whole[:context].tolist()),
                    tuple(map(tuple, positions[:, :context].T.tolist())),
                    label,
                    *extras[r],
                )
            )
    return out


def slow_group(item: GroupItem) -> list:
    return [
        slow_predictions(
            item.page,
            c.token_ids.tolist(),
            c.token_ids.tolist(),
            [
                (float(w), float(np.float32(c.advantage)), float(p))
                for w, p in zip(c.weights, c.logprobs, strict=True)
            ],
        )
        for c in item.completions
    ]


def check_groups(items: list[GroupItem], budget: int, page_once: bool) -> list[PackedBatch]:
    batches = pack_groups(items, budget, page_once, VISION)
    got = [sequence for batch in batches for sequence in predictions(batch).values()]
    expected = [sequence for item in items for sequence in slow_group(item)]
    assert sorted(got) == sorted(expected)
    for batch in batches:
        check_row(batch, {item.page.page_id: item.page for item in items})
    return batches


def check_row(batch: PackedBatch, pages: dict[str, EncodedPage]) -> None:
    """Images stand in the order of their placeholders, and arrays have the promised shapes."""
    pixels, grids, at = [], [], 0
    while at < len(batch.page_ids):
        page = pages[batch.page_ids[at]]
        pixels.append(page.patches)
        grids.append(page.image_grid_thw)
        at += len(page.image_grid_thw)
    np.testing.assert_array_equal(batch.patches, np.concatenate(pixels))
    np.testing.assert_array_equal(batch.image_grid_thw, np.concatenate(grids))
    placeholders = int((batch.token_ids == IMAGE).sum())
    assert placeholders == int(VISION.count(batch.image_grid_thw).sum())
    tokens, predicted = batch.num_tokens, len(batch.targets)
    assert batch.position_ids.shape == (3, tokens)
    assert batch.segment_ids.shape == batch.prefix_ids.shape == (tokens,)
    assert batch.predict_at.shape == batch.sequence_ids.shape == batch.weights.shape == (predicted,)
    assert set(batch.sequence_ids.tolist()) == set(range(batch.sequence_ids.max() + 1))


@pytest.mark.parametrize("page_once", [True, False])
@pytest.mark.parametrize("budget", [1, 30, 60, 200, 10_000])
@pytest.mark.parametrize("lengths", [[[3, 1, 5]], [[4, 2], [1, 9, 3, 2], [7]], [[1, 1]]])
def test_every_token_sees_what_it_would_see_unpacked(lengths, budget, page_once):
    items = make_groups(lengths)
    for batch in check_groups(items, budget, page_once):
        sequences = len(set(batch.sequence_ids.tolist()))
        assert batch.num_tokens <= budget or sequences == 1


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.lists(st.integers(1, 12), min_size=1, max_size=6), min_size=1, max_size=4),
    budget=st.integers(1, 150),
    page_once=st.booleans(),
)
def test_any_groups_any_budget(lengths, budget, page_once):
    check_groups(make_groups(lengths), budget, page_once)


def test_page_once_holds_prompt_and_image_once():
    (item,) = make_groups([[5, 6, 7, 8]])
    (once,) = pack_groups([item], 10_000, True, VISION)
    (dense,) = pack_groups([item], 10_000, False, VISION)
    prompt = len(item.page.prompt_ids)
    assert once.num_tokens == prompt + 26
    assert dense.num_tokens == 4 * prompt + 26
    assert len(once.patches) * 4 == len(dense.patches)
    assert once.prefix_ids.max() == 0
    assert dense.prefix_ids.max() == -1


def test_large_group_is_spread_by_completions_each_row_repeating_the_prompt():
    (item,) = make_groups([[10, 10, 10, 10]])
    prompt = len(item.page.prompt_ids)
    batches = pack_groups([item], prompt + 20, True, VISION)
    assert [b.num_tokens for b in batches] == [prompt + 20, prompt + 20]
    assert [b.page_ids for b in batches] == [("page0",), ("page0",)]


def test_several_images_in_a_prompt():
    page = make_page("two", 4, 8, images=2)
    item = GroupItem(page, [make_completion(3, 1), make_completion(5, 2)])
    (batch,) = check_groups([item], 1000, True)
    assert batch.page_ids == ("two", "two")


def test_examples_mask_the_prompt_and_what_is_ignored():
    examples = []
    for k, (length, masked) in enumerate([(6, []), (3, [1]), (9, [0, 8]), (2, [])]):
        page = make_page(f"page{k}", 4, 6 + 2 * k)
        ids = np.arange(30, 30 + length, dtype=np.int64)
        labels = ids + 1
        labels[masked] = IGNORED
        examples.append(EncodedExample(page, ids, labels))
    for budget in (1, 60, 1000):
        batches = pack_examples(examples, budget, VISION)
        got = [sequence for batch in batches for sequence in predictions(batch).values()]
        expected = [
            slow_predictions(
                e.page, e.response_ids.tolist(), e.labels.tolist(), [(1.0, None, None)] * 9
            )
            for e in examples
        ]
        assert sorted(got) == sorted(expected)
        assert sum(b.num_tokens for b in batches) == sum(e.num_tokens for e in examples)
        for batch in batches:
            check_row(batch, {e.page.page_id: e.page for e in examples})
            assert len(batch.page_ids) == 1 or batch.num_tokens <= budget
    assert len(pack_examples(examples, 1000, VISION)) == 1


def test_wrong_number_of_image_tokens_names_the_page():
    page = make_page("scan.pdf::1", 4, 6)
    short = EncodedPage("scan.pdf::1", page.prompt_ids[:6], page.patches, page.image_grid_thw)
    with pytest.raises(
        ValueError, match=r"scan\.pdf::1: 1 image tokens, but its images have 6 features"
    ):
        pack_groups([GroupItem(short, [make_completion(3, 0)])], 100, True, VISION)
    with pytest.raises(ValueError, match="token budget is 0"):
        pack_groups([GroupItem(page, [make_completion(3, 0)])], 0, True, VISION)
