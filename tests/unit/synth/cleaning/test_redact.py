"""What is masked in HTML, what is left, and what the mask says about what it hides."""

import re
from html import unescape

import pytest

from olmrl.synth.cleaning.personal import luhn
from olmrl.synth.cleaning.redact import Redactor, redact_document
from olmrl.synth.web.source import read_document


def redacted(inner):
    """The inner HTML of a paragraph after redaction, and the counts."""
    redactor = Redactor()
    whole = redactor.html(f"<html><body><p>{inner}</p></body></html>")
    return re.search(r"<p>(.*)</p>", whole, re.DOTALL)[1], dict(redactor.counts)


EMAILS = [
    "john.doe@example.com",
    "<b>jo</b>hn.doe@<i>exam</i>ple.com",
    "john&shy;.doe@exam&#8203;ple<wbr>.com",
    "john.doe&#64;example&#46;com",
    "john.doe [at] example [dot] com",
    "john.doe at example dot com",
    "JOHN.DOE@EXAMPLE.COM",
    "ｊｏｈｎ＠ｅｘａｍｐｌｅ．ｃｏｍ",
    "jöhn@bücher.example",
    "john<!-- no -->.doe@example.com",
    "(john+tag@mail.example.co.uk)",
    "john.doe @ example.com",
    "john.doe&nbsp;@<i> example.com</i>",
]
PHONES = [
    "+49 (0)30 123456-78",
    "+49&nbsp;30&#8209;123456",
    "+1 650 253 0000",
    "+٩٦٦ ٥٠ ١٢٣ ٤٥٦٧",
    "+<b>49</b>30<i>1234567</i>",
    "0049 30 1234567",
    "(030) 123456",
    "030/1234567",
    "020 7946 0958",
    "01 23 45 67 89",
    "01.23.45.67.89",
    "090-1234-5678",
    "(555) 123-4567",
    "555.123.4567",
    "1-800-555-0199",
    "(11) 91234-5678",
    "Tel: 12345",
    "Telefon 123 45",
    "Fax no. 4 56 78 90",
    "电话：13812345678",
    "13812345678",
    "138 1234 5678",
    "07700900123",
    "0301234567",
    "٠١٠١٢٣٤٥٦٧٨",
]
CARDS = [
    "4111 1111 1111 1111",
    "4111111111111111",
    "4111-1111-1111-1111",
    "3782 822463 10005",
    "4111 <b>1111</b> 1111 1111",
    "５１０５ １０５１ ０５１０ ５１００",
]
IBANS = [
    "DE89 3704 0044 0532 0130 00",
    "DE89370400440532013000",
    "GB29 NWBK 6016 1331 9268 19",
    "gb29nwbk60161331926819",
    "FR14 2004 1010 0505 0001 3M02 606",
]
LEFT = [
    "2020-01-02 and 01-02-2020 and 01/02/2020 - 03/04/2020",
    "192.168.100.200 and 2001:db8::1",
    "ISBN 978-3-16-148410-0 and 0-306-40615-2",
    "pages 100-200, 10 000 000 items, version 1.2.3.4567",
    "3.14159265358979323846 and 2147483647 and 18446744073709551615",
    "1700000000 and 1700000000000 and 10.1000/01234567890 and 0.01234567890",
    "4111 1111 1111 1112",
    "DE89 3704 0044 0532 0130 01",
    "root@localhost, user@host:~/dir, pkg@1.2.3, @decorator.name",
    "00 01 02 03 04 05 ff, 12:34:56.789, meet at noon",
    "Call 5 times, RFC 2822, commit 4111111111111111abc",
]


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (kind, text)
        for kind, texts in (("email", EMAILS), ("phone", PHONES), ("card", CARDS), ("iban", IBANS))
        for text in texts
    ],
)
def test_personal_data_is_masked_in_every_guise(kind, text):
    masked, counts = redacted(f"Write to {text}, please.")
    assert counts == {kind: 1}
    plain = re.sub(r"<[^>]*>", "", masked)
    assert plain.startswith("Write to ") and plain.endswith(", please.")
    hidden = re.sub(r"<[^>]*>|\W", "", unescape(text)).lower()
    assert hidden not in re.sub(r"\W", "", plain).lower()


@pytest.mark.parametrize("text", LEFT)
def test_other_figures_stay(text):
    assert redacted(text) == (text, {})


def test_a_mask_keeps_the_shape_and_cannot_be_real():
    masked, _ = redacted("4111 1111 1111 1111")
    assert re.fullmatch(r"0\d{3} \d{4} \d{4} \d{4}", masked) and not luhn(masked.replace(" ", ""))
    assert re.fullmatch(r"ZZ00 \d{4} \d{4} \d{4} \d{4} \d\d", redacted(IBANS[0])[0])
    assert re.fullmatch(r"\+9 99\d \d{3} \d{4}", redacted("+1 650 253 0000")[0])
    email, _ = redacted("john.doe@example.com")
    assert re.fullmatch(r"[b-z]{4}\.[b-z]{3}@[b-z]{7}\.qqq", email)


def test_a_mask_does_not_depend_on_what_it_hides():
    assert redacted("+49 30 1234567") == redacted("+49 30 7654321")
    assert redacted("hans@house.com") == redacted("dean@noose.org")


def test_the_same_address_gets_the_same_mask_however_it_is_written():
    inner = (
        '<a href="mailto:john@x.org?subject=a">john@x.org</a> or <b>JOHN@x.org</b>, '
        '<a href="tel:+49301234567">+49 30 123 45 67</a>'
    )
    masked, counts = redacted(inner)
    assert counts == {"email": 3, "phone": 2}
    link, shown, loud = re.findall(r"\w+@\w\.q+", masked)
    assert link == shown == loud.lower() != "john@x.qqq"
    number, grouped = re.findall(r"\+[\d ]+", masked)
    assert number == grouped.replace(" ", "")


def test_blocks_end_a_number():
    masked, counts = redacted("</p><table><tr><td>4111 1111</td><td>1111 1111</td></tr></table><p>")
    assert counts == {} and "4111 1111" in masked


def test_a_document_is_masked_before_it_is_set():
    source = (
        "<html><head><title>Mail of john@x.org</title></head><body><h1>Head</h1>"
        "<p>Ask <a href='mailto:john@x.org'>j<b>oh</b>n@x.org</a> or \\(x = 1\\).</p>"
        "<ul><li>Tel. 030 1234567</li></ul></body></html>"
    )
    document = read_document(source.encode())
    assert redact_document(document) == {"email": 2, "phone": 1}
    assert "john" not in document.title and "x.org" not in "".join(document.blocks)
    assert '<span class="tex">x = 1</span>' in document.blocks[1]
    assert "<li>Tel. 000 " in document.blocks[2]


@pytest.mark.parametrize(
    "piece", ["a", "1", "1 ", "(0", "+1", "a@", "a.", "AB12", "tel ", "a at b dot ", "0-", "[at"]
)
def test_long_runs_come_to_an_end(piece):
    assert len(Redactor().text(piece * 40_000)) == len(piece) * 40_000
