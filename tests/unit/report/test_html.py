"""Reports: whole, without any outside reference, and deaf to what models write."""

import re
from html import unescape

from olmrl import storage
from olmrl.report import PageCard, Table, Text, page
from olmrl.report.html import Transcription, data_url

HOSTILE = '<script>alert(1)</script><img src="http://evil/x.png" onerror=alert(2)>'


def test_model_output_is_shown_as_text():
    html = page(HOSTILE, HOSTILE, [
        Text(HOSTILE, (HOSTILE,)),
        Table(HOSTILE, (HOSTILE,), ((HOSTILE, 0.5),)),
        PageCard(HOSTILE, None, HOSTILE, (Transcription(HOSTILE, HOSTILE, ((HOSTILE, HOSTILE),),
                                                   ((False, HOSTILE, HOSTILE),)),)),
    ])  # fmt: skip
    assert "<script" not in html
    assert "<img" not in html
    assert html.count("&lt;script&gt;") >= 10


def test_nothing_is_fetched_from_outside():
    image = data_url(b"pixels", "image/webp")
    html = page("t", "s", [PageCard("p", image, None, ())])
    assert "data:image/webp;base64," in html
    assert not re.search(r"(src|href)\s*=\s*[\"']?(?!data:)\w", html)


def test_numbers_are_rounded_and_words_kept():
    html = page("t", "s", [Table("x", ("a",), ((0.123456, "word", 7),))])
    assert "0.123<" in html and "0.12345" not in html and ">7<" in html


def test_text_that_utf8_cannot_hold_is_shown_as_a_sign(tmp_path):
    text = "half a pair \ud83d, end"
    transcript = Transcription(text, text, facts=((text, text),), checks=((True, text, text),))
    sections = [
        Text(text, (text,)),
        Table(text, (text,), ((text,),)),
        PageCard(text, None, text, (transcript,)),
    ]
    storage.write_html(tmp_path / "page.html", page(text, text, sections))
    shown = unescape((tmp_path / "page.html").read_text("utf-8"))
    assert shown.count("half a pair \ufffd, end") >= 10 and "\ud83d" not in shown
