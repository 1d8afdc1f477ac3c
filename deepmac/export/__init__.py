"""Exports models for other programs, checked against the model: SavedModel, TFLite, ONNX."""

from deepmac.export.exporter import FORMATS, export_model

__all__ = ["FORMATS", "export_model"]
