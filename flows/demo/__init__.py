"""The tiny world: a miniature in which the whole story can be watched on two cores."""
