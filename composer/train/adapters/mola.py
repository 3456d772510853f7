"""Mixture-of-LoRAs: one LoRA for each domain on one frozen base, and routers that read a prompt and take one of them.

First every domain's LoRA is trained alone. Then all stand on the base together: each row goes through the LoRA of its own
domain, which is known, and the routers learn to tell the domain from the prompt. In use they decide, once for each prompt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from composer.errors import SpecError
from composer.train.adapters import Adapter
from composer.train.adapters.lora import Lora

if TYPE_CHECKING:
    from torch import Tensor

    from composer.train.mola.bank import Expert
    from composer.train.mola.router import Routers

EXPERTS = "experts"


class Mola(Adapter):
    """Train routers over one LoRA for each domain, and the LoRAs on with them where ``train_experts``.

    ``L = L_LM + eta L_cls``; ``L_cls`` is the mean over the routers of the cross-entropy with the row's domain. A router reads
    the ``pool`` of the prompt's states in front of its block. ``decision`` says how they decide in use: the first one for all
    blocks (``shared``), all with one voice (``vote``), or each for its own block (``per_layer``). Below ``threshold`` the base
    answers alone. Of ``expert`` is every domain's LoRA.

    References
    ----------
    Feng et al. 2024, Mixture-of-LoRAs (2403.03432). No code is public: eta, the pool and the decision are choices of ours.
    """

    name: Literal["mola"] = "mola"
    expert: Lora = Lora(rank=8, alpha=16)
    eta: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    train_experts: bool = True
    pool: Literal["mean", "last"] = "mean"
    decision: Literal["shared", "vote", "per_layer"] = "shared"
    threshold: float = Field(default=0.0, ge=0, lt=1)

    where: ClassVar[str] = "adapter"
    needs_base: ClassVar[bool] = True
    needs: ClassVar[tuple[str, ...]] = ("experts",)
    reference: ClassVar[str] = "Feng et al. 2024 (2403.03432)"
    summary: ClassVar[str] = "one LoRA per domain and routers that choose by the prompt; the result lies on top of the base"

    @model_validator(mode="after")
    def _check(self) -> Mola:
        if self.expert.dora:
            what, hint = "experts of a mixture are sums to the base, and DoRA's are not", "leave it out; rslora may be set"
            raise SpecError(what, where="expert.dora", got="true", hint=hint)
        if self.pool == "last" and self.decision == "shared":
            hint = "set pool mean, or decision vote"
            what = "the first router would read the last token's embedding alone, which is the same for all prompts"
            raise SpecError(what, where="pool", got="last", hint=hint)
        if not (self.eta or self.train_experts):
            raise SpecError("nothing would be trained", where="eta", got="0 with train_experts false", hint="raise eta")
        return self

    def attach(
        self, model: Any, *, previous: Path | None, seed: int, domains: Sequence[str] = (),  # noqa: ARG002
        given: Mapping[str, Path] = MappingProxyType({}),
    ) -> Any:  # fmt: skip
        """Return the model with a bank of the given experts, after those of the previous artifact, and routers over it.

        New routers say nothing yet; those of the previous artifact keep what they say of its experts. An expert of none of the
        ``domains`` is in the bank and is not chosen.
        """
        from composer.train.shards import rank

        if rank() is not None:
            raise SpecError("mola trains in one process", where="train.processes", expected="1")
        experts, routers = self._experts(model, previous, given, domains)
        mixture = self._mixed(model, experts, routers).mixture
        if mixture.routers is None and not self.train_experts:
            raise SpecError("nothing would be trained: one expert has no router", where="train_experts", expected="true")
        for parameter in mixture.bank.parameters():
            parameter.requires_grad_(self.train_experts)
        mixture.count(domains or list(experts))
        return model

    def before_forward(self, model: Any, batch: Mapping[str, Tensor]) -> None:
        """Let every row take the expert of its own domain, and the routers read its prompt."""
        import torch

        from composer.train.mola.router import prompts_of

        mixture = model.mixture
        experts = mixture.number[batch["domain"]]
        if mixture.routers is None or not (self.eta and torch.is_grad_enabled()):
            mixture.take(experts)
            return
        prompts = prompts_of(batch)
        if self.decision == "vote":  # in use the vote is taken before any expert, so that the routers learn from the same
            mixture.read_base(batch, prompts)
            mixture.take(experts)
        else:
            mixture.take(experts, prompts=prompts)

    def extra_loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Return ``eta L_cls`` of the prompts that the routers just read; none for a single expert."""
        from composer.train.mola.router import classification_loss

        mixture = model.mixture
        if mixture.routers is None or not self.eta:
            return None
        labels = mixture.number[batch["domain"]][mixture.prompts.row]
        return self.eta * classification_loss(mixture.logits(), labels, mixture.prompts.weight)

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ARG002
        """Write every expert as a LoRA of peft in ``adapter/experts/<domain>``, and the routers beside them."""
        from composer.train.mola.folder import write

        write(model.mixture, folder / self.where)

    def apply(self, network: Any, folder: Path) -> Any:
        """Return the base with the bank and the routers, which choose an expert for every prompt by themselves."""
        from composer.train.mola.folder import read

        experts, routers = read(folder)
        return self._mixed(network, experts, routers).requires_grad_(False)

    def _experts(
        self, model: Any, previous: Path | None, given: Mapping[str, Path], domains: Sequence[str]
    ) -> tuple[Mapping[str, Expert], Routers | None]:  # fmt: skip
        from composer.progress import say
        from composer.train.mola.bank import read_expert
        from composer.train.mola.folder import read

        experts, routers = ({}, None) if previous is None else read(previous / self.where)
        new = {key.removeprefix(f"{EXPERTS}/"): path for key, path in given.items() if key.startswith(f"{EXPERTS}/")}
        for name in new:
            if name in experts or Path(name).name != name:
                what = "the previous artifact has this expert" if name in experts else "no name of a folder"
                raise SpecError(what, where=EXPERTS, got=name)
        experts |= {name: read_expert(folder, name=name) for name, folder in new.items()}
        missing = [domain for domain in domains if domain not in experts]
        if missing or not experts:
            hint = "train a LoRA on each domain first, and give it as experts/<domain>"
            raise SpecError("a domain without an expert", where=EXPERTS, got=", ".join(missing) or "no experts", hint=hint)
        if domains and (absent := [name for name in experts if name not in domains]):
            say(f"no rows of {', '.join(absent)} here: the routers learn nothing of them, and may unlearn them without replay")
        self._same(model, experts)
        return experts, routers

    def _mixed(self, model: Any, experts: Mapping[str, Expert], routers: Routers | None) -> Any:
        from composer.train.mola.bank import Bank
        from composer.train.mola.mixture import Mixture
        from composer.train.mola.router import Routers

        bank = Bank(model, experts, dropout=self.expert.dropout)
        if len(experts) > 1:
            n = 0 if routers is None else routers.weight.shape[1]
            hidden = model.get_input_embeddings().weight.shape[1]
            routers = (routers or Routers(bank.n_blocks, 0, hidden)).widened(len(experts) - n).to(model.device)
        Mixture(model, bank, routers, decision=self.decision, pool=self.pool, threshold=self.threshold)
        return model

    def _same(self, model: Any, experts: Mapping[str, Expert]) -> None:
        """Refuse experts that are not what the spec says."""
        from composer.train.model import linear_maps
        from composer.train.mola.bank import check_alike
        from composer.train.targets import chosen

        check_alike(experts)
        name, first = next(iter(experts.items()))
        ours = {
            "rank": self.expert.rank,
            "alpha": self.expert.alpha,
            "rslora": self.expert.rslora,
            "targets": sorted(chosen(linear_maps(model), self.expert.targets)),
        }
        for field, value in ours.items():
            if (theirs := getattr(first, field)) != value:
                expected, got = str(value)[:200], f"{str(theirs)[:200]} in {name}"
                raise SpecError("experts of other settings", where=f"expert.{field}", expected=expected, got=got)
