"""What language a document is taken for, and which of its letters no font has."""

import pytest

from olmrl.markup.language import language_of, of_script
from olmrl.synth.web import fonts

FONTS = fonts.parse("A,B|20-7e a0-ff\nC|100-17f 400-45f\nD|4e00\n\n")


@pytest.mark.parametrize(
    ("named", "text", "language"),
    [
        ("de-AT", "Straße", "de"),
        ("pt_BR", "São", "pt"),
        (None, "plain words", "fr"),
        ("", "plain words", "fr"),
        ("en", "plain words", "en"),
        ("en", "오래된 항구의 도서관", "ko"),  # a template's lang="en" around a Korean text
        (None, "古い港の図書館は", "ja"),
        (None, "老港口的图书馆", "zh"),
        (None, "مكتبة الميناء in the port", "ar"),
        (None, "Библиотека", "ru"),
        ("uk", "Бібліотека", "uk"),
        (None, "Η βιβλιοθήκη", "el"),
        ("en-US", "12.5 + 7", "en"),
        ("x", "plain", "x"),
    ],
)
def test_a_document_is_of_the_language_it_names_or_is_written_in(named, text, language):
    assert language_of(named, text, "fr") == language


def test_a_foreign_name_does_not_make_a_text_foreign():
    assert of_script("The town of 東京 and the words Москва and Αθήνα are named here once") is None


def test_ranges_of_all_fonts_are_joined():
    assert FONTS.families == {"A", "B", "C", "D"}
    assert (FONTS.starts, FONTS.ends) == (
        (0x20, 0xA0, 0x400, 0x4E00),
        (0x7E, 0x17F, 0x45F, 0x4E00),
    )


@pytest.mark.parametrize(
    ("text", "letters", "package"),
    [
        ("plain\ttext\n\u200b", "", ""),
        ("Ł Ж é", "", ""),
        ("一丁 Ж", "丁", "fonts-noto-cjk"),
        ("하루 θ", "θ루하", "fonts-noto-cjk"),
        ("הנמל", "להמנ", "fonts-noto-core"),
        ("\U0001f600", "\U0001f600", "fonts-noto-color-emoji"),
        ("a\ue000", "\ue000", "none known, a letter of private use"),
    ],
)
def test_letters_that_no_font_has_are_named_with_a_package(text, letters, package):
    missing = fonts.missing(text, FONTS)
    assert set(missing) == set(letters)
    if package:
        assert fonts.advice(missing) == package


def test_where_fonts_cannot_be_asked_none_is_missing():
    assert fonts.missing("丁", None) == ""


def test_linux_without_fc_list_is_one_sentence(monkeypatch):
    monkeypatch.setattr(fonts.shutil, "which", lambda name: None)
    monkeypatch.setattr(fonts.sys, "platform", "linux")
    with pytest.raises(ValueError, match="apt-get install fontconfig"):
        fonts.installed.__wrapped__()
