"""A Glueball plugin to copy. It is used through ``glueball.get_model`` and the like."""
