"""`python -m graflow.api`."""

from graflow.api.main import main

if __name__ == "__main__":
    main()
