from __future__ import annotations

import json
import pickle
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_pdfs import write_pdf
from PIL import Image

from olmrl.config.registered import STEPS
from olmrl.data.encode import Encoder, EncoderSpec
from olmrl.data.encoded import IGNORED
from olmrl.data.page import PageSource
from olmrl.data.render import BadPage
from olmrl.data.steps import Dropped, Sample, StepContext, build_pipeline
from olmrl.markup.front_matter import PageResponse

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
PUBLISHED = [
    {"name": "FrontMatterParser", "front_matter_class": "PageResponse"},
    {"name": "FilterOutRotatedDocuments"},
    {"name": "ReformatLatexBoldItalic"},
    {"name": "DatasetTextRuleFilter"},
    {"name": "PDFRenderer", "target_longest_image_dim": 112},
    {"name": "RotationAugmentation", "probability": 0.02},
    {"name": "Prompt", "prompt": "olmrl-v1"},
    {"name": "FrontMatterOutputFormat"},
    {"name": "InstructUserMessages", "prompt_first": True},
    {"name": "Tokenizer", "masking_index": -100, "end_of_message_token": "<|im_end|>"},
]


def truth(text: str | None, **changes) -> PageResponse:
    fields = {
        "primary_language": "en",
        "is_rotation_valid": True,
        "rotation_correction": 0,
        "is_table": False,
        "is_diagram": False,
        "natural_text": text,
    }
    return PageResponse(**{**fields, **changes})


def sample(text: str | None = "words", **changes) -> Sample:
    return Sample(PageSource("a.pdf::1", "a.pdf", 1), truth=truth(text, **changes))


def run(name: str, given: Sample, seed: int = 0, encoder=None, **parameters) -> Sample | Dropped:
    (step,) = build_pipeline([{"name": name, **parameters}]).steps
    return step(given, StepContext(np.random.default_rng(seed), encoder))


def rewritten(name: str, text: str, **parameters) -> str:
    result = run(name, sample(text), **parameters)
    assert isinstance(result, Sample)
    return result.truth.natural_text


def pair(folder: Path, markdown: str, name: str = "a") -> PageSource:
    pdf = write_pdf(folder / f"{name}.pdf", size=(100, 200))
    (folder / f"{name}.md").write_text(markdown, "utf-8")
    return PageSource(f"{name}.pdf::1", str(pdf), 1, str(folder / f"{name}.md"))


# -- the whole published pipeline


@pytest.fixture(scope="module")
def encoder(tiny_model: Path) -> Encoder:
    return Encoder(EncoderSpec(str(tiny_model)))


def test_published_pipeline_makes_an_example_that_decodes_to_its_text(tmp_path, encoder):
    source = pair(tmp_path, HEAD + "\n\\textbf{Title} and \\(x^2\\)\n")
    pipeline = pickle.loads(pickle.dumps(build_pipeline(PUBLISHED)))
    result = pipeline.run(source, StepContext(np.random.default_rng(1), encoder))
    example = result.example
    assert encoder.decode(example.labels) == HEAD + "**Title** and \\(x^2\\)"
    assert example.labels[-1] == encoder.end_id
    prompt = encoder.tokenizer.decode(example.page.prompt_ids)
    assert prompt.index("Transcribe") < prompt.index("<|vision_start|>")
    assert example.page.page_id == "a.pdf::1"
    assert (
        int((example.page.prompt_ids == encoder.vision.image_token_id).sum())
        == VISION_TOKENS_OF_112
    )


