"""From a model's name or folder to the masks of a picture."""
