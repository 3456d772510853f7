"""Everything that orders: the recipe, the stages, the plan and the shell that carries it out; the only house that sees all."""
