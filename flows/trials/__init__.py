"""Trials: the recipe under several laws, replay policies or adapters, beside the controls, over the same seeds.

The arms of a recipe are told over one ``call`` that tells nothing twice, so that what they share is one step of one plan: it is
done once, and a trial that was stopped goes on where it stood.
"""
