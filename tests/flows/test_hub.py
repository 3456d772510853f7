"""Exports on a hub: what is sent is what is read back, a break costs nothing twice, and nothing of anybody's is lost."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from tests.flows.hub import commands, script
from tests.loopback import READER, WRITER, ZERO, Hub

pytestmark = pytest.mark.hub
DATASET = ("datasets", "org/mix")
LOAD = """
import json, sys
from datasets import load_dataset

rows = {name: load_dataset("org/mix", name, split="train").to_list() for name in json.loads(sys.argv[1])}
rows["default"] = load_dataset("org/mix", split="train").to_list()
print(json.dumps(rows, sort_keys=True))
"""
MEMORY = """
import json, resource, sys
from pathlib import Path
from composer.export.hub import Repository, look, make_plan, pieces_in, push

def pushed(folder, name):
    repository = Repository(name)
    plan = make_plan(pieces_in(Path(folder)), card="# Mix", artifact="export/0", state=look(repository))
    push(plan, repository, message="Push")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

print(json.dumps([pushed(sys.argv[1], "org/little"), pushed(sys.argv[2], "org/much")]))
"""
MEANWHILE = """
import json, sys
from pathlib import Path
from composer.errors import ComposerError
from composer.export.hub import Repository, look, make_plan, pieces_in, push

repository, told = Repository("org/mix"), []
repository.api.create_repo("org/mix", repo_type="dataset", private=True)

def plan(artifact, **known):
    return make_plan(pieces_in(Path(sys.argv[1]), **known), card="# Mix", artifact=artifact, state=look(repository))

late = plan("late")
push(plan("first"), repository, message="First")
for each in (late, plan("damaged", known={"train-0.parquet": "0000"})):
    try:
        push(each, repository, message="Second")
    except ComposerError as error:
        told.append(str(error))
print(json.dumps(told))
"""


def export(small: tuple[Path, Path], *more: object) -> list[object]:
    recipe, store = small
    overrides = [word for word in more if "=" in str(word) and not str(word).startswith("--")]
    options = [word for word in more if word not in overrides]
    return ["export", recipe, *overrides, "--plain", "--store", store, "--hub", "org/mix", *options]


def local(store: Path, key: str) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of every config of an export, as its files have them."""
    folder = store / "export" / key
    configs = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])["configs"]
    rows = {each["config_name"]: pl.read_parquet(folder / each["data_files"][0]["path"]).to_dicts() for each in configs}
    return {**rows, "default": rows[configs[0]["config_name"]]}