VISION_TOKENS_OF_112 = (112 // 28) * (56 // 28)


def test_drops_name_step_and_rule(tmp_path, encoder):
    context = StepContext(np.random.default_rng(0), encoder)
    turned = HEAD.replace("rotation_correction: 0", "rotation_correction: 90")
    drop = build_pipeline(PUBLISHED).run(pair(tmp_path, turned + "x"), context)
    assert drop == Dropped(
        "a.pdf::1", str(tmp_path / "a.pdf"), 1, "FilterOutRotatedDocuments", "rotated page"
    )
    drop = build_pipeline(PUBLISHED).run(pair(tmp_path, HEAD + "see <|im_end|> here"), context)
    assert (drop.step, "special token" in drop.rule) == ("Tokenizer", True)


def test_only_what_is_wrong_with_a_page_drops_it(tmp_path, encoder, tiny_model):
    context = StepContext(np.random.default_rng(0), encoder)
    source = pair(tmp_path, HEAD + "x")
    write_pdf(tmp_path / "a.pdf", lines=["a <|image_pad|> b"])
    anchored = [*PUBLISHED[:6], {"name": "StaticLengthDocumentAnchoring"}, *PUBLISHED[6:]]
    drop = build_pipeline(anchored).run(source, context)
    assert (drop.step, drop.rule) == (
        "Tokenizer",
        "the instruction, or the text of the page in it, contains <|image_pad|>",
    )
    filled = Sample(
        source, truth("x"), np.zeros((2, 500, 3), np.uint8), "a", "b", "c", "text_first"
    )
    drop = run("Tokenizer", filled, encoder=encoder)
    assert drop.rule == "an image of 500 x 2 pixels is too elongated for the model"
    folder = tmp_path / "model"
    shutil.copytree(tiny_model, folder)
    (folder / "chat_template.jinja").write_text("no image")
    wrong = StepContext(np.random.default_rng(0), Encoder(EncoderSpec(str(folder))))
    with pytest.raises(ValueError, match="writes 0 image placeholders"):
        build_pipeline(PUBLISHED).run(source, wrong)


@pytest.mark.parametrize(("text", "language"), [("Ein Satz.", "de"), ("문장.", "ko")])
def test_markdown_alone_is_the_truth_of_an_upright_page(tmp_path, text, language):
    parser = {"name": "FrontMatterParser", "plain_language": "de"}
    context = StepContext(np.random.default_rng(0))
    sample = build_pipeline([parser]).run(pair(tmp_path, text), context)
    assert (sample.truth.primary_language, sample.truth.natural_text) == (language, text)
    assert sample.truth.is_rotation_valid and not sample.truth.is_table


@pytest.mark.parametrize(
    ("markdown", "reason"),
    [
        ("---\nno whole head", "front matter is missing"),
        (HEAD.replace("is_table: False\n", ""), "lacks the key 'is_table'"),
        (HEAD.replace("rotation_correction: 0", "rotation_correction: 45"), "45"),
    ],
)
def test_malformed_front_matter_is_a_bad_page_that_names_the_file(tmp_path, markdown, reason):
    source = pair(tmp_path, markdown)
    context = StepContext(np.random.default_rng(0))
    with pytest.raises(BadPage, match=r"a\.md") as caught:
        build_pipeline(PUBLISHED[:1]).run(source, context)
    assert reason in caught.value.reason


def check(*configs) -> None:
    build_pipeline(configs).check("set books, data.pipeline", ["example"])


def without(name: str) -> list[dict]:
    return [config for config in PUBLISHED if config["name"] != name]


def test_the_published_pipeline_lacks_nothing():
    check(*PUBLISHED)


@pytest.mark.parametrize(
    ("configs", "message"),
    [
        (without("Prompt"), "Tokenizer: no step before it sets the instruction (Prompt or "),
        (without("InstructUserMessages"), "sets the order (InstructUserMessages would)"),
        (without("FrontMatterOutputFormat"), "the response (JSONOutputFormat or FrontMatterOutput"),
        (without("PDFRenderer"), "RotationAugmentation: no step before it sets the image (PDFRend"),
        (
            without("FrontMatterParser"),
            "FilterOutRotatedDocuments: no step before it sets the trut",
        ),
        (without("Tokenizer"), "data.pipeline: no step sets the example (Tokenizer would)"),
        (
            [{"name": "NewYamlFinetuningPromptWithAnchoring"}],
            "the anchor_text (StaticLengthDocumentAnchoring would)",
        ),
    ],
)
def test_missing_pieces_of_a_pipeline_are_named(configs, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        check(*configs)
    assert str(caught.value).startswith("set books, data.pipeline")


def test_a_prompt_that_is_not_to_be_had_is_found_before_any_page(tmp_path):
    v4 = {"name": "NewYamlFinetuningPromptWithNoAnchoring"}
    (tmp_path / "v4.txt").write_text("not it")
    with pytest.raises(ValueError, match=r"data\.pipeline, NewYaml.*NoAnchoring: .*sha256"):
        check({**v4, "prompt": f"olmocr-v4:{tmp_path}/v4.txt"})
    with pytest.raises(ValueError, match=r"Prompt: .*cannot read it"):
        check({"name": "Prompt", "prompt": f"file:{tmp_path}/gone.txt"})
    try:
        import olmocr  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match="the olmocr package, which is not installed"):
            check(v4)
        with pytest.raises(ValueError, match=r"FinetuningPrompt: .*which is not installed"):
            check({"name": "StaticLengthDocumentAnchoring"}, {"name": "FinetuningPrompt"})


def test_evaluation_keeps_neither_filters_nor_augmentations():
    kept = [type(s).__name__ for s in build_pipeline(PUBLISHED).for_evaluation().steps]
    gone = {"FilterOutRotatedDocuments", "DatasetTextRuleFilter", "RotationAugmentation"}
    assert kept == [c["name"] for c in PUBLISHED if c["name"] not in gone]


def test_a_page_without_an_answer_can_still_be_asked(tmp_path, encoder):
    path = write_pdf(tmp_path / "a.pdf", size=(100, 120))
    source = PageSource("a.pdf::1", str(path), 1)
    asking = build_pipeline(PUBLISHED).for_evaluation().for_asking()
    sample = asking.run(source, StepContext(np.random.default_rng(0), encoder))
    assert sample.image is not None and sample.instruction and sample.order
    assert sample.response is None and sample.example is None


# -- configuration


def test_every_step_of_the_public_recipe_is_there():
    public = (
        "FrontMatterParser PDFRenderer StaticLengthDocumentAnchoring FinetuningPrompt "
        "NewYamlFinetuningPromptWithAnchoring NewYamlFinetuningPromptWithNoAnchoring "
        "JSONOutputFormat FrontMatterOutputFormat InstructUserMessages LatexBracketNormalizer "
        "ReformatLatexBoldItalic FilterOutRotatedDocuments DatasetTextRuleFilter "
        "TableTransformation RotationAugmentation AugraphyBasicAugmentations Tokenizer "
        "RandomTokenFlipper"
    )
    assert set(public.split()) <= set(STEPS.paths)


def test_disabled_steps_are_left_out_but_checked():
    assert build_pipeline([{"name": "PDFRenderer", "enabled": False}]).steps == ()
    with pytest.raises(ValueError, match="target_longest_image_dim"):
        build_pipeline(
            [{"name": "PDFRenderer", "enabled": False, "target_longest_image_dim": "big"}]
        )


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"name": "RotationAugmentatoin"}, "did you mean 'RotationAugmentation'"),
        ({"name": "Zzz"}, "allowed: FrontMatterParser"),
        ({}, "unknown step None"),
        ({"name": "PDFRenderer", "dim": 3}, r"unknown parameter 'dim' \(parameters: target_long"),
        ({"name": "JSONOutputFormat", "x": 3}, "it has none"),
        ({"name": "RotationAugmentation", "probability": 2}, "probability: .* got 2"),
        ({"name": "TableTransformation"}, "transformation: needs a value"),
        ({"name": "TableTransformation", "transformation": "x"}, "annotate_dims"),
        ({"name": "PDFRenderer", "enabled": "no"}, "enabled is 'no'"),
        ({"name": "Tokenizer", "masking_index": 0}, "masking_index"),
    ],
)
def test_wrong_steps_are_explained(config: dict, message: str):
    with pytest.raises(ValueError, match=message) as caught:
        build_pipeline([{"name": "FrontMatterParser"}, config], "data.pipeline")
    assert "data.pipeline, step 2" in str(caught.value)


