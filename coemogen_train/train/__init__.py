"""Training: from settings and a set to an adapter.

`config` reads settings in milliseconds; `loop.train` does the work and imports torch. What the loop promises:

    batches     a pure function of (seed, step, position): resumption is exact, processes draw different noise
    objective   batch -> losses, the method itself
    optimiser   every HiLoRA group as if it had an AdamW of its own
    checkpoint  whole or absent; the newest whole one wins
    history     what happened at each step, and the end of a run that went wrong
"""
