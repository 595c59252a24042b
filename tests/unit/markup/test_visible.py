"""What a reader of the rendered page sees."""

import pytest

from olmrl.markup.visible import TAG, see, unhidden

UNSEEN = {
    "comment": "<!-- gone -->",
    "empty comment": "<!-->",
    "processing instruction": "<?gone gone?>",
    "declaration": "<!gone>",
    "CDATA": "<![CDATA[ gone <b> ]]>",
    "script": "<script>if (1 < 2) gone</script>",
    "style": "<STYLE>gone</STYLE>",
    "template": "<template><p>gone</p></template>",
    "closed details": "<details><summary>gone</summary>gone</details>",
    "display": '<div style="color: red; display : none">gone <div>gone</div></div>',
    "visibility": "<span style=visibility:hidden>gone</span>",
    "no size": '<span style="font-size:0px">gone</span>',
    "hardly a size": '<span style="font-size: 0.01em">gone</span>',
    "one pixel": '<span style="font-size: 1px">gone</span>',
    "opacity": '<span style="opacity:.0">gone</span>',
    "white": '<font color="#FFFFFF">gone</font>',
    "nearly white": '<span style="color:rgb(250,251,252)">gone</span>',
    "no alpha": '<span style="color:rgba(0,0,0,0)">gone</span>',
    "moved": '<p style="position:absolute; left:-5000px">gone</p>',
    "clipped": '<p style="clip-path: inset(100%)">gone</p>',
    "style with a comment": '<p style="dis/* */play:none">gone</p>',
    "style with entities": '<p style="display&#58;none">gone</p>',
    "hidden": "<p hidden>gone</p>",
    "never closed": "",
    "image": "![gone](gone.png)",
    "image by reference": "![gone][gone]",
    "zero width": "\u200b\u200c\u2060\ufeff\u00ad\u202e\U000e0047\ue000\u3164",
    "entities": "&#8203;&shy;&zwj;",
    "phantom": r"\phantom{gone {gone}}",
    "white command": r"\textcolor{white}{gone}",
}


@pytest.mark.parametrize("name", UNSEEN)
def test_what_is_hidden_is_not_seen(name):
    seen = see(f"before {UNSEEN[name]}after")
    assert "gone" not in seen.text
    assert seen.text.startswith("before ")
    assert seen.text.endswith("after")
    assert (seen.hidden > 0) == (name not in ("empty comment", "never closed"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a <!-- never closed", "a "),
        ('<td colspan="2" title="gone > gone">x</td>', '<td colspan="2">x</td>'),
        ("[shown](http://gone 'gone')", "[shown]"),
        ("[id]: http://gone 'gone'\nshown", "\nshown"),
        ("a\n   [id]: http://gone\nshown", "a\n\nshown"),
        ("a\n    [id]: http://gone\nb", "a\n    [id]: http://gone\nb"),
        ("a [id]: http://gone\nb", "a [id]: http://gone\nb"),
        ("a\n > ~~~ x\n<!-- shown -->\n~~~\n<!-- gone -->b", "a\n > ~~~ x\n<!-- shown -->\n~~~\nb"),
        ("a ~~~\n<!-- gone -->\n~~~", "a ~~~\n\n~~~"),
        ("<?gone\n> ~~~\n<!-- gone -->\n", " ~~~\n\n"),
        (r"\<!-- shown -->", r"\<!-- shown -->"),
        ("[Speaker]: hello there", "[Speaker]: hello there"),
        ("text\n\n[^1]: a note without its mark", "text\n\n[^1]: a note without its mark"),
        ("a < b and x<y, a<3", "a < b and x<y, a<3"),
        ("<name> and <a@b.c>", "<name> and <a@b.c>"),
        ('<name x="gone">kept</name>', "kept"),
        ("<details open>shown</details>", "shown"),
        ('<span style="color:#333; text-align:left">x</span>', "<span>x</span>"),
        (r"\(a % gone" + "\n" + r"b\)", r"\(a " + "\n" + r"b\)"),
        (r"\(50\% a\)", r"\(50\% a\)"),
        (r"x \(\color{white} gone\) y", "x  y"),
        (r"\(\color{red} x\)", r"\(\color{red} x\)"),
        (r"\(\left. \frac{a}{b} \right|\)", r"\(\left. \frac{a}{b} \right|\)"),
        (r"\(\mathchoice{a}{b}{c}{d}\)", r"\( {a}{b}{c}{d}\)"),
        (r"\(x \TextOrMath{a}{b}, \@secondoftwo{a}{b}\)", r"\(x  {a}{b},  {a}{b}\)"),
        ("&amp; &lt;b&gt; &eacute; &#65;", "&amp; &lt;b&gt; \u00e9 A"),
    ],
)
def test_what_stays(text, shown):
    assert see(text).text == shown


