import logging

# as it is imported in a notebook, Ray says that ipywidgets is missing: nothing here shows its widgets
logging.getLogger("ray.widgets.util").setLevel(logging.WARNING)
