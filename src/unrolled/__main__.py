"""`python -m unrolled`: the command line, also for `torchrun -m unrolled train ...`."""

from unrolled.cli.main import main

if __name__ == "__main__":
    main()
