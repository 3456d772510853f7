"""Everything that asks a model: engines, embedders, taggers, the knowledge probe and the retention measure."""
