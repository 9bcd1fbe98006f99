"""The commands of `pixcell-hub`, a file for each kind. They parse, call and print."""