# -- rewriting


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("a $$x\ny$$ b $z$ c", "a \\[x\ny\\] b \\(z\\) c"),
        ("no math", "no math"),
        ("one $ sign", "one $ sign"),
        ("$5 and $6, $z$", "$5 and $6, \\(z\\)"),
        ("\\$5 and `$HOME` $$z$$", "\\$5 and `$HOME` \\[z\\]"),
        ("\\(k\\) stays", "\\(k\\) stays"),
    ],
)
def test_latex_bracket_normalizer(before: str, after: str):
    assert rewritten("LatexBracketNormalizer", before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("\\textbf{a} b \\textit{c}", "**a** b *c*"),
        ("\\textbf{a {nested} b}", "**a {nested} b**"),
        ("\\textbf{a \\textit{b} c}", "**a *b* c**"),
        ("\\textit{a \\textbf{b}}", "*a **b***"),
        ("\\textbf{unbalanced", "\\textbf{unbalanced"),
        ("\\textbf{open \\textbf{closed}", "\\textbf{open **closed**"),
        ("\\(\\textbf{x}\\) \\textbf{y}", "\\(\\textbf{x}\\) **y**"),
        ("$$\\textit{x}$$ \\[\\textbf{z}\\]", "$$\\textit{x}$$ \\[\\textbf{z}\\]"),
        ("\\textbf{with \\(x\\) inside}", "**with \\(x\\) inside**"),
        ("\\textbf{brace \\} inside}", "**brace \\} inside**"),
    ],
)
def test_reformat_latex_bold_italic(before: str, after: str):
    assert rewritten("ReformatLatexBoldItalic", before) == after


