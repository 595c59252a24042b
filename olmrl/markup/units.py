r"""Numbers and units (siunitx, and `\pu` of mhchem) as plain LaTeX."""

from __future__ import annotations

import re

_PREFIXES = {
    **{"yocto": "y", "zepto": "z", "atto": "a", "femto": "f", "pico": "p", "nano": "n"},
    **{"micro": "\\mu ", "milli": "m", "centi": "c", "deci": "d", "deca": "da", "deka": "da"},
    **{"hecto": "h", "kilo": "k", "mega": "M", "giga": "G", "tera": "T", "peta": "P", "exa": "E"},
    **{"zetta": "Z", "yotta": "Y"},
}
_UNITS = {
    **{"metre": "m", "meter": "m", "gram": "g", "kilogram": "kg", "second": "s", "ampere": "A"},
    **{"kelvin": "K", "mole": "mol", "candela": "cd", "hertz": "Hz", "newton": "N", "pascal": "Pa"},
    **{"joule": "J", "watt": "W", "coulomb": "C", "volt": "V", "farad": "F", "siemens": "S"},
    **{"weber": "Wb", "tesla": "T", "henry": "H", "lumen": "lm", "lux": "lx", "becquerel": "Bq"},
    **{"gray": "Gy", "sievert": "Sv", "katal": "kat", "radian": "rad", "steradian": "sr"},
    **{"litre": "L", "liter": "L", "minute": "min", "hour": "h", "day": "d", "hectare": "ha"},
    **{"tonne": "t", "electronvolt": "eV", "dalton": "Da", "bel": "B", "decibel": "dB"},
    **{"bar": "bar", "barn": "b", "atomicmassunit": "u", "astronomicalunit": "au", "bit": "bit"},
    **{"byte": "B", "neper": "Np", "knot": "kn", "mmHg": "mmHg", "molar": "M"},
}
_SIGNS = {
    **{"ohm": r"\Omega ", "percent": r"\%", "degree": r"{}^{\circ}", "angstrom": r"\text{Å}"},
    **{"celsius": r"{}^{\circ}\mathrm{C}", "degreeCelsius": r"{}^{\circ}\mathrm{C}"},
    **{"arcminute": "'", "arcsecond": "''"},
}
_POWERS = {"squared": "2", "cubed": "3"}
_POWERS_BEFORE = {"square": "2", "cubic": "3"}
_LONGEST_SHORT_NAME = 4
_SYMBOL = re.compile(r"\\([A-Za-z]+)\s*(?:\{([^{}]*)\})?|([^\\\s])")
_LITERAL = re.compile(
    r"(?P<word>[A-Za-zµμΩ°%]+)|(?P<power>\^(?:\{[^{}]*\}|-?\d+))|(?P<bare>-?\d+)|(.)"
)
_TIMES = re.compile(r"\s*(?:\\times|[x×])\s*(?=10|\d)")
_EXPONENT = re.compile(r"(?<=[\d.)])\s*[eEdD]\s*([+-]?\d+)")


def number(text: str) -> str:
    r"""What `\num{text}` shows: `1.5e-3` is 1.5 x 10^-3."""
    text = _TIMES.sub(r"\\times ", text.strip())
    text = text.replace("+-", r"\pm ")
    return _EXPONENT.sub(lambda found: rf"\times 10^{{{found[1].lstrip('+')}}}", text)


def quantity(value: str, units: str) -> str:
    r"""What `\SI{value}{units}` shows."""
    shown = unit(units)
    close = "" if shown.startswith("{}^") and "mathrm" not in shown else r"\,"
    return f"{number(value)}{close if value.strip() else ''}{shown}"


def quantity_range(low: str, high: str, units: str) -> str:
    r"""What `\SIrange{low}{high}{units}` shows."""
    if not units:
        return rf"{number(low)}\text{{ to }}{number(high)}"
    return rf"{quantity(low, units)}\text{{ to }}{quantity(high, units)}"


def angle(text: str) -> str:
    r"""What `\ang{degrees;minutes;seconds}` shows."""
    signs = (r"^{\circ}", "'", "''")
    parts = zip(text.split(";"), signs, strict=False)
    return "".join(f"{number(part)}{sign}" for part, sign in parts if part.strip())


def physical(text: str) -> str:
    r"""What `\pu{text}` shows: a number, if there is one, and units."""
    found = re.match(r"\s*([-+]?[\d.,]+(?:[eE][+-]?\d+)?)\s*(.*)", text, re.DOTALL)
    return quantity(found[1], found[2]) if found else unit(text)


def unit(text: str) -> str:
    r"""What `\si{text}` shows; powers are raised, those after `\per` negative."""
    return _from_macros(text) if "\\" in text else _from_letters(text)


def _from_macros(text: str) -> str:
    shown: list[str] = []
    prefix, power_before, sign = "", "", ""
    for found in _SYMBOL.finditer(text):
        name, given, other = found[1], found[2], found[3]
        if name == "per":
            sign = "-"
        elif name in _POWERS_BEFORE:
            power_before = _POWERS_BEFORE[name]
        elif name in _PREFIXES:
            prefix = _PREFIXES[name]
        elif name in _POWERS or name in ("tothe", "raiseto"):
            power = _POWERS.get(name, given or "")
            if shown:
                base, _, old = shown[-1].partition("^{")
                shown[-1] = f"{base}^{{{'-' if old.startswith('-') else ''}{power}}}"
        elif name or other not in ".~":
            power = sign + (power_before or ("1" if sign else ""))
            word = _word(name, prefix) if name else rf"\mathrm{{{other}}}"
            shown.append(word + (f"^{{{power}}}" if power else ""))
            prefix = power_before = sign = ""
    return r"\,".join(shown)


def _word(name: str, prefix: str) -> str:
    if name in _SIGNS:
        return (rf"\mathrm{{{prefix}}}" if prefix else "") + _SIGNS[name]
    if name in _UNITS:
        return rf"\mathrm{{{prefix}{_UNITS[name]}}}"
    if len(name) <= _LONGEST_SHORT_NAME:  # \km, \um
        letters = rf"\mu {name[1:]}" if len(name) > 1 and name[0] == "u" else name
        return rf"\mathrm{{{prefix}{letters}}}"
    return rf"\{name} "


def _from_letters(text: str) -> str:
    shown: list[str] = []
    for found in _LITERAL.finditer(text.strip()):
        if found["word"]:
            word = found["word"].replace("%", r"\%").replace("°", r"{}^{\circ}")
            shown.append(rf"\mathrm{{{word}}}")
        elif found["power"]:
            shown.append(f"^{{{found['power'][1:].strip('{}')}}}")
        elif found["bare"] and shown and shown[-1].startswith(r"\mathrm"):
            shown.append(f"^{{{found['bare']}}}")
        else:
            shown.append(r"\," if found[0] in ".~ *" else found[0])
    return "".join(shown)
