"""ComfyUI's door to this pack; ComfyUI imports this file as a package named after its folder.

The nodes come in a later release: until then the pack loads and offers none.
"""

# pytest imports this file by its path, with no package around it: then there is no door to open.
if __package__:
    NODE_CLASS_MAPPINGS: dict[str, type] = {}
    __all__ = ["NODE_CLASS_MAPPINGS"]
