"""Pictures composed from artwork, with masks in COCO format."""
