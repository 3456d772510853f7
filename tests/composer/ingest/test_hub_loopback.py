"""A Hub source read with the real clients, from a hub of our own on the loopback interface."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from tests.flows.hub import script
from tests.loopback import serving

ROWS = [{"instruction": f"Name number {i}.", "input": "", "output": f"It is {i}."} for i in range(5)]
FILES = {
    "README.md": b"---\nconfigs:\n- config_name: default\n  data_files: data.jsonl\n---\n# Numbers\n",
    "data.jsonl": "".join(json.dumps(row) + "\n" for row in ROWS).encode(),
}
READ = """
import sys
from pathlib import Path
from composer.encode import load_tokenizer
from composer.fingerprint import Fingerprints
from composer.ingest import fingerprint, ingest
from composer.types import Source

out = Path(sys.argv[2])
source = Source(name="numbers", path="org/numbers", domain="general")
commit = fingerprint(source, Fingerprints(out))
pinned = source.model_copy(update={"revision": commit})
print(commit, ingest(pinned, out, tokenizer=load_tokenizer(sys.argv[1]), max_length=64)["kept"])
"""


@pytest.mark.hub
def test_a_dataset_is_read_at_the_commit_that_its_key_bears(tmp_path: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.save_pretrained(tmp_path / "model")
    (tmp_path / "out").mkdir()
    with serving() as hub:
        commit = hub.seed("datasets", "org/numbers", FILES).branches["main"]
        told = script(hub, tmp_path / "home", READ, tmp_path / "model", tmp_path / "out")
    assert told.split() == [commit, "5"]
