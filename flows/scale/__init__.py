"""What a recipe would cost on a cluster, without data, model or cluster: ``sft-composer estimate RECIPE --at SCENARIO``.

scenario (a cluster, the data, the model)  +  rates (measured once, ``rates.yaml``)  +  plan (the recipe's own)  -->  costs
"""
