"""The offline package: data sets, architectures, recipes, the loop, reports and export."""
