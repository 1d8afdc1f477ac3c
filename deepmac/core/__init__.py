"""What everything else stands on: errors, files, boxes, pictures, masks; no TensorFlow."""