@pytest.mark.parametrize("end", ["", "}" * 20_000])
def test_many_nested_commands_take_linear_time_and_no_recursion(end):
    found = rewritten("ReformatLatexBoldItalic", "\\textbf{" * 20_000 + "x" + end)
    assert found.count("**") == 2 * len(end)


TABLE = "<table><tr><th>A</th><th>B</th></tr><tr><td>1</td><td>2</td></tr></table>"


def test_table_dimensions():
    annotate = {"transformation": "annotate_dims"}
    wide = "<TABLE border='1'><tr><td colspan='3'>x</td></tr></TABLE>"
    assert rewritten("TableTransformation", f"a {TABLE} b {wide}", **annotate) == (
        'a <table data-totalrows="2" data-totalcols="2">'
        + TABLE.removeprefix("<table>")
        + """ b <TABLE border='1' data-totalrows="1" data-totalcols="3">"""
        + "<tr><td colspan='3'>x</td></tr></TABLE>"
    )
    done = '<table data-totalrows="9"><tr><td>x</td></tr></table>'
    assert rewritten("TableTransformation", done, **annotate) == done
    assert rewritten("TableTransformation", "<table></table> text", **annotate) == (
        "<table></table> text"
    )


def test_table_preview_shows_the_first_full_row():
    preview = {"transformation": "firstrowpreview"}
    long = "y" * 60
    table = (
        f"<table><tr><td colspan='2'>title</td></tr><tr><td>one</td><td>{long}</td></tr></table>"
    )
    assert rewritten("TableTransformation", table, **preview).startswith(
        f"<table><!-- Sample row (2): Column 1: one, Column 2: {'y' * 47}... --><tr>"
    )
    spanning = "<table><tr><td colspan='2'>t</td></tr></table>"
    assert rewritten("TableTransformation", spanning, **preview) == spanning


# -- filtering


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("| a | b |\n|---|---|\n| 1 | 2 |", "markdown table"),
        ("|---|---|\n| 1 | 2 |", "markdown table"),
        ("| a | b |\nno rule", None),
        ("a | b", None),
        ("<table><tr><td>x</td></tr>", "unbalanced HTML table"),
        ("<table><tr><td><b>x</td></tr></table>", "unbalanced HTML table"),
        ("<table><tr><td>x</i></td></tr></table>", "unbalanced HTML table"),
        ("<table><tr><td>a<td>b<br></tr></table>", None),
        (TABLE, None),
        ("\\(\\frac{a}{b}\\)", None),
        ("\\(\\frac{a}\\)", "formula that cannot be rendered"),
        ("$$ x_{ $$", "formula that cannot be rendered"),
        ("the set \u2208 of", "mathematical symbol outside a table"),
        ("<table><tr><td>\u2208</td></tr></table>", None),
        ("\\textit{x}", "LaTeX command outside a formula"),
        ("\\textbf{x}", None),
        ("$\\frac{a}{b}$", "LaTeX command outside a formula"),
        ("\\begin{tabular}", "LaTeX command outside a formula"),
        ("\\[\\begin{tabular}{c}x\\end{tabular}\\]", "formula that cannot be rendered"),
        (None, None),
        ("plain text", None),
    ],
)
def test_text_rules(text: str | None, rule: str | None):
    result = run("DatasetTextRuleFilter", sample(text))
    assert (result.rule if isinstance(result, Dropped) else None) == rule


def test_rotated_pages_are_filtered():
    upright = sample()
    assert run("FilterOutRotatedDocuments", upright) is upright
    for changes in ({"is_rotation_valid": False}, {"rotation_correction": 180}):
        assert isinstance(run("FilterOutRotatedDocuments", sample(**changes)), Dropped)


# -- augmentation


def test_rotation_label_undoes_the_rotation():
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    seen = set()
    for seed in range(20):
        given = replace(sample(), image=image)
        result = run("RotationAugmentation", given, seed, probability=1.0)
        assert not result.truth.is_rotation_valid
        seen.add(result.truth.rotation_correction)
        # PIL turns counter-clockwise, which is what the public inference applies
        undone = Image.fromarray(result.image).rotate(result.truth.rotation_correction, expand=True)
        np.testing.assert_array_equal(np.asarray(undone), image)
    assert seen == {90, 180, 270}


