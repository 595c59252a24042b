"""Finds the LaTeX formulas of a transcription (docs/formats.md#pass-rules)."""


def extract_formulas(text: str, *, dollars: bool = True) -> list[str]:
    r"""Returns the formulas between ``\( \)``, ``\[ \]`` and, if asked, ``$$ $$`` and ``$ $``.

    Each kind is taken out of the text before the next is looked for; the result is in that order,
    each formula stripped, duplicates kept. Runs in linear time on any text.

    Args:
        text: The transcription.
        dollars: Look for dollar forms too.
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