def test_joiners_stay_where_a_script_needs_them():
    persian = "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    assert unhidden(persian) == persian
    assert unhidden("a\u200cb") == "ab"


@pytest.mark.parametrize(
    "piece",
    [
        *("<a ", "<!--", "![", "](", "\\(", "$$", "<div hidden>", '<a b="', "<a '", "</div "),
        *("\\color{", "\\textcolor{white}{", "\\phantom{", "\\def\\a{", "\\newcommand{", "{"),
        *("`", "` `` ", "a``b```c\n\n", "~~~\n", "```\n", "> ~~~ a\n", "\n> ", "<![CDATA[", "<?a"),
        *("][a]", "](http:", "](http:(", "](a.png ", "[a]: http:(", "\n[a]: x.org", "[", "&#"),
        *(
            "<b style='color:white'>",
            "<x y='1'>",
            "</x>",
            "<td aaaa bbbb ",
            "margin:-",
            "<p a=b c>",
        ),
    ],
)
@pytest.mark.parametrize("frame", ["{}", "\\({}\\)", "{}>", "<p style='{}'>x</p>", "[x](http:{})"])
def test_repeated_marks_cost_linear_time(piece, frame):
    see(frame.replace("{}", piece * (200_000 // len(piece))))


@pytest.mark.parametrize(
    ("text", "shown", "tags"),
    [
        ("<td words>x</td>", "<td words>x</td>", ["</td>"]),
        ("<td rowspan=words>x</td>", "<td rowspan=words>x</td>", ["</td>"]),
        ("<td rowspan=999999999>x", "<td rowspan=999999999>x", []),
        ("<td rowspan=''>x", "<td>x", ["<td>"]),
        (
            "<TD RowSpan = 2 data-x='gone' colspan='3'>x</TD >",
            '<td rowspan="2" colspan="3">x</td>',
            ['<td rowspan="2" colspan="3">', "</td>"],
        ),
        ("<p class=gone>x<br/>y<hr />", "<p>x<br>y<hr>", ["<p>", "<br>", "<hr>"]),
        ("<<!-- -->td a='b'>x", "<td a='b'>x", []),
        ("<nav><a href='gone'>x</a><abbr title='gone'>y</abbr></nav>", "xy", []),
        ("<x-y z='gone'>x</x-y> and <x-y>", "x and <x-y>", []),
        ("`<td a='b'>` and <b and c> d", "`<td a='b'>` and <b and c> d", []),
        ("<td x='1' and words>", "<td x='1' and words>", []),
    ],
)
def test_tags_are_of_one_form_and_all_else_is_text(text, shown, tags):
    assert see(text).text == shown
    assert TAG.findall(shown) == tags


@pytest.mark.parametrize(
    "style",
    [
        *("height:0;overflow:hidden", "max-width: 1px; overflow-x : clip", "font:0/0 a"),
        *("margin-left:-9999px", "margin:0 0 0 -200em", "text-indent:-999px", "left:99999px"),
        *("transform:scale(0)", "transform: translateX(-9999px)", "translate:-9999px", "scale:0"),
        *("opacity: 5%", "zoom:.01", "font: bold 1px Arial", "font-size:0!important"),
        *("color:#036;background:#036", "color:white;background:white", "color:#fff0"),
        *("color:rgba(0,0,0,0);background:#000", "-webkit-text-fill-color:transparent"),
        *("background:#fff;color:#fefefe", "position:fixed", "filter:blur(9px)", "DISPLAY:None"),
    ],
)
def test_styles_that_hide(style):
    assert see(f'a <p style="{style}">gone</p>').text == "a "


def test_what_never_closes_hides_nothing():
    text = "<p hidden>a <details>b <span style='display:none'>c <div hidden>gone</div> d"
    assert see(text).text == "<p>a <details>b <span>c  d"


@pytest.mark.parametrize("piece", ["/*", "color:rgb(0", "scale(", "0", ";", "-1px "])
def test_long_styles_cost_linear_time(piece):
    see(f"<p style='{piece * (200_000 // len(piece))}'>x</p>")
