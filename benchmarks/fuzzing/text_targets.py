"""Everything that olmrl does with texts of others: answers of models, rows, settings, tarballs."""

from __future__ import annotations

import io
import json
import random
import tarfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import ClassVar

from olmrl import storage
from olmrl.bench import CaseError, ParsedPage, load_case
from olmrl.config import GrpoConfig, SftConfig, load
from olmrl.config.convert import convert
from olmrl.config.load import parse_yaml
from olmrl.markup import front_matter
from olmrl.markup.equations import equivalent, render
from olmrl.markup.formatting import KINDS
from olmrl.markup.html_tree import MarkupError
from olmrl.markup.latex import readable
from olmrl.markup.text import WorkLimitError, normalize
from olmrl.markup.visible import see
from olmrl.mix.hub_work import unpack_tarball
from olmrl.synth.proof.html_truth import read_html

from .record import Part
from .text_mutants import mutant

_HEAD = "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
_HEAD += "is_table: False\nis_diagram: False\n---\n"
_COMMON = {"pdf": "a.pdf", "page": 1, "id": "t"}
_CASES = (
    {"type": "present", "text": "quick brown"},
    {"type": "absent", "text": "Page 7", "last_n": 50},
    {"type": "order", "before": "quick brown", "after": "lazy dog", "max_diffs": 1},
    {"type": "format", "text": "Title", "format": "heading"},
    {"type": "table", "cell": "2", "left": "1", "top_heading": "b"},
    {"type": "math", "math": "x^2 + 1"},
    {"type": "footnote", "marker": "1", "appears_before_marker": "brown"},
    {"type": "baseline"},
)


def _words(text: str) -> list[str]:
    return text.split()


class TextPart(Part):
    """Texts made of seeds and pieces; hangs are measured in CPU seconds of this process."""

    seeds: ClassVar[Sequence[str]]
    pieces: ClassVar[Sequence[str]]
    refusals: ClassVar[tuple[type[Exception], ...]] = (WorkLimitError, MarkupError)
    """How targets say no."""
    clock = staticmethod(time.process_time)
    deadline_s = 20.0

    def __init__(self, seed: int, folder: Path, corpus: str | None) -> None:
        super().__init__(seed, folder)

    def make(self, index: int) -> bytes:
        """The text of a number, as UTF-8 with lone surrogates."""
        rng = random.Random(f"{self.seed}/{self.name}/{index}")
        return mutant(rng, self.seeds, self.pieces).encode("utf-8", "surrogatepass")

    def targets(self, data: bytes) -> Iterator[str]:
        """Run the calls of this part."""
        for name, call in self.calls(data.decode("utf-8", "surrogatepass")):
            yield name
            try:
                call()
            except self.refusals:
                self.refused[name] += 1

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        """Name and call of each target."""
        raise NotImplementedError


_ODD_YAML = (
    "1" + ":1" * 300 + ".5",
    *("!!int ", "!!float ", "!!bool ", "!!timestamp ", "!!null ", "{}", '"\\ud800"'),
)
"""On which PyYAML's constructors raise errors that are neither its own nor ValueErrors."""


class FrontMatterPart(TextPart):
    name = "front_matter"
    seeds = (_HEAD + "Text.", _HEAD.replace("en", "None") + "T", "---\na: [1, {b: 2}]\n---\nx")
    pieces = (
        *_words(r"""
        --- [ ] { } ' " null True 90 1e9 2024-99-99 0x .inf
        """),
        *(
            "---\n",
            ": ",
            "- ",
            "&a ",
            "*a ",
            "!!python/name:os ",
            "|\n  ",
            "primary_language: ",
            "is_table: ",
            "\n",
            "? ",
            "!!binary ",
            "<<: ",
            "natural_text: ",
            "\t",
            "# ",
            *_ODD_YAML,
        ),
    )
    refusals = (ValueError,)

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        for compat in (False, True):
            yield f"parse, compat={compat}", lambda c=compat: front_matter.parse(text, compat=c)
            yield f"split, compat={compat}", lambda c=compat: front_matter.split(text, compat=c)
        yield "strip", lambda: front_matter.strip(text)


