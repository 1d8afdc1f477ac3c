"""The interactive demo: draw boxes on a picture, see the masks of what is in them.

Needs the packages of the extra `demo`; only `app` and `canvas` import widgets.
"""
