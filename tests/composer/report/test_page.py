"""The page of a run: well formed, whole without a network, the same bytes twice, and whatever a text holds, a text it stays."""

from __future__ import annotations

from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from composer.artifact import Artifact, Store
from composer.report import Record, page
from composer.report.evidence import drops, near, trained
from composer.report.sections import CHAPTERS
from tests.composer.report.made_up_run import ATTACKS, ROWS, made_up_run

VOID = {"meta", "br", "img", "link", "input", "hr"}
NAMES = ("law", ATTACKS[0], "code", ATTACKS[1], ATTACKS[2], ATTACKS[3])


class Node:
    """An element with its attributes, its children and its text."""

    def __init__(self, name: str, attributes: dict[str, str], parent: Node | None) -> None:
        self.name, self.attributes, self.parent = name, attributes, parent
        self.children: list[Node] = []
        self.words = ""

    def every(self, *names: str) -> list[Node]:
        """All elements below of these names."""
        return [found for child in self.children for found in ([child] if child.name in names else []) + child.every(*names)]

    @property
    def text(self) -> str:
        """All text below."""
        return self.words + "".join(child.text for child in self.children)


class Tree(HTMLParser):
    """A strict parser: an element that is closed out of turn, or never, is an error."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = self.here = Node("", {}, None)
        self.feed(content)
        self.close()
        assert self.here is self.root, f"never closed: {self.here.name}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute of {tag} stands twice"
        node = Node(tag, {name: value or "" for name, value in attrs}, self.here)
        self.here.children.append(node)
        self.here = self.here if tag in VOID else node

    def handle_endtag(self, tag: str) -> None:
        assert self.here.name == tag, f"{tag} closes {self.here.name}"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.words += data


def record(run: Artifact, store: Store) -> Record:
    told = run.json("run.json")
    found = [store.find(each["kind"], each["key"]) for each in told["artifacts"]]
    return Record(told["name"], run, tuple(each for each in found if each))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("page") / "store")


@pytest.fixture(scope="module")
def run(store: Store) -> Record:
    return record(made_up_run(store, NAMES, name=ATTACKS[0]), store)


@pytest.fixture(scope="module")
def other(store: Store) -> Record:
    return record(made_up_run(store, NAMES, name="other", seed=2), store)


@pytest.fixture(scope="module")
def at(store: Store) -> Path:
    (store.root / "reports").mkdir()
    return store.root / "reports" / "page.html"


@pytest.fixture(scope="module", params=["one", "two"])
def tree(request: pytest.FixtureRequest, run: Record, other: Record, at: Path) -> Node:
    """The page of one run, and that of two."""
    asked = {"specs": [{"step": ATTACKS[2], "field": "a", "a": ATTACKS[0], "b": None}], "sources": []}
    content = page([run], at=at) if request.param == "one" else page([run, other], at=at, differences=asked)
    return Tree(content).root


def test_it_has_every_section_once_and_a_link_to_each(tree: Node) -> None:
    sections = [each.attributes["id"] for each in tree.every("section")]
    assert [slug for slug in sections if slug != "compared"] == [chapter.slug for chapter in CHAPTERS]
    [nav] = tree.every("nav")
    assert [each.attributes["href"] for each in nav.every("a")] == ["#summary", *(f"#{slug}" for slug in sections)]


def test_names_of_elements_are_unique(tree: Node) -> None:
    every = [node.attributes["id"] for node in tree.every(*{n.name for n in _all(tree)}) if "id" in node.attributes]
    assert len(every) == len(set(every))


def _all(node: Node) -> list[Node]:
    return [found for child in node.children for found in [child, *_all(child)]]


def test_texts_of_data_stay_texts(tree: Node) -> None:
    assert {node.name for node in _all(tree)}.isdisjoint({"script", "img", "iframe", "object", "embed", "form", "base"})
    assert len(tree.every("style")) == 1
    assert len(tree.every("h1")) == 1
    assert not [name for node in _all(tree) for name in node.attributes if name.startswith("on")]
    for attack in ATTACKS:
        assert " ".join(attack.replace("\x00", "\ufffd").split()) in " ".join(tree.text.split()), attack
    [policy] = [each for each in tree.every("meta") if each.attributes.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy.attributes["content"]
    assert "script-src" not in policy.attributes["content"]


def test_nothing_is_fetched_and_every_link_leads_to_what_is_there(tree: Node, at: Path) -> None:
    for node in _all(tree):
        assert not {"src", "srcset", "data", "action", "poster"} & set(node.attributes)
        if "href" in node.attributes:
            assert node.name == "a"
            split = urlsplit(node.attributes["href"])
            assert (split.scheme, split.netloc) == ("", "")
            assert split.path == "" or (at.parent / unquote(split.path)).exists()
    [style] = tree.every("style")
    assert "url(" not in style.text
    assert "@import" not in style.text


def test_every_picture_says_what_it_shows_and_has_its_numbers_behind_it(tree: Node) -> None:
    figures = tree.every("figure")
    assert len(figures) > 10
    assert sum(len(figure.every("svg")) for figure in figures) == len(tree.every("svg"))
    for figure in figures:
        assert figure.every("figcaption")[0].text.strip()
        images = [node for node in _all(figure) if node.attributes.get("role") == "img"]
        assert images
        assert all(len(image.attributes["aria-label"]) > 15 for image in images)
        [table] = figure.every("details")[0].every("table")
        assert table.every("tr")


def test_rows_of_a_table_have_its_columns(tree: Node) -> None:
    for table in tree.every("table"):
        head, *rows = (len(row.every("th", "td")) for row in table.every("tr"))
        assert set(rows) <= {head}
        assert all(cell.text.strip() for cell in table.every("thead")[0].every("th"))


def test_the_same_run_gives_the_same_bytes_wherever_the_store_lies(run: Record, at: Path, tmp_path: Path) -> None:
    first = page([run], at=at)
    assert first == page([run], at=at)
    moved = tmp_path / "elsewhere"
    moved.symlink_to(run.artifact.path.parents[1])
    again = Record(run.name, *_moved(run, Store(moved)))
    assert page([again], at=moved / "reports" / "page.html") == first
    assert str(run.artifact.path.parents[1]) not in first


def _moved(run: Record, store: Store) -> tuple[Artifact, tuple[Artifact, ...]]:
    members = [store.find(each.kind, each.key) for each in run.members]
    found = store.find("run", run.artifact.key)
    assert found
    return found, tuple(each for each in members if each)


@pytest.mark.parametrize("kind", ["mixture", "source", "similarity", "schedule", "composition", "retention"])
def test_a_section_is_there_where_its_artifact_is(kind: str, run: Record, at: Path) -> None:
    alone = Record("alone", next(each for each in run.members if each.kind == kind), tuple(run.every(kind)))
    root = Tree(page([alone], at=at)).root
    assert {each.attributes["id"] for each in root.every("section")} < {chapter.slug for chapter in CHAPTERS}
    without = Record("without", run.artifact, tuple(each for each in run.members if each.kind != kind))
    assert Tree(page([without], at=at)).root.every("section")


def test_a_drop_is_one_that_was_made_and_its_evidence_is_of_its_stage(run: Record) -> None:
    own = {domain: stage for stage, group in enumerate(run.retention["current"]) for domain in group}
    found = drops(run)
    assert {(drop.domain, drop.stage) for drop in found} == {(d, k + 1) for d, k in own.items() if k < 3}
    assert all(a.worse >= b.worse for a, b in pairwise(found))
    for drop in found:
        assert (drop.measure, drop.before, drop.after, drop.n) == ("exact match", 1.0, 0.5, ROWS)
        told, evidence = trained(run, drop), near(run, drop)
        assert told
        assert evidence
        assert told.own_rows == 1
        assert told.n_new == 2 * ROWS
        assert sum(share for _, _, share in told.new) == pytest.approx(1)
        new = {f"source {domain}" for domain in run.retention["current"][drop.stage]}
        assert {pair.source for pair in evidence.pairs} <= new
        assert evidence.n == len(evidence.pairs) == ROWS // 2 == sum(n for _, n in evidence.by_source)
        assert all(0 <= pair.cosine <= 1 + 1e-9 for pair in evidence.pairs)


def test_what_did_not_fall_is_no_drop(run: Record) -> None:
    still = Record("still", run.artifact, tuple(each for each in run.members if each.kind != "evaluation"))
    assert drops(still) == []
    panel: Any = next(c for c in CHAPTERS if c.slug == "forgotten").panel(still, [still])
    assert panel is None


def test_two_runs_share_their_scales(run: Record, other: Record, at: Path) -> None:
    asked: dict[str, Any] = {"specs": [], "sources": []}
    root = Tree(page([run, other], at=at, differences=asked)).root
    assert "Both were asked for the same over the same data." in root.text
    [section] = [each for each in root.every("section") if each.attributes["id"] == "knowledge"]
    scales = [[s.text for s in node.every("span")] for node in _all(section) if node.attributes.get("class") == "scale"]
    assert len(scales) == 2
    assert scales[0] == scales[1]