class PagePart(TextPart):
    """Transcriptions over all tests of the bench, both modes."""

    name = "page"
    seeds = (
        _HEAD + "# Title\n\nThe *quick* **brown**[^1] fox, $x^2 + 1$ \\(y\\).\n\nlazy dog Page 7",
        "| a | b |\n|---|---|\n| 1 | 2 |\n| x \\| y | `|` |\n\n[^1]: note",
        "<table><tr><th>a<th>b<tr><td>1<td colspan=2>2</table>\n\n$5 and $x$ `$HOME`",
        "```\ncode $a$\n```\n<sup>1</sup> <b>x</b> <!-- hidden --> \\ce{H2O} $$\\frac{1}{2}$$",
    )
    pieces = (
        *_words(r"""
        | |--- * ** _ __ $ $$ \( \) \[ \] ` ``` ~~~ <table> </table> <tr> <td> > </td>
        <sup> </sup> <!-- --> &amp; &# # [^1] ![a](b) ]( [ \ \| <br/> <b </b> a 1
        <![CDATA[ <thead> <caption> --
        """),
        *(
            "\n",
            "\n\n",
            "<td rowspan=0>",
            "<th ",
            " ",
        ),
    )

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        for compat in (False, True):
            yield f"normalize, compat={compat}", lambda c=compat: normalize(text, compat=c)
            page = ParsedPage(text, compat=compat)
            for kind in KINDS:
                yield f"{kind}, compat={compat}", lambda k=kind, p=page: p.formatted(k)
            for row in _CASES:
                case = load_case({**_COMMON, **row}, compat=compat)
                yield f"{row['type']}, compat={compat}", lambda c=case, p=page: c.run_parsed(p)
        yield "see", lambda: see(text)


class LatexPart(TextPart):
    name = "latex"
    seeds = (
        r"\frac{a}{b} + \sqrt[3]{x} \label{e} \tag{1}",
        r"\begin{eqnarray} a &=& b \\ c &=& d \end{eqnarray} \eqno(3)",
        r"\ce{2H2 + O2 ->[heat] 2H2O ^} \SI{9.81}{\metre\per\second\squared}",
        r"\left( \begin{array}{cc} 1 & 2 \\ 3 & 4 \end{array} \right)^{\text{T}}",
        r"\int_0^\infty e^{-x^2} \, dx = \frac{\sqrt{\pi}}{2}",
    )
    pieces = (
        *_words(r"""
        { } \ ^ _ & \\ \frac \sqrt \left( \right) \ce{ \SI{5}{ \mbox{ \text{
        \begin{array}{cc} \end{array} \label{ $ % \def\a{\a\a} \a \newcommand
        \href{javascript:x}{y} \hspace{1e9em} #1 \color{ \rule{9999em}{9999em}
        \overline{ x 1 -> <=> [ ]
        """),
        *("\\hat ",),
    )

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        yield "readable", lambda: readable(text)
        yield "render", lambda: render(readable(text))
        yield "render as it is", lambda: render(text, fonts="serif")
        for compat in (False, True):
            yield f"shows, compat={compat}", lambda c=compat: equivalent("x^2", text, compat=c)
            yield f"is shown, compat={compat}", lambda c=compat: equivalent(text, "x^2+1", compat=c)


class HtmlPart(TextPart):
    """HTML pages as truth, and as a model's answer."""

    name = "html"
    seeds = (
        "<html lang=en><body><header><h1>T</h1></header><p>Text <b>bold</b></p><footer>7</footer>",
        "<table><thead><tr><th rowspan=2>a</th></tr></thead><tbody><tr><td>1</td></tr></table>",
        "<ul><li>a<ul><li>b</ul></ul><pre>x\n y</pre><img src=x alt=y><div class=footnote>n</div>",
        "<math><mi>x</mi></math><svg><text>t</text></svg><span class=math>\\(x\\)</span>",
    )
    pieces = (
        *_words(r"""
        <p> </p> <div> </div> <table> </table> <tr> <td> <ul><li> <ol> <h1> </h1> <!--
        --> <![CDATA[ ]]> <?x <!DOCTYPE < > &lt; &#x1F; &bogus; ' " = <script>
        </script> <style> <br> <footer> <header> <select><option> <template> <math>
        <svg> a
        """),
        *(
            "<td colspan=9999>",
            " ",
            "\n",
        ),
    )
    refusals = (ValueError, WorkLimitError)

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        yield "truth", lambda: read_html(text)
        for compat in (False, True):
            page = ParsedPage(text, compat=compat)
            yield f"tables, compat={compat}", lambda p=page: p.html_tables
        yield "see", lambda: see(text)


class RowsPart(TextPart):
    """JSON lines: tests of the bench, and rows of any kind."""

    name = "json_lines"
    seeds = (
        *(json.dumps({**_COMMON, **row}) + "\n" for row in _CASES),
        '{"custom_id": "a", "response": {"body": {"choices": [{"message": {"content": "x"}}]}}}\n',
    )
    pieces = (
        *_words(r"""
        { } [ ] : , " \u \ud800 null true 1e999 - 000000000000000000000000000000 NaN 1
        [[[[ \
        """),
        *(
            "\n",
            "\u2028",
            '"type": ',
            '"math": ',
            '"max_diffs": ',
            '"page": ',
        ),
    )
    refusals = (ValueError, CaseError)

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        data = text.encode("utf-8", "surrogatepass")
        yield "lines", lambda: list(storage.jsonl_lines(data))
        for number, line in list(storage.jsonl_lines(data))[:20]:
            yield "value", lambda x=line, n=number: storage.json_value(x, f"f:{n}")
            for compat in (False, True):
                yield (
                    "case",
                    lambda x=line, c=compat: load_case(x.decode("utf-8", "replace"), compat=c),
                )


