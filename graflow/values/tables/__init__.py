"""Values of numpy, pandas, pyarrow and polars; each module needs its library."""
