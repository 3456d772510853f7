"""Mixture-of-LoRAs: a bank of LoRAs over one frozen base, of which every sequence takes one, and routers that say which.

``bank`` holds the LoRAs, ``router`` reads prompts and decides, ``mixture`` joins both to a network. They load torch.
"""
