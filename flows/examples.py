"""One or two lines to try of every command, which its ``--help`` ends with; tests parse them all and run the cheap ones.

They speak of ``recipe.yaml``, of ``data/`` and of ``models/my-base``, which ``sft-composer init`` and the README use too.
"""

from __future__ import annotations

import typer

EXAMPLES: dict[str, tuple[str, ...]] = {
    "init": ("init data --base-model models/my-base", "init org/dataset data/law.jsonl --out mix.yaml"),
    "run": ("run recipe.yaml --dry-run", "run recipe.yaml law=uniform budget.amount=1_000 --plain"),
    "demo": ("demo demo",),
    "base": ("base recipe.yaml --dry-run", "base recipe.yaml base_model.train.weights.law=0.5 --plain"),
    "ingest": ("ingest recipe.yaml --dry-run", "ingest recipe.yaml sources.0.limit=100 --plain"),
    "pool": ("pool recipe.yaml --dry-run", "pool recipe.yaml dedup.name=near dedup.threshold=0.8 --plain"),
    "embed": ("embed recipe.yaml --dry-run", "embed recipe.yaml embed.dims=64 --plain"),
    "embed-rows": ("embed-rows recipe.yaml select=prototype_data --dry-run",),
    "answers": ("answers recipe.yaml select=spread --dry-run",),
    "tag": ("tag recipe.yaml --dry-run", "tag recipe.yaml --plain --json"),
    "score": ("score recipe.yaml --dry-run", "score recipe.yaml --plain --json"),
    "cluster": ("cluster recipe.yaml cluster=kmeans --dry-run",),
    "probe": ("probe recipe.yaml --dry-run", "probe recipe.yaml probe.samples=200 --plain"),
    "compare": ("compare recipe.yaml --dry-run", "compare recipe.yaml distance=subsampled --plain"),
    "cover": ("cover recipe.yaml coverage.near=0.5 --dry-run",),
    "interfere": ("interfere recipe.yaml 'sequence=[law, code, medicine]' replay=interference --dry-run",),
    "mix": ("mix recipe.yaml law=uniform --dry-run", "mix recipe.yaml law.floor=0.1 --plain"),
    "replay": ("replay recipe.yaml 'sequence=[law, code, medicine]' replay.name=random replay.per_task=20 --dry-run",),
    "replay budget": ("replay budget recipe.yaml 'sequence=[law, code, medicine]' --doses 0,20,80 --seeds 2",),
    "compose": ("compose recipe.yaml --dry-run", "compose recipe.yaml budget.amount=500 --plain"),
    "export": ("export recipe.yaml 'exports=[parquet, trl]' --dry-run", "export recipe.yaml --hub org/name"),
    "reference": ("reference recipe.yaml train.law=excess 'train.reference={epochs: 1}' --dry-run",),
    "mask": ("mask recipe.yaml train.adapter=lota --dry-run",),
    "train": ("train recipe.yaml --dry-run", "train recipe.yaml 'sequence=[law, code, medicine]' --sequence"),
    "evaluate": ("evaluate recipe.yaml --dry-run", "evaluate recipe.yaml evaluate.max_samples=50 --plain"),
    "retain": ("retain recipe.yaml --dry-run", "retain recipe.yaml --plain --json"),
    "merge": (
        "merge models/my-base model --out merged",
        "merge base model/0a1b model/2c3d --method ties --density 0.2 --out both",
    ),
    "route": ("route recipe.yaml --prompt 'What is a contract?'",),
    "generate": ("generate recipe.yaml --prompt 'What is a contract?' --max-new-tokens 32",),
    "doctor": ("doctor recipe.yaml", "doctor data --model models/my-base --max-dropped 0.05"),
    "estimate": ("estimate recipe.yaml probe.samples=200 --json", "estimate recipe.yaml --at docs/scale/cluster.yaml"),
    "ls": ("ls", "ls mixture --json"),
    "show": ("show knowledge", "show composition --json"),
    "why": ("why mixture",),
    "verify": ("verify", "verify --json"),
    "picture": ("picture similarity --to distances.png",),
    "probe diff": ("probe diff knowledge knowledge", "probe diff before/knowledge.json knowledge --json"),
    "mix diff": ("mix diff composition composition", "mix diff mixture/0a1b mixture/2c3d --json"),
    "prove": ("prove recipe.yaml", "prove export --target trl"),
    "report": ("report", "report run/0a1b run/2c3d --to both.html"),
    "trial": (
        "trial recipe.yaml --arms law=knowledge,inverse --seeds 5 --dry-run",
        "trial recipe.yaml --arm 'slow law=inverse train.learning_rate=1.0e-4' --measure exact_match --dry-run",
    ),
    "predict": (
        "predict recipe.yaml --budget-share 0.5 --dry-run",
        "predict recipe.yaml --design random --measure exact_match --objective law --dry-run",
    ),
    "serve": ("serve recipe.yaml --cron '0 3 * * *' --timezone Europe/Berlin", "serve recipe.yaml --interval 3600"),
    "deploy": ("deploy recipe.yaml --cron '0 3 * * *' --write-only", "deploy recipe.yaml --pool gpu --flow train"),
    "completion": ("completion bash", "completion fish"),
}  # fmt: skip


def show_in_help(app: typer.Typer) -> None:
    """End the help of every command with its examples."""
    for command in app.registered_commands:
        name = command.name or (command.callback.__name__ if command.callback else "")
        lines = "\n".join(f"  sft-composer {example}" for example in EXAMPLES[name])
        command.epilog = f"\b\nExamples:\n{lines}"
