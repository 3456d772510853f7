"""LoRAMoE: several low-rank experts on every feed-forward map, mixed for each token by a router, in two groups.

One group of experts is for domains of world knowledge and one for other tasks; a term in the loss keeps all experts at work and
their loads a little apart between the two kinds of rows. The result cannot be merged into the base, for the mix is another one
at every token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from composer.errors import SpecError, nearest
from composer.progress import say
from composer.spec import seed_of
from composer.train.adapters import Adapter
from composer.train.model import linear_maps
from composer.train.targets import feed_forward, named

if TYPE_CHECKING:
    from torch import Tensor

KNOWLEDGE, TASK = "knowledge", "task"


class LoraMoe(Adapter):
    """Train ``n_experts`` low-rank updates of each feed-forward map and a router that mixes them, token by token.

    ``beta`` weighs the balancing (:mod:`composer.train.moe.balance`): ``knowledge`` names the domains of world knowledge, all
    others are tasks, ``expert_types`` says the same of the experts (the first half knowledge, the second tasks), and ``delta``
    tilts the load between equal and unequal types. At the minimum the experts of a row's own type carry the *smaller* part of
    its load, (1 - delta) / 2; ``own_group: more`` turns that round. The term is of the rows that go through the model together,
    so that ``micro_batch``, ``packing`` and the number of processes have a part in it.

    ``targets`` names modules by the end of their path; ``auto`` are the feed-forward maps of families that are known.

    References
    ----------
    Dou et al. 2023, LoRAMoE (2312.09979), section 3.
    """

    name: Literal["loramoe"] = "loramoe"
    n_experts: int = Field(default=6, ge=1)
    rank: int = Field(default=4, ge=1)
    alpha: float = Field(default=32, gt=0)
    dropout: float = Field(default=0.05, ge=0, lt=1)
    beta: float = Field(default=0.1, ge=0, allow_inf_nan=False)
    delta: float = Field(default=0.1, ge=0, lt=1)
    form: Literal["var_over_mean", "cv2"] = "var_over_mean"
    own_group: Literal["less", "more"] = "less"
    knowledge: tuple[str, ...] = ()
    expert_types: tuple[Literal["knowledge", "task"], ...] | None = None
    targets: Literal["auto"] | tuple[str, ...] = "auto"

    where: ClassVar[str] = "adapter"
    needs_base: ClassVar[bool] = True
    reference: ClassVar[str] = "Dou et al. 2023 (2312.09979), section 3"
    summary: ClassVar[str] = (
        "several low-rank experts and a router on feed-forward maps move; the result lies on top of the base"
    )

    @model_validator(mode="after")
    def _types(self) -> LoraMoe:
        n, told = self.n_experts, self.expert_types
        if told is not None and len(told) != n:
            raise SpecError("another number of types than of experts", where="expert_types", expected=f"{n}", got=len(told))
        if self.beta == 0:
            return self
        if n == 1:
            raise SpecError("one expert cannot be balanced", where="beta", expected="0", got=self.beta, hint="or n_experts: 6")
        if told is None and n % 2:
            hint = "give expert_types, such as [knowledge, task, task]; or an even number; or beta: 0"
            raise SpecError("no halves, of which one is each type", where="n_experts", expected="even", got=n, hint=hint)
        if told is not None and len(set(told)) < 2:
            hint = "or beta: 0"
            raise SpecError("experts of one type", where="expert_types", expected="knowledge and task", got=told[0], hint=hint)
        return self

    @property
    def types(self) -> list[bool]:
        """Whether each expert is of knowledge."""
        if self.expert_types is not None:
            return [each == KNOWLEDGE for each in self.expert_types]
        return [i < self.n_experts // 2 for i in range(self.n_experts)]

    def attach(
        self, model: Any, *, previous: Path | None, seed: int, domains: Sequence[str] = (), **_: Any
    ) -> Any:  # fmt: skip
        """Return the model with fresh experts that change nothing yet, or with those of the previous artifact."""
        import torch

        from composer.train.moe import placed

        self.check(domains)
        maps = self._maps(model)
        if previous is not None:
            self._same(placed.settings_in(previous / self.where), maps)
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            torch.manual_seed(seed_of(seed, "loramoe"))
            self._place(model, maps)
        if previous is not None:
            placed.read(model, previous / self.where)
        if domains:
            types = [domain in self.knowledge for domain in domains]
            model.experts.know(types)
            if self.beta and self.delta and len(set(types)) < 2:
                say("all domains are of one type: adapter.knowledge separates nothing, beta keeps experts at work all the same")
        return model

    def check(self, domains: Sequence[str], *, n_phases: int = 1) -> None:  # noqa: ARG002
        """Refuse names in ``knowledge`` that are none of the domains, where those are known."""
        for name in self.knowledge if domains else ():
            if name not in domains:
                raise SpecError("no such domain", where="knowledge", got=name, hint=nearest(name, domains))

    def among(self, domains: Sequence[str]) -> LoraMoe:
        """Return the method without the names in ``knowledge`` that are none of these domains."""
        return self.model_copy(update={"knowledge": tuple(name for name in self.knowledge if name in domains)})

    def before_forward(self, model: Any, batch: Mapping[str, Tensor]) -> None:
        """Let the experts show their loads in training."""
        model.experts.before(batch, seen=model.training and model.experts.domain_types is not None)

    def extra_loss(self, model: Any, batch: Mapping[str, Tensor]) -> Tensor | None:
        """Return ``beta`` times how uneven the loads of the rows are, averaged over the maps."""
        load = model.experts.loads()
        if load is None or not self.beta:
            return None
        how: dict[str, Any] = {"delta": self.delta, "own_group": self.own_group, "form": self.form}
        found: Tensor = self.beta * model.experts.uneven(load, batch["domain"], **how)
        return found

    def account(self, model: Any) -> dict[str, Tensor]:
        """Return the sums of the shares by map, domain and expert, and how many tokens of each domain they are of."""
        placed = model.experts
        return {} if placed.sums is None else {"sums": placed.sums, "n_tokens": placed.n_tokens}

    def keep(self, model: Any, domains: Sequence[str], folder: Path) -> None:
        """Write ROUTING: which share of a domain's tokens every expert had, map by map, over all of training."""
        from composer.tables import ROUTING, write
        from composer.train.moe.routing import routing

        types = [KNOWLEDGE if each else TASK for each in self.types]
        write(routing(model.experts, domains, types), folder / "routing.parquet", ROUTING)

    def save(self, model: Any, tokenizer: Any, folder: Path) -> None:  # noqa: ARG002
        """Write the experts and routers, and what they were made with."""
        from composer.train.moe import placed

        placed.write(model, folder / self.where, self._settings())

    def apply(self, network: Any, folder: Path) -> Any:
        """Return the base with the experts in their places; they cannot be merged."""
        from composer.train.moe import placed

        maps = placed.settings_in(folder)["maps"]
        self._place(network, maps)
        placed.read(network, folder)
        return network.requires_grad_(False)

    def _place(self, model: Any, maps: Sequence[str]) -> None:
        from composer.train.moe import placed

        how = {"n_experts": self.n_experts, "rank": self.rank, "alpha": self.alpha, "dropout": self.dropout}
        placed.place(model, maps, expert_types=self.types, **how)

    def _maps(self, model: Any) -> list[str]:
        linear = linear_maps(model)
        return feed_forward(model, linear) if isinstance(self.targets, str) else named(linear, self.targets, also="auto")

    def _settings(self) -> dict[str, Any]:
        """Return what decides the shapes and the meaning of the weights."""
        same = {field: getattr(self, field) for field in ("n_experts", "rank", "alpha", "dropout")}
        return {**same, "expert_types": [KNOWLEDGE if each else TASK for each in self.types]}

    def _same(self, theirs: Mapping[str, Any], maps: Sequence[str]) -> None:
        """Refuse to go on from experts that were made otherwise or elsewhere than this spec asks for."""
        for field, value in {**self._settings(), "maps": tuple(maps)}.items():
            if theirs.get(field) != value:
                expected, got = str(theirs.get(field))[:200], str(value)[:200]
                where = "targets" if field == "maps" else field
                raise SpecError("the previous adapter has another", where=where, expected=expected, got=got)