def test_rotation_probability_and_already_turned_pages():
    image = np.zeros((4, 6, 3), np.uint8)
    given = replace(sample(), image=image)
    turned = sum(
        run("RotationAugmentation", given, s, probability=0.3) is not given for s in range(400)
    )
    assert 80 < turned < 160
    lying = replace(sample(is_rotation_valid=False, rotation_correction=90), image=image)
    results = [run("RotationAugmentation", lying, s, probability=1.0).truth for s in range(20)]
    assert {(t.is_rotation_valid, t.rotation_correction) for t in results} == {
        (True, 0),
        (False, 180),
        (False, 270),
    }


def test_token_flipper_masks_what_it_changes(tmp_path, encoder):
    source = pair(tmp_path, HEAD + "word " * 200)
    context = StepContext(np.random.default_rng(3), encoder)
    clean = build_pipeline(PUBLISHED).run(source, context)
    flipped = run("RandomTokenFlipper", clean, 1, encoder, token_flip_rate=0.3).example
    hit = flipped.labels == IGNORED
    assert 0.15 < hit.mean() < 0.45
    np.testing.assert_array_equal(flipped.labels[~hit], clean.example.labels[~hit])
    np.testing.assert_array_equal(flipped.response_ids[~hit], clean.example.response_ids[~hit])
    assert (flipped.response_ids[hit] != clean.example.response_ids[hit]).mean() > 0.9
    assert not np.isin(flipped.response_ids[hit], encoder.tokenizer.all_special_ids).any()


def test_augraphy_without_its_package_says_what_to_install():
    try:
        import augraphy  # noqa: F401
    except ImportError:
        with pytest.raises(ValueError, match=r"AugraphyBasicAug.*: .*install olmrl\[augment\]"):
            check({"name": "PDFRenderer"}, {"name": "AugraphyBasicAugmentations"})
    else:
        pytest.skip("augraphy is installed here")


def test_augraphy_wears_pages_differently_reproducibly_and_legibly(tmp_path):
    pytest.importorskip("augraphy", reason="the augment extra is not installed")
    source = pair(tmp_path, HEAD + "words")
    clean = run("PDFRenderer", Sample(source), target_longest_image_dim=400)
    name = "AugraphyBasicAugmentations"
    worn = [run(name, clean, seed, probability=1.0).image for seed in range(30)]
    again = [run(name, clean, seed, probability=1.0).image for seed in range(30)]
    assert all(np.array_equal(one, other) for one, other in zip(worn, again, strict=True))
    assert len({image.tobytes() for image in worn}) > 20
    assert all(image.shape == clean.image.shape for image in worn)
    assert min(image.std() for image in worn) >= 0.5 * clean.image.std()


# -- asking and answering


def test_answers_in_both_formats():
    page = sample("caf\u00e9 text")
    assert run("FrontMatterOutputFormat", page).response == HEAD + "caf\u00e9 text"
    blank = run("FrontMatterOutputFormat", sample(None, primary_language=None)).response
    assert blank.startswith("---\nprimary_language: null\n")
    assert blank.endswith("\n---")
    record = json.loads(run("JSONOutputFormat", page).response)
    assert list(record)[-1] == "natural_text"
    assert record["natural_text"] == "caf\u00e9 text"
    assert "caf\u00e9" in run("JSONOutputFormat", page).response


def test_prompts_carry_anchor_text(tmp_path):
    source = pair(tmp_path, HEAD)
    anchored = run("StaticLengthDocumentAnchoring", Sample(source), target_anchor_text_len=500)
    assert anchored.anchor_text.startswith("Page dimensions: 100.0x200.0")
    asked = run("Prompt", anchored).instruction
    assert asked.startswith("Transcribe")
    assert "hello" in asked
    assert run("NewYamlFinetuningPromptWithAnchoring", anchored).instruction == asked
    untouched = Sample(source)
    assert run("NewYamlFinetuningPromptWithAnchoring", untouched) is untouched
    (tmp_path / "v4.txt").write_text("not it")
    with pytest.raises(ValueError, match="sha256"):
        run(
            "NewYamlFinetuningPromptWithNoAnchoring",
            untouched,
            prompt=f"olmocr-v4:{tmp_path}/v4.txt",
        )
