"""`python -m deepmac`: the `deepmac` command."""

from deepmac.cli import main

main()
