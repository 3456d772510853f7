"""vLLM in a process of its own: what it takes is free again when that process ends, and only then.

``process`` starts the child and speaks with it, ``session`` is what a probe sees; ``__main__`` is the child, and ``work`` what
it does with vLLM, which is imported nowhere else.

Two pipes join them. The parent writes a line of JSON per job: first the engine's settings, then any number of jobs. The child
answers the settings with a line that says what the model can take, and a job of n sequences with n lines ``[row, value]``, in
the order in which they are done. Nothing is pickled. What the child and the libraries in it print goes to a log.

Neither outlives the other: the parent looks whether the child lives while it waits, and where the parent's pipe closes the
child ends itself with every process that it started.
"""
