"""A tiny, randomly initialised model of a family, with its processor and special tokens.

The classes are the real ones, so that transformers, vLLM and olmrl's learner load the folder like
any checkpoint of the family; only the sizes are small enough for two CPU cores. Head sizes are 32,
the least that vLLM's CPU attention serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from olmrl import shipped, storage
from olmrl.models import registry
from olmrl.models.family import Family, TinySize
from olmrl.pipes import read_text
from olmrl.suffixes import has_suffix

PROMPT_WEIGHT = 200
"""Times a prompt counts among the texts that the tokenizer learns from."""
PAD = "<|endoftext|>"
END = "<|im_end|>"
SPECIAL_TOKENS = (
    PAD,
    "<|im_start|>",
    END,
    "<|object_ref_start|>",
    "<|object_ref_end|>",
    "<|box_start|>",
    "<|box_end|>",
    "<|quad_start|>",
    "<|quad_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)

# The family's turns, without its default system message: a tiny model pays for every prompt token.
CHAT_TEMPLATE = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content is string %}{{ message.content }}
{%- else %}
{%- for part in message.content %}
{%- if part.type == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif part.type == 'video' %}{{ '<|vision_start|><|video_pad|><|vision_end|>' }}
{%- else %}{{ part.text }}
{%- endif %}
{%- endfor %}
{%- endif %}{{ '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

# Units that byte-pair merges never cross: a YAML key, a fence, a run of tags, a table rule, a word.
_PIECES = (
    r"\n?[a-z_]{5,}:|\n?---\n?|(?:</?[a-z]+>)+\n*|\n?\|(?:---\|)+\n?"
    r"|[.?!,;]|[ #*|]?[^\s<|*.]+|[#|*]+|\n+|\s|."
)


SIZES = {
    "tiny": TinySize(128, 2, 4, 2, 320, 64, 2, 2, 128),
    "small": TinySize(128, 3, 4, 2, 384, 96, 2, 3, 192),
}


def make_tokenizer(texts: Sequence[str], vocab_size: int = 640) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE whose merges stay inside words, so that a frequent word is one token.

    Args:
        texts: Transcriptions and prompts; what occurs often becomes a single token.
        vocab_size: Entries including bytes and special tokens.

    Raises:
        ValueError: No text, or a vocabulary too small for bytes and special tokens.
    """
    least = 256 + len(SPECIAL_TOKENS)
    if vocab_size < least:
        raise ValueError(f"vocab_size: {vocab_size} is too small, bytes alone need {least}")
    if not any(text.strip() for text in texts):
        raise ValueError("texts: the tokenizer needs at least one non-empty text to learn from")
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    turns = ["user", "assistant"] * PROMPT_WEIGHT
    tokenizer.train_from_iterator([*texts, *turns], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[t for t in SPECIAL_TOKENS if t not in (PAD, END)],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast


def make_processor(tokenizer: PreTrainedTokenizerFast, family: Family) -> Any:
    """Build the family's processor around a tokenizer.

    Pixels are shifted so that white paper is 0: a random tower learns faster from sparse input.
    """
    settings = family.image_settings
    unit = settings.patch_size * settings.merge_size
    return family.processor(
        tokenizer,
        CHAT_TEMPLATE,
        min_pixels=unit**2,
        max_pixels=1280 * unit**2,
        image_mean=[1.0] * 3,
        image_std=[0.5] * 3,
    )


def make_config(
    tokenizer: PreTrainedTokenizerFast, size: TinySize, init_std: float, family: Family
) -> Any:
    """Describe the tiny model; the vocabulary is padded to a multiple of 64."""
    vocabulary = tokenizer.get_vocab()
    ids = {token: vocabulary[token] for token in SPECIAL_TOKENS}
    return family.tiny_config(size, ids, -(-len(tokenizer) // 64) * 64, init_std)


def make_model(
    texts: Sequence[str],
    out: str | Path,
    *,
    size: str = "tiny",
    vocab_size: int = 640,
    init_std: float = 0.1,
    seed: int = 0,
    family: str = "qwen2_5_vl",
) -> Path:
    """Write a tiny model with its processor, loadable by transformers and vLLM.

    Args:
        texts: Transcriptions and prompts the tokenizer is trained on.
        out: Folder to write.
        size: A key of `SIZES`.
        vocab_size: Entries of the tokenizer.
        init_std: Standard deviation of the random matrices; 0.1 learns to read several times
            sooner than the family's 0.02 at these widths.
        seed: Same seed, same bytes.
        family: `model_type` of a family.

    Returns:
        The folder.

    Raises:
        ValueError: Unknown size or family, or texts the tokenizer cannot learn from.
    """
    if size not in SIZES:
        raise ValueError(f"size: {size!r} is unknown; allowed: {', '.join(SIZES)}")
    known = registry.family(family, "family")
    tokenizer = make_tokenizer(texts, vocab_size)
    config = make_config(tokenizer, SIZES[size], init_std, known)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: Any = known.model_class()(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.bos_token_id = None
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    with storage.named(folder):
        model.save_pretrained(folder)
        make_processor(tokenizer, known).save_pretrained(folder)
    return folder


def gather_texts(folders: Sequence[str | Path]) -> list[str]:
    """Collect all `.md` and `.txt` texts below the folders (or the files themselves), sorted.

    A `.txt` file is a prompt: it stands in front of every page, so it counts `PROMPT_WEIGHT` times.

    Raises:
        ValueError: A path that does not exist, or no text at all.
    """
    files: list[Path] = []
    for name in folders:
        path = Path(shipped.find(name))
        if not path.exists():
            raise ValueError(f"{path}: no such file or folder")
        if path.is_file():
            files.append(path)
            continue
        below = sorted(path.rglob("*"))
        files += [p for end in (".md", ".txt") for p in below if has_suffix(p.name, end)]
    if not files:
        raise ValueError(f"{', '.join(map(str, folders))}: no .md or .txt file below")
    texts = []
    for file in files:
        text = read_text(file)
        texts += [text.strip()] * PROMPT_WEIGHT if has_suffix(file.name, ".txt") else [text]
    return texts
