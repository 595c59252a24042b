"""Variants of finished pages: damage that rubs text out is noticed, and tests follow."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from reportlab.pdfgen.canvas import Canvas

from olmrl.bench import load_case, load_folder
from olmrl.data.page import scan_bench
from olmrl.data.render import render_page
from olmrl.markup import front_matter
from olmrl.synth.derived.bench_rows import BenchRows, renamed
from olmrl.synth.derived.folder import derive_folder
from olmrl.synth.proof.ink import MOST_LOST, DamagedLayer
from olmrl.synth.proof.layer import TextLayer
from olmrl.synth.proof.objections import test_objection as objection
from olmrl.synth.variants.kinds import gets, parse_variants
from olmrl.synth.variants.picture_pdf import picture_pdf, turned_pdf
from olmrl.synth.variants.pictured import add_variants
from olmrl.synth.variants.scan import scan

HEAD = (
    "---\nprimary_language: en\nis_rotation_valid: True\nrotation_correction: 0\n"
    "is_table: False\nis_diagram: False\n---\n"
)
LINES = [
    "The survey covered forty lakes above the tree line in summer.",
    "Water was sampled twice every year by a team of seven people.",
    "Phosphorus remained below the limit in nearly all samples.",
    "Conditions prevailed everywhere that nobody had expected.",
    "Later visits confirmed what the first expedition reported.",
]


def write_page(folder, name="lakes", small=False):
    folder.mkdir(parents=True, exist_ok=True)
    canvas = Canvas(str(folder / f"{name}.pdf"), pagesize=(420, 595), invariant=1)
    canvas.setFont("Helvetica", 4 if small else 12)
    for number, line in enumerate(LINES):
        canvas.drawString(40, 520 - 30 * number, line)
    canvas.save()
    (folder / f"{name}.md").write_text(HEAD + "\n\n".join(LINES))
    return str(folder / f"{name}.pdf")


@pytest.fixture(scope="module")
def layer(tmp_path_factory):
    return TextLayer.of(write_page(tmp_path_factory.mktemp("page")))


def picture(layer):
    return Image.fromarray(layer.grey).convert("RGB")


def test_a_clean_picture_loses_nothing(layer):
    assert DamagedLayer.over(layer, np.asarray(picture(layer))).lost == 0
    small = picture(layer).resize((layer.grey.shape[1] // 2, layer.grey.shape[0] // 2))
    assert DamagedLayer.over(layer, np.asarray(small)).lost < MOST_LOST


def blot(image, box):
    ImageDraw.Draw(image).rectangle(box, fill=(20, 20, 20))


def rub_out(image, box):
    ImageDraw.Draw(image).rectangle(box, fill=(250, 250, 250))


def fade(image, box):
    part = np.asarray(image.crop(box), np.float32)
    image.paste(Image.fromarray((255 - (255 - part) * 0.1).astype(np.uint8)), box)


def smear(image, box):
    part = image.crop(box)
    image.paste(part.resize((4, 4)).resize(part.size), box)


def overprint(image, box):
    part = np.asarray(image.crop(box))
    other = np.minimum(part[:, ::-1], part[::-1])
    image.paste(Image.fromarray(np.minimum(part, np.roll(other, 7, axis=1))), box)


def replace_by_noise(image, box):
    size = (box[3] - box[1], box[2] - box[0], 3)
    noise = np.random.default_rng(0).integers(0, 255, size, np.uint8)
    image.paste(Image.fromarray(noise), box)


@pytest.mark.parametrize("harm", [blot, rub_out, fade, smear, overprint, replace_by_noise])
def test_a_word_that_was_rubbed_out_is_noticed_and_the_others_are_not(layer, harm):
    place = next(layer.places("Phosphorus"))
    box = layer.box(place)
    scale = layer.grey.shape[0] / layer.height
    area = (
        int(box.left * scale) - 2,
        int((layer.height - box.top) * scale) - 2,
        int(box.right * scale) + 2,
        int((layer.height - box.bottom) * scale) + 2,
    )
    image = picture(layer)
    harm(image, area)
    damaged = DamagedLayer.over(layer, np.asarray(image))
    assert "cannot be seen" in objection(damaged, {"type": "present", "text": "Phosphorus"})
    assert objection(damaged, {"type": "present", "text": "expedition reported"}) == ""
    assert 0 < damaged.lost < 0.1


def test_scans_differ_by_seed_and_keep_the_text(layer):
    page = np.asarray(picture(layer).resize((565, 800)))
    made = [scan(page, page, 97, np.random.default_rng(seed), 0.8) for seed in range(5)]
    assert len({one.jpeg for one in made}) == 5
    assert made[3].jpeg == scan(page, page, 97, np.random.default_rng(3), 0.8).jpeg
    assert len({effect for one in made for effect in one.effects}) > 7
    lost = []
    for one in made:
        pixels = np.asarray(Image.open(io.BytesIO(one.jpeg)))
        assert pixels.shape[:2] == page.shape[:2]
        lost.append(DamagedLayer.over(layer, pixels, one.back).lost)
    assert sum(share <= MOST_LOST for share in lost) >= 4


def test_a_picture_becomes_a_page_of_the_same_size(tmp_path, layer):
    pixels = np.asarray(picture(layer))
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=95)
    path = tmp_path / "picture.pdf"
    path.write_bytes(picture_pdf(out.getvalue(), layer.width, layer.height))
    again = TextLayer.of(str(path))
    assert (again.width, again.height, again.letters) == (layer.width, layer.height, "")
    assert np.abs(again.grey.astype(int) - layer.grey).mean() < 1


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_a_turned_page_is_turned_clockwise(tmp_path, clockwise):
    source = Path(write_page(tmp_path))
    (tmp_path / "turned.pdf").write_bytes(turned_pdf(source.read_bytes(), clockwise))
    upright = render_page(str(source), 1, 800)
    turned = render_page(str(tmp_path / "turned.pdf"), 1, 800)
    back = np.rot90(turned, clockwise // 90)  # counter-clockwise, as front matter counts
    assert np.abs(back.astype(int) - upright).mean() < 5


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench")
    write_page(folder / "in", "lakes")
    write_page(folder / "in", "tiny", small=True)
    derive_folder(str(folder / "in"), str(folder / "out"), prove=True)
    return folder / "out"


def with_variants(bench, folder, text, workers=1, seed=0):
    shutil.copytree(bench, folder)
    rows = BenchRows(folder)
    sources = rows.pages()
    made = list(add_variants(rows, parse_variants(text), seed, workers, sources))
    rows.write()
    return made


def test_variants_are_pages_of_the_same_folder_with_tests_that_hold(bench, tmp_path):
    made = with_variants(bench, tmp_path / "out", "scan,rotate,dpi")
    by_name = {variant.page.name: variant for variant in made if variant.page}
    assert {"lakes-scan", "lakes-rotate", "lakes-dpi"} <= set(by_name)
    folder = load_folder(tmp_path / "out")
    ids = [case.id for case in folder.cases]
    assert len(ids) == len(set(ids))
    files = {page.pdf: set(page.files) for page in folder.pages}
    assert "old_scans.jsonl" in files["pages/lakes-scan.pdf"]
    assert files["pages/lakes-rotate.pdf"] == files["pages/lakes.pdf"]
    for page in scan_bench(str(tmp_path / "out")):
        truth = Path(page.reference_path).read_text()
        head = front_matter.parse(truth)
        for row in page.tests:
            assert load_case(row).run(truth).passed
        turned = page.pdf_path.endswith("-rotate.pdf")
        assert head.is_rotation_valid != turned
        clockwise = by_name[Path(page.pdf_path).stem].facts["clockwise"] if turned else 0
        assert head.rotation_correction == clockwise
        assert front_matter.strip(truth) == "\n\n".join(LINES)
    assert TextLayer.of(str(tmp_path / "out/pdfs/pages/lakes-scan.pdf")).letters == ""


def test_type_too_small_for_a_picture_gives_none_or_more_dots(bench, tmp_path):
    for seed in range(2):
        made = with_variants(bench, tmp_path / f"{seed}", "dpi", seed=seed)
        tiny = next(variant for variant in made if variant.source == "tiny")
        assert tiny.page is None or tiny.facts["dpi"] >= 200


def test_the_same_seed_makes_the_same_variants_by_any_number_of_processes(bench, tmp_path):
    for name, workers, seed in (("a", 1, 0), ("b", 2, 0), ("c", 1, 1)):
        with_variants(bench, tmp_path / name, "scan", workers, seed)

    def files(name):
        return [path.read_bytes() for path in sorted((tmp_path / name).rglob("*-scan.pdf"))]

    assert files("a") == files("b") != files("c")


def test_ids_and_paths_follow_the_name(bench):
    page = BenchRows(bench).pages()[0]
    scanned = renamed(page, "scan")
    assert scanned.pdf == "pages/lakes-scan.pdf" and scanned.name == "lakes-scan"
    for (_, before), (_, after) in zip(page.tests, scanned.tests, strict=True):
        assert after["id"] == before["id"].replace("pages_lakes_", "pages_lakes-scan_")
        assert {k: v for k, v in after.items() if k not in ("id", "pdf")} == {
            k: v for k, v in before.items() if k not in ("id", "pdf")
        }


def test_pages_and_tests_can_be_dropped(bench, tmp_path):
    folder = tmp_path / "out"
    shutil.copytree(bench, folder)
    rows = BenchRows(folder)
    rows.keep(lambda row: row["pdf"] == "pages/lakes.pdf" and row["type"] == "present")
    rows.write()
    assert [path.name for path in sorted(folder.glob("*.jsonl"))] == ["text_present.jsonl"]
    assert [path.name for path in folder.rglob("*.pdf")] == ["lakes.pdf"]
    assert len(list(folder.rglob("*.md"))) == 1
    assert all(
        json.loads(line)["type"] == "present" for line in (folder / "text_present.jsonl").open()
    )


def test_a_share_is_a_share_of_the_pages():
    shares = parse_variants("scan=0.25, rotate")
    assert shares == {"rotate": 1.0, "scan": 0.25}
    got = [gets(shares, "scan", f"page {n}", 7) for n in range(2000)]
    assert 400 < sum(got) < 600
    assert all(gets(shares, "rotate", f"page {n}", 7) for n in range(50))
    assert not any(gets(shares, "dpi", f"page {n}", 7) for n in range(50))
    assert got != [gets(shares, "scan", f"page {n}", 8) for n in range(2000)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scann", "'scann' is unknown here, allowed: density"),
        ("scan=2", "(0, 1]"),
        ("scan=x", "KIND=SHARE"),
    ],
)
def test_bad_variants_are_one_sentence(text, words):
    with pytest.raises(ValueError) as error:
        parse_variants(text)
    assert words in str(error.value)
    assert "\n" not in str(error.value)
