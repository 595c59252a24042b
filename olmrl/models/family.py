"""The family seam: all that olmrl must know of a model architecture, in one object.

A family is a subclass of `Family` in a module of its own, listed in `registry`. No other room names
a family or imports a class of one; a parameter, module or layer that a family does not classify is
an error that names it. The first half of the protocol describes, in plain Python, so that plans and
`--dry-run` work without torch; the second half touches networks and imports torch and transformers
when it is called. Shape letters: T tokens, V patches, K bytes of a patch, F image features, H
width.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

from olmrl.models.mrope import VisionTokens
from olmrl.models.patches import ImageSettings, Normalisation
from olmrl.models.shape import ModelShape
from olmrl.models.spans import Span

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel

Part = Literal["tower", "projector", "language", "head"]
"""What `model.freeze` and plans tell apart; the output head belongs to the language model."""
Treatment = Literal["matrix", "embedding", "exempt"]
"""How an optimizer treats a parameter: `matrix` is a hidden linear layer (Muon's), `exempt` are
norms and biases, which take no weight decay."""


_BLOCK_MODULES = ("self_attn", "linear_attn", "mlp")
"""Modules of language blocks whose linear layers `ModelShape` lists."""


class UnknownPart(ValueError):
    """A model has a parameter or module that its family does not classify."""


@dataclass(frozen=True, slots=True)
class TinySize:
    """Widths and depths of a tiny model: language model first, then the vision tower."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vision_hidden: int
    vision_depth: int
    vision_heads: int
    vision_intermediate: int


class VisionLayout(NamedTuple):
    """What a tower derives from the sizes of its images alone."""

    arguments: dict[str, Any]
    """Keyword arguments of the tower: positions, order of windows, boundaries; on the CPU."""
    segments: dict[str, Sequence[int]]
    """Lengths of the runs of patches that attend to each other, by the argument that carries their
    cumulative boundaries."""


class ImageFeatures(NamedTuple):
    """What the tower makes of the images of a row, in order."""

    merged_FH: Tensor
    """Features that take the places of the image placeholders."""
    side: tuple[Tensor, ...] = ()
    """[F, H] further features that language layers take (deepstack); empty where there are none."""

    def first(self, count: int) -> ImageFeatures:
        """The first `count` features of each kind."""
        return ImageFeatures(self.merged_FH[:count], tuple(each[:count] for each in self.side))


class Family(ABC):
    """One model architecture, under its `model_type` in transformers."""

    # -- described: no torch

    model_type: ClassVar[str]
    title: ClassVar[str]
    """Name for people."""
    image_token: ClassVar[str]
    """Token of the chat text that stands for an image, and for each merged patch of it."""
    end_token: ClassVar[str]
    """Token that ends an answer."""
    banned_tokens: ClassVar[tuple[str, ...]]
    """Tokens that no answer may contain, beside the special ones of its tokenizer. Those that the
    tokenizer lacks do not matter."""
    chat_arguments: ClassVar[dict[str, Any]] = {}
    """Arguments of the chat template, the same for engine and learner."""
    image_settings: ClassVar[ImageSettings] = ImageSettings()
    """Geometry of the image processor where its file is silent."""
    parts: ClassVar[Mapping[str, Part]]
    """Part of the model by prefix of a module path in transformers; the longest prefix decides."""
    published_names: ClassVar[tuple[tuple[str, str], ...]]
    """(prefix of a module path, prefix of the tensor's name in published checkpoints)."""
    engine_names: ClassVar[tuple[tuple[str, str], ...]]
    """(prefix of a module path or published name, prefix of the parameter in vLLM)."""
    engine_fused: ClassVar[tuple[tuple[str, str], ...]]
    """(pattern, replacement): parameters that vLLM keeps in one piece with others."""
    engine_head: ClassVar[str]
    """vLLM's name of the output head, which it shares with the embedding where they are tied."""
    is_recurrent: ClassVar[bool] = False
    """Whether some language layers carry a state along the text in the place of attention."""
    float32: ClassVar[str] = r"(?!)"
    """Pattern of the names of parameters, in any naming, that engines keep in float32."""
    left_out: ClassVar[str] = r"(?!)"
    """Pattern of the names of tensors in published files that are neither trained nor exported."""
    quantisable: ClassVar[str]
    """Pattern of a tensor's name: linear layers whose weights an 8-bit recipe rounds."""
    unquantised: ClassVar[tuple[str, ...]]
    """The other modules with linear layers, as compressed-tensors names them (`re:` a pattern)."""
    published: ClassVar[Mapping[str, Mapping[str, Any]]]
    """Sizes in the config.json of published models, by name: plans need no download."""
    fine_tunes: ClassVar[Mapping[str, str]] = {}
    """Published model whose sizes a fine-tune has, by a part of the fine-tune's name."""

    @abstractmethod
    def shape(self, config: Mapping[str, Any]) -> ModelShape:
        """Read the sizes out of a config.json."""

    def placeholders(self, config: Mapping[str, Any]) -> VisionTokens:
        """How images are written into the token stream."""
        merge = config["vision_config"].get("spatial_merge_size", self.image_settings.merge_size)
        return VisionTokens(int(config["image_token_id"]), int(merge))

    def part_of(self, name: str) -> Part:
        """Part of the model that a parameter belongs to.

        Raises:
            UnknownPart: no prefix of this family fits its name.
        """
        for prefix in sorted(self.parts, key=len, reverse=True):
            if name.startswith(prefix):
                return self.parts[prefix]
        raise UnknownPart(f"{self.title}: the parameter {name} belongs to no part that olmrl knows")

    def published_name(self, name: str) -> str:
        """Name of a parameter in published checkpoints, from its module path."""
        return _with_prefix(name, self.published_names)

    def module_name(self, name: str) -> str:
        """Module path of a parameter, from either name."""
        if any(name.startswith(module) for module, _ in self.published_names):
            return name
        return _with_prefix(name, tuple((there, here) for here, there in self.published_names))

    def engine_name(self, name: str) -> str:
        """vLLM's parameter that a parameter becomes (part of).

        Example: `model.language_model.layers.0.self_attn.q_proj.bias` ->
        `language_model.model.layers.0.self_attn.qkv_proj.bias`.
        """
        name = _with_prefix(name, self.engine_names)
        for pattern, replacement in self.engine_fused:
            name = re.sub(pattern, replacement, name)
        return name

    def is_quantisable(self, name: str) -> bool:
        """Whether 8-bit recipes round this tensor, given by either name."""
        return re.fullmatch(self.quantisable, self.module_name(name)) is not None

    def quantised_parameters(self, shape: ModelShape) -> int:
        """Number of weights that 8-bit recipes round, in a model of this shape."""
        modules = [f"model.language_model.layers.0.{module}" for module in _BLOCK_MODULES]
        return sum(
            stack.count * inputs * outputs
            for stack in shape.stacks
            for name, (inputs, outputs) in stack.matrices.items()
            if any(self.is_quantisable(f"{module}.{name}.weight") for module in modules)
        )

    # -- networks: torch and transformers

    @abstractmethod
    def model_class(self) -> type[PreTrainedModel]:
        """The class of transformers."""

    def config_class(self) -> Any:
        """Its configuration."""
        return self.model_class().config_class

    def language(self, model: Any) -> Any:
        """The language model of a loaded model: `embed_tokens`, `layers`, `norm`."""
        return model.model.language_model

    def tower(self, model: Any) -> Any:
        """Its vision tower: `patch_embed`, `blocks`."""
        return model.model.visual

    @abstractmethod
    def norm_types(self) -> tuple[type[nn.Module], ...]:
        """Module types that normalise."""

    def treatment(self, module: nn.Module, name: str) -> Treatment:
        """How an optimizer treats the parameter `name` of a module.

        Raises:
            UnknownPart: a module type that this family does not classify.
        """
        from torch import nn  # noqa: PLC0415

        if isinstance(module, self.norm_types()) or name == "bias":
            return "exempt"
        if isinstance(module, nn.Embedding | nn.Conv2d | nn.Conv3d):
            return "embedding"
        if isinstance(module, nn.Linear):
            return "matrix"
        raise UnknownPart(
            f"{self.title}: olmrl does not know how to optimise {type(module).__name__}.{name}"
        )

    def check(self, model: nn.Module) -> None:
        """See that every parameter of a loaded model is classified.

        Raises:
            UnknownPart: one is not (names it).
        """
        for path, module in model.named_modules():
            for name, _ in module.named_parameters(recurse=False):
                self.part_of(f"{path}.{name}" if path else name)
                self.treatment(module, name)

    def quicken(self, model: Any, normalisation: Normalisation) -> None:
        """Replace, in place, what transformers computes slowly; parameters keep their names.

        The tower takes patches as bytes from then on.
        """
        from olmrl.models.vision import MatmulPatchEmbed  # noqa: PLC0415

        tower = self.tower(model)
        tower.patch_embed = MatmulPatchEmbed(tower.patch_embed.proj, normalisation)

    @abstractmethod
    def vision_layout(self, config: Any, grid_thw: Sequence[Sequence[int]]) -> VisionLayout:
        """What the tower needs beside patches.

        Args:
            config: vision configuration of transformers.
            grid_thw: patches of each image in time, height, width.
        """

    def encode_images(
        self, tower: nn.Module, patches_VK: Tensor, grid: Tensor, arguments: Mapping[str, Any]
    ) -> ImageFeatures:
        """Run the tower.

        Args:
            tower: the vision tower.
            patches_VK: bytes of one frame, as its patch embedding takes them (`quicken`).
            grid: [I, 3] patches of each image.
            arguments: of `vision_layout`, on the device.
        """
        return ImageFeatures(tower(patches_VK, grid_thw=grid, **arguments).pooler_output)

    def recurrence(self, config: Any, spans: Sequence[Span], device: Any) -> Any:
        """What recurrent layers need of a row's segments; None where all layers attend.

        Args:
            config: of the model.
            spans: segments of the row.
            device: where the model is.
        """
        return None

    def float32_units(self, model: Any) -> list[nn.Module]:
        """Modules that compute in float32 whatever the compute dtype, after `quicken`."""
        return []

    def remarks(self, on_gpu: bool) -> list[str]:
        """What a user should know of how this family's layers are computed here, a line each."""
        return []

    def language_arguments(self, features: ImageFeatures, image_at_F: Tensor) -> dict[str, Any]:
        """Arguments of the language model beside embeddings, positions and the attention plan.

        Args:
            features: of the row's images.
            image_at_F: their positions in the row.
        """
        return {"attention_mask": {"full_attention": None}}

    @abstractmethod
    def tiny_config(
        self, size: TinySize, ids: Mapping[str, int], vocabulary: int, init_std: float
    ) -> PreTrainedConfig:
        """Configuration of a tiny, tied model for tests and the quick start.

        Args:
            size: widths and depths.
            ids: id of each special token.
            vocabulary: entries of the embedding.
            init_std: standard deviation of the random matrices.
        """

    @abstractmethod
    def processor(self, tokenizer: Any, chat_template: str, **images: Any) -> Any:
        """The family's processor of transformers around a tokenizer.

        Args:
            tokenizer: the tokenizer.
            chat_template: its chat template.
            images: settings of the image processor: bounds in pixels, mean, standard deviation.
        """


def _with_prefix(name: str, prefixes: Sequence[tuple[str, str]]) -> str:
    for prefix, replacement in prefixes:
        if name.startswith(prefix):
            return replacement + name.removeprefix(prefix)
    return name
