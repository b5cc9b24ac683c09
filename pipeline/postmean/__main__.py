"""`python -m postmean` is the `postmean` command."""

from postmean.cli.main import main

main()