class ConfigPart(TextPart):
    """Configurations: YAML files, overrides, public YAMLs."""

    name = "config"
    seeds = (
        "run: {dir: r}\nmodel: {path: m}\ndata: {train: d}\nlearner: {optimizer: {lr: 1e-5}}\n",
        "run:\n  dir: r\ndata:\n  train:\n  - root: x\n    pipeline: [{name: FrontMatterParser}]\n",
        "model:\n  name: Qwen/Qwen2.5-VL-7B-Instruct\ndataset:\n  train:\n    - root_dir: x\n"
        "      pipeline: [{name: FrontMatterParser}]\ntraining:\n  learning_rate: 2e-5\n",
    )
    pieces = (
        *_words(r"""
        [ ] { } *a ' " null true 1e999 .nan -1 2024-99-99 0x run dir data
        ${model.name} ${a.b} lr rewards 12:99:99 #
        """),
        *(
            ": ",
            "- ",
            "&a ",
            "<<: *a",
            "!!python/name:os ",
            "|\n ",
            "\n",
            "  ",
            "? ",
            "!!binary ",
            "%YAML 9",
            *_ODD_YAML,
        ),
    )
    refusals = (ValueError,)

    def calls(self, text: str) -> Iterator[tuple[str, Callable[[], object]]]:
        path = self.folder / "current.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        line = text.splitlines()[0][:200] if text.splitlines() else ""
        for schema in (GrpoConfig, SftConfig):
            yield f"{schema.__name__} file", lambda s=schema: load(s, path)
            yield f"{schema.__name__} override", lambda s=schema: load(s, None, [line])
            yield f"{schema.__name__} value", lambda s=schema: load(s, None, [f"run.dir={line}"])
        yield "convert", lambda: convert(parse_yaml(text, "x.yaml"), "x.yaml")


class TarPart(TextPart):
    """Tarballs with members that mean harm, and damaged ones."""

    name = "tar"
    refusals = (ValueError,)
    names = (
        *_words(r"""
        a.pdf ../a.pdf /etc/a.pdf a/../../b.pdf a.PDF a.exe . a//b.pdf con.pdf
        a/b/c/d.pdf ~/a.pdf
        """),
        *(
            "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx.pdf",
            "",
            "\udc80.pdf",
            "a\n.pdf",
            "\x00.pdf",
        ),
    )

    def make(self, index: int) -> bytes:
        rng = random.Random(f"{self.seed}/tar/{index}")
        out = io.BytesIO()
        mode = rng.choice(("w:gz", "w", "w:gz"))
        with tarfile.open(fileobj=out, mode=mode, format=rng.choice((0, 1, 2))) as tar:
            for _ in range(rng.randint(0, 6)):
                member = tarfile.TarInfo(rng.choice(self.names))
                member.type = rng.choice(b"0000012345LKgxS\0").to_bytes(1, "big")
                member.linkname = rng.choice(("", "/etc/passwd", "../x", "a.pdf"))
                member.mode, member.uid = rng.choice((0o644, 0, 0o7777)), rng.choice((0, 2**20))
                data = rng.randbytes(rng.choice((0, 10, 2000)))
                member.size = len(data) if member.isreg() else 0
                try:
                    tar.addfile(member, io.BytesIO(data))
                except (ValueError, UnicodeError):  # a name that this format cannot write
                    continue
        made = bytearray(out.getvalue())
        for _ in range(rng.choice((0, 0, 1, 5, 50)) if made else 0):
            made[rng.randrange(len(made))] = rng.randrange(256)
        return bytes(made[: rng.randrange(len(made))] if rng.random() < 0.2 else made)

    def targets(self, data: bytes) -> Iterator[str]:
        folder = self.folder / "tar" / "inside"
        path = self.folder / "current.tar.gz"
        path.write_bytes(data)
        yield "unpack"
        outcome = unpack_tarball(str(path), str(folder))
        if outcome.status != "done":
            self.refused["unpack"] += 1
        beside = [path for path in folder.parent.glob("*") if path != folder]
        assert not beside and not Path("/etc/a.pdf").exists(), "a member left the folder"
        for file in sorted(folder.rglob("*"), reverse=True):
            assert not file.is_symlink(), "a link was made"
            file.rmdir() if file.is_dir() else file.unlink()


TEXT_PARTS = (FrontMatterPart, PagePart, LatexPart, HtmlPart, RowsPart, ConfigPart, TarPart)
