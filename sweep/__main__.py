"""`python -m sweep COMMAND`."""

try:
    from sweep.commands import main
except KeyboardInterrupt:  # the imports take seconds
    raise SystemExit(130) from None

if __name__ == "__main__":
    main()
