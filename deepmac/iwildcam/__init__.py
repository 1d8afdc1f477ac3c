"""Camera-trap collections with instance masks, in the format of the iWildCam 2021 and 2022 releases.

Pictures, MegaDetector's boxes, and one label image for each picture: pixel k belongs to the k-th box. Format:
https://github.com/visipedia/iwildcam_comp (2021/readme.md, "Class-agnostic Segmentation Model").
"""
