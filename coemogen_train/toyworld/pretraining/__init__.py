"""How the bundled toy weights were made: `python -m coemogen_train.toyworld.pretraining --work DIR`,
resumable.
"""
