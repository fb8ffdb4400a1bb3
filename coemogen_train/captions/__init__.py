"""Sentence captions: the prompt, the cleaning of answers, and the models and servers that give them.

Shared by the ComfyUI node and the command; needs the standard library and torch, and transformers only where
a local model is read.
"""
