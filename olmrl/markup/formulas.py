"""Finds the LaTeX formulas of a transcription (docs/formats.md#pass-rules)."""


def extract_formulas(text: str, *, dollars: bool = True) -> list[str]:
    r"""Returns the formulas between ``\( \)``, ``\[ \]`` and, if asked, ``$$ $$`` and ``$ $``.

    Each kind is removed from the text before the next one is searched for, and the result has the
    same order. Formulas are stripped, duplicates kept. Runs in linear time on any text.

    Args:
        text: The transcription.
        dollars: Also look for the dollar forms.
    """
    delimiters = [("\\(", "\\)"), ("\\[", "\\]")]
    if dollars:
        delimiters += [("$$", "$$"), ("$", "$")]
    formulas: list[str] = []
    for opening, closing in delimiters:
        found, text = _take_out(text, opening, closing)
        formulas += found
    return formulas


def _take_out(text: str, opening: str, closing: str) -> tuple[list[str], str]:
    """The stripped contents of each delimited span, and the text without the spans."""
    found: list[str] = []
    rest: list[str] = []
    position = 0
    while True:
        start = text.find(opening, position)
        end = text.find(closing, start + len(opening)) if start >= 0 else -1
        if end < 0:
            return found, "".join(rest) + text[position:]
        rest.append(text[position:start])
        found.append(text[start + len(opening) : end].strip())
        position = end + len(closing)
