"""The front matter's edge table (docs/formats.md#front-matter) and its bounds."""

import pytest

from olmrl.markup import front_matter
from olmrl.markup.front_matter import PageResponse, parse, split, strip

GOOD = {
    "primary_language": "en",
    "is_rotation_valid": "True",
    "rotation_correction": "0",
    "is_table": "False",
    "is_diagram": "False",
}


def page(body="\nbody", **changes):
    head = {**GOOD, **changes}
    return "---\n" + "".join(f"{k}: {v}\n" for k, v in head.items()) + "---" + body


@pytest.mark.parametrize(
    ("written", "default", "compat"),
    [
        ("en", "en", "en"),
        ("null", None, None),
        ("~", None, None),
        ("", None, None),
        ("None", None, "None"),
        ("none", None, "none"),
        ('"null"', None, "null"),
        ("no", "no", None),
        ('"no"', "no", "no"),
        ("yes", None, None),
        ("off", None, None),
        ("0", None, None),
    ],
)
def test_language(written, default, compat):
    text = page(primary_language=written)
    assert parse(text).primary_language == default
    assert parse(text, compat=True).primary_language == compat


@pytest.mark.parametrize("written", ["12", "[en]", "2024-01-01", "2024-13-45"])
def test_language_of_another_kind_is_refused(written):
    with pytest.raises(ValueError):
        parse(page(primary_language=written))


@pytest.mark.parametrize(
    ("written", "value"),
    [("true", True), ("yes", True), ('"yes"', False), ('"TRUE"', True), ("no", False)],
)
def test_bool(written, value):
    assert parse(page(is_table=written)).is_table is value


@pytest.mark.parametrize("written", ["1", "null", "0.0", "[true]"])
def test_bool_of_another_kind_is_refused(written):
    with pytest.raises(ValueError, match="is_table"):
        parse(page(is_table=written))


@pytest.mark.parametrize(("written", "value"), [('"90"', 90), ("270", 270), ("False", 0)])
def test_rotation(written, value):
    rotation = parse(page(rotation_correction=written)).rotation_correction
    assert rotation == value
    assert type(rotation) is int


@pytest.mark.parametrize("written", ["-90", "45", "0.0", "90 degrees", "True", "[0]", "null"])
def test_rotation_outside_the_four_is_refused(written):
    with pytest.raises(ValueError, match="rotation_correction"):
        parse(page(rotation_correction=written))


def test_construction_checks_rotation_before_types():
    with pytest.raises(ValueError):
        PageResponse(12, True, 45, False, False, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        PageResponse("en", True, 0.0, False, False, None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        PageResponse("en", 1, 0, False, False, None)  # type: ignore[arg-type]


def test_keys():
    assert parse(page().replace("is_table: False", "is_table: False\nis_table: True")).is_table
    with pytest.raises(ValueError, match="natural_text"):
        parse(page(natural_text="x"))
    with pytest.raises(ValueError, match="is_diagram"):
        parse(page().replace("is_diagram: False\n", ""))


@pytest.mark.parametrize(
    ("after_close", "text"),
    [("\nbody", "body"), ("-\nbody", "-\nbody"), ("x", "x"), ("", None), ("\n\n  \n", None)],
)
def test_what_follows_the_closing_mark_is_the_body(after_close, text):
    assert parse(page(body=after_close)).natural_text == text


def test_dashes_in_the_body_are_harmless():
    assert parse(page(body="\na\n---\nb")).natural_text == "a\n---\nb"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no head",
        "---\n---\nbody",
        "---\n\n---\nbody",
        "---\njust words\n---\nbody",
        "---\n- a\n- b\n---\nbody",
        "---\nprimary_language: en\nbody without a close",
        "\ufeff" + page(),
        " " + page(),
        "\n" + page(),
        page().replace("\n", "\r\n"),
        "---\na: [\n---\nbody",
    ],
)
def test_no_usable_head(text):
    with pytest.raises(ValueError):
        parse(text)
    assert strip(text) == text


def test_split_and_strip():
    assert split(page()) == (
        {
            "primary_language": "en",
            "is_rotation_valid": True,
            "rotation_correction": 0,
            "is_table": False,
            "is_diagram": False,
        },
        "body",
    )
    assert strip(page()) == "body"
    assert split("  plain \n") == ({}, "plain")
    assert strip("---\nNote: a rule above\n---\nrest") == "---\nNote: a rule above\n---\nrest"


def test_split_result_is_the_callers_own():
    head, _ = split(page())
    head.clear()
    assert split(page())[0]["primary_language"] == "en"


@pytest.mark.parametrize("language", ["en", None, "no", "a: b", "12", "true", "zh-Hans"])
@pytest.mark.parametrize("text", ["Body\n\ntext", None])
def test_format_reads_back(language, text):
    response = PageResponse(language, False, 90, True, False, text)
    assert parse(front_matter.format(response)) == response


def test_format_is_canonical():
    blank = PageResponse(None, True, 0, False, False, None)
    head = (
        "---\nprimary_language: null\nis_rotation_valid: True\nrotation_correction: 0\n"
        "is_table: False\nis_diagram: False\n---"
    )
    assert front_matter.format(blank) == head
    assert "primary_language: None\n" in front_matter.format(blank, null="None")


BOMB = "a: &a [x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    "head",
    [
        BOMB,
        "primary_language: " + "[" * 4000,
        "primary_language: " + "x" * 10_000_000,
        "is_table: !!python/object/apply:os.getcwd []",
        "is_table: !!int ''",
        "is_table: !!bool maybe",
        "is_table: \x00",
        "is_table: 0b_",
        "is_table: 1" + ":1" * 400 + ".5",
        "is_table: !!timestamp x",
    ],
)
def test_hostile_heads_are_refused(head):
    text = f"---\n{head}\n---\nbody"
    assert split(text)[0] == {}
    with pytest.raises(ValueError):
        parse(text)


@pytest.mark.parametrize(
    ("text", "language"),
    [("# Title\n\nWords.\n", "en"), ("제1조(목적) 이 규정은", "ko"), ("Über die Straße", "en")],
)
def test_plain_markdown_stands_for_an_upright_page(text, language):
    assert front_matter.is_plain(text)
    page = front_matter.of_reference(text)
    assert page == front_matter.PageResponse(language, True, 0, False, False, text.strip())
    assert front_matter.of_reference(text, "de").primary_language in ("de", "ko")


@pytest.mark.parametrize(
    "text", ["", " \n", "---\nprimary_language: en\nA page.", " ---\na: b\n---\n"]
)
def test_what_begins_a_head_or_says_nothing_is_not_plain(text):
    assert not front_matter.is_plain(text)
    with pytest.raises(ValueError, match="front matter"):
        front_matter.of_reference(text)


def test_a_whole_transcription_is_read_as_ever():
    text = front_matter.format(front_matter.PageResponse("fr", False, 90, True, False, "Un."))
    assert front_matter.of_reference(text) == front_matter.parse(text)
