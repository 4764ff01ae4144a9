"""Architectures of image classification, one family a file, written in Glueball's dialect.

Each network keeps the parameter names of the official GluonCV files (``features.4.0.body.0.weight``), because those
files are what ``pretrained=True`` loads: where a name seems odd, a published weight file needs it. Nothing is imported
here: a model's module selects the backend when it is imported, and listing models must not.
"""