def test_what_is_read_back_is_what_was_exported(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    shards = "exports=[{name: parquet, rows_per_shard: 11}]"
    pushed, again = commands(hub, tmp_path, export(small, shards, "--json"), export(small, shards, "--json"))
    assert [pushed.code, again.code] == [0, 0], pushed.err
    told = pushed.document
    key = next(step["key"] for step in told["steps"] if step["step"] == "export")
    assert told["hub"]["url"] == f"{hub.url}/datasets/org/mix"
    assert told["hub"]["commit"] == hub.repos[DATASET].branches["main"]
    assert sum(path.startswith("mix/") for path in told["hub"]["sent"]) == 7
    rows = local(small[1], key)
    names = json.dumps([name for name in rows if name != "default"])
    assert json.loads(script(hub, tmp_path, LOAD, names)) == json.loads(json.dumps(rows, sort_keys=True))
    assert hub.repos[DATASET].private
    [created] = [json.loads(each.body) for each in hub.asked if each.path == "/api/repos/create"]
    assert created.get("private") is True or created.get("visibility") == "private"
    assert again.document["hub"] | {"sent": [], "bytes": 0, "is_new_commit": False} == again.document["hub"]
    assert len(hub.repos[DATASET].commits) == 2
    card = hub.files(*DATASET)["README.md"].decode()
    assert 'load_dataset("org/mix", "mix", split="train")' in card


def test_a_dry_run_sends_nothing_and_says_what_would_be_sent(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    shown, told, alone, unmade = commands(
        hub, tmp_path, export(small, "--dry-run"), export(small, "--dry-run", "--json"),
        (export(small, "--dry-run", "--json"), {"HF_TOKEN": None}), export(small, "budget.amount=90", "--dry-run"),
    )  # fmt: skip
    assert [each.code for each in (shown, told, alone, unmade)] == [0, 0, 0, 0], shown.err
    for word in ("private, to be made", "mix/train-00000-of-00001.parquet", "sft-composer.json", "Nothing was sent."):
        assert word in shown.out
    [export_step] = [step for step in told.document["steps"] if step["step"] == "export"]
    local_card = small[1] / "export" / export_step["key"] / "README.md"
    sent = {each["path"]: each["bytes"] for each in told.document["hub"]["send"]}
    assert sent["mix/train-00000-of-00001.parquet"] == (local_card.parent / "mix/train-00000-of-00001.parquet").stat().st_size
    assert told.document["hub"]["note"] == ""
    assert "nobody is logged in" in alone.document["hub"]["note"]
    assert alone.document["hub"]["send"] == told.document["hub"]["send"]
    assert "it is not made yet" in unmade.out
    assert hub.sent("GET")
    assert not hub.sent("POST")
    assert not hub.sent("PUT")
    assert not hub.repos


def test_an_update_keeps_what_people_wrote_and_left(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    [first] = commands(hub, tmp_path, export(small, "--json"))
    assert first.code == 0, first.err
    repo = hub.repos[DATASET]
    card = hub.files(*DATASET)["README.md"].decode()
    written = (
        card.replace("language:\n- en\n", "language:\n- en\n- de\nextra_gated_prompt: ask\n") + "\n## By hand\n\nKeep me.\n"
    )
    by_hand = {"README.md": written.encode(), "notes.txt": b"mine", "data/law/more.txt": b"mine too"}
    hub.commit(repo, "main", {path: hub.keep(body, large=False) for path, body in by_hand.items()}, ())
    hub.asked.clear()
    [second] = commands(hub, tmp_path, export(small, "budget.amount=150", "exports=[parquet]", "--json"))
    assert second.code == 0, second.err
    files = hub.files(*DATASET)
    assert second.document["hub"]["removed"] == ["chat/train.jsonl"]
    assert "chat/train.jsonl" not in files
    assert (files["notes.txt"], files["data/law/more.txt"]) == (b"mine", b"mine too")
    now = files["README.md"].decode()
    assert now.endswith("\n## By hand\n\nKeep me.\n")
    assert "- de\nextra_gated_prompt: ask\n" in now
    assert second.document["steps"][-1]["key"] != first.document["steps"][-1]["key"]
    assert json.loads(files["sft-composer.json"])["artifact"] == f"export/{second.document['steps'][-1]['key']}"


def test_a_break_leaves_what_was_there_and_a_rerun_sends_the_rest(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    old = hub.seed(*DATASET, {"README.md": b"By hand.\n"}, private=True).branches["main"]
    hub.breaks = 3
    [broken] = commands(hub, tmp_path, export(small, "exports=[{name: parquet, rows_per_shard: 30}]"))
    assert broken.code == 3
    assert "error: --hub: the connection or the Hub failed, sending files to org/mix" in broken.err
    assert "only what is missing is sent" in broken.err
    assert hub.repos[DATASET].branches["main"] == old
    assert hub.files(*DATASET) == {"README.md": b"By hand.\n"}
    before = hub.sent("PUT")
    assert len(before) == 2
    hub.breaks = None
    [rerun] = commands(hub, tmp_path, export(small, "exports=[{name: parquet, rows_per_shard: 30}]", "--json"))
    assert rerun.code == 0, rerun.err
    whole = hub.sent("PUT")
    assert len(whole) == len(set(whole)) == sum(path.endswith(".parquet") for path in hub.files(*DATASET))
    assert whole[:2] == before
    key = rerun.document["steps"][-1]["key"]
    rows = local(small[1], key)
    names = json.dumps([name for name in rows if name != "default"])
    assert json.loads(script(hub, tmp_path, LOAD, names)) == json.loads(json.dumps(rows, sort_keys=True))
    assert hub.files(*DATASET)["README.md"].decode().count("By hand.") == 1


def test_who_may_not_push_is_told_why(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    hub.seed("datasets", "org/public", {"README.md": b"Public.\n"})
    public = [*export(small)[:-1], "org/public"]
    nobody, reader, badly, alone, shown, open_to_all, allowed = commands(
        hub, tmp_path, (export(small), {"HF_TOKEN": None}), (export(small), {"HF_TOKEN": READER}),
        ([*export(small)[:-1], "mix"], {"HF_TOKEN": WRITER}), ["export", small[0], "--public", "--store", small[1]],
        (["ls", "--store", small[1], "--json"], {}), public, [*public, "--public", "--json"],
    )  # fmt: skip
    assert [each.code for each in (nobody, reader, badly, alone, shown, open_to_all, allowed)] == [2, 2, 2, 2, 0, 2, 0]
    assert "HF_TOKEN: nobody is logged in to the Hub; set HF_TOKEN, or run hf auth login" in nobody.err
    assert "not allowed, creating org/mix" in reader.err
    assert "use a token that may write" in reader.err
    assert "--hub: no name of a repository; expected org/name" in badly.err
    assert "--public: only with --hub" in alone.err
    assert "the repository is public; expected a private one; say --public" in open_to_all.err
    assert DATASET not in hub.repos


def test_a_hub_out_of_reach_or_forbidden_is_told_as_that(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    [offline] = commands(hub, tmp_path, export(small), HF_HUB_OFFLINE="1")
    assert offline.code == 2
    assert "HF_HUB_OFFLINE: the Hub's client is told to stay offline; unset HF_HUB_OFFLINE" in offline.err
    [gone] = commands(hub, tmp_path, export(small), HF_ENDPOINT="http://127.0.0.1:9")
    assert gone.code == 3
    assert "the connection or the Hub failed, looking at org/mix" in gone.err
    assert not hub.asked


def test_licences_that_stand_against_each_other_stop_the_push(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    barred = ("sources.0.license=CC-BY-NC-4.0", "probe=null", "law=uniform", "tags=null", "distance=null", "embed=null")
    stopped, looked, allowed = commands(
        hub, tmp_path, export(small, *barred), export(small, *barred, "--dry-run", "--json"),
        export(small, *barred, "license_conflicts=allow", "--json"),
    )  # fmt: skip
    assert [stopped.code, looked.code, allowed.code] == [1, 1, 0], allowed.err
    assert "non-commercial rows bind the whole mix" in stopped.err
    assert "got CC-BY-NC-4.0 of law; leave those sources out, or say license_conflicts: allow" in stopped.err
    assert looked.document["hub"]["conflicts"][0]["sources"] == ["law"]
    assert hub.sent("POST")[0] == "/api/repos/create"  # of the one that was allowed
    assert "CC-BY-NC-4.0 | non-commercial rows bind the whole mix" in hub.files(*DATASET)["README.md"].decode()


def test_a_branch_of_its_own_leaves_main_as_it_is(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    [pushed] = commands(hub, tmp_path, export(small, "--revision", "v2", "--json"))
    assert pushed.code == 0, pushed.err
    assert pushed.document["hub"]["url"].endswith("/tree/v2")
    assert hub.repos[DATASET].branches["main"] == ZERO
    assert "README.md" in hub.files(*DATASET, "v2")


def test_the_token_is_nowhere(hub: Hub, small: tuple[Path, Path], tmp_path: Path) -> None:
    hub.breaks = 4
    broken, shown = commands(hub, tmp_path / "home", export(small, "--debug"), export(small, "--dry-run"))
    hub.breaks = None
    [pushed] = commands(hub, tmp_path / "home", export(small))
    assert (broken.code, shown.code, pushed.code) == (3, 0, 0)
    assert "Traceback" in broken.err
    for ran in (broken, shown, pushed):
        assert WRITER not in ran.out + ran.err
        assert "X-Signature" not in ran.out + ran.err
    assert all(WRITER.encode() not in each.body and WRITER not in each.path for each in hub.asked)
    for folder in (small[1], tmp_path):
        assert all(WRITER.encode() not in path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert all(WRITER.encode() not in body for body in hub.blobs.values())


def test_memory_does_not_grow_with_what_is_sent(hub: Hub, tmp_path: Path) -> None:
    size, n = 48 << 20, 3
    for folder, each in (("little", 1 << 10), ("much", size)):
        (tmp_path / folder / "mix").mkdir(parents=True)
        for i in range(n):
            (tmp_path / folder / f"mix/train-{i}.parquet").write_bytes(os.urandom(each))
    little, much = json.loads(script(hub, tmp_path / "home", MEMORY, tmp_path / "little", tmp_path / "much"))
    assert sum(len(body) for body in hub.files("datasets", "org/much").values()) > n * size
    assert much - little < size / 2


def test_a_push_meanwhile_is_noticed_and_a_damaged_file_is_not_shown(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "mix").mkdir()
    (tmp_path / "mix" / "train-0.parquet").write_bytes(b"rows")
    meanwhile, damaged = json.loads(script(hub, tmp_path / "home", MEANWHILE, tmp_path / "mix"))
    assert meanwhile.startswith("--hub: the repository changed meanwhile")
    assert "run the same again" in meanwhile
    assert damaged.startswith("train-0.parquet: a file is not what its manifest says; expected 0000; got ")
    assert hub.files(*DATASET)["sft-composer.json"].count(b"first") == 1
    assert len(hub.repos[DATASET].commits) == 2
