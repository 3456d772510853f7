"""Low-rank experts on frozen linear maps: the layer, how its experts are balanced, and where it is put in a model."""
