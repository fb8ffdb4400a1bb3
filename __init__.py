"""ComfyUI's door to this pack; ComfyUI imports this file as a package named after its folder."""

# pytest imports this file by its path, with no package around it: then there is no door to open.
if __package__:
    from .nodes import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
