"""A formula with one sign changed so that it looks otherwise: what math tests must catch."""

from __future__ import annotations

import random
import re

_SUBSTITUTES = "xkqzwvj7395"
_COMMAND = re.compile(r"\\[a-zA-Z]+|\\.")
_GROUPS = (
    (
        *("alpha", "beta", "gamma", "delta", "epsilon", "theta", "lambda", "mu", "pi", "rho"),
        *("sigma", "tau", "phi", "psi", "omega", "Gamma", "Delta", "Sigma", "Phi", "Omega"),
    ),
    ("leq", "geq", "neq", "approx", "equiv", "ll", "gg", "prec", "succ", "propto"),
    ("subset", "supset", "in", "ni", "notin", "subseteq", "supseteq"),
    ("to", "leftarrow", "Rightarrow", "Leftarrow", "uparrow", "downarrow", "mapsto"),
    ("sum", "prod", "int", "oint", "bigcup", "bigcap", "coprod"),
    ("times", "div", "pm", "mp", "cup", "cap", "wedge", "vee", "oplus", "otimes", "circ"),
    ("infty", "emptyset", "nabla", "partial", "forall", "exists", "ell", "hbar", "Re", "Im"),
    ("sin", "cos", "tan", "log", "exp", "max", "min", "sup", "inf", "det", "lim"),
)
"""Commands that may stand for each other; letters first."""
_SAME = {
    **{"le": "leq", "ge": "geq", "ne": "neq", "rightarrow": "to", "varepsilon": "epsilon"},
    **{"varphi": "phi", "vartheta": "theta", "gets": "leftarrow", "implies": "Rightarrow"},
    **{"varnothing": "emptyset", "land": "wedge", "lor": "vee", "ln": "log", "iint": "int"},
}
"""Commands that look like one of the groups, or nearly so."""


def changed(formula: str, rng: random.Random) -> str:
    """The formula with another letter or digit, or else another command; itself without any."""
    spots = _changeable(formula)
    if spots:
        spot = rng.choice(spots)
        other = rng.choice([c for c in _SUBSTITUTES if c not in formula] or ["z"])
        return formula[:spot] + other + formula[spot + 1 :]
    commands = list(_COMMAND.finditer(formula))
    used = {_SAME.get(match[0][1:], match[0][1:]) for match in commands}
    for group in _GROUPS:
        found = [match for match in commands if _SAME.get(match[0][1:], match[0][1:]) in group]
        others = [name for name in group if name not in used]
        if found and others:
            old = rng.choice(found)
            return f"{formula[: old.start()]}\\{rng.choice(others)}{formula[old.end() :]}"
    return formula


def _changeable(formula: str) -> list[int]:
    """Positions of letters and digits outside the names of commands and environments."""
    hidden = re.sub(r"\\(?:begin|end)\{[^}]*\}(?:\{[^}]*\})?", lambda m: "\\" * len(m[0]), formula)
    hidden = _COMMAND.sub(lambda m: "\\" * len(m[0]), hidden)
    return [i for i, char in enumerate(hidden) if char.isascii() and char.isalnum()]
