"""Patches as bytes, against the image processor of transformers and against themselves."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import Qwen2VLImageProcessorPil

from olmrl.data.encoded import EncodedExample
from olmrl.data.payload import pack_block, unpack_block
from olmrl.models.patches import ImagePatcher, ImageSettings, Normalisation, images_encoded
from olmrl.models.pixels import normalise
from olmrl.types import EncodedPage

PUBLISHED_LONGEST = 1288
LARGE = 1288 * 1288
"""Pixels that no page of the published size exceeds."""
NORMS = {
    "published": Normalisation(),
    "halves": Normalisation(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
    "one frame": Normalisation(rescale_factor=1 / 127.5, mean=(0.1, 0.7, 0.3), frames=1),
}


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS.keys())
@pytest.mark.parametrize("size", [(56, 56), (300, 201), (29, 700), (1288, 996)])
def test_normalised_patches_are_the_processors_to_the_bit(size, norm):
    image = noise(*size)
    theirs = Qwen2VLImageProcessorPil(
        size={"shortest_edge": 56 * 56, "longest_edge": LARGE},
        rescale_factor=norm.rescale_factor,
        image_mean=list(norm.mean),
        image_std=list(norm.std),
        temporal_patch_size=norm.frames,
    )(Image.fromarray(image), return_tensors="np")
    patches, grid = ImagePatcher(ImageSettings(max_pixels=LARGE)).encode(image)
    assert [list(grid)] == theirs["image_grid_thw"].tolist()
    for dtype in (torch.float32, torch.bfloat16):
        mine = normalise(torch.from_numpy(patches), norm, dtype)
        assert torch.equal(mine, torch.from_numpy(theirs["pixel_values"]).to(dtype))


@pytest.mark.parametrize("size", [(56, 84), (280, 560)])
def test_a_picture_comes_back_from_its_patches(size):
    patcher, image = ImagePatcher(ImageSettings()), noise(*size)
    before = images_encoded()
    np.testing.assert_array_equal(patcher.picture(*patcher.encode(image)), image)
    assert images_encoded() - before == 1


def test_an_example_of_the_published_size_takes_less_than_four_megabytes():
    side = PUBLISHED_LONGEST
    patches, grid = ImagePatcher(ImageSettings(max_pixels=LARGE)).encode(noise(side, 1000))
    prompt = np.zeros(len(patches) // 4 + 100, np.int64)
    response = np.zeros(1500, np.int64)
    page = EncodedPage("a.pdf::1", prompt, patches, np.array([grid]))
    block = pack_block(EncodedExample(page, response, response))
    assert len(patches) == 6624
    assert 3.8e6 < block.nbytes < 4e6
    found = unpack_block(block)
    assert found.labels is found.response_ids
    np.testing.assert_array_equal(found.page.patches, patches)
