"""Pages and completions for the reward tests."""

import numpy as np

from olmrl.types import Completion, Page

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
END_ID = 7


def page(reference=None, tests=(), files=None, page_id="a.pdf::1"):
    """A page with the given truth."""
    return Page(
        page_id=page_id,
        pdf_path="a.pdf",
        page_number=1,
        reference=reference,
        tests=tuple(tests),
        test_files=tuple(files or ["tests.jsonl"] * len(tests)),
    )


def completion(text, index=0, group_id="g", finish_reason="stop", token_ids=None):
    """A completion whose tokens are its characters, ended by the end token unless cut."""
    if token_ids is None:
        token_ids = [100 + ord(c) for c in text] + [END_ID] * (finish_reason == "stop")
    ids = np.asarray(token_ids, np.int32)
    return Completion(
        group_id=group_id,
        index=index,
        token_ids=ids,
        logprobs=np.zeros(len(ids), np.float32),
        versions=(),
        finish_reason=finish_reason,
        text=text,
        prompt_token_ids=np.zeros(1, np.int32),
    )


def group(*texts, group_id="g"):
    """Completions of one group."""
    return [completion(text, i, group_id) for i, text in enumerate(texts)]


def test_row(kind, name="t", **fields):
    """A row of a bench file."""
    return {"pdf": "a.pdf", "page": 1, "id": name, "type": kind, **fields}


test_row.__test__ = False
