"""CoEmoGen: from pictures sorted by emotion to an adapter that makes a diffusion model evoke those emotions."""

__version__ = "0.1.0"
