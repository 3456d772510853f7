"""Prediction: a designed set of short runs, the law that their losses follow, and the mixture that it proposes.

The runs are told over one ``call`` as those of a trial are: what they share is done once, and a set that was stopped goes on
where it stood. What is proposed is one more arm of a trial (:mod:`flows.trials`), and no verdict.
"""
