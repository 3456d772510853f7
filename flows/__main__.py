"""`python -m flows` is the command `sft-composer`."""

from flows.cli import main

main()
