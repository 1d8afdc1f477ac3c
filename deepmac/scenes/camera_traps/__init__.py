"""A small collection composed from drawings, in exactly the format of iWildCam 2022."""
