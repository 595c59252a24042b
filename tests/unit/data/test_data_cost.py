from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from test_data_pack import VISION, make_groups
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

from olmrl.data.pack import pack_groups
from olmrl.models.cost import CostModel, balance
from olmrl.models.registry import family_of


def shape_of(config):
    return family_of(config).shape(config.to_dict())


def test_longest_first_by_hand():
    assert balance([7, 5, 4, 3, 1], 2) == [[0, 3], [1, 2, 4]]
    assert balance([], 3) == [[], [], []]
    assert balance([1, 1], 4) == [[0], [1], [], []]


@pytest.mark.parametrize("ranks", [1, 2, 3, 8])
def test_every_item_once_and_within_the_longest_first_bound(ranks: int):
    costs = np.random.default_rng(ranks).pareto(1.5, 50).tolist()
    shares = balance(costs, ranks)
    assert sorted(k for share in shares for k in share) == list(range(50))
    heaviest = max(sum(costs[k] for k in share) for share in shares)
    lower_bound = max(sum(costs) / ranks, max(costs))
    assert heaviest <= lower_bound * (4 / 3 + 1e-9)  # Graham, 1969
    with pytest.raises(ValueError, match="ranks is 0"):
        balance(costs, 0)


def test_cost_counts_what_the_model_computes(tiny_model: Path):
    """Against PyTorch's own operation counter on a dense sequence with an image."""
    config = AutoConfig.from_pretrained(tiny_model)
    config.vision_config.fullatt_block_indexes = [0, 1]
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="eager")
    grid = np.array([[1, 12, 8]])
    image, text = 24, 40
    ids = torch.tensor([[50] * 10 + [config.image_token_id] * image + [60] * (text - 10)])
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(
            input_ids=ids,
            pixel_values=torch.rand(96, 1176),
            image_grid_thw=torch.from_numpy(grid),
            mm_token_type_ids=(ids == config.image_token_id).long(),
            use_cache=False,
        )
    tokens = image + text
    counted = counter.get_total_flops()
    # eager attention computes the masked half as well
    mine = CostModel.of(shape_of(config)).parts(tokens, tokens**2, tokens, grid)
    assert mine == pytest.approx(counted, rel=0.02)


def test_page_once_costs_less_and_the_vision_tower_counts(tiny_model: Path):
    cost = CostModel.of(shape_of(AutoConfig.from_pretrained(tiny_model)))
    items = make_groups([[30] * 8])
    (once,) = pack_groups(items, 10_000, True, VISION)
    (dense,) = pack_groups(items, 10_000, False, VISION)
    assert cost.batch(once) < cost.batch(dense)
    prompt = len(items[0].page.prompt_ids)
    grid = items[0].page.image_grid_thw
    assert cost.batch(dense) == pytest.approx(8 * cost.page(prompt, [30], grid))
    assert cost.batch(once) == pytest.approx(cost.page(prompt, [30] * 8, grid))
    larger = cost.parts(100, 5050, 10, np.array([[1, 40, 40]]))
    assert larger > 1.5 * cost.parts(100, 5050, 10, np.array([[1, 10, 10]]))
