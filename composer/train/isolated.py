"""A block in which torch may be seeded and tuned, after which the process is as it was.

Seeds, thread counts and the progress bars of transformers belong to the process, and training is a guest in it: the Trainer of
transformers seeds everything it can reach when it is made. So all training runs inside this one block.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def isolated(seed: int, *, threads: int | None = None) -> Iterator[None]:
    """Seed torch for a block and give back every random state, the thread count and the progress bars of transformers.

    Parameters
    ----------
    seed
        Seed of torch inside the block, on every device.
    threads
        Threads of one torch operation inside the block; as they are when absent.
    """
    import torch
    from transformers.utils import logging

    python, legacy = random.getstate(), np.random.get_state()
    n_threads, bars = torch.get_num_threads(), logging.is_progress_bar_enabled()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        try:
            torch.manual_seed(seed)
            torch.set_num_threads(threads or n_threads)
            logging.disable_progress_bar()
            yield
        finally:
            random.setstate(python)
            np.random.set_state(legacy)
            torch.set_num_threads(n_threads)
            if bars:
                logging.enable_progress_bar()
