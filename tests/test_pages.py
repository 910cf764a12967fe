"""What is made for readers is current, its links lead somewhere, its code runs, and its numbers are those of the tables."""
import contextlib
import io
import re
import subprocess
from collections import Counter

import numpy as np
import pytest
import torch
from project import ROOT
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.model_selection import cross_validate

from dir_nb.compendium.collect import read_csv
from dir_nb.compendium.contents import contents_markdown, contents_rows, notebook_cells
from dir_nb.compendium.links import index_cell, links_cell, page_links, reading_order
from dir_nb.compendium.readme import effect, figure_lines, fill_blocks, method_table, readme_markdown

LEAVES = reading_order(ROOT)
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [*(ROOT / leaf.path for leaf in LEAVES), ROOT / "README.md", ROOT / "CONTENTS.md", *DOCS]
name = lambda p: p.relative_to(ROOT).as_posix()  # noqa: E731


@pytest.fixture(scope="module")
def published():
    """Files of the repository and their folders, as a code host shows them."""
    out = subprocess.run(["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    files = [ROOT / line for line in out.splitlines()]
    return {p for f in files if f.exists() for p in (f, *f.parents)}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_to_published_files(page, published):
    lost = [link for link in page_links(page) if (page.parent / link).resolve() not in published]
    assert not lost, f"{name(page)} links to what the repository does not have: {lost}"


def test_pages_have_links():
    """A check that finds no links checks nothing."""
    found = {name(p): len(page_links(p)) for p in PAGES}
    assert found["README.md"] > 60 and found["nbs/index.ipynb"] > 150, found
    assert not [page for page, n in found.items() if page.endswith(".ipynb") and not n]


@pytest.mark.parametrize("at", range(len(LEAVES)), ids=lambda i: LEAVES[i].path)
def test_every_notebook_ends_with_its_links(at):
    tagged = [(c["source"], c is cells[-1]) for cells in [notebook_cells(ROOT / LEAVES[at].path)] for c in cells if "links" in c["metadata"].get("tags", [])]
    assert tagged == [(links_cell(LEAVES, at), True)], "run `make contents`"


def test_the_index_has_a_line_for_every_notebook():
    listed = [c["source"] for c in notebook_cells(ROOT / "nbs/index.ipynb") if "contents" in c["metadata"].get("tags", [])]
    assert listed == [index_cell(LEAVES)], "run `make contents`"
    found = Counter(re.findall(r"^- \[.+?\]\((.+?\.ipynb)\): \S", listed[0], re.M))
    there = {p.relative_to(ROOT / "nbs").as_posix() for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts}
    assert found == Counter(there - {"index.ipynb"}), "each once, with a title and a line on what it is about"


def test_contents_are_current():
    assert (ROOT / "CONTENTS.md").read_text() == contents_markdown(ROOT), "run `make contents`"


def test_contents_name_a_source():
    rows = contents_rows(ROOT)
    assert all(len(found) > 2 for found in rows.values())
    lacking = [r.names for section in ("Losses", "Parts", "Methods", "Data sets", "Models") for r in rows[section] if not r.source]
    assert not lacking, f"say in the docstring where these are from: {lacking}"


def test_readme_is_the_index():
    text = (ROOT / "README.md").read_text()
    assert text == readme_markdown(ROOT / "nbs/index.ipynb"), "run `make contents`"
    assert len(text.split()) <= 1000


def test_readme_has_the_numbers_as_they_stand():
    text = (ROOT / "README.md").read_text()
    assert method_table(ROOT) in text and figure_lines(ROOT) in text
    source = "".join(c["source"] for c in notebook_cells(ROOT / "nbs/index.ipynb"))
    ledger = read_csv(ROOT / "figures" / "table_claims.csv")
    claims = [words for words in ledger.claim if f'"{words}"' in source]
    assert len(claims) >= 7
    for words in claims: assert effect(words, ROOT) in text, words


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_docs_are_current(page):
    assert page.read_text() == fill_blocks(page, ROOT), "run `make contents`"


def test_readme_code_prints_what_it_says():
    text = (ROOT / "README.md").read_text()
    (code, said), = re.findall(r"```python\n(.*?)```\n\n```\n(.*?)```", text, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 12
    torch.manual_seed(0)
    with contextlib.redirect_stdout(io.StringIO()) as out: exec(code, {})
    few = [int(n) for n in re.findall(r"'few': (\d+)", out.getvalue())]
    assert few == [int(n) for n in re.findall(r"'few': (\d+)", said)] and few[1] < few[0]


@pytest.mark.parametrize("page", [p for p in DOCS if "```python" in p.read_text()], ids=name)
def test_docs_code_runs(page):
    """The Python of a page, one block after the other, with random ages and a small model."""
    model = torch.nn.Module()
    model.head = torch.nn.Linear(512, 1)
    age, x = torch.randint(0, 101, (32,)).float(), torch.randn(32, 512)
    model.forward, model.encode = lambda x: (model.head(x), x), lambda x: x
    ages = torch.randint(0, 101, (500,)).float()
    names = {"torch": torch, "train_ages": ages, "age": age, "x": x, "feat": x, "pred": model.head(x), "model": model, "loader": [(x, age)],
             "train_predictions": ages + torch.randn(500), "predictions": age + torch.randn(32)}
    names |= {"np": np, "cross_validate": cross_validate, "HistGradientBoostingRegressor": HistGradientBoostingRegressor,
              "TransformedTargetRegressor": TransformedTargetRegressor}
    table = np.random.default_rng(0).normal(size=(300, 4))
    rows = {"X": table, "y": np.round(30 + 8 * np.exp(table[:, 0].clip(-2, 2))), "X_new": table[:5]}
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(), re.S)
    for block in blocks:
        names.pop("loss", None)
        if "DIRRegressor" in block: names |= rows # `y` was a batch's before
        exec(block, names)
        if "loss = " in block: assert names["loss"].isfinite() and names["loss"].requires_grad
        if "shown = " in block: assert names["shown"].flatten().isfinite().sum() == 32
    if page.name == "your_own_data.md":
        assert len(blocks) >= 7 and (names["shown"] - age).abs().mean() < 2
